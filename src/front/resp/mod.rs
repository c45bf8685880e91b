//! The Redis front: pub/sub for any Redis client, in RESP2 and RESP3, on the same topics as gRPC.
//!
//! - Channels are topics of the namespace that the client's key is of, or of the default one; sharded channels lie beside it, in a place
//!   that nobody else can name. Both are of any bytes.
//! - An acknowledged subscription holds in the whole cluster, and `PUBLISH` counts the whole cluster.
//! - Answers stand in the order of the commands. What this front does not do is refused, and the connection stays.
//! - A connection is one task and owns no buffer while it is idle. Before it has said anything it is met on a thread apart.

mod about;
mod clients;
mod command;
mod connection;
mod frame;
mod greeter;
mod input;
mod io;
mod line;
mod output;
mod print;
#[cfg(test)]
mod replies;
mod server;
mod session;
mod talk;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::broker::{Broker, GoAway, Pass, Voice, Welcome};
use crate::config::RedisConfig;
use crate::config::limits::LimitsHandle;
use crate::pubsub::Copies;
use crate::router::RouterHandle;
use crate::status::StatusHandle;
use crate::supervise::descriptors::Descriptors;
use crate::supervise::{Clock, Shutdown, Supervisor};
use crate::tls::Tls;
use crate::types::{Namespace, Time};
use clients::Clients;

/// As metrics and reports call it.
const FRONT: &str = "redis";

/// What the front stands on.
pub struct RespDeps {
    pub status: StatusHandle,
    pub broker: Broker,
    pub router: RouterHandle,
    pub config: RedisConfig,
    pub limits: LimitsHandle,
    pub supervisor: Supervisor,
    pub clock: Clock,
    /// None: in the clear.
    pub tls: Option<Tls>,
}

impl fmt::Debug for RespDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespDeps").field("broker", &self.broker).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct RespFront {
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    deps: RespDeps,
    clients: Clients,
    /// Connections, strangers among them.
    connections: AtomicUsize,
    descriptors: Descriptors,
    channels: Namespace,
    sharded: Namespace,
    copies: Copies,
    started: Time,
    /// 40 hexadecimal digits, the same at every start of a node of this name.
    id: String,
}

impl RespFront {
    pub fn new(deps: RespDeps) -> Self {
        let config = &deps.config;
        let copies = Copies::EachMatch {
            hard: config.output_hard,
            soft: config.output_soft,
            soft_for: config.output_soft_for,
        };
        let started = deps.clock.now();
        let id = Sha256::digest(deps.broker.node().as_str());
        let id = id[..20].iter().map(|byte| format!("{byte:02x}")).collect();
        let shared = Shared {
            deps,
            clients: Clients::default(),
            connections: AtomicUsize::new(0),
            descriptors: Descriptors::of_process(),
            channels: Namespace::default(),
            sharded: Namespace::default().sharded(),
            copies,
            started,
            id,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves until told to stop; then whoever is still attached is closed.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) {
        server::run(&self.shared, listener, shutdown).await;
    }
}

impl Shared {
    /// Must clients say who they are?
    fn is_locked(&self) -> bool {
        self.deps.broker.door().is_locked() || self.deps.config.password.is_some()
    }

    /// Where the channels of somebody with this pass are, and where the sharded ones.
    fn places(&self, pass: &Pass) -> (Namespace, Namespace) {
        if *pass.namespace() == self.channels {
            return (self.channels.clone(), self.sharded.clone());
        }
        (pass.namespace().clone(), pass.namespace().sharded())
    }
}

/// Redis clients are welcomed by nobody and can't be told to go.
struct RespVoice;

impl Voice for RespVoice {
    fn welcome(&self, _: &Welcome) -> Option<Bytes> {
        None
    }

    fn go_away(&self, _: &GoAway) -> Option<Bytes> {
        None
    }
}
