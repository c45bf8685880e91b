//! What a client is told: events, gaps, answers.

use std::fmt;
use std::time::Duration;

use super::presence::PresenceEvent;
use super::scan::Batch;

/// What `Events::next` gives, in the order in which it happened.
#[derive(Debug, Clone)]
pub enum Event {
    Messages(Batch),
    Gap(Gap),
    /// Of a watched topic.
    Presence(PresenceEvent),
    /// The connection broke. The client tries the other addresses until it is closed.
    Disconnected {
        reason: String,
    },
    /// Attached again after a break, and subscribing again. `resumed` false: the node knew nothing of the session any more.
    Reconnected {
        node: String,
        resumed: bool,
    },
    /// The node asked the client to leave, and it did, without a gap.
    Moved {
        from: String,
        to: String,
        reason: String,
    },
    /// What was asked without waiting for the answer was refused: a publish without confirmation; or a subscription, a presence or a
    /// watch that had to be made again on another node (then `topic` says which, and it is no longer held).
    Refused {
        topic: Option<String>,
        error: ServerError,
    },
}

/// A report of loss. It is final: nothing that it covers is delivered later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gap {
    /// None: any topic that is subscribed.
    pub topics: Vec<String>,
    /// The node whose messages are lost. `None`: any.
    pub origin: Option<String>,
    /// `None`: not known.
    pub missing: Option<u64>,
    pub reason: GapReason,
    /// False: perhaps nothing was lost.
    pub certain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GapReason {
    #[default]
    Unspecified,
    SlowSubscriber,
    Link,
    MemberLost,
    Reconnected,
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "no reason given",
            Self::SlowSubscriber => "slow subscriber",
            Self::Link => "link lost",
            Self::MemberLost => "member lost",
            Self::Reconnected => "reconnected",
        })
    }
}

impl Gap {
    /// Nothing is known but that something may be missing.
    pub(crate) fn reconnected(topics: Vec<String>) -> Self {
        Self { topics, reason: GapReason::Reconnected, ..Self::default() }
    }
}

/// What a node says when it refuses. `code` is stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct ServerError {
    pub code: String,
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// How far a subscription holds: every publish that starts from now on at one of `confirmed` members arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResult {
    pub topic: String,
    pub confirmed: u32,
    pub members: u32,
    pub error: Option<ServerError>,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// On its way; no confirmation was asked for.
    Sent,
    Confirmed(Published),
    /// The connection broke before the answer: it may have been published or not. The client never publishes again by itself.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    pub id: String,
    pub members: u32,
    /// 0: nobody was there.
    pub subscriptions: u64,
    /// Interested members that did not answer in time, or were not asked.
    pub unknown: u32,
    pub trace: Vec<MemberTrace>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberTrace {
    pub node: String,
    pub subscriptions: u64,
    /// `None`: no answer in time.
    pub took: Option<Duration>,
    pub interested: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirm {
    /// No answer unless it fails; that one is an `Event::Refused`.
    #[default]
    None,
    /// When the node has handed it to its own subscribers and to the links.
    Node,
    /// When every interested member has handed it to its subscribers, or the node's time for that has passed.
    Cluster,
}

/// Something to publish.
#[derive(Debug, Clone, Copy, Default)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub event: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub confirm: Confirm,
    /// The own subscriptions are left out.
    pub exclude_self: bool,
    /// Deliver on this node alone; empty: everywhere.
    pub only_node: &'a str,
    /// With a confirmation: what happened at each member.
    pub trace: bool,
}

impl<'a> Publish<'a> {
    pub fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self { topic, payload, ..Self::default() }
    }

    #[must_use]
    pub fn event(self, event: &'a str) -> Self {
        Self { event, ..self }
    }

    #[must_use]
    pub fn headers(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    #[must_use]
    pub fn confirm(self, confirm: Confirm) -> Self {
        Self { confirm, ..self }
    }
}

/// Why a client could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No session was made.
    #[error("no node answered: {}", .tried.iter().map(|(address, why)| format!("{address}: {why}")).collect::<Vec<_>>().join("; "))]
    Unreachable { tried: Vec<(String, String)> },
    /// Nothing was sent.
    #[error("bad address {address:?}: {reason}")]
    BadAddress { address: String, reason: String },
    /// The node did nothing of what was asked.
    #[error(transparent)]
    Refused(#[from] ServerError),
    /// Nothing was sent.
    #[error("a publish of {size} bytes is larger than a frame can carry ({max})")]
    TooLarge { size: usize, max: usize },
    /// Nothing was sent, or nobody will hear the answer.
    #[error("the client is closed")]
    Closed,
}
