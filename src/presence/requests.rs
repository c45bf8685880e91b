//! What sessions of this node ask for, and what they are answered.

use std::time::Duration;

use bytes::Bytes;

use crate::types::{SessionId, Topic};

use super::{BadName, Claim, Reference};

/// A session as it is attached here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub session: SessionId,
    pub epoch: u64,
    pub linger: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    pub topic: Topic,
    pub key: Box<str>,
    /// `None`: the session's id as text.
    pub id: Option<Box<str>>,
    pub meta: Bytes,
    /// As the client numbers this entry; 0: the node does.
    pub revision: u64,
}

/// The owner of what was released.
pub const NOBODY: SessionId = SessionId([0; 16]);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrack {
    pub topic: Topic,
    pub key: Box<str>,
    /// `None`: the session's id as text.
    pub id: Option<Box<str>>,
    /// It stays for that long, for somebody else to adopt, then goes. `None` or zero: it goes at once.
    pub release: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    pub reference: Reference,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there, and is now.
    Joined,
    /// Its metadata or revision changed.
    Updated,
    /// It was this session's already, just so.
    Unchanged,
    /// It was another node's or another session's, and changed hands; nothing that shows changed.
    Adopted,
    /// Older than what is known; `reference` is that of what stands.
    Ignored,
}

/// Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    #[error("this session does not track it")]
    NotTracked,
    #[error("another session has taken it over")]
    NotOwner,
    #[error("the session is attached elsewhere since")]
    Moved,
    #[error("the revision is absurdly high")]
    BadRevision,
    #[error("the key {0}")]
    BadKey(BadName),
    #[error("the id {0}")]
    BadId(BadName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untracked {
    /// It was this session's.
    Done,
    /// It wasn't this session's here: nothing changed. Remembered, should it arrive from elsewhere.
    Nothing,
}

/// An entry on its way to another node, whose own is about to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    pub topic: Topic,
    pub claim: Claim,
    /// What is left of its session's linger: the new holder lets it go after that.
    pub remaining: Duration,
}
