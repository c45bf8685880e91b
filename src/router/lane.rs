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
use crate::types::{Incarnation, NodeName, Time, Topic};

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
    /// More than are remembered: everybody.
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

/// An acknowledged subscription that the peer had not confirmed.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub(super) mailbox: Weak<Mailbox>,
    pub(super) topics: Vec<Topic>,
    pub(super) version: u64,
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

    /// Those whom `version` confirms. What comes from the peer from here on was published for it.
    pub(super) fn counts_from_here(&mut self, version: u64) -> Vec<Unconfirmed> {
        self.counting = Some(version);
        if self.unconfirmed.is_empty() {
            return Vec::new();
        }
        let (confirmed, still): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.unconfirmed)
            .into_iter()
            .partition(|one| one.version <= version);
        self.unconfirmed = still;
        confirmed.into()
    }
}
