//! Leases: who holds what, by a right of the same name.
//!
//! A holder is a session that is attached here, or whoever knows 16 bytes of chance. Who counts on a lease that he renews must count its
//! time from when he sent his last renewal that was answered: the leader counts from later.

mod codec;
mod following;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::super::accept::Caller;
use super::super::admin::Asker;
use super::super::convert::{self, status};
use crate::broker::{BrokerError, Holding, Opening, Pass};
use crate::control::model::facts::OwnerId;
use crate::control::model::{
    Acquire, Answer, Change, LeaseKey, Owner, Refusal, lawful_lease, lawful_ttl,
};
use crate::control::part::ControlHandle;
use crate::control::raft::calls::NotDone;
use crate::front::grpc::{CALL_MAX, FRONT, GrpcDeps};
use crate::supervise::Task;
use crate::wire::v1::{
    AcquireLeaseRequest, AcquireLeaseResponse, LeaseEvent, LeaseInfo, ListLeasesRequest,
    ListLeasesResponse, ReleaseLeaseRequest, ReleaseLeaseResponse, RenewLeaseRequest,
    RenewLeaseResponse, WatchLeasesRequest,
};
use watching::{Sight, WatcherVoice, Watching};

/// Of a call's time so much is left for its last try and its answer.
const WAIT_MAX: Duration = CALL_MAX.saturating_sub(Duration::from_secs(5));
/// A copy that says otherwise than the leader will change soon, or has.
const AGAIN: Duration = Duration::from_millis(20);

const LIST_LEN: usize = 1_000;
/// Clients' libraries take 4 MiB.
const LIST_BYTES_MAX: usize = 3 << 20;

/// Events under way to a watcher. What changes meanwhile is told as it is then.
const EVENTS_UNDER_WAY: usize = 32;

pub(super) async fn acquire_lease(
    deps: &Arc<GrpcDeps>,
    request: Request<AcquireLeaseRequest>,
) -> Result<Response<AcquireLeaseResponse>, Status> {
    let (pass, by) = (own(&request)?, super::author(&request));
    let began = deps.clock.now();
    let AcquireLeaseRequest { name, ttl, session, owner, note, wait } = request.into_inner();
    let lease = lease_of(&pass, &name)?;
    let Some(ttl_ms) = millis(ttl)? else {
        return Err(status(Code::InvalidArgument, "unlawful", "a lease needs a time, ttl"));
    };
    let until = began + duration(wait)?.unwrap_or_default().min(WAIT_MAX);
    let holder = Holder::new(&pass, &session, &owner)?;
    let mut changes = deps.control.changes();
    loop {
        changes.mark_unchanged();
        let admitted = deps.broker.admits_still(&pass);
        admitted.map_err(|error| convert::status_of(&error))?;
        // Until the answer: what becomes of the session meanwhile must not be missed.
        let (owner, holding) = holder.owner(deps)?;
        let ask = Acquire { lease: lease.clone(), owner, ttl_ms, note: note.as_str().into() };
        ask.judge().map_err(|why| super::refused(&why))?;
        let token = match deps.control.change(&by, Change::Acquire(ask)).await {
            Ok(Answer::Granted { token, .. }) => {
                let owner = holder.told();
                let granted = AcquireLeaseResponse { granted: true, token, owner, held: None };
                return Ok(Response::new(granted));
            }
            Ok(Answer::Refused(Refusal::Held { token })) => token,
            Ok(answer) => return Err(no(&answer)),
            Err(why) => return Err(not_done(&why)),
        };
        drop(holding);
        let wait = until.since(deps.clock.now());
        let waited = tokio::time::timeout(wait, until_free(&deps.control, &lease, &mut changes));
        if wait.is_zero() || waited.await.is_err() {
            // This member's copy may be far behind what refused it.
            let held = info_of(&deps.control, &lease).filter(|held| held.token >= token);
            let token = held.as_ref().map_or(token, |held| held.token);
            let owner = Bytes::new();
            let refused = AcquireLeaseResponse { granted: false, token, owner, held };
            return Ok(Response::new(refused));
        }
    }
}

pub(super) async fn renew_lease(
    deps: &Arc<GrpcDeps>,
    request: Request<RenewLeaseRequest>,
) -> Result<Response<RenewLeaseResponse>, Status> {
    let (pass, by) = (own(&request)?, super::author(&request));
    let RenewLeaseRequest { name, session, owner, token, ttl } = request.into_inner();
    let lease = lease_of(&pass, &name)?;
    let owner = held_by(deps, &pass, &session, &owner, token)?;
    let ttl_ms = millis(ttl)?;
    ttl_ms.map_or(Ok(()), lawful_ttl).map_err(|why| super::refused(&why))?;
    let renew = Change::Renew { lease, owner, token, ttl_ms };
    match deps.control.change(&by, renew).await {
        Ok(Answer::Granted { token, .. }) => Ok(Response::new(RenewLeaseResponse { token })),
        Ok(answer) => Err(no(&answer)),
        Err(why) => Err(not_done(&why)),
    }
}

pub(super) async fn release_lease(
    deps: &Arc<GrpcDeps>,
    request: Request<ReleaseLeaseRequest>,
) -> Result<Response<ReleaseLeaseResponse>, Status> {
    let (pass, by) = (own(&request)?, super::author(&request));
    let ReleaseLeaseRequest { name, session, owner, token } = request.into_inner();
    let lease = lease_of(&pass, &name)?;
    let owner = held_by(deps, &pass, &session, &owner, token)?;
    let release = Change::Release { lease, owner, token };
    match deps.control.change(&by, release).await {
        Ok(Answer::Changed { .. }) => Ok(Response::new(ReleaseLeaseResponse {})),
        Ok(answer) => Err(no(&answer)),
        Err(why) => Err(not_done(&why)),
    }
}

pub(super) async fn list_leases(
    deps: &Arc<GrpcDeps>,
    request: Request<ListLeasesRequest>,
) -> Result<Response<ListLeasesResponse>, Status> {
    let sight = Sight::of(&request)?;
    let ListLeasesRequest { prefix, limit } = request.into_inner();
    let limit = if limit == 0 { LIST_LEN } else { limit as usize };
    let applied = deps.control.applied();
    let (mut leases, mut total, mut bytes) = (Vec::new(), 0, 0);
    deps.control.look(|state| {
        for (key, lease) in state.leases_in(&sight.namespace, &prefix) {
            if !sight.takes(&key.name) {
                continue;
            }
            total += 1;
            if leases.len() < limit && bytes < LIST_BYTES_MAX {
                let info = codec::info(key, lease);
                bytes += codec::len(&info);
                leases.push(info);
            }
        }
    });
    Ok(Response::new(ListLeasesResponse { leases, total, applied }))
}

pub(super) async fn watch_leases(
    deps: &Arc<GrpcDeps>,
    request: Request<WatchLeasesRequest>,
) -> Result<Response<super::Told<LeaseEvent>>, Status> {
    let sight = Sight::of(&request)?;
    let address = request.extensions().get::<Caller>();
    let address = address.map(|caller| caller.address.to_string()).unwrap_or_default();
    let client = request.metadata().get(http::header::USER_AGENT.as_str());
    let client = client.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let WatchLeasesRequest { prefix, name } = request.into_inner();
    if !name.is_empty() {
        if !prefix.is_empty() {
            let both = "both prefix and name are set; drop one of them";
            return Err(status(Code::InvalidArgument, "unlawful", both));
        }
        if !sight.sees_all {
            sight.pass.may_lease(&name).map_err(|error| convert::status_of(&error))?;
        }
    }
    // A session that nobody can resume, as other streams that only listen are: it counts as one, and ends with its key, a kill or a drain.
    let opening = Opening {
        pass: sight.pass.clone(),
        front: FRONT,
        client: client.unwrap_or_default(),
        address: address.clone(),
        token: Vec::new(),
        epoch: 0,
        linger: Some(Duration::ZERO),
        overlap: false,
    };
    let refuse = |error| convert::status_of(&error);
    let attachment = deps.broker.open(opening, &WatcherVoice).await.map_err(refuse)?;
    let (told, events) = mpsc::channel(EVENTS_UNDER_WAY);
    let watching = Watching { control: deps.control.clone(), sight, prefix, name, told };
    let _ = deps.supervisor.spawn(Task::Session(format!("grpc {address}")), async move {
        let outlet = attachment.outlet();
        watching.run(&outlet).await;
        drop(attachment);
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(events))))
}

/// Whoever changes leases does so in the namespace of its key.
fn own<T>(request: &Request<T>) -> Result<Pass, Status> {
    let asker = Asker::of(request)?;
    if asker.namespace() != asker.pass().namespace() {
        return Err(convert::status_of(&BrokerError::OtherNamespace));
    }
    Ok(asker.pass().clone())
}

fn lease_of(pass: &Pass, name: &str) -> Result<LeaseKey, Status> {
    let key = LeaseKey { namespace: pass.namespace().as_str().into(), name: name.into() };
    lawful_lease(&key).map_err(|why| super::refused(&why))?;
    pass.may_lease(name).map_err(|error| convert::status_of(&error))?;
    Ok(key)
}

fn duration(said: Option<prost_types::Duration>) -> Result<Option<Duration>, Status> {
    super::super::codec::duration(said).map_err(|error| convert::status_of(&error))
}

fn millis(said: Option<prost_types::Duration>) -> Result<Option<u64>, Status> {
    let millis = |said: Duration| u64::try_from(said.as_millis()).unwrap_or(u64::MAX);
    Ok(duration(said)?.map(millis))
}

/// Who is to hold a lease.
enum Holder<'a> {
    Session { pass: &'a Pass, token: &'a [u8] },
    Alone { id: [u8; 16] },
}

impl<'a> Holder<'a> {
    fn new(pass: &'a Pass, session: &'a [u8], owner: &[u8]) -> Result<Self, Status> {
        if !session.is_empty() && !owner.is_empty() {
            let both = "both session and owner are set; drop one of them";
            return Err(status(Code::InvalidArgument, "bad_owner", both));
        }
        if !session.is_empty() {
            return Ok(Self::Session { pass, token: session });
        }
        if !owner.is_empty() {
            return Ok(Self::Alone { id: owner_of(owner)? });
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| Status::internal(format!("no random numbers: {error}")))?;
        Ok(Self::Alone { id })
    }

    /// As it is now.
    fn owner(&self, deps: &GrpcDeps) -> Result<(Owner, Option<Holding>), Status> {
        match self {
            Self::Alone { id } => Ok((Owner::Alone { id: *id }, None)),
            Self::Session { pass, token } => {
                let holding = deps.broker.hold(pass, token);
                let holding = holding.map_err(|error| convert::status_of(&error))?;
                let (id, epoch) = (holding.session(), holding.epoch());
                let owner = Owner::Session { id, epoch, at: deps.control.me() };
                Ok((owner, Some(holding)))
            }
        }
    }

    /// What it proves itself by.
    fn told(&self) -> Bytes {
        match self {
            Self::Alone { id } => Bytes::copy_from_slice(id),
            Self::Session { .. } => Bytes::new(),
        }
    }
}

fn owner_of(said: &[u8]) -> Result<[u8; 16], Status> {
    said.try_into().map_err(|_| {
        let wrong = format!("a lease's owner has 16 bytes, not {}", said.len());
        status(Code::InvalidArgument, "bad_owner", wrong)
    })
}

/// Who says that it holds a lease, wherever its session is.
fn held_by(
    deps: &GrpcDeps,
    pass: &Pass,
    session: &[u8],
    owner: &[u8],
    token: u64,
) -> Result<OwnerId, Status> {
    if token == 0 {
        let none = "a lease is named with its token, as its acquiring told it";
        return Err(status(Code::InvalidArgument, "bad_lease_token", none));
    }
    match (session.is_empty(), owner.is_empty()) {
        (false, true) => {
            let session = deps.broker.session_by(pass, session);
            Ok(OwnerId::Session(session.map_err(|error| convert::status_of(&error))?))
        }
        (true, false) => Ok(OwnerId::Alone(owner_of(owner)?)),
        _ => {
            let one = "set session or owner, as it was acquired by";
            Err(status(Code::InvalidArgument, "bad_owner", one))
        }
    }
}

/// Ends when nobody holds it, as far as is known here.
async fn until_free(
    control: &ControlHandle,
    lease: &LeaseKey,
    changes: &mut tokio::sync::watch::Receiver<()>,
) {
    let is_held = || control.look(|state| state.lease(lease).is_some());
    if !is_held() {
        tokio::time::sleep(AGAIN).await;
        return;
    }
    while is_held() {
        if changes.changed().await.is_err() {
            // The node ends.
            std::future::pending::<()>().await;
        }
    }
}

fn info_of(control: &ControlHandle, lease: &LeaseKey) -> Option<LeaseInfo> {
    control.look(|state| state.lease(lease).map(|held| codec::info(lease, held)))
}

fn no(answer: &Answer) -> Status {
    match answer {
        Answer::Refused(why) => super::refused(why),
        other => Status::internal(format!("an answer to something else: {other:?}")),
    }
}

fn not_done(why: &NotDone) -> Status {
    match why {
        NotDone::Unknown(_) => {
            let harmless = "ask the same again: it is harmless, and tells";
            status(Code::Aborted, "control_unknown", format!("{why}; {harmless}"))
        }
        _ => super::not_done(why),
    }
}
