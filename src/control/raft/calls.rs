//! What members of a group ask each other, as frames; and who carries them.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::types::{Ballot, RaftId, RaftMember, SnapshotMeta, TypeConfig};
use crate::control::model::{Answers, Command, GroupId};

/// Brings a frame to a member and its answer back. Who is at the other end has proved to be of the cluster; what it says is still judged.
#[async_trait]
pub trait Carrier: fmt::Debug + Send + Sync + 'static {
    async fn carry(&self, to: &RaftMember, frame: Vec<u8>) -> Result<Vec<u8>, Unreached>;
}

/// No answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// It can't have done anything.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have done what it was asked.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

impl Unreached {
    pub(super) fn after(limit: Duration) -> Self {
        Self::NoAnswer(format!("none within {} ms", limit.as_millis()))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) group: GroupId,
    pub(super) from: RaftId,
    pub(super) to: RaftId,
    pub(super) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<RaftId>),
    Part(SnapshotPart),
    Propose(Vec<Command>),
}

/// A snapshot comes in parts, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotPart {
    pub(super) vote: Ballot,
    pub(super) meta: SnapshotMeta,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) done: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Append(AppendEntriesResponse<RaftId>),
    Vote(VoteResponse<RaftId>),
    /// Of the last part.
    Installed(SnapshotResponse<RaftId>),
    /// More is wanted.
    Part,
    Proposed(Result<Done, NotDone>),
    Refused(Refused),
}

/// A proposal that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub index: u64,
    pub answers: Answers,
}

/// Why a proposal has no answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NotDone {
    #[error("no quorum: no leader is known")]
    NoLeader,
    #[error("no quorum: most of those who vote can't be reached")]
    NoQuorum,
    #[error("too much: {0}")]
    TooMuch(String),
    /// Asking again tells.
    #[error("it is not known whether it was done: {0}")]
    Unknown(String),
    #[error("this member has stopped taking part: {0}")]
    Stopped(String),
}

/// A call that was not looked at further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    #[error("it is of the group {0}")]
    OtherGroup(GroupId),
    #[error("it is another member")]
    OtherMember,
    #[error("it makes no sense: {0}")]
    Nonsense(String),
    #[error("it has stopped taking part: {0}")]
    Stopped(String),
}
