//! What a user says and sees of leases.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::client::message::{ClientError, ServerError};

/// By which a holder without a session renews and releases its leases. Whoever knows it can do so too; it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseOwner(pub(super) Bytes);

const OWNER_LEN: usize = 16;

impl LeaseOwner {
    /// A new one, of chance.
    pub fn new() -> Result<Self, LeaseError> {
        let mut bytes = [0; OWNER_LEN];
        let no_chance = |err: getrandom::Error| LeaseError::NotNow(format!("no chance: {err}"));
        getrandom::fill(&mut bytes).map_err(no_chance)?;
        Ok(Self(Bytes::copy_from_slice(&bytes)))
    }

    /// Of 32 hexadecimal digits, as `to_hex` gives them.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 2 * OWNER_LEN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
            .collect();
        bytes.map(|bytes| Self(bytes.into()))
    }

    /// For whoever keeps it in a file that others can't read.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for LeaseOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseOwner(secret)")
    }
}

/// A lease to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    pub name: String,
    /// 1 s to 24 h: how long after the holder was last heard of it is somebody else's turn.
    pub ttl: Duration,
    /// For people, one line.
    pub note: String,
    /// How long to wait for it where somebody has it; zero: not at all; `Duration::MAX`: as long as it takes.
    pub wait: Duration,
    /// `None`: a new one. The same again for whoever comes back as the holder that it was.
    pub owner: Option<LeaseOwner>,
}

impl Acquire {
    pub fn new(name: impl Into<String>, ttl: Duration) -> Self {
        Self { name: name.into(), ttl, note: String::new(), wait: Duration::ZERO, owner: None }
    }

    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    #[must_use]
    pub fn owner(self, owner: LeaseOwner) -> Self {
        Self { owner: Some(owner), ..self }
    }
}

/// A lease as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaseEntry {
    pub namespace: String,
    pub name: String,
    pub token: u64,
    pub ttl: Duration,
    pub note: String,
    /// Unix milliseconds: when this holder got it.
    pub since_ms: u64,
    /// Of its holder, where that has one.
    pub session_id: Option<String>,
    /// Where that session is, or was last.
    pub node: Option<String>,
    /// `attached`: no time runs; `running`: it ends unless it is renewed.
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaseList {
    /// By name.
    pub leases: Vec<LeaseEntry>,
    /// How many there are with this prefix.
    pub total: u64,
}

/// What a watcher of leases is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// It is held, by this holder; also where its note, TTL or state has changed.
    Held(LeaseEntry),
    /// Nobody holds the lease of this name any more.
    Free(String),
    /// All that there were have been told; comes once.
    Current,
}

/// Which leases to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseWatched {
    Name(String),
    /// All whose name begins so.
    Prefix(String),
}

/// Why something about a lease was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lease has ended, or somebody else has it.
    #[error("the lease is not held: it has ended, or somebody else has it")]
    NotHeld,
    /// Asking again won't help.
    #[error(transparent)]
    Refused(#[from] ServerError),
    /// No node could do it now, or none answered; it may have been done, and asking again does no harm.
    #[error("{0}")]
    NotNow(String),
    /// Nothing was sent.
    #[error(transparent)]
    Client(ClientError),
}

impl LeaseError {
    /// Asking again may help.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::NotNow(_))
    }
}

#[cfg(test)]
mod tests {
    use super::LeaseOwner;

    #[test]
    fn an_owner_is_read_as_it_was_written_and_not_shown() {
        let owner = LeaseOwner::new().unwrap();
        assert_eq!(LeaseOwner::parse(&owner.to_hex()), Some(owner.clone()));
        assert!(!format!("{owner:?}").contains(&owner.to_hex()));
        for bad in
            ["", "00", "zz000000000000000000000000000000", "é0000000000000000000000000000000"]
        {
            assert_eq!(LeaseOwner::parse(bad), None, "{bad}");
        }
    }
}
