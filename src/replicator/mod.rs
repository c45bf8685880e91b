//! Drives `presence` over links, and tells those who watch.
//!
//! - Sixteen trackers, each under its own lock (`shard`). Whatever changes one goes through there: watchers and links miss nothing.
//! - A peer is told this node's own operations as its link can write, from the log (`lane`, `source`); what was missed is found by
//!   comparing rows, and asked for (`links`).
//! - A watcher gets a snapshot at a tick's edge, then the net changes of each tick (`watch`).
//! - Members come and go, deadlines pass (`members`, `run`); a node that departs hands its presences over (`hand_over`).

mod codec;
mod hand_over;
mod lane;
mod links;
mod members;
#[cfg(any(test, fuzzing))]
pub(crate) mod rules;
mod run;
mod shard;
mod source;
mod staged;
#[cfg(test)]
mod tests;
mod transfer;
mod update;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use self::hand_over::Handings;
use self::lane::{Lane, Log};
use self::members::Lives;
use self::shard::Shards;
use self::staged::Staged;
use self::watch::Watches;
use crate::link::{Roster, StateHandler};
use crate::membership::SharedMembers;
use crate::presence::{
    Count, Diff, Owner, SHARDS, Track, TrackError, Tracked, Tracker, Untrack, Untracked, shard_of,
};
use crate::supervise::{Clock, Supervisor, Task};
use crate::types::{ClusterName, Namespace, NodeName, SessionId, Time, Topic, TopicHasher};

pub use self::hand_over::HandedOver;
pub use self::update::{
    ENTRIES_MAX, Listed, Orphans, Page, PageToken, PresenceReport, Query, UPDATE_BYTES_MAX, Update,
    UpdateKind, WatchId, Watcher, Watching,
};

/// The most metadata that any node may allow: what a peer sends beyond is refused.
pub const META_LEN_MAX: usize = 64 << 10;

/// What two nodes must agree on before they link, by name.
pub const SHARDS_SETTING: (&str, usize) = ("presence_shards", SHARDS);

/// Requests worked on while one lock is held.
const BATCH: usize = 500;

/// Plain data.
#[derive(Debug, Clone)]
pub struct ReplicatorConfig {
    pub cluster: ClusterName,
    /// Changes of a topic are joined for so long before its watchers are told.
    pub diff_interval: Duration,
    /// Bytes held of wholes that peers have begun to send.
    pub transfer_max: usize,
}

impl ReplicatorConfig {
    pub const fn new(cluster: ClusterName) -> Self {
        Self { cluster, diff_interval: Duration::from_millis(50), transfer_max: 1 << 30 }
    }
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReplicatorHandle(Arc<Replicator>);

/// See the module. Lock order: a topic's audience, a lane's `state`, then a shard; no two of a kind. `lives`, `asked`, `staged` and the maps are
/// held for a look only; `lives` while all shards are told of a member.
pub struct Replicator {
    this: Weak<Replicator>,
    config: ReplicatorConfig,
    hasher: TopicHasher,
    roster: Arc<dyn Roster>,
    clock: Clock,
    shards: Shards,
    watches: Watches,
    lanes: RwLock<Arc<[Arc<Lane>]>>,
    lives: Mutex<Lives>,
    /// Which logs have been asked for, of whom and when; so that two peers aren't asked for the same.
    asked: Mutex<HashMap<Log, Asked>>,
    staged: Mutex<Staged>,
    handings: Handings,
    tickets: AtomicU64,
}

#[derive(Debug, Clone)]
struct Asked {
    peer: NodeName,
    at: Time,
}

impl std::fmt::Debug for Replicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Replicator {
    /// Spawns its task; runs until the supervisor's shutdown.
    pub fn start(
        config: ReplicatorConfig,
        roster: Arc<dyn Roster>,
        supervisor: &Supervisor,
        clock: Clock,
    ) -> ReplicatorHandle {
        let replicator = Self::new(config, roster, clock);
        let shutdown = supervisor.shutdown().clone();
        let runs = replicator.clone();
        supervisor.spawn_restarting(Task::Replicator, move || runs.clone().run(shutdown.clone()));
        ReplicatorHandle(replicator)
    }

    fn new(config: ReplicatorConfig, roster: Arc<dyn Roster>, clock: Clock) -> Arc<Self> {
        let me = roster.me().replica();
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            hasher: TopicHasher::new(&config.cluster),
            config,
            roster,
            clock,
            shards: Shards::new(&me),
            watches: Watches::new(),
            lanes: RwLock::default(),
            lives: Mutex::default(),
            asked: Mutex::default(),
            staged: Mutex::default(),
            handings: Handings::default(),
            tickets: AtomicU64::new(1),
        })
    }

    /// Oneself included.
    fn members(&self) -> SharedMembers {
        self.roster.watch().borrow().clone()
    }

    fn me(&self) -> Arc<Self> {
        self.this.upgrade().expect("whoever calls this holds it")
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn lanes(&self) -> Arc<[Arc<Lane>]> {
        self.lanes.read().clone()
    }

    /// Made when it isn't there. Members are bounded in number, and so are lanes.
    fn lane(&self, peer: &NodeName) -> Arc<Lane> {
        let mut lanes = self.lanes.write();
        if let Some(lane) = lanes.iter().find(|lane| lane.name == *peer) {
            return lane.clone();
        }
        let lane = Arc::new(Lane::new(peer));
        *lanes = lanes.iter().cloned().chain([lane.clone()]).collect();
        lane
    }

    /// The links have something to carry.
    fn wake_lanes(&self) {
        for lane in self.lanes().iter() {
            lane.wake();
        }
    }

    /// Changes one shard, and sees to it that all who must know hear of it.
    fn change<R>(&self, shard: usize, act: impl FnOnce(&mut Tracker, &mut Diff, Time) -> R) -> R {
        let now = self.now();
        let (result, spoke) =
            self.shards.change(shard, now, |tracker, diff| act(tracker, diff, now));
        if spoke {
            self.wake_lanes();
        }
        result
    }

    fn change_all(&self, mut act: impl FnMut(&mut Tracker, &mut Diff, Time)) {
        let now = self.now();
        if self.shards.change_all(now, |tracker, diff| act(tracker, diff, now)) {
            self.wake_lanes();
        }
    }

    /// Does each of these in its shard, many for each lock; the answers stand in the order of the requests.
    fn each<R>(
        &self,
        tracks: &[Track],
        act: impl Fn(&mut Tracker, &Track, &mut Diff, Time) -> R,
    ) -> Vec<R> {
        let mut of_shards: [Vec<usize>; SHARDS] = std::array::from_fn(|_| Vec::new());
        for (at, track) in tracks.iter().enumerate() {
            of_shards[shard_of(&track.topic)].push(at);
        }
        let mut results: Vec<Option<R>> = tracks.iter().map(|_| None).collect();
        let mut any_spoke = false;
        for (shard, all) in of_shards.iter().enumerate() {
            for some in all.chunks(BATCH) {
                let now = self.now();
                let ((), spoke) = self.shards.change(shard, now, |tracker, diff| {
                    for at in some {
                        results[*at] = Some(act(tracker, &tracks[*at], diff, now));
                    }
                });
                any_spoke |= spoke;
            }
        }
        if any_spoke {
            self.wake_lanes();
        }
        let results: Vec<R> = results.into_iter().flatten().collect();
        assert_eq!(results.len(), tracks.len(), "each request is in one shard");
        results
    }
}

/// What sessions of this node do.
impl ReplicatorHandle {
    /// In order, with an answer for each.
    pub fn track_all(&self, owner: &Owner, tracks: &[Track]) -> Vec<Result<Tracked, TrackError>> {
        let unix_ms = self.0.clock.unix_ms();
        self.0.each(tracks, |tracker, track, diff, now| {
            tracker.track(owner, track, now, unix_ms, diff)
        })
    }

    /// As `track_all`, of what this session tracks already.
    pub fn update_all(&self, owner: &Owner, tracks: &[Track]) -> Vec<Result<Tracked, TrackError>> {
        self.0.each(tracks, |tracker, track, diff, now| tracker.update(owner, track, now, diff))
    }

    pub fn untrack(&self, session: SessionId, untrack: &Untrack) -> Untracked {
        self.0.change(shard_of(&untrack.topic), |tracker, diff, now| {
            tracker.untrack(session, untrack, now, diff)
        })
    }

    /// After every welcome: what the session has anywhere is this node's from now on.
    pub fn attached(&self, owner: &Owner) {
        self.0.change_all(|tracker, diff, now| tracker.attached(owner, now, diff));
    }

    /// It is attached elsewhere: what is not taken over there within its linger goes.
    pub fn moved(&self, session: SessionId, epoch: u64) {
        self.0.change_all(|tracker, _, now| tracker.moved(session, epoch, now));
    }

    /// Everything that it tracks here goes at once.
    pub fn ended(&self, session: SessionId) {
        self.0.change_all(|tracker, diff, now| tracker.ended(session, now, diff));
    }

    /// It ends after that time, unless it is attached, moved or given another time before.
    pub fn expire(&self, session: SessionId, after: Duration) {
        self.0.change_all(|tracker, _, now| tracker.expire(session, now + after));
    }

    /// The epoch under which somebody who has no attachments asks for something of that topic here.
    pub fn epoch_here(&self, session: SessionId, topic: &Topic) -> u64 {
        self.0.shards.lock(shard_of(topic)).tracker.epoch_here(session)
    }

    /// Does the session hold anything on this node, in that shard?
    pub fn is_tracking(&self, session: SessionId, shard: usize) -> bool {
        self.0.shards.lock(shard).tracker.tracked_by(session) > 0
    }

    /// How many presences the session holds on this node.
    pub fn tracked_by(&self, session: SessionId) -> usize {
        (0..SHARDS).map(|shard| self.0.shards.lock(shard).tracker.tracked_by(session)).sum()
    }
}

/// Reading and watching.
impl ReplicatorHandle {
    pub fn list(&self, topic: &Topic, query: &Query) -> Page {
        let limit = match query.limit {
            0 => ENTRIES_MAX,
            limit => limit.min(ENTRIES_MAX),
        };
        let after = query.after.as_ref().map(|token| (&token.key[..], &token.id[..]));
        let (mut entries, count, version) = {
            let guard = self.0.shards.lock(shard_of(topic));
            let key = query.key.as_deref();
            let entries = guard.tracker.page(topic, key, after, limit + 1);
            (entries, guard.tracker.count(topic), guard.version(topic))
        };
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries
            .last()
            .filter(|_| more)
            .map(|last| PageToken { key: last.key().to_owned(), id: last.id().to_owned() });
        let entries = watch::pending::mark_firsts(entries, after.map(|(key, _)| key));
        Page { entries, next, count, version, at: self.0.now() }
    }

    pub fn count(&self, topic: &Topic) -> Count {
        self.0.shards.lock(shard_of(topic)).tracker.count(topic)
    }

    /// How many presences of the namespace show, whoever owns them.
    pub fn presences_in(&self, namespace: &Namespace) -> usize {
        self.0.shards.presences_in(namespace)
    }

    /// The first update comes at the topic's next tick, at once where it has been quiet.
    pub fn watch(&self, topic: &Topic, how: Watching, watcher: Arc<dyn Watcher>) -> WatchId {
        self.0.watches.watch(&self.0.shards, topic, how, watcher)
    }

    /// Nothing is pushed any more when it returns.
    pub fn unwatch(&self, id: &WatchId) {
        self.0.watches.unwatch(&self.0.shards, id);
    }

    /// How many of the presences are of this node's sessions.
    pub fn own_presences(&self) -> u64 {
        self.0.shards.report().own as u64
    }

    pub fn report(&self) -> PresenceReport {
        let all = self.0.shards.report();
        let asked = self.0.asked.lock().len();
        PresenceReport {
            presences: all.presences as u64,
            keys: all.keys as u64,
            orphaned: all.orphaned as u64,
            claims: all.claims as u64,
            pending_repairs: (all.waiting + asked) as u64,
            watches: self.0.watches.count(),
            transfer_bytes: self.0.staged.lock().bytes() as u64,
            orphans: self.0.shards.orphans(self.0.now()),
        }
    }

    /// Gives the links' state frames their meaning.
    pub fn handler(&self) -> Arc<dyn StateHandler> {
        self.0.clone()
    }
}
