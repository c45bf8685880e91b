//! The process between `lease run` and its command. It is the leader of their process group, gives the command's exit code on, and ends the
//! whole group at once when `lease run` is gone: nobody would renew the lease any more, and somebody else is about to have it.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::{ExitStatusExt as _, parent_id};
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use super::super::failure::Ended;
use crate::cli::output::harmless;

/// Shorter than what a lease has left when its command is ended.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// As shells have it.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;
const BY_SIGNAL: i32 = 128;

/// What is passed on to a command, and ends nobody else of its group.
pub(super) const PASSED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

#[derive(Debug, Args)]
pub(super) struct GroupArgs {
    /// Whose end ends all.
    parent: u32,
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// Signals that come to this process.
pub(super) struct Caught(Vec<(Signal, Stream)>);

impl Caught {
    pub(super) fn new(signals: &[Signal]) -> std::io::Result<Self> {
        let caught =
            signals.iter().map(|one| Ok((*one, signal(SignalKind::from_raw(*one as i32))?)));
        caught.collect::<std::io::Result<_>>().map(Self)
    }

    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (signal, stream) in &mut self.0 {
                if let std::task::Poll::Ready(Some(())) = stream.poll_recv(cx) {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// The exit code that a shell would give.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    let by_signal = || status.signal().map_or(1, |signal| BY_SIGNAL + signal);
    u8::try_from(status.code().unwrap_or_else(by_signal)).unwrap_or(1)
}

pub(super) async fn run(args: GroupArgs) -> anyhow::Result<()> {
    // They are the command's: it has come to the whole group, and ours is to wait for what it does.
    let _caught = Caught::new(&PASSED_ON)?;
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Ended(NOT_RUN).into());
    };
    if parent_id() != args.parent {
        return Err(Ended(NOT_RUN).into());
    }
    let mut child = match Command::new(program).args(rest).spawn() {
        Ok(child) => child,
        Err(error) => {
            let what = format!("run {}: {error}", program.to_string_lossy());
            // Nobody is there to be told that stderr is closed.
            let _ = writeln!(anstream::stderr().lock(), "error: {}", harmless(&what));
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            return Err(Ended(if is_missing { NOT_FOUND } else { NOT_RUN }).into());
        }
    };
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            status = child.wait() => {
                return match code_of(status?) {
                    0 => Ok(()),
                    code => Err(Ended(code).into()),
                };
            }
            _ = look.tick() => {
                if parent_id() != args.parent {
                    // This process too.
                    let _ = signal::kill(Pid::from_raw(0), Signal::SIGKILL);
                }
            }
        }
    }
}
