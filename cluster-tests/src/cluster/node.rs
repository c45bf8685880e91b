//! One node of a cluster: its name, addresses, flags and log, whether its process runs or not.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use waxwing::supervise::Clock;

use crate::documents::{Metrics, Status};
use crate::ports::Ports;
use crate::process::Process;
use crate::{eventually, http};

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub ports: Ports,
    pub log: PathBuf,
    args: Vec<String>,
    descriptors: Option<u64>,
    /// The command that starts it in its place.
    prefix: Vec<String>,
    process: Mutex<Option<Process>>,
}

/// a, b, c ...
pub(super) fn name(i: usize) -> String {
    char::from(b'a' + u8::try_from(i).expect("few nodes")).to_string()
}

impl Node {
    pub(super) fn new(
        i: usize,
        ports: Ports,
        args: Vec<String>,
        dir: &Path,
        descriptors: Option<u64>,
    ) -> Self {
        // By index, since a test may start two nodes of one name.
        let log = dir.join(format!("{i}-{}.log", name(i)));
        Self {
            name: name(i),
            ports,
            log,
            args,
            descriptors,
            prefix: Vec::new(),
            process: Mutex::default(),
        }
    }

    pub(super) fn after(self, prefix: Vec<String>) -> Self {
        Self { prefix, ..self }
    }

    pub(super) fn start(&self) {
        let process = Process::spawn(&self.prefix, &self.args, &self.log, self.descriptors)
            .expect("start a node");
        *self.process() = Some(process);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process() {
            process.signal(signal);
        }
    }

    pub fn stop(&self) {
        if let Some(process) = &*self.process() {
            process.stop();
        }
    }

    pub fn kill9(&self) {
        if let Some(process) = &mut *self.process() {
            process.kill9();
        }
    }

    /// None while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.process().as_mut().and_then(Process::exited)
    }

    /// How it ended, and how long that took. Err: it still runs.
    pub async fn exit(&self, within: Duration) -> Result<(ExitStatus, Duration), String> {
        let ended = async || self.exited().ok_or_else(|| format!("{} still runs", self.name));
        eventually::poll(Clock::new(), within, ended).await
    }

    pub fn resident_bytes(&self) -> u64 {
        self.process().as_ref().and_then(Process::resident_bytes).unwrap_or_default()
    }

    pub async fn status(&self) -> anyhow::Result<Status> {
        let answer = http::get(self.ports.http, "/status").await?;
        ensure!(answer.status == 200, "/status answers {}: {}", answer.status, answer.body);
        Status::parse(&answer.body)
    }

    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let answer = http::get(self.ports.http, "/metrics").await?;
        ensure!(answer.status == 200, "/metrics answers {}: {}", answer.status, answer.body);
        Ok(Metrics(answer.body))
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The log shows a panic, of a task or of the process.
    pub fn panicked(&self) -> bool {
        let text = self.log_text();
        text.contains("panicked at") || text.contains("a task panicked")
    }
}
