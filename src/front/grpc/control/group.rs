//! The group itself: founding, how it stands, copies of what it holds, who changed what.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Response, Status, Streaming};

use super::author;
use super::convert::{audit_line, member};
use crate::control::codec::FRAME_LEN_MAX;
use crate::control::model::{GroupId, State};
use crate::control::part::NotFounded;
use crate::front::grpc::GrpcDeps;
use crate::front::grpc::admin::Asker;
use crate::front::grpc::convert::status;
use crate::supervise::Task;
use crate::wire::v1::{
    BackupControlRequest, BackupPart, ControlStatusRequest, ControlStatusResponse,
    InitControlRequest, InitControlResponse, ListAuditRequest, ListAuditResponse,
    RestoreControlResponse,
};

const PART_LEN: usize = 64 << 10;
const AUDIT_LEN: usize = 100;

pub(super) async fn init_control(
    deps: &Arc<GrpcDeps>,
    request: Request<InitControlRequest>,
) -> Result<Response<InitControlResponse>, Status> {
    Asker::ruler(&request)?;
    let by = author(&request);
    let from_copy = request.into_inner().from_copy;
    let control = deps.control.clone();
    let group = to_the_end(deps, "control init", async move {
        if from_copy { control.init_from_copy(&by).await } else { control.init().await }
    })
    .await?;
    Ok(Response::new(InitControlResponse { group: group.to_string() }))
}

/// A founding that has begun goes on when the one who asked for it goes away.
async fn to_the_end(
    deps: &Arc<GrpcDeps>,
    label: &'static str,
    work: impl Future<Output = Result<GroupId, NotFounded>> + Send + 'static,
) -> Result<GroupId, Status> {
    let (done, ended) = oneshot::channel();
    let _ = deps.supervisor.spawn(Task::Session(label.to_owned()), async move {
        // Nobody may be there to hear it.
        let _ = done.send(work.await);
    });
    let ended = ended.await.map_err(|_| Status::internal("it was given up"))?;
    ended.map_err(|why| not_founded(&why))
}

fn not_founded(why: &NotFounded) -> Status {
    let (code, name) = match why {
        NotFounded::HasGroup(_) | NotFounded::OthersHave(_) => {
            (Code::FailedPrecondition, "has_group")
        }
        NotFounded::NoCopy => (Code::FailedPrecondition, "no_group"),
        NotFounded::HasQuorum(_) => (Code::FailedPrecondition, "has_quorum"),
        NotFounded::Written(_) => (Code::FailedPrecondition, "written"),
        NotFounded::BadBackup(_) => (Code::InvalidArgument, "bad_backup"),
        NotFounded::Failed(_) => (Code::Internal, "not_founded"),
        NotFounded::NoLeader => (Code::Unavailable, "no_quorum"),
    };
    status(code, name, why.to_string())
}

pub(super) async fn control_status(
    deps: &Arc<GrpcDeps>,
    request: Request<ControlStatusRequest>,
) -> Result<Response<ControlStatusResponse>, Status> {
    Asker::observer(&request)?;
    let group = deps.control.report().group;
    let problems = deps.status.report().problems;
    let problem = problems.into_iter().find(|problem| problem.code.starts_with("control_"));
    let problem = problem.map(|problem| match &*problem.hint {
        "" => problem.message,
        hint => format!("{}; {hint}", problem.message),
    });
    let members = deps.control.seats().into_iter().map(member).collect();
    let mut answer = ControlStatusResponse {
        members,
        problem: problem.unwrap_or_default(),
        written: deps.control.look(State::is_written),
        ..ControlStatusResponse::default()
    };
    if let Some(group) = group {
        answer.group = group.group.to_string();
        answer.leader = group.leader.map(|leader| leader.name).unwrap_or_default();
        answer.term = group.term;
        answer.quorum = group.quorum;
        answer.applied = group.applied;
    }
    Ok(Response::new(answer))
}

pub(super) async fn list_audit(
    deps: &Arc<GrpcDeps>,
    request: Request<ListAuditRequest>,
) -> Result<Response<ListAuditResponse>, Status> {
    Asker::observer(&request)?;
    let limit = match request.into_inner().limit {
        0 => AUDIT_LEN,
        limit => limit as usize,
    };
    let lines = deps.control.look(|state| {
        let skipped = state.audit().count().saturating_sub(limit);
        state.audit().skip(skipped).map(audit_line).collect()
    });
    Ok(Response::new(ListAuditResponse { lines }))
}

pub(super) async fn backup_control(
    deps: &Arc<GrpcDeps>,
    bulk: &Arc<Semaphore>,
    request: Request<BackupControlRequest>,
) -> Result<Response<super::Told<BackupPart>>, Status> {
    Asker::ruler(&request)?;
    let turn = turn(bulk)?;
    let state = deps.control.state();
    if state.group().is_none() {
        let nothing = "this node has no group yet, so there is nothing to save";
        return Err(status(Code::FailedPrecondition, "no_group", nothing));
    }
    let sealed = apart(move || state.to_snapshot()).await?;
    let sealed = sealed.map_err(|error| Status::internal(error.to_string()))?;
    let parts = tokio_stream::iter(parts(sealed.into())).map(move |data| {
        // Until the last part is on its way.
        let _ = &turn;
        Ok(BackupPart { data })
    });
    Ok(Response::new(Box::pin(parts)))
}

fn parts(whole: Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = whole;
    std::iter::from_fn(move || {
        let len = rest.len().min(PART_LEN);
        (len > 0).then(|| rest.split_to(len))
    })
}

pub(super) async fn restore_control(
    deps: &Arc<GrpcDeps>,
    bulk: &Arc<Semaphore>,
    request: Request<Streaming<BackupPart>>,
) -> Result<Response<RestoreControlResponse>, Status> {
    Asker::ruler(&request)?;
    let _turn = turn(bulk)?;
    let by = author(&request);
    let mut stream = request.into_inner();
    let mut sealed = Vec::new();
    while let Some(part) = stream.message().await? {
        if sealed.len() + part.data.len() > FRAME_LEN_MAX {
            let larger = format!("no backup is larger than {FRAME_LEN_MAX} bytes");
            return Err(status(Code::InvalidArgument, "bad_backup", larger));
        }
        sealed.extend_from_slice(&part.data);
    }
    // Judged here as well, so that nothing is touched for what is no backup.
    let (sealed, state) = apart(move || {
        let state = State::from_snapshot(&sealed);
        (sealed, state)
    })
    .await?;
    let state =
        state.map_err(|error| status(Code::InvalidArgument, "bad_backup", error.to_string()))?;
    let control = deps.control.clone();
    let restore = async move { control.restore(&by, &sealed).await };
    let group = to_the_end(deps, "control restore", restore).await?.to_string();
    Ok(Response::new(RestoreControlResponse {
        group,
        namespaces: state.namespace_count() as u64,
        keys: state.key_count() as u64,
        leases: state.lease_count() as u64,
    }))
}

/// A whole copy is large: one at a time.
fn turn(bulk: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    let turn = bulk.clone().try_acquire_owned();
    turn.map_err(|_| {
        let busy = "another backup or restore is under way at this node; try again when it is done";
        status(Code::ResourceExhausted, "busy", busy)
    })
}

/// What takes long keeps nobody waiting.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{PART_LEN, parts};

    #[test]
    fn parts_are_the_whole_and_none_is_large() {
        for len in [0, 1, PART_LEN - 1, PART_LEN, PART_LEN + 1, 3 * PART_LEN + 5] {
            let whole: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let all: Vec<Bytes> = parts(whole.clone().into()).collect();
            assert!(all.iter().all(|part| (1..=PART_LEN).contains(&part.len())), "{len}");
            assert_eq!(all.concat(), whole);
        }
    }
}
