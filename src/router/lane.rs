//! What this node keeps of one peer: its interest, the outbox to it, how far it has applied this node's interest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::Counter;
use parking_lot::{Mutex, RwLock};

use super::source::Source;
use crate::link::LinkInfo;
use crate::metrics::names;
use crate::pubsub::interest::PeerInterest;
use crate::pubsub::mailbox::Closed;
use crate::pubsub::{Gap, GapReason, Mailbox};
use crate::types::{Incarnation, NodeName, Pattern, Time, Topic};

/// Subscriptions that a peer has not confirmed are remembered one by one up to here; beyond, everybody gets the gap.
const UNCONFIRMED_MAX: usize = 10_000;
/// A gap names its topics up to here; beyond, it says "any".
const GAP_TOPICS_MAX: usize = 100;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: NodeName,
    /// The peer's name as batches carry it.
    pub(super) origin: Arc<str>,
    pub(super) interest: RwLock<PeerInterest>,
    /// What is published for the peer, whether a link to it is up or not. None: its interest is not known, or no longer.
    pub(super) outbox: RwLock<Option<Arc<Mailbox>>>,
    /// See `is_linked`.
    pub(super) linked: AtomicBool,
    pub(super) state: Mutex<LaneState>,
    pub(super) forwarded: Forwarded,
}

/// Messages sent to one peer, and to all.
#[derive(Debug, Clone)]
pub(super) struct Forwarded {
    pub(super) peer: Counter,
    pub(super) all: Arc<AtomicU64>,
}

/// One link that is up.
pub(super) struct Up {
    pub(super) link: LinkInfo,
    pub(super) source: Arc<Source>,
}

impl std::fmt::Debug for Up {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.link.fmt(f)
    }
}

#[derive(Debug, Default)]
pub(super) struct LaneState {
    pub(super) out: Option<Up>,
    pub(super) inward: Option<Up>,
    /// Of this node and the peer: whose interest `Lane::interest` is, and who may get what is in the outbox.
    pub(super) pair: Option<(Incarnation, Incarnation)>,
    /// What links to the peer send from. `Lane::outbox` is the same once the peer's interest is known.
    pub(super) outbox: Option<Arc<Mailbox>>,
    /// Messages dropped by outboxes of the past.
    pub(super) dropped: u64,
    /// What was kept for it was given up, and nobody has told its subscribers.
    pub(super) owes_gap: bool,
    /// Since when there has been no link to it, after there was one.
    pub(super) out_gone_since: Option<Time>,
    /// Its subscribers know that what this node published before it had their interest may be lost; or the peer has yet to be told
    /// whether there was any.
    pub(super) introduced: bool,
    /// The version of this node's interest that the peer has applied on the link that is up.
    pub(super) applied: Option<u64>,
    /// The version from which the peer's content that has come here was chosen by, on the link that is up. It may be behind `applied`.
    pub(super) counting: Option<u64>,
    /// It did not confirm in time when this node's interest was at this version; nobody waits for it before it has caught up with that.
    pub(super) missed: Option<u64>,
    pub(super) unconfirmed: VecDeque<Unconfirmed>,
    /// More than are remembered: everybody, at every place until all those are confirmed.
    pub(super) unconfirmed_all: bool,
    /// Content came from this incarnation, so its death may have cost messages.
    pub(super) heard: Option<Incarnation>,
    /// Since when there has been no link from it, after there was one.
    pub(super) gone_since: Option<Time>,
    /// Subscribers have been told that what this incarnation might still send is lost, since its last link.
    pub(super) lost_told: bool,
    /// It said that it leaves, and had sent what it had by then.
    pub(super) leaving: bool,
}

/// Acknowledged subscriptions that the peer had not confirmed: they get a gap where its content begins to be chosen for them.
#[derive(Debug, Clone)]
pub(super) struct Unconfirmed {
    pub(super) mailbox: Weak<Mailbox>,
    /// What the gap names. None: any.
    pub(super) topics: Vec<Topic>,
    /// The version of this node's interest that has them.
    version: u64,
    /// By patterns. Single topics of theirs may come earlier, since others have subscribed to them; so each change of what the peer
    /// chooses by has a gap before it, up to that version.
    by_pattern: bool,
}

impl Unconfirmed {
    /// Each topic has its own place: where the peer learns of it, which may be long before it learns of the others.
    pub(super) fn of(
        mailbox: &Arc<Mailbox>,
        topics: Vec<(Topic, u64)>,
        patterns: Vec<(Pattern, u64)>,
    ) -> Vec<Self> {
        let mailbox = Arc::downgrade(mailbox);
        let mut by_version: BTreeMap<u64, Vec<Topic>> = BTreeMap::new();
        for (topic, version) in topics {
            by_version.entry(version).or_default().push(topic);
        }
        let of_topics = by_version.into_iter().map(|(version, topics)| {
            let topics = Lane::nameable(topics);
            Self { mailbox: mailbox.clone(), topics, version, by_pattern: false }
        });
        let version = patterns.into_iter().map(|(_, version)| version).max();
        let of_patterns = version.map(|version| {
            let topics = Vec::new();
            Self { mailbox: mailbox.clone(), topics, version, by_pattern: true }
        });
        of_topics.chain(of_patterns).collect()
    }
}

/// Who gets the gap of a late confirmation.
pub(super) enum Late {
    Some(Vec<Unconfirmed>),
    All,
}

impl Lane {
    /// The link to it is up. Its interest, and what is published for it, are kept beyond that.
    pub(super) fn is_linked(&self) -> bool {
        self.linked.load(Ordering::Acquire)
    }

    pub(super) fn new(name: &NodeName, forwarded: &Arc<AtomicU64>) -> Self {
        Self {
            name: name.clone(),
            origin: name.as_str().into(),
            interest: RwLock::default(),
            outbox: RwLock::default(),
            linked: AtomicBool::new(false),
            state: Mutex::default(),
            forwarded: Forwarded {
                peer: metrics::counter!(names::MESSAGES_FORWARDED, "peer" => name.as_str().to_owned()),
                all: forwarded.clone(),
            },
        }
    }

    /// Nothing more is kept for the peer, nor its interest. A publish that has seen the interest, and not yet the outbox, finds it closed.
    pub(super) fn give_up(&self, state: &mut LaneState, now: Time) {
        state.pair = None;
        self.outbox.write().take();
        if let Some(outbox) = state.outbox.take() {
            outbox.expire(now, Duration::ZERO);
            state.dropped += outbox.report().dropped;
            outbox.close(Closed::Reason("what was kept for the peer is given up".to_owned()));
        }
        *self.interest.write() = PeerInterest::default();
    }

    /// The peer's interest is known: what matches it is kept from here on, behind a gap for what was not.
    pub(super) fn open_outbox(&self, state: &mut LaneState) {
        if self.outbox.read().is_some() {
            return;
        }
        let Some(outbox) = &state.outbox else { return };
        if std::mem::take(&mut state.owes_gap) {
            outbox.push_gap(Gap::possible(None, GapReason::Link));
        }
        *self.outbox.write() = Some(outbox.clone());
    }

    /// What a gap names of these topics. None: any.
    pub(super) fn nameable(topics: Vec<Topic>) -> Vec<Topic> {
        if topics.len() > GAP_TOPICS_MAX { Vec::new() } else { topics }
    }

    /// Something of a member that is no more, or whose link has been gone for too long, may have been lost.
    pub(super) fn lost(&self, reason: GapReason) -> Gap {
        Gap::possible(Some(self.origin.clone()), reason)
    }

    /// A gap that says which topics' messages of this peer may be missing.
    pub(super) fn possible_gap(&self, topics: &[Topic]) -> Gap {
        Gap { topics: topics.to_vec(), ..Gap::possible(Some(self.origin.clone()), GapReason::Link) }
    }
}

impl LaneState {
    /// The peer has applied this node's interest up to `version`.
    pub(super) fn caught_up(&mut self, version: u64) {
        self.applied = Some(version);
        self.missed = self.missed.filter(|missed| *missed > version);
    }

    /// False: it has come past the place of the gap meanwhile, so that is due now.
    pub(super) fn remember(&mut self, unconfirmed: Unconfirmed) -> bool {
        if self.counting.is_some_and(|version| version >= unconfirmed.version) {
            return false;
        }
        if self.unconfirmed.len() < UNCONFIRMED_MAX {
            self.unconfirmed.push_back(unconfirmed);
        } else {
            self.unconfirmed_all = true;
        }
        true
    }

    /// Whom the gap stands here for: what comes from the peer from here on was chosen by `version`.
    pub(super) fn counts_from_here(&mut self, version: u64) -> Late {
        self.counting = Some(version);
        if self.unconfirmed.is_empty() {
            return Late::Some(Vec::new());
        }
        let (confirmed, still): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.unconfirmed)
            .into_iter()
            .partition(|one| one.version <= version);
        self.unconfirmed = still;
        if self.unconfirmed_all {
            self.unconfirmed_all = !self.unconfirmed.is_empty();
            return Late::All;
        }
        let waiting = self.unconfirmed.iter().filter(|one| one.by_pattern).cloned();
        Late::Some(confirmed.into_iter().chain(waiting).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterName, Namespace, SessionId, TopicHasher};

    fn topic(name: &str) -> Topic {
        let hasher = TopicHasher::new(&ClusterName::parse("t").unwrap());
        hasher.topic(&Namespace::default(), name, 100).unwrap()
    }

    /// Which topics get the gap at this place. None: everybody, of any.
    fn told(state: &mut LaneState, version: u64) -> Option<Vec<Vec<Topic>>> {
        match state.counts_from_here(version) {
            Late::All => None,
            Late::Some(late) => Some(late.into_iter().map(|one| one.topics).collect()),
        }
    }

    #[test]
    fn each_topics_gap_stands_where_the_peer_learns_of_it() {
        let mailbox = Arc::new(Mailbox::new(1, SessionId([1; 16]), 1 << 20));
        let mut state = LaneState::default();
        let subscribed = vec![(topic("early"), 3), (topic("late"), 7), (topic("too"), 3)];
        for one in Unconfirmed::of(&mailbox, subscribed, Vec::new()) {
            assert!(state.remember(one));
        }
        let named = |names: &[&str]| Some(vec![names.iter().map(|name| topic(name)).collect()]);
        assert_eq!(told(&mut state, 2), Some(vec![]));
        assert_eq!(told(&mut state, 4), named(&["early", "too"]));
        assert_eq!(told(&mut state, 6), Some(vec![]));
        assert_eq!(told(&mut state, 9), named(&["late"]));
        assert_eq!(told(&mut state, 12), Some(vec![]));
        let past = Unconfirmed::of(&mailbox, vec![(topic("past"), 11)], Vec::new());
        assert!(past.into_iter().all(|one| !state.remember(one)), "its place is behind");
    }

    #[test]
    fn a_patterns_gap_stands_at_every_place_up_to_its_own() {
        let mailbox = Arc::new(Mailbox::new(1, SessionId([1; 16]), 1 << 20));
        let pattern = Pattern::parse(&Namespace::default(), "p*", 100).unwrap();
        let mut state = LaneState::default();
        for one in Unconfirmed::of(&mailbox, vec![(topic("own"), 2)], vec![(pattern, 5)]) {
            assert!(state.remember(one));
        }
        assert_eq!(told(&mut state, 1), Some(vec![vec![]]));
        assert_eq!(told(&mut state, 3), Some(vec![vec![topic("own")], vec![]]));
        assert_eq!(told(&mut state, 5), Some(vec![vec![]]));
        assert_eq!(told(&mut state, 6), Some(vec![]));
    }

    #[test]
    fn more_than_are_remembered_are_told_everywhere() {
        let mailbox = Arc::new(Mailbox::new(1, SessionId([1; 16]), 1 << 20));
        let mut state = LaneState::default();
        for version in 1..=UNCONFIRMED_MAX as u64 + 1 {
            let all = Unconfirmed::of(&mailbox, vec![(topic("t"), version)], Vec::new());
            assert!(all.into_iter().all(|one| state.remember(one)));
        }
        assert_eq!(told(&mut state, 5), None);
        assert_eq!(told(&mut state, UNCONFIRMED_MAX as u64 + 5), None);
        assert_eq!(told(&mut state, UNCONFIRMED_MAX as u64 + 6), Some(vec![]));
    }
}
