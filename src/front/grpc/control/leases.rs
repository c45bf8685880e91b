//! Leases: who holds what, by a right of the same name.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::front::grpc::GrpcDeps;
use crate::wire::v1::{
    AcquireLeaseRequest, AcquireLeaseResponse, LeaseEvent, ListLeasesRequest, ListLeasesResponse,
    ReleaseLeaseRequest, ReleaseLeaseResponse, RenewLeaseRequest, RenewLeaseResponse,
    WatchLeasesRequest,
};

pub(super) async fn acquire_lease(
    _deps: &Arc<GrpcDeps>,
    _request: Request<AcquireLeaseRequest>,
) -> Result<Response<AcquireLeaseResponse>, Status> {
    Err(Status::unimplemented("acquire_lease"))
}

pub(super) async fn renew_lease(
    _deps: &Arc<GrpcDeps>,
    _request: Request<RenewLeaseRequest>,
) -> Result<Response<RenewLeaseResponse>, Status> {
    Err(Status::unimplemented("renew_lease"))
}

pub(super) async fn release_lease(
    _deps: &Arc<GrpcDeps>,
    _request: Request<ReleaseLeaseRequest>,
) -> Result<Response<ReleaseLeaseResponse>, Status> {
    Err(Status::unimplemented("release_lease"))
}

pub(super) async fn list_leases(
    _deps: &Arc<GrpcDeps>,
    _request: Request<ListLeasesRequest>,
) -> Result<Response<ListLeasesResponse>, Status> {
    Err(Status::unimplemented("list_leases"))
}

pub(super) async fn watch_leases(
    _deps: &Arc<GrpcDeps>,
    _request: Request<WatchLeasesRequest>,
) -> Result<Response<super::Told<LeaseEvent>>, Status> {
    Err(Status::unimplemented("watch_leases"))
}
