//! Why a link is not, or no longer, up.

use std::io;
use std::time::Duration;

use super::frame::{Refusal, RefusalCode};

/// In every case the link's epoch is over; the dialer tries again while the peer is a member.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no address is known")]
    NoAddress,
    #[error("{}", unreachable(address, source))]
    Connect { address: String, source: io::Error },
    /// Nobody has said anything but certificates.
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the peer port answered {0}")]
    Http(String),
    /// In the middle of something; the log has the details at debug level.
    #[error("the connection broke")]
    Broke,
    #[error("draw a nonce: {0}")]
    Random(String),
    #[error("the greeting took longer than {} s", .0.as_secs_f64())]
    HandshakeTimeout(Duration),
    #[error("refused the peer: {0}")]
    WeRefused(Refusal),
    #[error("refused by the peer: {0}")]
    PeerRefused(Refusal),
    #[error("malformed: {0}")]
    Malformed(String),
    #[error("a frame of {len} bytes is longer than the limit of {max}")]
    TooLong { len: usize, max: usize },
    #[error("the peer closed the stream{}{}", if .0.is_empty() { "" } else { ": " }, .0)]
    Closed(String),
    #[error("silent for {} s", .0.as_secs_f64())]
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
            Self::Tls(_) => Some("tls"),
            Self::NoAddress
            | Self::Connect { .. }
            | Self::Http(_)
            | Self::Broke
            | Self::Random(_)
            | Self::Closed(_)
            | Self::Silent(_)
            | Self::Outdated
            | Self::Stopped => None,
        }
    }

    /// Peers hear of a node and of its newer runs one after another, so at every start some refuse what they will soon accept.
    pub(super) const fn may_pass(&self) -> bool {
        let (Self::WeRefused(refusal) | Self::PeerRefused(refusal)) = self else { return false };
        matches!(refusal.code, RefusalCode::NotAMember | RefusalCode::StaleIncarnation)
    }

    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::WeRefused(_) | Self::PeerRefused(_))
    }
}

/// In few words; the system's own ones without their number.
fn unreachable(address: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => format!("no answer from {address}"),
        _ => {
            let text = source.to_string();
            let words = text.split(" (os error").next().unwrap_or_default();
            format!("{address} can't be reached: {words}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_fail_in_words_for_people() {
        let connect = |source| LinkError::Connect { address: "b:7401".to_owned(), source };
        for (error, expected) in [
            (connect(io::Error::from_raw_os_error(111)), "connection refused"),
            (connect(io::ErrorKind::TimedOut.into()), "no answer from b:7401"),
            (
                connect(io::Error::from_raw_os_error(113)),
                "b:7401 can't be reached: No route to host",
            ),
            (
                connect(io::Error::other("failed to lookup address information")),
                "b:7401 can't be reached: failed to lookup address information",
            ),
            (LinkError::Closed(String::new()), "the peer closed the stream"),
            (LinkError::Closed("it stops".to_owned()), "the peer closed the stream: it stops"),
            (LinkError::Broke, "the connection broke"),
            (LinkError::Silent(Duration::from_secs(3)), "silent for 3 s"),
            (
                LinkError::HandshakeTimeout(Duration::from_millis(1_500)),
                "the greeting took longer than 1.5 s",
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }
}
