//! openraft's way to other members: each ask is a frame, with a limit of time of ours.
//!
//! openraft drops what takes longer than its own limit, but not always; so every call ends by itself. Whatever doesn't come back is
//! *unreachable*, after which openraft pauses, and never a plain network error, which it would try again at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::OptionalSend;
use openraft::error::{
    Fatal, InstallSnapshotError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed,
    StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;

use super::calls::{Ask, Call, Carrier, Refused, Reply, SnapshotPart, Unreached};
use super::types::{Ballot, RaftId, RaftMember, TypeConfig};
use crate::control::codec::{CodecError, Kind, open, seal};
use crate::control::model::GroupId;

/// An append or a vote that takes longer is given up.
const CALL_MAX: Duration = Duration::from_millis(250);
/// A part of a snapshot; the last is applied meanwhile.
const PART_MAX: Duration = Duration::from_secs(5);
/// Below what a link's frame may be.
const CALL_BYTES_MAX: usize = 6 << 20;
const PART_BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(200);

type CallError<E> = RPCError<RaftId, RaftMember, RaftError<RaftId, E>>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Unreached(#[from] Unreached),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("refused: {0}")]
    Refused(Refused),
    #[error("longer than a call may be")]
    TooLong,
    #[error("an answer to something else")]
    Other,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) carrier: Arc<dyn Carrier>,
    pub(super) group: GroupId,
    pub(super) me: RaftId,
}

/// The way to one member.
#[derive(Debug)]
pub(super) struct Client {
    network: Network,
    to: RaftId,
    member: RaftMember,
}

impl Network {
    pub(super) async fn call(
        &self,
        to: RaftId,
        member: &RaftMember,
        ask: Ask,
        limit: Duration,
    ) -> Result<Reply, Failed> {
        let frame = seal(Kind::Call, &Call { group: self.group, from: self.me, to, ask })?;
        if frame.len() > CALL_BYTES_MAX {
            return Err(Failed::TooLong);
        }
        let carried = tokio::time::timeout(limit, self.carrier.carry(member, frame)).await;
        let reply = carried.unwrap_or_else(|_| Err(Unreached::after(limit)))?;
        match open(Kind::Reply, &reply)? {
            Reply::Refused(why) => Err(Failed::Refused(why)),
            reply => Ok(reply),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: RaftId, node: &RaftMember) -> Client {
        Client { network: self.clone(), to: target, member: node.clone() }
    }
}

impl Client {
    async fn call(&self, ask: Ask, limit: Duration) -> Result<Reply, Unreachable> {
        let called = self.network.call(self.to, &self.member, ask, limit).await;
        called.map_err(|error| Unreachable::new(&error))
    }
}

impl RaftNetwork<TypeConfig> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, CallError<openraft::error::Infallible>> {
        let entries = rpc.entries.len() as u64;
        let called = self.network.call(self.to, &self.member, Ask::Append(rpc), CALL_MAX).await;
        match called {
            Ok(Reply::Append(reply)) => Ok(reply),
            Ok(_) => Err(Unreachable::new(&Failed::Other).into()),
            // One entry always fits.
            Err(Failed::TooLong) if entries > 1 => {
                Err(PayloadTooLarge::new_entries_hint(entries / 2).into())
            }
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, CallError<openraft::error::Infallible>> {
        match self.call(Ask::Vote(rpc), CALL_MAX).await? {
            Reply::Vote(reply) => Ok(reply),
            _ => Err(Unreachable::new(&Failed::Other).into()),
        }
    }

    /// Never asked: snapshots are sent whole, below.
    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<RaftId>, CallError<InstallSnapshotError>> {
        Err(Unreachable::new(&Failed::Other).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Ballot,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<RaftId>, StreamingError<TypeConfig, Fatal<RaftId>>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_parts(vote, snapshot) => sent.map_err(StreamingError::from),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}

impl Client {
    async fn send_parts(
        &self,
        vote: Ballot,
        snapshot: Snapshot<TypeConfig>,
    ) -> Result<SnapshotResponse<RaftId>, Unreachable> {
        let Snapshot { meta, snapshot } = snapshot;
        let all = snapshot.into_inner();
        let parts = all.len().div_ceil(PART_BYTES).max(1);
        for part in 0..parts {
            let from = part * PART_BYTES;
            let until = all.len().min(from + PART_BYTES);
            let ask = Ask::Part(SnapshotPart {
                vote,
                meta: meta.clone(),
                offset: from as u64,
                bytes: all[from..until].to_vec(),
                done: until == all.len(),
            });
            match self.call(ask, PART_MAX).await? {
                Reply::Installed(reply) => return Ok(reply),
                Reply::Part => {}
                _ => break,
            }
        }
        Err(Unreachable::new(&Failed::Other))
    }
}
