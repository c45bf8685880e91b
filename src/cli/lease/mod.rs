//! `waxwing lease`: at most one holder of a name in the cluster.

mod group;
mod proof;
mod rows;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::attach::options;
use super::failure::{Ended, FAILED, Hinted};
use super::output::{harmless_line, json, line, talk, thousands};
use super::unreachable::{SILENT, judge};
use super::{Globals, Usage};
use crate::client::{
    Acquire, LeaseChange, LeaseEntry, LeaseError, LeaseOwner, LeaseWatched, Leases,
};
use crate::config::value::parse_duration;
use proof::Proof;

const TTL_LEAST: Duration = Duration::from_secs(1);
const TTL_MOST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Args)]
#[command(
    after_help = "A lease has a fencing token: a number that is higher than any given before. Send it along with what is written under the \
                  lease, and let whatever is written to refuse a lower one than it has seen: that keeps out also who was stopped while it held it.\n\n\
                  Examples:\n  waxwing lease run nightly -- ./nightly.sh\n  waxwing lease list\n  waxwing lease watch --prefix tenant:\n  \
                  waxwing lease acquire nightly --ttl 10m --owner-file nightly.lease && ./step1 && \\\n    \
                  waxwing lease renew --owner-file nightly.lease && ./step2; waxwing lease release --owner-file nightly.lease"
)]
pub struct LeaseArgs {
    #[command(subcommand)]
    command: LeaseCommand,
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Have a lease, until its time is over or it is released.
    #[command(
        after_help = "Prints lines for a shell, which renew and release read from the environment or from --owner-file. Who acquires with the file of a \
                      holder is that holder, so doing it again after a failure does no harm.\n\
                      Exit codes: 0 it is held, 1 somebody else has it (stderr says who), or no node could do it.\n\n\
                      Examples:\n  lines=$(waxwing lease acquire nightly --ttl 1m) && eval \"$lines\" && ./job; waxwing lease release\n  \
                      waxwing lease acquire nightly --wait 30s --owner-file nightly.lease"
    )]
    Acquire(AcquireArgs),
    /// Start the time of a lease anew.
    #[command(
        after_help = "Exit codes: 0 done, 1 it is not held any more, or no node could do it."
    )]
    Renew(RenewArgs),
    /// Give a lease back.
    Release(ReleaseArgs),
    /// List leases, and who holds them.
    #[command(
        after_help = "With -o json: {\"leases\": [{\"namespace\", \"name\", \"token\", \"ttl_ms\", \"note\", \"since\", \"session\", \"node\", \"state\"}], \"total\": N}\n\n\
                      Example:\n  waxwing lease list tenant:"
    )]
    List {
        /// Only those whose name begins so.
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Leases as they are, then what becomes of them.
    #[command(
        after_help = "* is held, + is held from now on or otherwise, - nobody holds it any more. Ends with Ctrl-C. It goes on where its node is lost, and tells \
                      only what differs. With -o json: {\"event\": \"held\"|\"free\"|\"current\", ..}, one a line."
    )]
    Watch {
        /// One lease.
        name: Option<String>,
        /// All whose name begins so; all, where neither is said.
        #[arg(long, value_name = "P", conflicts_with = "name")]
        prefix: Option<String>,
        /// End after so many lines.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Run a command while holding a lease: exactly one in the cluster does.
    Run(run::RunArgs),
    /// The process between `run` and its command.
    #[command(hide = true)]
    Group(group::GroupArgs),
}

#[derive(Debug, Args)]
struct Wanted {
    name: String,
    /// How long after it was last renewed somebody else may have it.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = ttl)]
    ttl: Duration,
    /// For people who look who has it.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

impl Wanted {
    fn ask(&self) -> Acquire {
        Acquire::new(&*self.name, self.ttl).note(&*self.note)
    }
}

#[derive(Debug, Args)]
struct AcquireArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Where somebody has it: how long to wait for it.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration, hide_default_value = true)]
    wait: Duration,
    /// Keep the proof of who holds it there, readable by you alone; if it is there, be who it says.
    #[arg(long, value_name = "FILE")]
    owner_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RenewArgs {
    /// As WAXWING_LEASE_NAME or the file says, where nothing is said.
    name: Option<String>,
    /// The proof, as acquire left it; else WAXWING_LEASE_OWNER and WAXWING_LEASE_TOKEN.
    #[arg(long, value_name = "FILE")]
    owner_file: Option<PathBuf>,
    /// Another time than before.
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    ttl: Option<Duration>,
}

#[derive(Debug, Args)]
struct ReleaseArgs {
    /// As WAXWING_LEASE_NAME or the file says, where nothing is said.
    name: Option<String>,
    /// The proof, as acquire left it; else WAXWING_LEASE_OWNER and WAXWING_LEASE_TOKEN.
    #[arg(long, value_name = "FILE")]
    owner_file: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if (TTL_LEAST..=TTL_MOST).contains(&ttl) {
        Ok(ttl)
    } else {
        Err("must be 1s to 24h".to_owned())
    }
}

pub(super) async fn run(args: LeaseArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        LeaseCommand::Acquire(args) => acquire(&args, globals).await,
        LeaseCommand::Renew(args) => renew(&args, globals).await,
        LeaseCommand::Release(args) => release(&args, globals).await,
        LeaseCommand::List { prefix, limit } => list(&prefix, limit, globals).await,
        LeaseCommand::Watch { name, prefix, count } => {
            let watched = match name {
                Some(name) => LeaseWatched::Name(name),
                None => LeaseWatched::Prefix(prefix.unwrap_or_default()),
            };
            tokio::select! {
                done = watch(watched, count, globals) => done,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        }
        LeaseCommand::Run(args) => run::run(args, globals).await,
        LeaseCommand::Group(args) => group::run(args).await,
    }
}

/// None of it needs a session.
fn leases(globals: &Globals) -> anyhow::Result<Leases> {
    let options = options(globals, "lease")?;
    globals.warn_of_plaintext(&options.addresses);
    Leases::new(&options).map_err(told)
}

/// An error with the next thing to try.
fn told(error: LeaseError) -> anyhow::Error {
    match error {
        LeaseError::NotNow(why) if why.contains("no_quorum") => Hinted {
            what: why,
            hint: "leases need more than half of the voters; who is there: waxwing members"
                .to_owned(),
        }
        .into(),
        // A node did answer.
        LeaseError::NotNow(why) if why.contains("(control_") => anyhow::Error::msg(why),
        LeaseError::NotNow(why) => {
            let (matter, hint) = judge(&why);
            Hinted { what: format!("{matter}: {why}"), hint: hint.to_owned() }.into()
        }
        LeaseError::Refused(error) => match judge(&error.message) {
            (SILENT, _) => error.into(),
            (_, hint) => Hinted { what: error.to_string(), hint: hint.to_owned() }.into(),
        },
        error => error.into(),
    }
}

/// `somebody else has NAME: ..`
fn busy(entry: &LeaseEntry) -> String {
    let LeaseEntry { name, token, note, node, session_id, .. } = entry;
    let mut what = format!("somebody else has {name} (token {token}");
    if let Some(session) = session_id {
        what += &format!(", session {session}");
    }
    if let Some(node) = node {
        what += &format!(" at {node}");
    }
    if !note.is_empty() {
        what += &format!(", {note}");
    }
    harmless_line(&(what + ")"))
}

async fn acquire(args: &AcquireArgs, globals: &Globals) -> anyhow::Result<()> {
    let leases = leases(globals)?;
    let name = &args.wanted.name;
    let file = args.owner_file.as_deref();
    let before = file.map(Proof::read).transpose()?.flatten().unwrap_or_default();
    if let Some(other) = before.name.filter(|other| other != name) {
        return Err(Usage(format!("--owner-file is of {other}, not of {name}")).into());
    }
    let owner = match before.owner {
        Some(owner) => owner,
        None => LeaseOwner::new().map_err(told)?,
    };
    if let Some(file) = file {
        // First: who gets no answer can ask again as the same.
        Proof::new(name, owner.clone(), before.token).write(file)?;
    }
    let ask = args.wanted.ask().wait(args.wait).owner(owner.clone());
    let asked = tokio::select! {
        asked = leases.acquire(&ask) => asked,
        _ = tokio::signal::ctrl_c() => return Err(Ended(FAILED).into()),
    };
    let granted = match asked.map_err(told)? {
        Ok(granted) => granted,
        Err(entry) => {
            if globals.wants_json() {
                json(&serde_json::json!({ "granted": false, "held": rows::object(&entry) }))?;
            }
            anyhow::bail!("{}", busy(&entry));
        }
    };
    let proof = Proof::new(name, owner.clone(), Some(granted.token));
    if let Some(file) = file {
        proof.write(file)?;
    }
    if globals.wants_json() {
        return json(&serde_json::json!({
            "granted": true,
            "name": name,
            "token": granted.token,
            "owner": owner.to_hex(),
            "ttl_ms": rows::millis(args.wanted.ttl),
        }));
    }
    if file.is_none() {
        line(proof.lines("export ").trim_end())?;
    }
    let ttl = humantime::format_duration(args.wanted.ttl);
    let name = harmless_line(name);
    talk(globals, &format!("{name} is yours for {ttl}, token {}", granted.token));
    Ok(())
}

async fn renew(args: &RenewArgs, globals: &Globals) -> anyhow::Result<()> {
    let proof = Proof::find(args.owner_file.as_deref())?;
    let (name, granted) = proof.complete(args.name.as_deref())?;
    leases(globals)?.renew(&name, &granted, args.ttl).await.map_err(told)?;
    if globals.wants_json() {
        return json(&serde_json::json!({ "name": name, "token": granted.token }));
    }
    talk(globals, &format!("{} is renewed, token {}", harmless_line(&name), granted.token));
    Ok(())
}

async fn release(args: &ReleaseArgs, globals: &Globals) -> anyhow::Result<()> {
    let proof = Proof::find(args.owner_file.as_deref())?;
    let (name, granted) = proof.complete(args.name.as_deref())?;
    leases(globals)?.release(&name, &granted).await.map_err(told)?;
    if globals.wants_json() {
        return json(&serde_json::json!({ "name": name, "token": granted.token }));
    }
    talk(globals, &format!("{} is free", harmless_line(&name)));
    Ok(())
}

async fn list(prefix: &str, limit: u32, globals: &Globals) -> anyhow::Result<()> {
    let found = leases(globals)?.list(prefix, limit).await.map_err(told)?;
    if globals.wants_json() {
        let leases: Vec<_> = found.leases.iter().map(rows::object).collect();
        return json(&serde_json::json!({ "leases": leases, "total": found.total }));
    }
    if found.leases.is_empty() {
        talk(globals, "nobody holds any");
        return Ok(());
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "ages are shown by the wall clock that `since` is of"
    )]
    let now = std::time::SystemTime::now();
    line(&rows::table(&found.leases, now))?;
    let shown = found.leases.len() as u64;
    if shown < found.total {
        let all = thousands(found.total);
        talk(globals, &format!("{} of {all}: --limit N shows more", thousands(shown)));
    }
    Ok(())
}

async fn watch(watched: LeaseWatched, count: Option<u64>, globals: &Globals) -> anyhow::Result<()> {
    let mut watch = leases(globals)?.watch(watched).await.map_err(told)?;
    let mut left = count;
    let mut is_current = false;
    while left != Some(0) {
        let change = watch.next().await.map_err(told)?;
        let is_line = globals.wants_json() || change != LeaseChange::Current;
        if globals.wants_json() {
            json(&rows::event(&change))?;
        } else if is_line {
            line(&rows::change_line(&change, is_current))?;
        } else {
            talk(globals, "that is all there is; now what changes");
        }
        is_current |= change == LeaseChange::Current;
        if let Some(left) = left.as_mut().filter(|_| is_line) {
            *left -= 1;
        }
    }
    Ok(())
}
