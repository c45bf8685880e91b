//! Why the broker refused. Each front maps these to its own protocol's codes; the `code` is the same everywhere and stable.

use crate::metrics::names;
use crate::router::PublishError;
use crate::types::topic::BadTopic;

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
    #[error("this node has its {max} sessions")]
    TooManySessions { max: usize },
    #[error("this node has its {max} topics")]
    TooManyTopics { max: usize },
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("a resume token has 16 bytes, not {0}")]
    BadToken(usize),
    #[error("no session has the id {0}")]
    UnknownSession(String),
    #[error("this node is draining")]
    Draining,
    #[error("the session has a newer attachment; this one only receives until its bye")]
    Superseded,
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
            Self::Publish(PublishError::UnknownNode(_)) => "unknown_node",
            Self::Publish(PublishError::NotConnected(_)) => "node_unreachable",
            Self::BadToken(_) => "bad_resume_token",
            Self::UnknownSession(_) => "unknown_session",
            Self::Draining => "draining",
            Self::Superseded => "superseded",
            Self::Invalid(_) => "invalid",
        }
    }

    /// What to do about it; may be empty.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Topic(BadTopic::TooLong { .. }) => "the limit is limits.topic",
            Self::PayloadTooLarge { .. } => {
                "send a reference instead, or raise limits.payload on every node"
            }
            Self::HeadersTooLarge { .. } => "put it into the payload, or raise limits.headers",
            Self::TooManySubscriptions { .. } => {
                "use a pattern, a second session, or raise limits.subscriptions"
            }
            Self::TooManySessions { .. } => "connect to another node, or raise limits.sessions",
            Self::Publish(PublishError::UnknownNode(_)) => "see: waxwing members",
            Self::Draining => "connect to another node",
            Self::Superseded => "ask on the newer attachment",
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
