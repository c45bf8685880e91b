//! Why the broker refused. Each front maps these to its own protocol's codes; the `code` is the same everywhere and stable.

use crate::metrics::names;
use crate::rights::{NotAdmitted, Right};
use crate::router::PublishError;
use crate::types::topic::BadTopic;

/// Why a presence can't have this key or id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("a presence needs a key")]
    Empty,
    #[error("an entry without a session needs an id")]
    IdEmpty,
    #[error("a key of {len} bytes is longer than the limit of {max}")]
    KeyTooLong { len: usize, max: usize },
    #[error("an id of {len} bytes is longer than the limit of {max}")]
    IdTooLong { len: usize, max: usize },
    #[error("a key must not have control characters (found U+{0:04X})")]
    KeyControl(u32),
    #[error("an id must not have control characters (found U+{0:04X})")]
    IdControl(u32),
}

/// Why a session can't be spoken of here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHere {
    #[error(
        "no session of this resume token and namespace is known to this node: it has ended, or is attached to another one"
    )]
    Unknown,
    #[error("the session has lost its connection to this node")]
    Lost,
    #[error("the session is attached to another node now")]
    Elsewhere,
}

/// One of them has no `s`.
fn of(count: u64, things: &str) -> &str {
    things.strip_suffix('s').filter(|_| count == 1).unwrap_or(things)
}

/// Nothing happened: no part of what was asked has been done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    #[error(transparent)]
    Topic(#[from] BadTopic),
    #[error("a payload of {size} bytes is larger than the limit of {max}")]
    PayloadTooLarge { size: usize, max: usize },
    #[error("event and headers of {size} bytes are larger than the limit of {max}")]
    HeadersTooLarge { size: usize, max: usize },
    #[error("a session may have {max} subscriptions")]
    TooManySubscriptions { max: usize },
    #[error("a session may have {max} patterns")]
    TooManyPatterns { max: usize },
    #[error("this node has its {max} {}", of(*.max as u64, "sessions"))]
    TooManySessions { max: usize },
    #[error("this node has its {max} topics")]
    TooManyTopics { max: usize },
    #[error(transparent)]
    Key(#[from] BadKey),
    #[error("metadata of {size} bytes are larger than the limit of {max}")]
    MetadataTooLarge { size: usize, max: usize },
    #[error("a session may track {max} presences")]
    TooManyPresences { max: usize },
    #[error("the namespace has its {max} {}", of(*.max as u64, "presences"))]
    NamespaceFull { max: usize },
    #[error("a session may watch {max} topics")]
    TooManyWatches { max: usize },
    #[error("this session does not track that presence")]
    NotTracked,
    #[error("another session has taken that presence over")]
    NotOwner,
    /// `reference`: of what is listed.
    #[error("a newer revision of that presence is listed already")]
    OlderRevision { reference: String },
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("a resume token has 16 bytes, not {0}")]
    BadToken(usize),
    #[error("no session has the id {0}")]
    UnknownSession(String),
    /// The namespace has as much as its quota says, on this node.
    #[error("the namespace has its {max} {}", of(*.max, .limit.trim_start_matches("namespace_")))]
    Quota { limit: &'static str, max: u64 },
    #[error("the namespace publishes faster than its quota says; again in {retry_ms} ms")]
    Rate { limit: &'static str, retry_ms: u64 },
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    #[error("this key is of another namespace than the one named")]
    OtherNamespace,
    #[error("{}", Self::forbidden(*.0))]
    Forbidden(Right),
    #[error("this node is draining")]
    Draining,
    #[error("the session has a newer attachment; this one only receives until its bye")]
    Superseded,
    /// A lease is a session's where that is attached.
    #[error("{0}")]
    NotHere(NotHere),
    #[error("{0}")]
    Invalid(String),
}

impl BrokerError {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Topic(BadTopic::Empty) => "topic_empty",
            Self::Topic(BadTopic::TooLong { .. }) => "topic_too_long",
            Self::Topic(BadTopic::Control(_)) => "topic_control_character",
            Self::PayloadTooLarge { .. } => "payload_too_large",
            Self::HeadersTooLarge { .. } => "headers_too_large",
            Self::TooManySubscriptions { .. } => "too_many_subscriptions",
            Self::TooManyPatterns { .. } => "too_many_patterns",
            Self::TooManySessions { .. } => "too_many_sessions",
            Self::TooManyTopics { .. } => "too_many_topics",
            Self::Key(BadKey::Empty) => "key_empty",
            Self::Key(BadKey::IdEmpty) => "id_empty",
            Self::Key(BadKey::KeyTooLong { .. }) => "key_too_long",
            Self::Key(BadKey::IdTooLong { .. }) => "id_too_long",
            Self::Key(BadKey::KeyControl(_)) => "key_control_character",
            Self::Key(BadKey::IdControl(_)) => "id_control_character",
            Self::MetadataTooLarge { .. } => "metadata_too_large",
            Self::TooManyPresences { .. } => "too_many_presences",
            Self::NamespaceFull { .. } => "namespace_full",
            Self::TooManyWatches { .. } => "too_many_watches",
            Self::NotTracked => "not_tracked",
            Self::NotOwner => "not_owner",
            Self::OlderRevision { .. } => "older_revision",
            Self::Publish(PublishError::UnknownNode(_)) => "unknown_node",
            Self::Publish(PublishError::NotConnected(_)) => "node_unreachable",
            Self::BadToken(_) => "bad_resume_token",
            Self::UnknownSession(_) => "unknown_session",
            Self::Quota { limit, .. } | Self::Rate { limit, .. } => limit,
            Self::NotAdmitted(NotAdmitted::Expired) => "key_expired",
            Self::NotAdmitted(_) => "unauthenticated",
            Self::OtherNamespace => "other_namespace",
            Self::Forbidden(_) => "forbidden",
            Self::Draining => "draining",
            Self::Superseded => "superseded",
            Self::NotHere(_) => "session_not_here",
            Self::Invalid(_) => "invalid",
        }
    }

    /// What to do about it; may be empty.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Topic(BadTopic::TooLong { .. }) => "the limit is limits.topic",
            Self::PayloadTooLarge { .. } => {
                "send a reference instead, or raise limits.payload, or the payload of its [[namespace]], on every node"
            }
            Self::HeadersTooLarge { .. } => "put it into the payload, or raise limits.headers",
            Self::TooManySubscriptions { .. } => {
                "use a pattern, a second session, or raise limits.subscriptions"
            }
            // A quota without patterns is such a limit.
            Self::TooManyPatterns { max: 0 } => {
                "subscribe to topics by name; or let its [[namespace]] have patterns, and limits.patterns be more than 0"
            }
            Self::TooManyPatterns { .. } => "use wider ones, or raise limits.patterns",
            Self::TooManySessions { .. } => "connect to another node, or raise limits.sessions",
            Self::Key(BadKey::KeyTooLong { .. } | BadKey::IdTooLong { .. }) => {
                "the limit is limits.key"
            }
            Self::MetadataTooLarge { .. } => {
                "metadata go to every watcher: keep them small, or raise limits.metadata"
            }
            Self::TooManyPresences { .. } => "use a second session, or raise limits.presences",
            Self::NamespaceFull { .. } => {
                "raise limits.namespace_presences, or the presences of its [[namespace]]"
            }
            Self::TooManyWatches { .. } => "use a second session, or raise limits.watches",
            Self::NotTracked => "track it first",
            Self::NotOwner => "track it to take it back",
            Self::OlderRevision { .. } => "number revisions upwards, or leave them 0",
            Self::Publish(PublishError::UnknownNode(_)) => "see: waxwing members",
            Self::Quota { .. } => {
                "raise it in [[namespace]] of security.access_file, on every node"
            }
            Self::Rate { .. } => {
                "publish less, or raise it in [[namespace]] of security.access_file"
            }
            Self::NotAdmitted(NotAdmitted::Missing) => {
                "show it as authorization: Bearer KEY, as AUTH NAMESPACE KEY, or with --key-file"
            }
            Self::NotAdmitted(NotAdmitted::BadToken) => "see: waxwing token inspect",
            Self::NotAdmitted(_) => "see: waxwing key list",
            Self::OtherNamespace => "leave the namespace out: it is the key's",
            Self::Draining => "connect to another node",
            Self::Superseded => "ask on the newer attachment",
            Self::NotHere(_) => "ask the node that the session is attached to, after its welcome",
            _ => "",
        }
    }

    /// The limit that refused, as config calls it.
    pub const fn limit(&self) -> Option<&'static str> {
        match self {
            Self::Topic(BadTopic::TooLong { .. }) => Some("topic"),
            Self::PayloadTooLarge { .. } => Some("payload"),
            Self::HeadersTooLarge { .. } => Some("headers"),
            Self::TooManySubscriptions { .. } => Some("subscriptions"),
            Self::TooManyPatterns { .. } => Some("patterns"),
            Self::TooManySessions { .. } => Some("sessions"),
            Self::TooManyTopics { .. } => Some("topics"),
            Self::Key(BadKey::KeyTooLong { .. } | BadKey::IdTooLong { .. }) => Some("key"),
            Self::MetadataTooLarge { .. } => Some("metadata"),
            Self::TooManyPresences { .. } => Some("presences"),
            Self::NamespaceFull { .. } => Some("namespace_presences"),
            Self::TooManyWatches { .. } => Some("watches"),
            Self::Quota { limit, .. } | Self::Rate { limit, .. } => Some(limit),
            _ => None,
        }
    }

    /// Counts it, if a limit refused.
    pub fn count(&self) {
        if let Some(limit) = self.limit() {
            metrics::counter!(names::LIMIT_REJECTIONS, "limit" => limit).increment(1);
        }
    }
}
