//! One `waxwing start` as a child process. It never outlives the value that stands for it; when this whole process is killed, the
//! child's standard input closes, and it ends by itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binary;

#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// What the program writes is appended to `log`. `prefix`: the command that runs it somewhere else. `descriptors`: how many files it
    /// may have open.
    pub fn spawn(
        prefix: &[String],
        args: &[String],
        log: &Path,
        descriptors: Option<u64>,
    ) -> io::Result<Self> {
        let mut command = match (prefix, descriptors) {
            ([], None) => Command::new(binary::path()),
            ([program, rest @ ..], _) => {
                let mut command = Command::new(program);
                command.args(rest).arg(binary::path());
                command
            }
            ([], Some(count)) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\"")]);
                shell.arg(binary::path());
                shell
            }
        };
        without_our_environment(&mut command);
        command.args(args);
        Self::run(command, log)
    }

    /// Any other program, as its caller has set it up.
    pub fn run(mut command: Command, log: &Path) -> io::Result<Self> {
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        let err = out.try_clone()?;
        let child = command.stdin(Stdio::piped()).stdout(out).stderr(err).spawn()?;
        Ok(Self { child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        // Fails only when the process has ended already, which the caller finds out by waiting for it.
        let _ = kill(pid, signal);
    }

    /// SIGSTOP, and back when no thread of it runs any more: the kernel stops them one after another.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let is_stopped = |stat: &str| {
            // PID (NAME) STATE ...; an ended thread does nothing either.
            let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
            state.is_empty() || state.starts_with(['T', 'Z', 'X'])
        };
        let all_are = || {
            let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else {
                return true;
            };
            let stat = |thread: std::fs::DirEntry| {
                std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default()
            };
            threads.flatten().all(|thread| is_stopped(&stat(thread)))
        };
        while !all_are() {
            std::thread::yield_now();
        }
    }

    /// None while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Kills it and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Memory that is really there, in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A setting of whoever runs the tests must not change what a node does.
pub fn without_our_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WAXWING_") {
            command.env_remove(name);
        }
    }
    // Backtraces would push the message out of the end of the log that a failed test shows.
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
}

/// The last `lines` lines of a file, or why there are none.
pub fn tail(path: &Path, lines: usize) -> String {
    const MOST: u64 = 64 * 1024;
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(no log: {error})"),
    }
}

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(20);
