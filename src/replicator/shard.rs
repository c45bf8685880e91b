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

use super::watch::pending::{Pending, Step};
use crate::metrics::names;
use crate::presence::{Change, Count, Diff, Report, SHARDS, Shown, Tracker, shard_of};
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
    watched: HashMap<Topic, Pending>,
    /// Watched topics that have had news, or a newcomer, since the ticker last asked.
    to_tick: Vec<Topic>,
    /// The newest interval of own operations that a link sent: those who are as far get the same bytes.
    pub(super) sent: Option<Sent>,
    /// Up to which number own operations had come at which time.
    marks: VecDeque<(u64, Time)>,
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
    /// The list after it, where it was asked for.
    pub(super) all: Option<Vec<Shown>>,
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

    pub(super) fn glance(&self, topic: &Topic, with_list: bool) -> Glance {
        let mut guard = self.shards[shard_of(topic)].lock();
        let pending = guard.watched.get_mut(topic).map(std::mem::take).unwrap_or_default();
        let all = with_list.then(|| guard.tracker.snapshot(topic));
        let (count, version) = (guard.tracker.count(topic), guard.version(topic));
        drop(guard);
        Glance { step: pending.into_step(), all, count, version }
    }

    /// The list between two ticks.
    #[cfg(test)]
    pub(super) fn peek(&self, topic: &Topic) -> (Vec<Shown>, Count, Arc<str>) {
        let guard = self.shards[shard_of(topic)].lock();
        (guard.tracker.snapshot(topic), guard.tracker.count(topic), guard.version(topic))
    }

    pub(super) fn orphans(&self) -> BTreeMap<NodeName, u64> {
        let mut all = BTreeMap::new();
        for shard in &self.shards {
            for (node, claims) in shard.lock().tracker.orphans() {
                *all.entry(node.clone()).or_default() += claims as u64;
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
            if let Some(pending) = self.watched.get_mut(topic) {
                if pending.is_empty() {
                    self.to_tick.push(topic.clone());
                    news = true;
                }
                pending.note(change);
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
