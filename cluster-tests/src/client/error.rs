//! How a client's wish can fail.

use std::time::Duration;

use tonic::Code;
use waxwing::wire::v1::Error;

use super::PATIENCE;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The stream ended with a status.
    #[error("refused: {0}")]
    Refused(tonic::Status),
    /// The stream ended without one.
    #[error("ended: {0}")]
    Ended(String),
    /// This request failed; the session goes on.
    #[error("rejected: {0:?}")]
    Rejected(Error),
    #[error("no {what} within {within:?}")]
    Silent { what: &'static str, within: Duration },
    #[error("unexpected: {0}")]
    Unexpected(String),
}

impl ClientError {
    pub(super) const fn silent(what: &'static str) -> Self {
        Self::Silent { what, within: PATIENCE }
    }

    /// The stable code of the rejection.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Rejected(error) => Some(&error.code),
            _ => None,
        }
    }

    /// The status that ended the stream.
    pub fn status(&self) -> Option<Code> {
        match self {
            Self::Refused(status) => Some(status.code()),
            _ => None,
        }
    }

    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }
}
