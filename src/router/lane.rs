//! What this node keeps of one peer: its interest, the outbox to it, how far it has applied this node's interest.

use std::collections::VecDeque;
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

/// What the peer's subscribers are owed for what was published before this node has their interest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    #[default]
    Nothing,
    /// A gap, if anything was published.
    IfPublished,
    /// A gap: what was kept for them was given up, and nobody has told them.
    Gap,
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
    pub(super) owed: Owed,
    /// Since when there has been no link to it, after there was one.
    pub(super) out_gone_since: Option<Time>,
    /// The version of this node's interest that the peer has applied on the link that is up.
    pub(super) applied: Option<u64>,
    /// The version from which the peer's content that has come here was chosen by, on the link that is up. It may be behind `applied`.
    pub(super) counting: Option<u64>,
    /// It did not confirm in time when this node's interest was at this version; nobody waits for it before it has caught up with that.
    pub(super) missed: Option<u64>,
    pub(super) unconfirmed: VecDeque<Unconfirmed>,
    /// More than are remembered, up to that version: everybody, at every place until then.
    pub(super) unconfirmed_beyond: Option<u64>,
    /// Content came from this incarnation, so its death may have cost messages.
    pub(super) heard: Option<Incarnation>,
    /// Since when there has been no link from it, after there was one.
    pub(super) gone_since: Option<Time>,
    /// Subscribers have been told that what this incarnation might still send is lost, since its last link.
    pub(super) lost_told: bool,
    /// It said that it leaves, and had sent what it had by then.
    pub(super) leaving: bool,
}

/// Acknowledged subscriptions of one request that the peer had not confirmed: they get a gap where its content begins to be chosen for them.
#[derive(Debug, Clone)]
pub(super) struct Unconfirmed {
    mailbox: Weak<Mailbox>,
    /// Each with the version of this node's interest that has it. Each has its own place: where the peer learns of it, which may be long
    /// before it learns of the others.
    topics: Vec<(Topic, u64)>,
    /// The version that has the patterns. Single topics of theirs may come earlier, since others have subscribed to them; so each change
    /// of what the peer chooses by has a gap before it, up to that version.
    by_pattern: Option<u64>,
}

impl Unconfirmed {
    pub(super) fn of(
        mailbox: &Arc<Mailbox>,
        topics: Vec<(Topic, u64)>,
        patterns: Vec<(Pattern, u64)>,
    ) -> Self {
        let by_pattern = patterns.into_iter().map(|(_, version)| version).max();
        Self { mailbox: Arc::downgrade(mailbox), topics, by_pattern }
    }

    fn version(&self) -> u64 {
        self.topics.iter().map(|(_, version)| *version).chain(self.by_pattern).max().unwrap_or(0)
    }

    fn is_over(&self) -> bool {
        self.topics.is_empty() && self.by_pattern.is_none()
    }

    /// What the gap at this place names, none: any. `None`: there is none here.
    fn pass(&mut self, version: u64) -> Option<Vec<Topic>> {
        let (here, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.topics).into_iter().partition(|(_, own)| *own <= version);
        self.topics = still;
        let any = self.by_pattern.is_some();
        self.by_pattern = self.by_pattern.filter(|own| *own > version);
        if any {
            return Some(Vec::new());
        }
        let here: Vec<Topic> = here.into_iter().map(|(topic, _)| topic).collect();
        (!here.is_empty()).then(|| Lane::nameable(here))
    }
}

/// Who gets the gap of a late confirmation.
pub(super) enum Late {
    /// With the topics that it names. None: any.
    These(Vec<(Weak<Mailbox>, Vec<Topic>)>),
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

    /// The peer's interest is known: what matches it is kept from here on, behind a gap for what was not. That gap is content like any
    /// other, so it arrives however often the link breaks.
    pub(super) fn open_outbox(&self, state: &mut LaneState, took_publish: impl FnOnce() -> bool) {
        let mut open = self.outbox.write();
        if open.is_some() {
            return;
        }
        let Some(outbox) = &state.outbox else { return };
        let is_owed = match std::mem::take(&mut state.owed) {
            Owed::Nothing => false,
            // Under the lock: a publish that finds no outbox has said before that there was one.
            Owed::IfPublished => took_publish(),
            Owed::Gap => true,
        };
        if is_owed {
            outbox.push_gap(Gap::possible(None, GapReason::Link));
        }
        *open = Some(outbox.clone());
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

    /// What the gap names that is due now, since the peer has come past its place meanwhile; none: any.
    pub(super) fn remember(&mut self, mut unconfirmed: Unconfirmed) -> Option<Vec<Topic>> {
        let version = unconfirmed.version();
        if let Some(counting) = self.counting {
            if counting >= version {
                return unconfirmed.pass(counting);
            }
            // These have come all along; the others' gap tells that the peer has confirmed.
            unconfirmed.topics.retain(|(_, own)| *own > counting);
        }
        if self.unconfirmed.len() >= UNCONFIRMED_MAX {
            self.unconfirmed.retain(|one| one.mailbox.strong_count() > 0);
        }
        if self.unconfirmed.len() < UNCONFIRMED_MAX {
            self.unconfirmed.push_back(unconfirmed);
        } else {
            self.unconfirmed_beyond = self.unconfirmed_beyond.max(Some(version));
        }
        None
    }

    /// Whom the gap stands here for: what comes from the peer from here on was chosen by `version`.
    pub(super) fn counts_from_here(&mut self, version: u64) -> Late {
        self.counting = Some(version);
        let mut late = Vec::new();
        self.unconfirmed.retain_mut(|one| {
            late.extend(one.pass(version).map(|topics| (one.mailbox.clone(), topics)));
            !one.is_over()
        });
        match self.unconfirmed_beyond {
            Some(beyond) => {
                self.unconfirmed_beyond = Some(beyond).filter(|beyond| *beyond > version);
                Late::All
            }
            None => Late::These(late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::mailbox::Entry;
    use crate::types::{ClusterName, Namespace, SessionId, TopicHasher};

    fn topic(name: &str) -> Topic {
        let hasher = TopicHasher::new(&ClusterName::parse("t").unwrap());
        hasher.topic(&Namespace::default(), name, 100).unwrap()
    }

    /// Which topics get the gap at this place. None: everybody, of any.
    fn told(state: &mut LaneState, version: u64) -> Option<Vec<Vec<Topic>>> {
        match state.counts_from_here(version) {
            Late::All => None,
            Late::These(late) => Some(late.into_iter().map(|(_, topics)| topics).collect()),
        }
    }

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(1, SessionId([1; 16]), 1 << 20))
    }

    /// As content, so that a link which breaks just then does not take the only word of it.
    #[test]
    fn what_was_published_before_is_owed_as_the_first_content() {
        let name = NodeName::parse("b").unwrap();
        for (owed, took_publish, gaps) in [
            (Owed::Nothing, true, 0),
            (Owed::IfPublished, false, 0),
            (Owed::IfPublished, true, 1),
            (Owed::Gap, false, 1),
        ] {
            let lane = Lane::new(&name, &Arc::default());
            let outbox = Arc::new(Mailbox::outbox(1, 1 << 20));
            let mut state =
                LaneState { owed, outbox: Some(outbox.clone()), ..LaneState::default() };
            for _ in 0..2 {
                lane.open_outbox(&mut state, || took_publish);
            }
            assert!(lane.outbox.read().is_some());
            let mut content = Vec::new();
            outbox.take_entries(usize::MAX, &mut |entry| content.push(entry));
            let possible = Gap::possible(None, GapReason::Link);
            let is_it = |entry: &Entry| matches!(entry, Entry::Gap(gap) if *gap == possible);
            assert!(content.len() == gaps && content.iter().all(is_it), "{owed:?}: {content:?}");
        }
    }

    #[test]
    fn each_topics_gap_stands_where_the_peer_learns_of_it() {
        let mailbox = mailbox();
        let mut state = LaneState::default();
        let subscribed = vec![(topic("early"), 3), (topic("late"), 7), (topic("too"), 3)];
        assert_eq!(state.remember(Unconfirmed::of(&mailbox, subscribed, Vec::new())), None);
        let named = |names: &[&str]| Some(vec![names.iter().map(|name| topic(name)).collect()]);
        assert_eq!(told(&mut state, 2), Some(vec![]));
        assert_eq!(told(&mut state, 4), named(&["early", "too"]));
        assert_eq!(told(&mut state, 6), Some(vec![]));
        assert_eq!(told(&mut state, 9), named(&["late"]));
        assert_eq!(told(&mut state, 12), Some(vec![]));
        let past = Unconfirmed::of(&mailbox, vec![(topic("past"), 11)], Vec::new());
        assert_eq!(state.remember(past), Some(vec![topic("past")]), "its place is behind");
    }

    /// What is still on its way of a topic that the peer has known all along comes before any gap.
    #[test]
    fn a_topic_that_the_peer_has_known_all_along_gets_no_gap() {
        let mailbox = mailbox();
        let mut state = LaneState::default();
        assert_eq!(told(&mut state, 5), Some(vec![]));
        let subscribed = vec![(topic("old"), 2), (topic("new"), 6)];
        assert_eq!(state.remember(Unconfirmed::of(&mailbox, subscribed, Vec::new())), None);
        assert_eq!(told(&mut state, 6), Some(vec![vec![topic("new")]]));
        assert_eq!(told(&mut state, 7), Some(vec![]));
    }

    #[test]
    fn a_patterns_gap_stands_at_every_place_up_to_its_own() {
        let mailbox = mailbox();
        let pattern = Pattern::parse(&Namespace::default(), "p*", 100).unwrap();
        let mut state = LaneState::default();
        let all = Unconfirmed::of(&mailbox, vec![(topic("own"), 2)], vec![(pattern, 5)]);
        assert_eq!(state.remember(all), None);
        let any = Some(vec![vec![]]);
        assert_eq!(
            [1, 3, 5].map(|version| told(&mut state, version)),
            [any.clone(), any.clone(), any]
        );
        assert_eq!(told(&mut state, 6), Some(vec![]));
    }

    #[test]
    fn more_than_are_remembered_are_told_everywhere_until_the_last_of_them() {
        let mailbox = mailbox();
        let mut state = LaneState::default();
        let most = UNCONFIRMED_MAX as u64;
        for version in 1..=most + 1 {
            let one = Unconfirmed::of(&mailbox, vec![(topic("t"), version)], Vec::new());
            assert_eq!(state.remember(one), None);
        }
        for version in [5, most, most + 1] {
            assert_eq!(told(&mut state, version), None, "{version}");
        }
        assert_eq!(told(&mut state, most + 2), Some(vec![]));
    }

    #[test]
    fn who_is_gone_takes_no_room() {
        let mut state = LaneState::default();
        for version in 1..=UNCONFIRMED_MAX as u64 {
            let one = Unconfirmed::of(&mailbox(), vec![(topic("t"), version)], Vec::new());
            assert_eq!(state.remember(one), None);
        }
        let here = mailbox();
        let one = Unconfirmed::of(&here, vec![(topic("t"), 20_000)], Vec::new());
        assert_eq!(state.remember(one), None);
        assert_eq!(told(&mut state, 20_000), Some(vec![vec![topic("t")]]));
    }
}
