//! The sixteen shards of presence, each a tracker under its own lock, with what watchers have not been told yet.
//!
//! Whoever changes a tracker does it in here: so no change gets past those who watch, nor past the links that are to carry it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metrics::Counter;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::update::Orphans;
use super::watch::copying::{Copying, Piece};
use super::watch::pending::{Pending, Step};
use crate::metrics::names;
use crate::presence::{Change, Count, Diff, Report, SHARDS, Tracker, shard_of};
use crate::types::{Namespace, NodeName, Replica, Time, Topic};

/// So many times of own operations are remembered, to tell how old the oldest is that a link sends.
const MARKS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Shards {
    shards: [Mutex<Shard>; SHARDS],
    /// The number of this node's last operation in each, readable without the lock.
    own: [AtomicU64; SHARDS],
    me: RwLock<Replica>,
    counters: Counters,
    /// How many show, of each namespace that has any.
    namespaces: Mutex<HashMap<Namespace, isize>>,
    /// Told when a watched topic has news or a newcomer.
    pub(super) news: tokio::sync::Notify,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) tracker: Tracker,
    watched: HashMap<Topic, Watched>,
    /// Watched topics that have had news, or a newcomer, since the ticker last asked.
    to_tick: Vec<Topic>,
    /// The newest interval of own operations that a link sent: those who are as far get the same bytes.
    pub(super) sent: Option<Sent>,
    /// Up to which number own operations had come at which time.
    marks: VecDeque<(u64, Time)>,
}

#[derive(Debug, Default)]
struct Watched {
    /// Since its last tick.
    pending: Pending,
    /// Somebody new is being given the list.
    copying: Option<Copying>,
}

#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
struct Counters {
    joins: Counter,
    leaves: Counter,
    updates: Counter,
}

/// One look at a watched topic, at the edge of a tick.
#[derive(Debug)]
pub(super) struct Glance {
    /// Net, since the last look.
    pub(super) step: Step,
    /// The beginning of the list after it, where it was asked for.
    pub(super) piece: Option<Piece>,
    pub(super) count: Count,
    pub(super) version: Arc<str>,
}

impl Shards {
    pub(super) fn new(me: &Replica) -> Self {
        let count = |kind| metrics::counter!(names::PRESENCE_CHANGES, "kind" => kind);
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    tracker: Tracker::new(me.clone()),
                    watched: HashMap::new(),
                    to_tick: Vec::new(),
                    sent: None,
                    marks: VecDeque::new(),
                })
            }),
            own: std::array::from_fn(|_| AtomicU64::new(0)),
            me: RwLock::new(me.clone()),
            counters: Counters {
                joins: count("join"),
                leaves: count("leave"),
                updates: count("update"),
            },
            namespaces: Mutex::default(),
            news: tokio::sync::Notify::new(),
        }
    }

    pub(super) fn me(&self) -> Replica {
        self.me.read().clone()
    }

    /// For reading.
    pub(super) fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock()
    }

    pub(super) fn own_counter(&self, shard: usize) -> u64 {
        self.own[shard].load(Ordering::Acquire)
    }

    /// The one way to change a shard. True beside the result: this node has operations that the links must hear of.
    pub(super) fn change<R>(
        &self,
        shard: usize,
        now: Time,
        act: impl FnOnce(&mut Tracker, &mut Diff) -> R,
    ) -> (R, bool) {
        let mut diff = Diff::new();
        let mut guard = self.shards[shard].lock();
        let result = act(&mut guard.tracker, &mut diff);
        let own = guard.tracker.own_counter();
        let spoke = self.own[shard].swap(own, Ordering::AcqRel) != own;
        if spoke {
            guard.mark(own, now);
        }
        let news = guard.note(&diff);
        drop(guard);
        self.count(&diff);
        if news {
            self.news.notify_one();
        }
        (result, spoke)
    }

    /// All of them, one after another. True: the links must hear of it.
    pub(super) fn change_all(
        &self,
        now: Time,
        mut act: impl FnMut(&mut Tracker, &mut Diff),
    ) -> bool {
        let mut spoke = false;
        for shard in 0..SHARDS {
            spoke |= self.change(shard, now, &mut act).1;
        }
        spoke
    }

    /// A new replica: counters begin anew.
    pub(super) fn reincarnate(&self, me: &Replica, now: Time) {
        *self.me.write() = me.clone();
        for shard in 0..SHARDS {
            let ((), _) = self.change(shard, now, |tracker, diff| {
                tracker.reincarnate(me, now, diff);
            });
            let mut guard = self.shards[shard].lock();
            guard.sent = None;
            guard.marks.clear();
        }
    }

    pub(super) fn presences_in(&self, namespace: &Namespace) -> usize {
        self.namespaces
            .lock()
            .get(namespace)
            .map_or(0, |count| usize::try_from(*count).unwrap_or(0))
    }

    /// Changes of one operation are mostly of one namespace.
    fn count_namespaces(&self, diff: &Diff) {
        let step = |change: &Change| match (&change.before, &change.after) {
            (None, Some(_)) => 1_isize,
            (Some(_), None) => -1,
            _ => 0,
        };
        for run in diff.0.chunk_by(|a, b| a.topic.namespace() == b.topic.namespace()) {
            let by: isize = run.iter().map(step).sum();
            if by == 0 {
                continue;
            }
            let namespace = run[0].topic.namespace();
            let mut namespaces = self.namespaces.lock();
            // Counted without the shard's lock, so that a leave may be counted before its join: below zero for a moment.
            let count = namespaces.entry(namespace.clone()).or_default();
            *count += by;
            if *count == 0 {
                namespaces.remove(namespace);
            }
        }
    }

    fn count(&self, diff: &Diff) {
        self.count_namespaces(diff);
        let (mut joins, mut leaves, mut updates) = (0, 0, 0);
        for change in &diff.0 {
            match (&change.before, &change.after) {
                (None, _) => joins += 1,
                (_, None) => leaves += 1,
                _ => updates += 1,
            }
        }
        let counters = [
            (&self.counters.joins, joins),
            (&self.counters.leaves, leaves),
            (&self.counters.updates, updates),
        ];
        for (counter, by) in counters {
            if by > 0 {
                counter.increment(by);
            }
        }
    }

    /// From now on its changes are kept for its watchers, and it has a tick soon.
    pub(super) fn look_at(&self, topic: &Topic) {
        let mut shard = self.shards[shard_of(topic)].lock();
        shard.watched.entry(topic.clone()).or_default();
        shard.to_tick.push(topic.clone());
        drop(shard);
        self.news.notify_one();
    }

    pub(super) fn look_away(&self, topic: &Topic) {
        self.shards[shard_of(topic)].lock().watched.remove(topic);
    }

    pub(super) fn take_to_tick(&self, into: &mut Vec<Topic>) {
        for shard in &self.shards {
            into.append(&mut shard.lock().to_tick);
        }
    }

    /// `copy`: begins with a copy of the list, by about so many entries.
    pub(super) fn glance(&self, topic: &Topic, copy: Option<usize>) -> Glance {
        let mut guard = self.shards[shard_of(topic)].lock();
        let Shard { tracker, watched, .. } = &mut *guard;
        let mut watched = watched.get_mut(topic);
        let pending = watched.as_mut().map(|watched| std::mem::take(&mut watched.pending));
        let piece = copy.map(|most| {
            let mut copying = Copying::default();
            let piece = copying.read(tracker, topic, most);
            if let Some(watched) = watched {
                watched.copying = Some(copying).filter(|_| !piece.is_last);
            }
            piece
        });
        let (count, version) = (guard.tracker.count(topic), guard.version(topic));
        drop(guard);
        Glance { step: pending.unwrap_or_default().into_step(), piece, count, version }
    }

    /// What follows in the copy that was begun. `None`: none is being made.
    pub(super) fn next_piece(&self, topic: &Topic, most: usize) -> Option<Piece> {
        let mut guard = self.shards[shard_of(topic)].lock();
        let Shard { tracker, watched, .. } = &mut *guard;
        let copying = &mut watched.get_mut(topic)?.copying;
        let piece = copying.as_mut()?.read(tracker, topic, most);
        copying.take_if(|_| piece.is_last);
        Some(piece)
    }

    pub(super) fn stop_copying(&self, topic: &Topic) {
        let mut guard = self.shards[shard_of(topic)].lock();
        let copying = guard.watched.get_mut(topic).and_then(|watched| watched.copying.take());
        drop(guard);
        drop(copying);
    }

    /// The list between two ticks.
    #[cfg(test)]
    pub(super) fn peek(&self, topic: &Topic) -> (Vec<crate::presence::Shown>, Count, Arc<str>) {
        let guard = self.shards[shard_of(topic)].lock();
        (guard.tracker.snapshot(topic), guard.tracker.count(topic), guard.version(topic))
    }

    pub(super) fn orphans(&self, now: Time) -> BTreeMap<NodeName, Orphans> {
        let mut all: BTreeMap<NodeName, Orphans> = BTreeMap::new();
        for shard in &self.shards {
            for (node, claims, until) in shard.lock().tracker.orphans() {
                let of = all.entry(node.clone()).or_default();
                of.presences += claims as u64;
                of.left = of.left.max(until.since(now));
            }
        }
        all
    }

    pub(super) fn report(&self) -> Report {
        let mut all = Report::default();
        for shard in &self.shards {
            let Report { presences, keys, topics, orphaned, waiting, claims, own } =
                shard.lock().tracker.report();
            all.presences += presences;
            all.keys += keys;
            all.topics += topics;
            all.orphaned += orphaned;
            all.waiting += waiting;
            all.claims += claims;
            all.own += own;
        }
        all
    }
}

impl Shard {
    /// Keeps for watchers what they must be told. True: a topic has news that had none.
    fn note(&mut self, diff: &Diff) -> bool {
        if self.watched.is_empty() {
            return false;
        }
        let mut news = false;
        for change in &diff.0 {
            let Change { topic, .. } = change;
            if let Some(Watched { pending, copying }) = self.watched.get_mut(topic) {
                if pending.is_empty() {
                    self.to_tick.push(topic.clone());
                    news = true;
                }
                pending.note(change);
                if let Some(copying) = copying {
                    copying.note(change);
                }
            }
        }
        news
    }

    fn mark(&mut self, own: u64, now: Time) {
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((own, now));
    }

    /// How long the oldest own operation after `from` has been waiting.
    pub(super) fn waiting_since(&self, from: u64) -> Option<Time> {
        let at = self.marks.partition_point(|(upto, _)| *upto <= from);
        self.marks.get(at).map(|(_, time)| *time)
    }

    /// Of a topic's list: this node's incarnation, the shard, the number of its changes.
    pub(super) fn version(&self, topic: &Topic) -> Arc<str> {
        let incarnation = self.tracker.me().incarnation;
        format!("{incarnation}-{}-{}", shard_of(topic), self.tracker.version()).into()
    }
}

/// Rounded up, so that nothing runs out too soon.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}
