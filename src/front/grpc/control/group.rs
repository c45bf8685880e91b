//! The group itself: founding, how it stands, copies of what it holds, who changed what.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use crate::front::grpc::GrpcDeps;
use crate::wire::v1::{
    BackupControlRequest, BackupPart, ControlStatusRequest, ControlStatusResponse,
    InitControlRequest, InitControlResponse, ListAuditRequest, ListAuditResponse,
    RestoreControlResponse,
};

pub(super) async fn init_control(
    _deps: &Arc<GrpcDeps>,
    _request: Request<InitControlRequest>,
) -> Result<Response<InitControlResponse>, Status> {
    Err(Status::unimplemented("init_control"))
}

pub(super) async fn control_status(
    _deps: &Arc<GrpcDeps>,
    _request: Request<ControlStatusRequest>,
) -> Result<Response<ControlStatusResponse>, Status> {
    Err(Status::unimplemented("control_status"))
}

pub(super) async fn list_audit(
    _deps: &Arc<GrpcDeps>,
    _request: Request<ListAuditRequest>,
) -> Result<Response<ListAuditResponse>, Status> {
    Err(Status::unimplemented("list_audit"))
}

pub(super) async fn backup_control(
    _deps: &Arc<GrpcDeps>,
    _request: Request<BackupControlRequest>,
) -> Result<Response<super::Told<BackupPart>>, Status> {
    Err(Status::unimplemented("backup_control"))
}

pub(super) async fn restore_control(
    _deps: &Arc<GrpcDeps>,
    _request: Request<Streaming<BackupPart>>,
) -> Result<Response<RestoreControlResponse>, Status> {
    Err(Status::unimplemented("restore_control"))
}
