//! Measures the way of a message: every few seconds a small one goes to each peer's own subscription, and the peer's confirmation
//! comes back. So the whole path is seen to work (registry, link out, the peer's registry and mailbox, its answer), not only a ping.
//!
//! The subscription is the node's own, in a namespace that no client is in by default; status takes its traffic off what clients see.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::StatusHandle;
use super::facts::OwnTraffic;
use crate::membership::MembershipHandle;
use crate::metrics::{Exporter, names};
use crate::pubsub::Messages;
use crate::pubsub::mailbox::Mailbox;
use crate::router::{Confirm, Publish, Reach, RouterHandle};
use crate::supervise::{Clock, Shutdown};
use crate::types::{Namespace, NodeName, SessionId, Topic};

/// How often.
const EVERY: Duration = Duration::from_secs(5);
const NAMESPACE: &str = "_waxwing";
const PAYLOAD: &[u8] = b"probe";
/// What is taken out of the own mailbox at once, to be thrown away.
const TAKE_BYTES: usize = 64 << 10;
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
    subscribed: AtomicBool,
    published: AtomicU64,
    forwarded: AtomicU64,
    /// Of mailboxes that are closed; `delivered` counts the open one's.
    delivered: AtomicU64,
}

impl Tally {
    pub(super) fn traffic(&self) -> OwnTraffic {
        let subscribed = u64::from(self.subscribed.load(Ordering::Relaxed));
        OwnTraffic {
            topics: subscribed,
            subscriptions: subscribed,
            published: self.published.load(Ordering::Relaxed),
            forwarded: self.forwarded.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
        }
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
        let Ok(own_topic) = self.topic(&self.deps.me) else {
            tracing::warn!("the probe's topic is refused; nothing is probed");
            return;
        };
        let open = OwnMailbox::open(&self.deps, own_topic).await;
        let before = self.deps.status.tally().traffic().delivered;
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                closed = discard(&open.mailbox) => {
                    tracing::debug!(closed, "the probe's mailbox was closed");
                    return;
                }
                _ = every.tick() => {}
            }
            self.deps.exporter.upkeep();
            self.deps.status.look_for_problems();
            let tally = self.deps.status.tally();
            tally.delivered.store(before + open.mailbox.report().delivered, Ordering::Relaxed);
            // Before that, peers would take a probe for a publish that came before their interest.
            if self.deps.status.ready().is_ok() {
                self.round(&open.mailbox).await;
            }
            tally.delivered.store(before + open.mailbox.report().delivered, Ordering::Relaxed);
        }
    }

    /// One probe to each live peer, all at once; ends when all have answered, or after the confirm limit.
    async fn round(&self, mailbox: &Mailbox) {
        let members = self.deps.membership.members();
        let probes = join_all(members.live_peers().map(|peer| self.probe(&peer.name)));
        tokio::select! {
            _ = probes => {}
            _ = discard(mailbox) => {}
        }
    }

    async fn probe(&self, peer: &NodeName) {
        let Ok(topic) = self.topic(peer) else { return };
        let publish = Publish {
            topic,
            messages: Messages::single(Bytes::from_static(PAYLOAD)),
            exclude: None,
            reach: Reach::Node(peer.clone()),
            confirm: Confirm::Cluster,
        };
        let published = match self.deps.router.publish(publish, self.deps.clock.now()).await {
            Ok(published) => published,
            Err(error) => {
                tracing::debug!(%peer, %error, "a probe was not sent");
                return;
            }
        };
        let tally = self.deps.status.tally();
        tally.published.fetch_add(1, Ordering::Relaxed);
        for trace in published.trace.iter().filter(|trace| trace.node == *peer) {
            if trace.interested {
                tally.forwarded.fetch_add(1, Ordering::Relaxed);
            }
            match trace.took {
                Some(took) => {
                    metrics::histogram!(names::PROBE, "peer" => peer.to_string())
                        .record(took.as_secs_f64());
                }
                None => tracing::debug!(%peer, trace.interested, "a probe was not answered"),
            }
        }
    }

    fn topic(&self, node: &NodeName) -> Result<Topic, String> {
        let namespace = Namespace::parse(NAMESPACE).map_err(|bad| bad.to_string())?;
        let name = format!("probe/{node}");
        let hasher = self.deps.router.hasher();
        hasher.topic(&namespace, &name, TOPIC_LEN_MAX).map_err(|bad| bad.to_string())
    }
}

/// The node's own subscription; ends with this value, also when the task panics or is aborted.
struct OwnMailbox {
    router: RouterHandle,
    status: StatusHandle,
    mailbox: Arc<Mailbox>,
}

impl OwnMailbox {
    async fn open(deps: &ProbeDeps, topic: Topic) -> Self {
        let mut id = [0; 16];
        if let Err(error) = getrandom::fill(&mut id) {
            // Nobody resumes this session; its id need not be secret, only its own.
            tracing::warn!(%error, "no randomness for the probe's session");
        }
        let mailbox = deps.router.open_mailbox(SessionId(id));
        let own = Self { router: deps.router.clone(), status: deps.status.clone(), mailbox };
        let subscribing = own.router.subscribe(&own.mailbox, vec![topic], Vec::new());
        own.status.tally().subscribed.store(true, Ordering::Relaxed);
        let confirmed = own.router.confirmed(subscribing.version).await;
        own.router.activate(&own.mailbox, subscribing, &confirmed, Bytes::new());
        own
    }
}

impl Drop for OwnMailbox {
    fn drop(&mut self) {
        self.router.close_mailbox(&self.mailbox);
        self.status.tally().subscribed.store(false, Ordering::Relaxed);
    }
}

/// Takes and drops what comes; ends, with the reason, when the mailbox is closed.
async fn discard(mailbox: &Mailbox) -> String {
    loop {
        if let Err(closed) = poll_fn(|cx| mailbox.poll_take(cx, TAKE_BYTES)).await {
            return format!("{closed:?}");
        }
    }
}
