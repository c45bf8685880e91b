//! ● What can be asked of the machine, and what it answers.
//!
//! Kinds are appended and never taken away or moved: their order is how they stand in logs. A leader proposes a new kind only once every
//! member knows it.

use serde::{Deserialize, Serialize};

use super::facts::{GroupId, LeaseKey, MemberAt, Owner, OwnerId, QuotaFacts, RightsFacts};
use crate::types::SessionId;

/// One entry of the log: what waited when it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// What the leader's clock said. For people; it decides nothing.
    pub at_ms: u64,
    pub commands: Vec<Command>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Who asked, for the audit.
    pub by: Box<str>,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The first of all. `at_s`: the founder's Unix time, which tokens begin at.
    Found {
        group: GroupId,
        at_s: u64,
    },
    /// A new group goes on from a copy of a lost one.
    FoundAgain {
        group: GroupId,
        at_s: u64,
    },
    CreateNamespace {
        name: Box<str>,
        quota: QuotaFacts,
    },
    /// `expected`: only if this is still its revision.
    UpdateNamespace {
        name: Box<str>,
        quota: QuotaFacts,
        expected: Option<u64>,
    },
    /// With `contents` its keys and leases go too; else it must have none.
    DeleteNamespace {
        name: Box<str>,
        contents: bool,
    },
    CreateKey(NewKey),
    RevokeKey {
        id: Box<str>,
    },
    Acquire(Acquire),
    /// By its holder. None: the TTL stays.
    Renew {
        lease: LeaseKey,
        owner: OwnerId,
        token: u64,
        ttl_ms: Option<u64>,
    },
    Release {
        lease: LeaseKey,
        owner: OwnerId,
        token: u64,
    },
    /// The leader saw that their time is over.
    Expire(Vec<Due>),
    Sessions(Vec<SessionReport>),
    /// This incarnation, and all before it, are down: nobody is attached there.
    MemberLost(MemberAt),
    /// This group, which nothing was ever written to, ends for another one. Nothing is done after it.
    Dissolve {
        into: GroupId,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    pub id: Box<str>,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    pub namespace: Box<str>,
    pub note: Box<str>,
    pub ends_s: Option<u64>,
    pub rights: RightsFacts,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    pub lease: LeaseKey,
    pub owner: Owner,
    pub ttl_ms: u64,
    pub note: Box<str>,
}

/// A lease that nothing was heard of since this beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    pub lease: LeaseKey,
    pub token: u64,
    pub beat: u64,
}

/// What the member `at` knows of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    pub session: SessionId,
    pub epoch: u64,
    pub at: MemberAt,
    pub what: SessionWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionWord {
    Attached,
    /// Its connection is; it may come back.
    Lost,
    /// It is over: what it held is free at once.
    Ended,
}

/// One for each command of a batch, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers(pub Vec<Answer>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It holds since this revision.
    Done { revision: u64 },
    /// Whoever asked holds the lease.
    Granted { token: u64, beat: u64 },
    /// How many leases it changed.
    Changed { leases: u64 },
    /// Nothing was changed.
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Unlawful(String),
    #[error("this group is not founded yet")]
    NotFounded,
    #[error("this is the group {0}")]
    OtherGroup(GroupId),
    #[error("this group was written to, and goes on")]
    Written,
    #[error("this group has ended for the group {0}")]
    Dissolved(GroupId),
    #[error("there is such a namespace")]
    NamespaceExists,
    #[error("there is no such namespace")]
    NoNamespace,
    #[error("the namespace has {keys} keys and {leases} leases")]
    NamespaceInUse { keys: u64, leases: u64 },
    #[error("it was changed meanwhile: its revision is {revision}")]
    OtherRevision { revision: u64 },
    #[error("there is another key of this id")]
    KeyExists,
    #[error("there is no such key")]
    NoKey,
    /// By somebody else.
    #[error("the lease is held")]
    Held { token: u64 },
    /// By whoever asked, or not with this token.
    #[error("the lease is not held so: it has ended, or somebody else has it")]
    NotHeld,
    #[error("the session has a newer epoch, {epoch}")]
    OldEpoch { epoch: u64 },
    #[error("there is no room: {bound} may be {max} at most")]
    TooMany { bound: Bound, max: u64 },
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    Namespaces,
    Keys,
    Leases,
    LeasesOfNamespace,
    Bytes,
    Commands,
    Items,
    Tokens,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Keys => "keys",
            Self::Leases => "leases",
            Self::LeasesOfNamespace => "leases of one namespace",
            Self::Bytes => "bytes of all facts",
            Self::Commands => "commands of one entry",
            Self::Items => "items of one command",
            Self::Tokens => "tokens",
        })
    }
}
