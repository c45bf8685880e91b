//! `Control`: the agreed facts, read from this member's copy and changed by the group. `leases` is for everybody who has the right, `access`
//! (namespaces and keys) and `group` are for who may rule nodes.

mod access;
mod convert;
mod group;
mod leases;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, Streaming};

use super::GrpcDeps;
use super::accept::Caller;
use super::admin::Asker;
use super::convert::status;
use crate::control::model::Refusal;
use crate::control::model::bounds::BY_LEN_MAX;
use crate::control::raft::calls::NotDone;
use crate::wire::v1::control_server::Control;
use crate::wire::v1::{
    AcquireLeaseRequest, AcquireLeaseResponse, BackupControlRequest, BackupPart,
    ControlStatusRequest, ControlStatusResponse, CreateKeyRequest, CreateKeyResponse,
    CreateNamespaceRequest, DeleteNamespaceRequest, DeleteNamespaceResponse, GetNamespaceRequest,
    InitControlRequest, InitControlResponse, LeaseEvent, ListAuditRequest, ListAuditResponse,
    ListKeysRequest, ListKeysResponse, ListLeasesRequest, ListLeasesResponse,
    ListNamespacesRequest, ListNamespacesResponse, NamespaceInfo, ReleaseLeaseRequest,
    ReleaseLeaseResponse, RenewLeaseRequest, RenewLeaseResponse, RestoreControlResponse,
    RevokeKeyRequest, RevokeKeyResponse, UpdateNamespaceRequest, WatchLeasesRequest,
};

type Told<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug, Clone)]
pub(super) struct ControlService {
    deps: Arc<GrpcDeps>,
    /// Of those who move whole copies.
    bulk: Arc<Semaphore>,
}

impl ControlService {
    pub(super) fn new(deps: Arc<GrpcDeps>) -> Self {
        Self { deps, bulk: Arc::new(Semaphore::new(1)) }
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type WatchLeasesStream = Told<LeaseEvent>;
    type BackupControlStream = Told<BackupPart>;

    async fn acquire_lease(
        &self,
        request: Request<AcquireLeaseRequest>,
    ) -> Result<Response<AcquireLeaseResponse>, Status> {
        leases::acquire_lease(&self.deps, request).await
    }

    async fn renew_lease(
        &self,
        request: Request<RenewLeaseRequest>,
    ) -> Result<Response<RenewLeaseResponse>, Status> {
        leases::renew_lease(&self.deps, request).await
    }

    async fn release_lease(
        &self,
        request: Request<ReleaseLeaseRequest>,
    ) -> Result<Response<ReleaseLeaseResponse>, Status> {
        leases::release_lease(&self.deps, request).await
    }

    async fn list_leases(
        &self,
        request: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        leases::list_leases(&self.deps, request).await
    }

    async fn create_namespace(
        &self,
        request: Request<CreateNamespaceRequest>,
    ) -> Result<Response<NamespaceInfo>, Status> {
        access::create_namespace(&self.deps, request).await
    }

    async fn update_namespace(
        &self,
        request: Request<UpdateNamespaceRequest>,
    ) -> Result<Response<NamespaceInfo>, Status> {
        access::update_namespace(&self.deps, request).await
    }

    async fn delete_namespace(
        &self,
        request: Request<DeleteNamespaceRequest>,
    ) -> Result<Response<DeleteNamespaceResponse>, Status> {
        access::delete_namespace(&self.deps, request).await
    }

    async fn get_namespace(
        &self,
        request: Request<GetNamespaceRequest>,
    ) -> Result<Response<NamespaceInfo>, Status> {
        access::get_namespace(&self.deps, request).await
    }

    async fn list_namespaces(
        &self,
        request: Request<ListNamespacesRequest>,
    ) -> Result<Response<ListNamespacesResponse>, Status> {
        access::list_namespaces(&self.deps, request).await
    }

    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<CreateKeyResponse>, Status> {
        access::create_key(&self.deps, request).await
    }

    async fn revoke_key(
        &self,
        request: Request<RevokeKeyRequest>,
    ) -> Result<Response<RevokeKeyResponse>, Status> {
        access::revoke_key(&self.deps, request).await
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        access::list_keys(&self.deps, request).await
    }

    async fn init_control(
        &self,
        request: Request<InitControlRequest>,
    ) -> Result<Response<InitControlResponse>, Status> {
        group::init_control(&self.deps, request).await
    }

    async fn control_status(
        &self,
        request: Request<ControlStatusRequest>,
    ) -> Result<Response<ControlStatusResponse>, Status> {
        group::control_status(&self.deps, request).await
    }

    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        group::list_audit(&self.deps, request).await
    }

    async fn watch_leases(
        &self,
        request: Request<WatchLeasesRequest>,
    ) -> Result<Response<Self::WatchLeasesStream>, Status> {
        leases::watch_leases(&self.deps, request).await
    }

    async fn backup_control(
        &self,
        request: Request<BackupControlRequest>,
    ) -> Result<Response<Self::BackupControlStream>, Status> {
        group::backup_control(&self.deps, &self.bulk, request).await
    }

    async fn restore_control(
        &self,
        request: Request<Streaming<BackupPart>>,
    ) -> Result<Response<RestoreControlResponse>, Status> {
        group::restore_control(&self.deps, &self.bulk, request).await
    }
}

/// Who asks, for the audit.
fn author<T>(request: &Request<T>) -> String {
    let known = Asker::of(request).ok().and_then(|asker| asker.pass().who());
    let mut author = known.unwrap_or_else(|| {
        let caller = request.extensions().get::<Caller>();
        let address = caller.map(|caller| caller.address.to_string());
        format!("anonymous at {}", address.as_deref().unwrap_or("an unknown address"))
    });
    author.retain(|c| !c.is_control());
    while author.len() > BY_LEN_MAX {
        author.pop();
    }
    author
}

const STILL_GOES_ON: &str = "nothing was changed; publish, subscribe and presence go on";

/// Why a change was not made, as clients are told it.
fn not_done(why: &NotDone) -> Status {
    let (code, name, more) = match why {
        NotDone::NoLeader | NotDone::NoQuorum => (Code::Unavailable, "no_quorum", STILL_GOES_ON),
        NotDone::TooMuch(_) => (Code::ResourceExhausted, "control_too_much", "nothing was changed"),
        NotDone::Unknown(_) => (Code::Aborted, "control_unknown", "look, and ask again"),
        NotDone::Stopped(_) => (Code::Unavailable, "control_stopped", STILL_GOES_ON),
    };
    status(code, name, format!("{why}; {more}"))
}

/// As `not_done`, where the facts themselves don't allow it.
fn refused(why: &Refusal) -> Status {
    let (code, name) = match why {
        Refusal::Unlawful(_) => (Code::InvalidArgument, "unlawful"),
        Refusal::NotFounded | Refusal::Dissolved(_) => (Code::Unavailable, "no_quorum"),
        Refusal::OtherGroup(_) | Refusal::Written => (Code::FailedPrecondition, "other_group"),
        Refusal::NamespaceExists => (Code::AlreadyExists, "namespace_exists"),
        Refusal::NoNamespace => (Code::NotFound, "no_namespace"),
        Refusal::NamespaceInUse { .. } => (Code::FailedPrecondition, "namespace_in_use"),
        Refusal::OtherRevision { .. } => (Code::FailedPrecondition, "other_revision"),
        Refusal::KeyExists => (Code::AlreadyExists, "key_exists"),
        Refusal::NoKey => (Code::NotFound, "no_key"),
        Refusal::Held { .. } => (Code::FailedPrecondition, "held"),
        Refusal::NotHeld => (Code::FailedPrecondition, "not_held"),
        Refusal::OldEpoch { .. } => (Code::FailedPrecondition, "old_epoch"),
        Refusal::TooMany { .. } => (Code::ResourceExhausted, "control_full"),
    };
    status(code, name, why.to_string())
}
