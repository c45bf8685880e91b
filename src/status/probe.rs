//! Measures the way of a message: every few seconds a small one goes to each peer alone, and the peer's confirmation comes back. So the
//! whole path is seen to work (the link out, the peer's registry, its answer on the link in), not only a ping.
//!
//! The topic is in a namespace that no client is in by default, and nobody subscribes to it; status takes the probes off what clients
//! see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::StatusHandle;
use super::facts::OwnTraffic;
use crate::membership::MembershipHandle;
use crate::metrics::{Exporter, names};
use crate::pubsub::Messages;
use crate::router::{Confirm, Publish, Reach, RouterHandle};
use crate::supervise::{Clock, Shutdown};
use crate::types::{Namespace, NodeName, Topic};

/// How often.
const EVERY: Duration = Duration::from_secs(5);
const NAMESPACE: &str = "_waxwing";
const PAYLOAD: &[u8] = b"probe";
/// A name is at most 64 bytes.
const TOPIC_LEN_MAX: usize = 128;

#[derive(Debug, Clone)]
pub struct ProbeDeps {
    pub me: NodeName,
    pub membership: MembershipHandle,
    pub router: RouterHandle,
    pub status: StatusHandle,
    pub exporter: Arc<Exporter>,
    pub clock: Clock,
}

/// What the probe has done so far; status reads it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sent: AtomicU64,
}

impl Tally {
    pub(super) fn traffic(&self) -> OwnTraffic {
        let sent = self.sent.load(Ordering::Relaxed);
        OwnTraffic { published: sent, forwarded: sent }
    }
}

#[derive(Debug)]
pub struct Probe {
    deps: ProbeDeps,
}

impl Probe {
    pub const fn new(deps: ProbeDeps) -> Self {
        Self { deps }
    }

    /// Until `shutdown`. May be run again after it ended or was dropped.
    pub async fn run(self, shutdown: Shutdown) {
        let topic = match self.topic() {
            Ok(topic) => topic,
            Err(error) => {
                tracing::error!(error, "the probe's topic is refused");
                return;
            }
        };
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = every.tick() => {}
            }
            self.deps.exporter.upkeep();
            self.deps.status.look_for_problems();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.round(&topic) => {}
            }
        }
    }

    /// One probe to each peer that is linked, all at once; ends when all have answered, or after the confirm limit.
    async fn round(&self, topic: &Topic) {
        let members = self.deps.membership.members();
        join_all(members.live_peers().map(|peer| self.probe(topic, &peer.name))).await;
    }

    async fn probe(&self, topic: &Topic, peer: &NodeName) {
        let publish = Publish {
            topic: topic.clone(),
            messages: Messages::single(Bytes::from_static(PAYLOAD)),
            exclude: None,
            reach: Reach::Node(peer.clone()),
            confirm: Confirm::Cluster,
        };
        // Before it is sent, so that no look in between takes it for a client's.
        let tally = self.deps.status.tally();
        tally.sent.fetch_add(1, Ordering::Relaxed);
        let published = match self.deps.router.publish(publish, self.deps.clock.now()).await {
            Ok(published) => published,
            Err(error) => {
                tally.sent.fetch_sub(1, Ordering::Relaxed);
                tracing::debug!(%peer, %error, "a probe was not sent");
                return;
            }
        };
        match published.trace.iter().find(|trace| trace.node == *peer).and_then(|trace| trace.took)
        {
            Some(took) => metrics::histogram!(names::PROBE, "peer" => peer.to_string())
                .record(took.as_secs_f64()),
            None => tracing::debug!(%peer, "a probe was not answered in time"),
        }
    }

    fn topic(&self) -> Result<Topic, String> {
        let namespace = Namespace::parse(NAMESPACE).map_err(|bad| bad.to_string())?;
        let name = format!("probe/{}", self.deps.me);
        let hasher = self.deps.router.hasher();
        hasher.topic(&namespace, &name, TOPIC_LEN_MAX).map_err(|bad| bad.to_string())
    }
}
