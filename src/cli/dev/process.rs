//! One node's process: started, stopped, killed; it ends by itself when its standard input closes.

use std::fs::File;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// How long a node may take to end when asked, before it is killed.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(2);
const STOP_TIME_MAX: Duration = Duration::from_secs(1);
const END_TIME_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: Pid,
    stopped: bool,
}

impl Process {
    pub(super) fn start(flags: &[String], log: File) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C at the terminal is for `dev` alone: it would make every node drain at once.
            .process_group(0)
            .kill_on_drop(true);
        // What this shell says of some node is not meant for these.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WAXWING_") {
                command.env_remove(name);
            }
        }
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("it ended at once"))?;
        Ok(Self { child, pid: Pid::from_raw(pid), stopped: false })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub(super) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGSTOP, or SIGCONT to one that was stopped. Ends when it has stopped: were `dev` killed sooner, the kernel would not yet see a
    /// stopped orphan, and nobody would ever let it go on to end.
    pub(super) async fn stop_or_go_on(&mut self) -> io::Result<()> {
        let signal = if self.stopped { Signal::SIGCONT } else { Signal::SIGSTOP };
        // It has not been waited for, so the number is still its own.
        if self.child.id().is_some() {
            signal::kill(self.pid, signal)?;
            self.stopped = !self.stopped;
        }
        if self.stopped {
            let stopping = async {
                while !all_threads_are_stopped(self.pid) {
                    tokio::time::sleep(STOP_LOOK_EVERY).await;
                }
            };
            // One that stops this late is stopped all the same.
            let _ = tokio::time::timeout(STOP_TIME_MAX, stopping).await;
        }
        Ok(())
    }

    /// SIGKILL: it learns nothing of it.
    pub(super) async fn kill(mut self) {
        // An error: it has ended.
        let _ = self.child.kill().await;
    }

    /// Lets it end by itself, and kills it when it takes too long.
    pub(super) async fn end(mut self) {
        if !self.stopped {
            drop(self.child.stdin.take());
            if tokio::time::timeout(END_TIME_MAX, self.child.wait()).await.is_ok() {
                return;
            }
        }
        self.kill().await;
    }
}

/// True also where `/proc` doesn't tell.
fn all_threads_are_stopped(pid: Pid) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // PID (NAME) STATE ...; a name may hold anything but is closed by the last parenthesis.
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}
