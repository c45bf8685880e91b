//! What openraft is given: commands as entries, answers, and members as nodes.

use std::io::Cursor;

use openraft::{Entry, LogId, StoredMembership, TokioRuntime, Vote};
use serde::{Deserialize, Serialize};

use crate::control::model::{Answers, Batch};

/// Chance, made with a store and never used again.
pub type RaftId = u64;

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Batch,
        R = Answers,
        NodeId = RaftId,
        Node = RaftMember,
        Entry = Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = TokioRuntime,
);

pub(super) type Position = LogId<RaftId>;
pub(super) type Ballot = Vote<RaftId>;
pub(super) type Membership = StoredMembership<RaftId, RaftMember>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<RaftId, RaftMember>;
pub(super) type StorageError = openraft::StorageError<RaftId>;

/// A member of the group, as its entry in the log says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMember {
    pub name: String,
    pub incarnation: u64,
    /// `host:port` of its peer port.
    pub address: String,
    /// Has it a disk?
    pub durable: bool,
}
