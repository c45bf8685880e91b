//! Namespaces with their quotas, and keys.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use super::convert::{ends_s, key_info, namespace_info, quota_facts, rights_facts};
use super::{author, not_done, refused};
use crate::control::model::command::NewKey;
use crate::control::model::facts::{KeyEntry, NamespaceEntry, QuotaFacts};
use crate::control::model::{Answer, Change, Refusal};
use crate::control::raft::calls::NotDone;
use crate::front::grpc::GrpcDeps;
use crate::front::grpc::admin::Asker;
use crate::front::grpc::convert::status;
use crate::rights::key::{self, KeyHash, RANDOM_LEN};
use crate::types::Namespace;
use crate::wire::v1::{
    CreateKeyRequest, CreateKeyResponse, CreateNamespaceRequest, DeleteNamespaceRequest,
    DeleteNamespaceResponse, GetNamespaceRequest, ListKeysRequest, ListKeysResponse,
    ListNamespacesRequest, ListNamespacesResponse, NamespaceInfo, RevokeKeyRequest,
    RevokeKeyResponse, UpdateNamespaceRequest,
};

pub(super) async fn create_namespace(
    deps: &Arc<GrpcDeps>,
    request: Request<CreateNamespaceRequest>,
) -> Result<Response<NamespaceInfo>, Status> {
    Asker::ruler(&request)?;
    let by = author(&request);
    let CreateNamespaceRequest { name, quota } = request.into_inner();
    let quota = quota_facts(quota)?;
    let made = Change::CreateNamespace { name: name.as_str().into(), quota: quota.clone() };
    let revision = change(deps, &by, made).await?;
    Ok(Response::new(info_since(deps, &name, quota, revision)))
}

pub(super) async fn update_namespace(
    deps: &Arc<GrpcDeps>,
    request: Request<UpdateNamespaceRequest>,
) -> Result<Response<NamespaceInfo>, Status> {
    Asker::ruler(&request)?;
    let by = author(&request);
    let UpdateNamespaceRequest { name, quota, revision } = request.into_inner();
    let quota = quota_facts(quota)?;
    let expected = (revision != 0).then_some(revision);
    let name_of = name.as_str().into();
    let update = Change::UpdateNamespace { name: name_of, quota: quota.clone(), expected };
    let revision = change(deps, &by, update).await?;
    Ok(Response::new(info_since(deps, &name, quota, revision)))
}

pub(super) async fn delete_namespace(
    deps: &Arc<GrpcDeps>,
    request: Request<DeleteNamespaceRequest>,
) -> Result<Response<DeleteNamespaceResponse>, Status> {
    Asker::ruler(&request)?;
    let by = author(&request);
    let DeleteNamespaceRequest { name, contents } = request.into_inner();
    change(deps, &by, Change::DeleteNamespace { name: name.into(), contents }).await?;
    Ok(Response::new(DeleteNamespaceResponse {}))
}

pub(super) async fn get_namespace(
    deps: &Arc<GrpcDeps>,
    request: Request<GetNamespaceRequest>,
) -> Result<Response<NamespaceInfo>, Status> {
    Asker::observer(&request)?;
    info_of(deps, &request.into_inner().name)
}

pub(super) async fn list_namespaces(
    deps: &Arc<GrpcDeps>,
    request: Request<ListNamespacesRequest>,
) -> Result<Response<ListNamespacesResponse>, Status> {
    Asker::observer(&request)?;
    let applied = deps.control.applied();
    let state = deps.control.state();
    let rows = state.namespaces().map(|(name, entry)| namespace_info(&state, name, entry));
    Ok(Response::new(ListNamespacesResponse { namespaces: rows.collect(), applied }))
}

pub(super) async fn create_key(
    deps: &Arc<GrpcDeps>,
    request: Request<CreateKeyRequest>,
) -> Result<Response<CreateKeyResponse>, Status> {
    Asker::ruler(&request)?;
    let by = author(&request);
    let CreateKeyRequest { mut namespace, note, expires, rights } = request.into_inner();
    if namespace.is_empty() {
        namespace = Namespace::default().to_string();
    }
    let rights = rights_facts(rights)?;
    let ends_s = ends_s(expires, deps.clock.unix_ms())?;
    let mut random = [0; RANDOM_LEN];
    getrandom::fill(&mut random)
        .map_err(|error| Status::internal(format!("no random numbers: {error}")))?;
    let (id, text) = key::make(&random);
    let new = NewKey {
        id: id.as_str().into(),
        hash: KeyHash::of(text.as_bytes()).bytes(),
        namespace: namespace.as_str().into(),
        note: note.into(),
        ends_s,
        rights,
    };
    let created = match deps.control.change(&by, Change::CreateKey(new.clone())).await {
        // The same key again is there once. Nobody could use one whose text was lost with the answer.
        Err(NotDone::Unknown(_)) => deps.control.change(&by, Change::CreateKey(new.clone())).await,
        created => created,
    };
    let revision = match created.map_err(|why| not_done(&why))? {
        Answer::Done { revision } => revision,
        Answer::Refused(Refusal::NoNamespace) => {
            let unknown = format!(
                "no namespace is called {namespace}, and no template takes it; where there are namespaces a key is of one of them: waxwing \
                 namespace create {namespace}"
            );
            return Err(status(Code::NotFound, "no_namespace", unknown));
        }
        answer => return Err(other_answer(answer)),
    };
    let NewKey { hash, namespace, note, ends_s, rights, .. } = new;
    let entry = KeyEntry { hash, namespace, note, ends_s, rights, revision };
    Ok(Response::new(CreateKeyResponse { key: Some(key_info(&id, &entry, false)), text }))
}

pub(super) async fn revoke_key(
    deps: &Arc<GrpcDeps>,
    request: Request<RevokeKeyRequest>,
) -> Result<Response<RevokeKeyResponse>, Status> {
    Asker::ruler(&request)?;
    let by = author(&request);
    let RevokeKeyRequest { id } = request.into_inner();
    let is_own = deps.broker.door().has_own_key(&id);
    let revoked = change(deps, &by, Change::RevokeKey { id: id.into() }).await;
    revoked.map_err(|refused| {
        if refused.code() == Code::NotFound && is_own {
            let own = "that key is in this node's access file, and not in control; take it out there: waxwing key revoke ID --file FILE";
            return status(Code::NotFound, "no_key", own);
        }
        refused
    })?;
    Ok(Response::new(RevokeKeyResponse {}))
}

pub(super) async fn list_keys(
    deps: &Arc<GrpcDeps>,
    request: Request<ListKeysRequest>,
) -> Result<Response<ListKeysResponse>, Status> {
    Asker::observer(&request)?;
    let ListKeysRequest { namespace } = request.into_inner();
    let applied = deps.control.applied();
    let state = deps.control.state();
    let is_meant =
        |entry: &KeyEntry| namespace.is_empty() || *entry.namespace == *namespace.as_str();
    let door = deps.broker.door();
    let keys = state.keys().filter(|(_, entry)| is_meant(entry));
    let keys = keys.map(|(id, entry)| key_info(id, entry, door.has_own_key(id)));
    Ok(Response::new(ListKeysResponse { keys: keys.collect(), applied }))
}

/// One change that is done or refused.
async fn change(deps: &Arc<GrpcDeps>, by: &str, change: Change) -> Result<u64, Status> {
    match deps.control.change(by, change).await.map_err(|why| not_done(&why))? {
        Answer::Done { revision } => Ok(revision),
        answer => Err(other_answer(answer)),
    }
}

fn other_answer(answer: Answer) -> Status {
    match answer {
        Answer::Refused(why) => refused(&why),
        other => Status::internal(format!("it was answered with {other:?}")),
    }
}

/// After a change of it. A copy that is far behind does not have it yet.
fn info_since(deps: &Arc<GrpcDeps>, name: &str, quota: QuotaFacts, revision: u64) -> NamespaceInfo {
    deps.control.look(|state| {
        let known = state.namespace(name).filter(|entry| entry.revision >= revision);
        namespace_info(state, name, known.unwrap_or(&NamespaceEntry { quota, revision }))
    })
}

/// As this member's copy has it.
fn info_of(deps: &Arc<GrpcDeps>, name: &str) -> Result<Response<NamespaceInfo>, Status> {
    let info = deps
        .control
        .look(|state| state.namespace(name).map(|entry| namespace_info(state, name, entry)));
    info.map(Response::new).ok_or_else(|| refused(&Refusal::NoNamespace))
}
