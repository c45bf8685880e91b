//! What this node has seen of one incarnation: signs of life, and what links report. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::LinkEvidence;
use super::super::member::MemberState;
use super::super::row::Facts;
use super::{Row, Timing};
use crate::types::{Incarnation, Time};

/// No heartbeat for so long, beside a link that ended and refusals, is death.
pub(super) const DEAD_EARLY: Duration = Duration::from_millis(800);
const REFUSALS_APART: Duration = Duration::from_millis(200);

/// Time that this node was awake: what passed while it didn't run is nobody else's silence.
pub(super) type Awake = Duration;

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) facts: Option<Facts>,
    pub(super) since: Time,
    heartbeat: u64,
    /// In chitchat's judgement, by phi.
    live: bool,
    /// chitchat still has the row.
    pub(super) listed: bool,
    first: Awake,
    /// The last sign of life; none: known by hearsay only.
    progress: Option<Awake>,
    /// It said that it stops.
    pub(super) departed: bool,
    link: Link,
}

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    ended: Option<Time>,
    first_refused: Option<Time>,
    last_refused: Option<Time>,
    other: Option<Incarnation>,
}

/// Why a member is down, for people; each text is as stable as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Down {
    Silent,
    NeverHeard,
    Refused,
    Replaced,
}

impl Down {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::NeverHeard => "silent since before this node knew of it",
            Self::Refused => "silent; connection refused",
            Self::Replaced => "silent; another run of it answers at its address",
        }
    }
}

impl Seen {
    pub(super) const fn new(now: Time, awake: Awake) -> Self {
        Self {
            facts: None,
            since: now,
            heartbeat: 0,
            live: false,
            listed: false,
            first: awake,
            progress: None,
            departed: false,
            link: Link { ended: None, first_refused: None, last_refused: None, other: None },
        }
    }

    /// A row of chitchat. That it counts the row live is a sign of life too: it takes two heartbeats.
    pub(super) fn row(&mut self, row: &Row, awake: Awake) {
        let known = self.heartbeat > 0;
        if (known && row.heartbeat > self.heartbeat) || (!known && row.live) {
            self.progress = Some(awake);
        }
        self.heartbeat = self.heartbeat.max(row.heartbeat);
        self.live = row.live;
        self.listed = true;
        if row.facts.is_some() {
            self.facts.clone_from(&row.facts);
        }
    }

    pub(super) fn unlisted(&mut self) {
        self.listed = false;
        self.live = false;
    }

    /// A datagram of its own opened.
    pub(super) fn opened(&mut self, awake: Awake) {
        self.progress = Some(awake);
    }

    pub(super) fn evidence(&mut self, evidence: LinkEvidence, now: Time) {
        let link = &mut self.link;
        match evidence {
            LinkEvidence::Up => *link = Link::default(),
            LinkEvidence::Ended => {
                link.ended.get_or_insert(now);
            }
            LinkEvidence::Refused => {
                link.first_refused.get_or_insert(now);
                link.last_refused = Some(now);
            }
            LinkEvidence::OtherIncarnation(other) => link.other = Some(other),
        }
    }

    pub(super) const fn heard(&self) -> bool {
        self.progress.is_some()
    }

    pub(super) fn silent(&self, awake: Awake) -> Duration {
        awake.saturating_sub(self.progress.unwrap_or(self.first))
    }

    /// Has it shown life lately?
    pub(super) fn fresh(&self, awake: Awake, timing: &Timing) -> bool {
        self.heard() && self.silent(awake) < timing.silence
    }

    pub(super) fn state(&self) -> Option<MemberState> {
        self.facts.as_ref().map(|facts| facts.state)
    }

    /// The link is gone for good, as far as links can tell.
    fn link_dead(&self) -> Option<Down> {
        self.link.ended?;
        if self.link.other.is_some() {
            return Some(Down::Replaced);
        }
        let (first, last) = (self.link.first_refused?, self.link.last_refused?);
        (last.since(first) >= REFUSALS_APART).then_some(Down::Refused)
    }

    /// Dead early: certain enough not to wait for phi. A draining member closes its doors while it lives.
    pub(super) fn dead_early(&self, awake: Awake) -> Option<Down> {
        if self.silent(awake) < DEAD_EARLY || self.state() == Some(MemberState::Draining) {
            return None;
        }
        self.link_dead()
    }

    pub(super) fn down(&self, awake: Awake, timing: &Timing) -> Option<Down> {
        if let Some(early) = self.dead_early(awake) {
            return Some(early);
        }
        let silent = !self.live && self.silent(awake) >= timing.silence;
        silent.then_some(if self.heard() { Down::Silent } else { Down::NeverHeard })
    }

    /// Since when every try to link to it has failed.
    pub(super) fn failing_since(&self) -> Option<Time> {
        match (self.link.ended, self.link.first_refused) {
            (Some(ended), Some(refused)) => Some(ended.min(refused)),
            (ended, refused) => ended.or(refused),
        }
    }
}

/// One incarnation at one address; two nodes that were given one name are told apart by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) incarnation: Incarnation,
    pub(super) address: SocketAddr,
}
