//! `waxwing lease run NAME -- CMD`: exactly one in the cluster runs CMD.
//!
//! CMD is ended before somebody else can have the lease, by the holder's own count of its TTL. In order: the lease is renewed at a third; where
//! that fails it is tried again until only the grace and a margin are left; then SIGTERM; when only the margin is left, SIGKILL.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::super::failure::{Ended, FAILED};
use super::group::{Caught, PASSED_ON, code_of};
use super::proof::{NAME, NAMESPACE, OWNER, TOKEN};
use super::{Wanted, busy, duration, leases, told};
use crate::cli::output::{harmless_line, talk};
use crate::cli::{Globals, Usage};
use crate::client::{Acquired, HeldLease, LeaseLost, LeaseOwner, Leases};
use crate::supervise::Clock;

/// EX_TEMPFAIL of sysexits.h: try again later.
const LOST: u8 = 75;
const BY_SIGNAL: u8 = 128;
/// How long one ask may wait, before it is said what it waits for.
const WAIT_OF_AN_ASK: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(500);
/// A lost lease is given back if it is still there, but nobody waits long for that.
const GIVE_BACK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(
    after_help = "CMD finds WAXWING_LEASE_NAME, WAXWING_LEASE_TOKEN (its fencing token) and WAXWING_LEASE_NAMESPACE in its environment, and gets the signals \
that this process gets. It runs in a process group of its own and can't read from a terminal; what it leaves running there is ended with it. \
When the lease is lost, or can't be renewed in time, CMD gets SIGTERM, and SIGKILL before somebody else can have the lease. It ends too when this \
process is killed.\n\n\
Exit codes: CMD's own, 128+N where signal N ended it, 126 or 127 where it can't be run;\n  \
1 the lease was not to be had (--no-wait, --wait; -E chooses another code), or no node does anything;\n  \
75 the lease was lost, and CMD was ended for that; 64 usage.\n\n\
Examples:\n  waxwing lease run nightly -- ./nightly.sh\n  waxwing lease run tenant:42 --ttl 5s --restart -- ./owner 42\n  \
* * * * * waxwing lease run every-minute --no-wait -E 0 -- ./job"
)]
pub(super) struct RunArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Don't wait where somebody has it.
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Wait no longer than this; as long as it takes where nothing is said.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    /// The exit code where somebody else has it.
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = FAILED)]
    conflict_exit_code: u8,
    /// How long CMD has from SIGTERM to SIGKILL; a third of the TTL where nothing is said.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    grace: Option<Duration>,
    /// When the lease was lost, wait for it again and run CMD again.
    #[arg(long)]
    restart: bool,
    /// What to run.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// ● How much of a lease's time is kept for ending the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reserve {
    grace: Duration,
    /// From SIGKILL to the end of the lease: what the kernel, and the process between, need.
    margin: Duration,
}

impl Reserve {
    fn new(ttl: Duration, grace: Option<Duration>) -> Result<Self, Usage> {
        let grace = grace.unwrap_or(ttl / 3);
        if ttl / 2 < grace {
            let most = humantime::format_duration(ttl / 2);
            return Err(Usage(format!("--grace must be at most half of --ttl, {most}")));
        }
        Ok(Self { grace, margin: (ttl / 16).min(Duration::from_secs(2)) })
    }
}

/// How a run of the command ended.
enum End {
    Itself(ExitStatus),
    Lost(LeaseLost),
}

pub(super) async fn run(args: RunArgs, globals: &Globals) -> anyhow::Result<()> {
    let reserve = Reserve::new(args.wanted.ttl, args.grace)?;
    let leases = leases(globals)?;
    let mut signals = Caught::new(&PASSED_ON)?;
    // It would stop this process alone, and the command would run on without a lease.
    let _never = Caught::new(&[Signal::SIGTSTP])?;
    loop {
        let held = tokio::select! {
            held = wait(&leases, &args, globals) => held?,
            signal = signals.next() => return Err(Ended(BY_SIGNAL + signal as u8).into()),
        };
        let name = harmless_line(held.name());
        talk(globals, &format!("{name} is ours, token {}", held.token()));
        let namespace = namespace(&leases, held.name(), globals).await;
        match hold(&held, &args.command, &namespace, reserve, &mut signals).await? {
            End::Itself(status) => {
                if let Err(error) = held.release().await {
                    let ttl = humantime::format_duration(args.wanted.ttl);
                    talk(
                        globals,
                        &format!("{name} could not be given back, and ends within {ttl}: {error}"),
                    );
                }
                return match code_of(status) {
                    0 => Ok(()),
                    code => Err(Ended(code).into()),
                };
            }
            End::Lost(why) => {
                talk(globals, &format!("{name} is lost: {why}; the command was ended"));
                let _ = tokio::time::timeout(GIVE_BACK, held.release()).await;
                if !args.restart {
                    return Err(Ended(LOST).into());
                }
            }
        }
    }
}

/// Until the lease is held.
async fn wait(leases: &Leases, args: &RunArgs, globals: &Globals) -> anyhow::Result<HeldLease> {
    let clock = Clock::new();
    let most = if args.no_wait { Duration::ZERO } else { args.wait.unwrap_or(Duration::MAX) };
    let until = clock.now() + most;
    // One owner all the time: what was granted to an answer that got lost is ours.
    let ask = args.wanted.ask().owner(LeaseOwner::new().map_err(told)?);
    // The first look doesn't wait, so that it can be said who has it.
    let mut patience = Duration::ZERO;
    let mut said = String::new();
    loop {
        let left = until.since(clock.now());
        let asked = leases.hold(&ask.clone().wait(patience.min(left))).await;
        patience = WAIT_OF_AN_ASK;
        let is_over = until <= clock.now();
        let what = match asked {
            Ok(Acquired::Held(held)) => return Ok(held),
            Ok(Acquired::Busy(entry)) if is_over => {
                talk(globals, &busy(&entry));
                return Err(Ended(args.conflict_exit_code).into());
            }
            Ok(Acquired::Busy(entry)) => format!("{}; waiting", busy(&entry)),
            Err(error) if error.is_passing() && !is_over => {
                tokio::time::sleep(AGAIN.min(until.since(clock.now()))).await;
                format!("{:#}; trying again", told(error))
            }
            Err(error) => return Err(told(error)),
        };
        if what != said {
            talk(globals, &what);
            said = what;
        }
    }
}

/// The lease's, which may be the key's. What can't be found out is as it was asked for.
async fn namespace(leases: &Leases, name: &str, globals: &Globals) -> String {
    let listed = tokio::time::timeout(globals.timeout, leases.list(name, 1)).await;
    let listed = listed.ok().and_then(Result::ok).unwrap_or_default();
    let found = listed.leases.into_iter().find(|entry| entry.name == name);
    let said = || globals.namespace.as_ref().map_or("default".to_owned(), ToString::to_string);
    found.map_or_else(said, |entry| entry.namespace)
}

/// The process group of a command. Nothing of it outlives this value.
struct Group {
    leader: Child,
    id: Pid,
}

impl Group {
    fn start(held: &HeldLease, command: &[OsString], namespace: &str) -> anyhow::Result<Self> {
        let mut leader = Command::new(std::env::current_exe()?);
        leader.args(["lease", "group", &std::process::id().to_string(), "--"]).args(command);
        leader.env(NAME, held.name()).env(TOKEN, held.token().to_string());
        leader.env(NAMESPACE, namespace).env_remove(OWNER);
        leader.process_group(0);
        if std::io::stdin().is_terminal() {
            // In the background it would be stopped there.
            leader.stdin(Stdio::null());
        }
        let leader = leader.spawn()?;
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| anyhow::anyhow!("the command ended at once"))?;
        Ok(Self { leader, id: Pid::from_raw(id) })
    }

    fn signal(&self, signal: Signal) {
        // An error: nobody is there any more.
        let _ = killpg(self.id, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

async fn hold(
    held: &HeldLease,
    command: &[OsString],
    namespace: &str,
    reserve: Reserve,
    signals: &mut Caught,
) -> anyhow::Result<End> {
    let mut group = Group::start(held, command, namespace)?;
    loop {
        tokio::select! {
            status = group.leader.wait() => {
                let status = status?;
                // The process between is not the command, which goes on where only that one was killed.
                if status.signal().is_some() {
                    group.signal(Signal::SIGKILL);
                }
                return Ok(End::Itself(status));
            }
            signal = signals.next() => group.signal(signal),
            () = held.runs_low(reserve.grace + reserve.margin) => break,
        }
    }
    let left = held.held_for().saturating_sub(reserve.margin);
    if !left.is_zero() {
        group.signal(Signal::SIGTERM);
        // One that was stopped would not notice.
        group.signal(Signal::SIGCONT);
        let _ = tokio::time::timeout(left.min(reserve.grace), group.leader.wait()).await;
    }
    group.signal(Signal::SIGKILL);
    group.leader.wait().await?;
    Ok(End::Lost(held.why_lost().unwrap_or(LeaseLost::Unrenewed(String::new()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_ended_before_its_lease_is_and_there_is_time_to_renew() {
        for ms in [1_000, 1_500, 15_000, 3_600_000, 86_400_000] {
            let ttl = Duration::from_millis(ms);
            for grace in [None, Some(Duration::ZERO), Some(ttl / 2)] {
                let Reserve { grace, margin } = Reserve::new(ttl, grace).unwrap();
                assert!(margin > Duration::from_millis(50), "{ttl:?}");
                // The first renewal is due at a third.
                assert!(ttl / 3 + grace + margin < ttl - ttl / 64, "{ttl:?}");
            }
            assert!(Reserve::new(ttl, Some(ttl)).is_err());
        }
    }
}
