//! chitchat over the sealed wire: one run of it, for one incarnation.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable,
    FailureDetectorConfig, NodeState, Serializable,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::check::{self, Bounds};
use super::envelope::Kind;
use super::rejected::Rejected;
use super::row::Facts;
use super::view::{Me, Row};
use super::wire::Wire;
use crate::types::{Incarnation, NodeName, Replica};

/// Messages that wait for chitchat; a further one is dropped, as the network might have.
const INBOX: usize = 256;
/// An inflated message to one as sent.
const INFLATION: usize = 16;
/// Rows to a member: restarts leave rows behind for a while.
const ROWS: usize = 4;
const PHI: f64 = 8.0;
const WINDOW: usize = 100;
const MAX_INTERVAL: Duration = Duration::from_secs(5);

type Received = (SocketAddr, ChitchatMessage);

/// Where the receiver puts messages for the chitchat that runs now.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    to: Mutex<Option<mpsc::Sender<Received>>>,
    /// The incarnations that chitchat has rows of: when they are far too many, no further one is let in.
    known: Mutex<HashSet<ChitchatId>>,
}

impl Inbox {
    fn open(&self) -> mpsc::Receiver<Received> {
        let (sender, receiver) = mpsc::channel(INBOX);
        *self.to.lock() = Some(sender);
        receiver
    }

    /// Takes the channel away from the chitchat that runs now, which ends it.
    #[cfg(test)]
    pub(super) fn break_for_test(&self) {
        self.to.lock().take();
    }

    /// `from` is the sealed sender's advertised address: chitchat answers there.
    pub(super) fn put(
        &self,
        from: SocketAddr,
        bytes: &[u8],
        message_max: usize,
        members_max: usize,
    ) -> Result<(), Rejected> {
        let rows_max = members_max * ROWS;
        let bounds = Bounds { inflated: message_max * INFLATION, nodes: rows_max };
        let speaks_of = check::check(bytes, bounds)?;
        {
            let known = self.known.lock();
            if known.len() >= rows_max && speaks_of.iter().any(|id| !known.contains(id)) {
                return Err(Rejected::Content);
            }
        }
        let message =
            ChitchatMessage::deserialize(&mut &bytes[..]).map_err(|_| Rejected::Content)?;
        match self.to.lock().as_ref().map(|to| to.try_send((from, message))) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err(Rejected::Overrun),
            // Between two runs of chitchat nobody listens.
            Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) | None => Ok(()),
        }
    }
}

struct SealedTransport {
    wire: Arc<Wire>,
    inbox: Arc<Inbox>,
}

struct SealedSocket {
    wire: Arc<Wire>,
    inbox: mpsc::Receiver<Received>,
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(SealedSocket { wire: self.wire.clone(), inbox: self.inbox.open() }))
    }
}

#[async_trait]
impl Socket for SealedSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.wire.send(to, Kind::Gossip, &message.serialize_to_vec()).await;
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<Received> {
        self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("another run has taken over"))
    }
}

pub(super) struct Gossip {
    handle: ChitchatHandle,
    incarnation: Incarnation,
    inbox: Arc<Inbox>,
}

/// What a run of chitchat knew of this node: a run for the same incarnation must go on from there, for its peers take heartbeats and
/// versions only if they rise.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    incarnation: Incarnation,
    state: NodeState,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct GossipTiming {
    pub(super) interval: Duration,
    pub(super) forget_after: Duration,
}

impl Gossip {
    pub(super) async fn start(
        wire: &Arc<Wire>,
        inbox: &Arc<Inbox>,
        cluster: &str,
        me: &Me,
        timing: GossipTiming,
        saved: Option<Saved>,
    ) -> anyhow::Result<Self> {
        let incarnation = me.replica.incarnation;
        let id = ChitchatId::new(me.replica.name.as_str(), incarnation.0, me.address);
        let config = ChitchatConfig {
            chitchat_id: id,
            cluster_id: cluster.to_owned(),
            gossip_interval: timing.interval,
            listen_addr: me.address,
            // We look for seeds ourselves: chitchat would resolve their names once a minute.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: PHI,
                sampling_window_size: WINDOW,
                max_interval: MAX_INTERVAL,
                initial_interval: timing.interval * 2,
                dead_node_grace_period: timing.forget_after,
            },
            marked_for_deletion_grace_period: timing.forget_after,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let keys = me.facts.to_keys().map(|(key, value)| (key.to_owned(), value));
        let transport = SealedTransport { wire: wire.clone(), inbox: inbox.clone() };
        let handle = chitchat::spawn_chitchat(config, keys.into(), &transport).await?;
        let gossip = Self { handle, incarnation, inbox: inbox.clone() };
        if let Some(saved) = saved.filter(|saved| saved.incarnation == incarnation) {
            gossip
                .handle
                .with_chitchat(|chitchat| *chitchat.self_node_state() = saved.state.clone())
                .await;
        }
        Ok(gossip)
    }

    /// Exchanges states with the node there.
    pub(super) fn with(&self, address: SocketAddr) {
        // Fails only when chitchat has ended, which `ended` tells.
        let _ = self.handle.gossip(address);
    }

    /// Ends when chitchat's task has ended, by a panic or otherwise.
    pub(super) async fn ended(&self) -> String {
        match self.handle.termination_watcher().await {
            Ok(()) => "it stopped".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    pub(super) fn stop(&self) {
        self.handle.abort();
    }

    /// Writes this node's row where it has changed, and reads everybody's.
    pub(super) async fn exchange(&self, facts: &Facts) -> (Vec<Row>, Saved) {
        let chitchat = self.handle.chitchat();
        let mut chitchat = chitchat.lock().await;
        let own = chitchat.self_node_state();
        for (key, value) in facts.to_keys() {
            own.set(key, value);
        }
        let saved = Saved { incarnation: self.incarnation, state: own.clone() };
        let me = chitchat.self_chitchat_id();
        let live: HashSet<_> = chitchat.live_nodes().collect();
        let rows = chitchat.node_states().iter().filter(|(id, _)| *id != me);
        let rows = rows.filter_map(|(id, state)| row(id, state, live.contains(id))).collect();
        *self.inbox.known.lock() = chitchat.node_states().keys().cloned().collect();
        (rows, saved)
    }
}

fn row(id: &ChitchatId, state: &NodeState, live: bool) -> Option<Row> {
    Some(Row {
        replica: Replica {
            name: NodeName::parse(&id.node_id).ok()?,
            incarnation: Incarnation(id.generation_id),
        },
        address: id.gossip_advertise_addr,
        heartbeat: state.heartbeat().into(),
        live,
        facts: Facts::from_keys(|key| state.get(key)),
    })
}

impl std::fmt::Debug for Gossip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gossip").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}
