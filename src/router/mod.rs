//! Drives `pubsub` over links: the broadcast path.
//!
//! - A publish goes once to each member with interest, and to none without.
//! - "Subscribed" is acknowledged when every live member has applied this node's interest, or after a second, with how many have.
//! - Whatever may have been lost on the way from a peer is a gap for those who could have got it.

mod codec;
mod lane;
mod links;
mod names;
mod publish;
mod reports;
#[cfg(any(test, fuzzing))]
pub(crate) mod rules;
mod source;
mod subscribe;
mod tickets;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use self::lane::Lane;
use self::subscribe::Subscriber;
use self::tickets::Tickets;
use crate::config::limits::LimitsHandle;
use crate::link::LinkHandler;
use crate::membership::MembershipHandle;
use crate::pubsub::gap::GapCounts;
use crate::pubsub::interest::LocalInterest;
use crate::pubsub::{Gap, Mailbox, Origin, Registry};
use crate::supervise::{Clock, Supervisor, Task};
use crate::types::{ClusterName, NodeName, SessionId, TopicHasher};

pub use self::publish::{Confirm, HandedOn, MemberTrace, Publish, PublishError, Published, Reach};
pub use self::reports::{RouterReport, TopicReport};
pub use self::subscribe::{Confirmed, Subscribing};

/// A publisher waits so long at most for receivers that are over half full and drain.
pub const PACE_MAX: Duration = Duration::from_millis(5);
/// How long peers are waited for to tell what they know of a session.
const WHEREABOUTS_WAIT: Duration = Duration::from_millis(300);

/// What the cluster knows of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionKnown {
    pub known: bool,
    pub epoch: u64,
}

/// A session opened, moved or ended somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionMoved {
    pub session: SessionId,
    pub epoch: u64,
    /// The older attachment goes on receiving.
    pub overlap: bool,
    /// A bye ended it.
    pub ended: bool,
}

/// Asked by the router when a peer says where a session is now.
pub trait SessionDirectory: Send + Sync + 'static {
    /// Ends attachments of a lower epoch, and tells what this node knows of the session.
    fn moved(&self, moved: SessionMoved) -> SessionKnown;
}

/// Plain data.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    pub cluster: ClusterName,
    pub name: NodeName,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct RouterHandle(Arc<Router>);

/// See the module. Lock order: a subscriber's subscriptions, then the list of lanes, then a lane's `state`, then its `outbox` or
/// `interest`, then this node's `interest`. A topic's stripe is locked with nothing held but subscriptions, and a mailbox's lock is
/// always the innermost.
pub struct Router {
    this: Weak<Router>,
    config: RouterConfig,
    hasher: TopicHasher,
    membership: MembershipHandle,
    limits: LimitsHandle,
    clock: Clock,
    registry: Registry,
    origin: RwLock<Arc<Origin>>,
    interest: Arc<Mutex<LocalInterest>>,
    lanes: RwLock<Arc<[Arc<Lane>]>>,
    subscribers: RwLock<HashMap<u64, Arc<Subscriber>>>,
    mailbox_ids: AtomicU64,
    /// Told at every change that somebody may wait for: a confirmation, a link, a member.
    progress: Notify,
    deliveries: Arc<Tickets<u64>>,
    whereabouts: Arc<Tickets<SessionKnown>>,
    syncs: Arc<Tickets<()>>,
    sync: SyncTurn,
    names: Arc<Tickets<Vec<bytes::Bytes>>>,
    telling: names::Telling,
    supervisor: Supervisor,
    directory: OnceLock<Arc<dyn SessionDirectory>>,
    took_publish: AtomicBool,
    published: AtomicU64,
    forwarded: Arc<AtomicU64>,
    /// Of mailboxes that are closed.
    gaps_of_closed: Mutex<GapCounts>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Router {
    /// Spawns its watcher; runs until the supervisor's shutdown.
    pub fn start(
        config: RouterConfig,
        membership: MembershipHandle,
        limits: LimitsHandle,
        supervisor: &Supervisor,
        clock: Clock,
    ) -> RouterHandle {
        let incarnation = membership.me().incarnation;
        let router = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            hasher: TopicHasher::new(&config.cluster),
            origin: RwLock::new(Arc::new(Origin::new(&config.name, incarnation))),
            config,
            membership,
            limits,
            clock,
            registry: Registry::default(),
            interest: Arc::default(),
            lanes: RwLock::new(Arc::default()),
            subscribers: RwLock::default(),
            mailbox_ids: AtomicU64::new(1),
            progress: Notify::new(),
            deliveries: Arc::default(),
            whereabouts: Arc::default(),
            syncs: Arc::default(),
            sync: SyncTurn::default(),
            names: Arc::default(),
            telling: names::Telling::default(),
            supervisor: supervisor.clone(),
            directory: OnceLock::new(),
            took_publish: AtomicBool::new(false),
            published: AtomicU64::new(0),
            forwarded: Arc::default(),
            gaps_of_closed: Mutex::default(),
        });
        let shutdown = supervisor.shutdown().clone();
        let watched = router.clone();
        supervisor.spawn_restarting(Task::InterestAnnouncer, move || {
            watched.clone().watch(shutdown.clone())
        });
        RouterHandle(router)
    }

    fn me(&self) -> Arc<Self> {
        self.this.upgrade().expect("whoever calls this holds it")
    }

    fn next_mailbox(&self) -> u64 {
        self.mailbox_ids.fetch_add(1, Ordering::Relaxed)
    }

    fn took_publish(&self) -> bool {
        self.took_publish.load(Ordering::Acquire)
    }

    fn lanes(&self) -> Arc<[Arc<Lane>]> {
        self.lanes.read().clone()
    }

    fn find_lane(&self, peer: &NodeName) -> Option<Arc<Lane>> {
        self.lanes.read().iter().find(|lane| lane.name == *peer).cloned()
    }

    /// Made when it isn't there. Members are bounded in number, and so are lanes.
    fn lane(&self, peer: &NodeName) -> Arc<Lane> {
        if let Some(lane) = self.find_lane(peer) {
            return lane;
        }
        let mut lanes = self.lanes.write();
        if let Some(lane) = lanes.iter().find(|lane| lane.name == *peer) {
            return lane.clone();
        }
        let lane = Arc::new(Lane::new(peer, &self.forwarded));
        *lanes = lanes.iter().cloned().chain([lane.clone()]).collect();
        lane
    }

    /// As `lane`; it is not taken away while `act` runs.
    fn with_lane<R>(&self, peer: &NodeName, act: impl FnOnce(&Lane) -> R) -> R {
        loop {
            if let Some(lane) = self.lanes.read().iter().find(|lane| lane.name == *peer) {
                return act(lane);
            }
            self.lane(peer);
        }
    }

    /// Every attachment that has any subscription gets this gap.
    fn tell_everybody(&self, gap: &Gap) {
        for subscriber in self.subscribers.read().values() {
            if !subscriber.is_empty() {
                subscriber.mailbox.push_gap(gap.clone());
            }
        }
    }
}

impl RouterHandle {
    /// Gives the frames of links their meaning.
    pub fn link_handler(&self) -> Arc<dyn LinkHandler> {
        self.0.clone()
    }

    pub fn hasher(&self) -> &TopicHasher {
        &self.0.hasher
    }

    /// Once, before the first link: who answers for sessions.
    pub fn set_directory(&self, directory: Arc<dyn SessionDirectory>) {
        let _ = self.0.directory.set(directory);
    }

    /// The id of a message of this node, 26 characters.
    pub fn message_id(&self, number: u64) -> String {
        self.0.origin.read().id_string(number)
    }

    /// Ends when the slow receiver has drained to half, or after `PACE_MAX`.
    pub async fn pace(&self, slow: &Arc<Mailbox>) {
        pace(slow.clone()).await;
    }

    /// Ends when everything that linked peers had put into their links to this node before the call has been handed on here, or after
    /// the confirm limit. A session that moves away says bye only then: what was published before its new subscription stood may still
    /// be on the way to the old one.
    pub async fn sync(&self) {
        use self::codec::Control;

        let turn = &self.0.sync;
        let called = turn.begun.load(Ordering::SeqCst);
        let _turn = turn.turn.lock().await;
        if turn.done.load(Ordering::SeqCst) > called {
            // One that began after this call has been done meanwhile.
            return;
        }
        let number = turn.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let ticket = self.0.syncs.issue();
        let mut asked = Vec::new();
        for lane in self.0.lanes().iter() {
            if let Some(up) = &lane.state.lock().inward
                && up.source.send(&Control::Sync { ticket: ticket.number })
            {
                asked.push(lane.name.clone());
            }
        }
        ticket.answers(&asked, self.0.limits.get().confirm).await;
        turn.done.store(number, Ordering::SeqCst);
    }

    /// Tells all linked peers and gathers what they know; waits at most 300 ms for answers when `wait`, else for none.
    pub async fn session_moved(&self, moved: SessionMoved, wait: bool) -> SessionKnown {
        use self::codec::Control;

        let ticket = wait.then(|| self.0.whereabouts.issue());
        let number = ticket.as_ref().map_or(0, |ticket| ticket.number);
        let question = Control::SessionMoved { ticket: number, moved };
        let mut asked = Vec::new();
        for lane in self.0.lanes().iter() {
            if let Some(up) = &lane.state.lock().out
                && up.source.send(&question)
            {
                asked.push(lane.name.clone());
            }
        }
        let mut best = SessionKnown::default();
        if let Some(ticket) = ticket {
            for (_, answer) in ticket.answers(&asked, WHEREABOUTS_WAIT).await {
                if let Some((known, _)) = answer {
                    best.known |= known.known;
                    best.epoch = best.epoch.max(known.epoch);
                }
            }
        }
        best
    }
}

/// So that many who ask at once share one question to the peers.
#[derive(Debug, Default)]
struct SyncTurn {
    begun: AtomicU64,
    done: AtomicU64,
    turn: tokio::sync::Mutex<()>,
}

async fn pace(slow: Arc<Mailbox>) {
    let _ = tokio::time::timeout(PACE_MAX, slow.half_empty()).await;
}
