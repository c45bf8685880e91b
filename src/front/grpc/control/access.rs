//! Namespaces with their quotas, and keys.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::front::grpc::GrpcDeps;
use crate::wire::v1::{
    CreateKeyRequest, CreateKeyResponse, CreateNamespaceRequest, DeleteNamespaceRequest,
    DeleteNamespaceResponse, GetNamespaceRequest, ListKeysRequest, ListKeysResponse,
    ListNamespacesRequest, ListNamespacesResponse, NamespaceInfo, RevokeKeyRequest,
    RevokeKeyResponse, UpdateNamespaceRequest,
};

pub(super) async fn create_namespace(
    _deps: &Arc<GrpcDeps>,
    _request: Request<CreateNamespaceRequest>,
) -> Result<Response<NamespaceInfo>, Status> {
    Err(Status::unimplemented("create_namespace"))
}

pub(super) async fn update_namespace(
    _deps: &Arc<GrpcDeps>,
    _request: Request<UpdateNamespaceRequest>,
) -> Result<Response<NamespaceInfo>, Status> {
    Err(Status::unimplemented("update_namespace"))
}

pub(super) async fn delete_namespace(
    _deps: &Arc<GrpcDeps>,
    _request: Request<DeleteNamespaceRequest>,
) -> Result<Response<DeleteNamespaceResponse>, Status> {
    Err(Status::unimplemented("delete_namespace"))
}

pub(super) async fn get_namespace(
    _deps: &Arc<GrpcDeps>,
    _request: Request<GetNamespaceRequest>,
) -> Result<Response<NamespaceInfo>, Status> {
    Err(Status::unimplemented("get_namespace"))
}

pub(super) async fn list_namespaces(
    _deps: &Arc<GrpcDeps>,
    _request: Request<ListNamespacesRequest>,
) -> Result<Response<ListNamespacesResponse>, Status> {
    Err(Status::unimplemented("list_namespaces"))
}

pub(super) async fn create_key(
    _deps: &Arc<GrpcDeps>,
    _request: Request<CreateKeyRequest>,
) -> Result<Response<CreateKeyResponse>, Status> {
    Err(Status::unimplemented("create_key"))
}

pub(super) async fn revoke_key(
    _deps: &Arc<GrpcDeps>,
    _request: Request<RevokeKeyRequest>,
) -> Result<Response<RevokeKeyResponse>, Status> {
    Err(Status::unimplemented("revoke_key"))
}

pub(super) async fn list_keys(
    _deps: &Arc<GrpcDeps>,
    _request: Request<ListKeysRequest>,
) -> Result<Response<ListKeysResponse>, Status> {
    Err(Status::unimplemented("list_keys"))
}
