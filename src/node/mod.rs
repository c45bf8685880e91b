//! Puts the parts together: the only module that sees everything. Starting, becoming ready, draining, leaving.
//!
//! Parts are built in the order in which they need each other, after every port is bound; they end together, by the one shutdown of the
//! supervisor. Dropping a `Node` ends it at once and tells nobody, as a kill does.

mod access;
mod boot;
mod certificates;
mod commands;
mod drain;
pub mod identity;
mod load;
mod log_level;
mod notices;
mod parent;
mod ports;
mod readiness;
mod reload;
mod signals;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::config::Config;
use crate::config::limits::LimitsHandle;
use crate::control::part::ControlHandle;
use crate::link::LinksHandle;
use crate::membership::{Addresses, MembershipHandle};
use crate::net::{Host, SharedNetwork};
use crate::replicator::ReplicatorHandle;
use crate::router::RouterHandle;
use crate::status::StatusHandle;
use crate::supervise::{Clock, SharedCommands, Supervisor, Task};
use crate::telemetry::LogLevel;
use crate::tls::Tls;
use access::AccessKeeper;
use certificates::Certificates;
use drain::Departure;
use log_level::LogLevels;
pub use ports::{Bound, PortsError, bind_reason};
use signals::{Signal, Signals};

/// How long tasks have to end after the shutdown before the process ends without them.
const END_TIME_MAX: Duration = Duration::from_secs(8);

/// A running node.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
    log: LogLevels,
}

/// What a node stands in.
#[derive(Debug)]
pub struct Surroundings {
    pub network: SharedNetwork,
    pub clock: Clock,
}

impl Surroundings {
    /// The operating system's.
    pub fn of_host() -> Self {
        Self { network: Arc::new(Host), clock: Clock::new() }
    }
}

/// What others in this process may use of a node. Cheap to clone; keeps nothing running.
#[derive(Clone)]
pub struct NodeHandle {
    parts: Arc<Parts>,
    departure: Arc<Departure>,
    status: StatusHandle,
    commands: SharedCommands,
}

/// What the whole of a node is made of.
#[derive(Debug)]
struct Parts {
    config: Config,
    bound: Bound,
    addresses: Addresses,
    supervisor: Supervisor,
    clock: Clock,
    limits: LimitsHandle,
    tls: Option<Tls>,
    membership: MembershipHandle,
    links: LinksHandle,
    replicator: ReplicatorHandle,
    router: RouterHandle,
    broker: Broker,
    control: ControlHandle,
    access: Arc<AccessKeeper>,
}

impl Node {
    /// Binds every port, then builds and starts the parts. When it returns, the node is joining; it becomes ready by itself.
    pub async fn start(config: Config, log: LogLevel) -> anyhow::Result<Self> {
        Self::start_in(config, log, Surroundings::of_host()).await
    }

    /// As `start`, on a network and by a clock that aren't the host's.
    pub async fn start_in(
        config: Config,
        log: LogLevel,
        surroundings: Surroundings,
    ) -> anyhow::Result<Self> {
        boot::start(config, log, surroundings).await
    }

    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Ends the node at once when standard input, a pipe, is closed at its other end.
    pub fn end_with_parent(&self) -> anyhow::Result<()> {
        let pipe = parent::pipe().map_err(|error| {
            anyhow::anyhow!("--exit-with-parent needs a pipe as standard input: {error}")
        })?;
        let supervisor = self.handle.parts.supervisor.clone();
        supervisor.clone().spawn(Task::ParentWatch, async move {
            tokio::select! {
                () = parent::ended(pipe) => supervisor.fail("the process that started it has ended".to_owned()),
                () = supervisor.shutdown().cancelled() => {}
            }
        });
        Ok(())
    }

    /// Until the node has ended by a drain or leave. `Err`: a second signal ended it, or a part that it needs has failed.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let parts = self.handle.parts.clone();
        let mut settings = parts.config.clone();
        let mut asked_to_stop = false;
        let mut certificates = Certificates::of(&settings);
        let ended = self.handle.ended();
        tokio::pin!(ended);
        loop {
            let signal = tokio::select! {
                () = &mut ended => break,
                signal = signals.next() => signal,
                () = certificates.changed(parts.tls.is_some()) => {
                    reload::reload_tls(&parts, &mut settings, &mut certificates);
                    continue;
                }
            };
            match signal {
                Signal::Reload => {
                    // What was not taken is still to be noticed.
                    if reload::reload(&parts, &self.log, &mut settings) {
                        certificates = Certificates::of(&settings);
                    }
                }
                Signal::Stop if asked_to_stop => {
                    anyhow::bail!("a second signal ended the node before it had drained");
                }
                Signal::Stop => {
                    asked_to_stop = true;
                    tracing::info!("a signal: the node drains; a second one ends it at once");
                    self.handle.departure.begin_drain(drain::GRACE);
                }
            }
        }
        match parts.supervisor.fatal() {
            Some(reason) => Err(anyhow::anyhow!("the node stopped: {reason}")),
            None => Ok(()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle.parts.supervisor.shutdown().cancel();
    }
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl NodeHandle {
    /// Where it listens: with port 0, the port that was found.
    pub fn bound(&self) -> Bound {
        self.parts.bound
    }

    pub fn membership(&self) -> &MembershipHandle {
        &self.parts.membership
    }

    pub fn links(&self) -> &LinksHandle {
        &self.parts.links
    }

    pub fn router(&self) -> &RouterHandle {
        &self.parts.router
    }

    pub fn replicator(&self) -> &ReplicatorHandle {
        &self.parts.replicator
    }

    pub fn broker(&self) -> &Broker {
        &self.parts.broker
    }

    pub fn control(&self) -> &ControlHandle {
        &self.parts.control
    }

    pub fn status(&self) -> &StatusHandle {
        &self.status
    }

    pub fn commands(&self) -> &SharedCommands {
        &self.commands
    }

    pub fn supervisor(&self) -> &Supervisor {
        &self.parts.supervisor
    }

    pub fn clock(&self) -> Clock {
        self.parts.clock
    }

    /// When the node has shut down and its tasks have ended, or have had their time.
    pub async fn ended(&self) {
        let supervisor = &self.parts.supervisor;
        supervisor.shutdown().cancelled().await;
        if tokio::time::timeout(END_TIME_MAX, supervisor.all_ended()).await.is_err() {
            let tasks: Vec<String> = supervisor.report().into_iter().map(|row| row.name).collect();
            tracing::warn!(tasks = tasks.join(", "), "tasks that did not end in time");
        }
    }

    /// A drain whose steps nobody reads.
    pub async fn drain(&self, grace: Duration) {
        let (steps, mut read) = mpsc::channel(1);
        let reading = async { while read.recv().await.is_some() {} };
        tokio::join!(self.departure.drain(grace, steps), reading);
    }
}
