//! Why a link is not, or no longer, up.

use std::io;
use std::time::Duration;

use super::frame::Refusal;

/// In every case the link's epoch is over; the dialer tries again while the peer is a member.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no address is known")]
    NoAddress,
    #[error("connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("greet: {0}")]
    Http(String),
    #[error("draw a nonce: {0}")]
    Random(String),
    #[error("the greeting took longer than {0:?}")]
    HandshakeTimeout(Duration),
    #[error("refused the peer: {0}")]
    WeRefused(Refusal),
    #[error("refused by the peer: {0}")]
    PeerRefused(Refusal),
    #[error("malformed: {0}")]
    Malformed(String),
    #[error("a frame of {len} bytes is longer than the limit of {max}")]
    TooLong { len: usize, max: usize },
    #[error("the peer closed the stream: {0}")]
    Closed(String),
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("it belongs to an incarnation that is over, or a newer hello has replaced it")]
    Outdated,
    #[error("the node stops")]
    Stopped,
}

impl LinkError {
    /// The label under which a refusal or an offence is counted. `None`: nobody is to blame.
    pub(super) const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::WeRefused(refusal) | Self::PeerRefused(refusal) => Some(refusal.code.as_str()),
            Self::Malformed(_) => Some("malformed"),
            Self::TooLong { .. } => Some("too_long"),
            Self::HandshakeTimeout(_) => Some("handshake_timeout"),
            Self::NoAddress
            | Self::Connect { .. }
            | Self::Http(_)
            | Self::Random(_)
            | Self::Closed(_)
            | Self::Silent(_)
            | Self::Outdated
            | Self::Stopped => None,
        }
    }

    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::WeRefused(_) | Self::PeerRefused(_))
    }
}
