//! `Presence`: one look a call, and streams that only watch.
//!
//! A watcher is a session that nobody can resume, as a listener of `PubSub.Subscribe` is. Its stream carries ready-made events.

pub(super) mod codec;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Status};
use tower_service::Service;

use super::GrpcDeps;
use super::convert::{self, status};
use super::reading::FrameReader;
use super::session::{caller, status_of_reading};
use super::writing::{self, Opened};
use crate::broker::{Attachment, GoAway, Opening, Pass, Voice, Welcome, parse_page};
use crate::replicator::{Query, Update};
use crate::supervise::Task;
use crate::wire::frames::PREFIX_LEN;
use crate::wire::v1;

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

#[derive(Debug, Clone)]
pub(super) struct PresenceService {
    pub(super) deps: Arc<GrpcDeps>,
}

impl NamedService for PresenceService {
    const NAME: &'static str = "waxwing.v1.Presence";
}

impl Service<Request<Body>> for PresenceService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deps = self.deps.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/waxwing.v1.Presence/List" => list(deps, request).await,
                "/waxwing.v1.Presence/Count" => count(deps, request).await,
                "/waxwing.v1.Presence/Watch" => {
                    watch(&deps, request).unwrap_or_else(Status::into_http)
                }
                _ => Status::unimplemented("the methods are List, Count and Watch").into_http(),
            })
        })
    }
}

async fn list(deps: Arc<GrpcDeps>, request: Request<Body>) -> Response<Body> {
    let pass = match convert::admit(deps.broker.door(), request.headers()) {
        Ok(pass) => pass,
        Err(status) => return status.into_http(),
    };
    let frame_max = deps.limits.get().frame;
    let codec = tonic_prost::ProstCodec::<v1::ListResponse, v1::ListRequest>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(frame_max);
    grpc.unary(ListCall { deps, pass }, request).await
}

struct ListCall {
    deps: Arc<GrpcDeps>,
    pass: Pass,
}

impl UnaryService<v1::ListRequest> for ListCall {
    type Response = v1::ListResponse;
    type Future = BoxFuture<tonic::Response<v1::ListResponse>, Status>;

    fn call(&mut self, request: tonic::Request<v1::ListRequest>) -> Self::Future {
        let v1::ListRequest { topic, key, limit, page } = request.into_inner();
        let (deps, pass) = (self.deps.clone(), self.pass.clone());
        Box::pin(async move {
            let after = match page.as_str() {
                "" => None,
                page => Some(parse_page(page).ok_or_else(|| {
                    let message = "the page is none that this node has named";
                    status(Code::InvalidArgument, "bad_page", message)
                })?),
            };
            let key = Some(key).filter(|key| !key.is_empty());
            let query = Query { key, limit: limit as usize, after };
            let page = deps
                .broker
                .presence_list(&pass, &topic, &query)
                .map_err(|error| convert::status_of(&error))?;
            Ok(tonic::Response::new(codec::page(&page)))
        })
    }
}

async fn count(deps: Arc<GrpcDeps>, request: Request<Body>) -> Response<Body> {
    let pass = match convert::admit(deps.broker.door(), request.headers()) {
        Ok(pass) => pass,
        Err(status) => return status.into_http(),
    };
    let frame_max = deps.limits.get().frame;
    let codec = tonic_prost::ProstCodec::<v1::CountResponse, v1::CountRequest>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(frame_max);
    grpc.unary(CountCall { deps, pass }, request).await
}

struct CountCall {
    deps: Arc<GrpcDeps>,
    pass: Pass,
}

impl UnaryService<v1::CountRequest> for CountCall {
    type Response = v1::CountResponse;
    type Future = BoxFuture<tonic::Response<v1::CountResponse>, Status>;

    fn call(&mut self, request: tonic::Request<v1::CountRequest>) -> Self::Future {
        let topic = request.into_inner().topic;
        let counted = self.deps.broker.presence_count(&self.pass, &topic);
        Box::pin(async move {
            let counted = counted.map_err(|error| convert::status_of(&error))?;
            Ok(tonic::Response::new(codec::count(counted)))
        })
    }
}

/// Streams that only watch.
#[derive(Debug)]
struct WatcherVoice;

impl Voice for WatcherVoice {
    fn welcome(&self, _: &Welcome) -> Option<Bytes> {
        None
    }

    /// `PresenceEvent` has no word for it: the stream ends, and its client comes back elsewhere.
    fn go_away(&self, _: &GoAway) -> Option<Bytes> {
        None
    }

    fn presence(&self, update: &Update) -> Option<Bytes> {
        Some(codec::event(update))
    }
}

fn watch(deps: &Arc<GrpcDeps>, request: Request<Body>) -> Result<Response<Body>, Status> {
    let pass = convert::admit(deps.broker.door(), request.headers())?;
    let address = caller(&request);
    let client = request.headers().get(http::header::USER_AGENT);
    let client = client.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let opening = Opening {
        pass,
        front: super::FRONT,
        client: client.unwrap_or_default(),
        address: address.clone(),
        token: Vec::new(),
        epoch: 0,
        // Nobody knows its token.
        linger: Some(std::time::Duration::ZERO),
        overlap: false,
    };
    let (opened, response) = writing::response();
    let reader = FrameReader::new(request.into_body());
    let task = Task::Session(format!("grpc {address}"));
    let _ = deps.supervisor.spawn(task, Box::pin(run(deps.clone(), opening, reader, opened)));
    Ok(response)
}

async fn run(deps: Arc<GrpcDeps>, opening: Opening, reader: FrameReader, mut opened: Opened) {
    let watching = tokio::select! {
        biased;
        () = opened.closed() => return,
        watching = begin(&deps, opening, reader) => watching,
    };
    match watching {
        Err(status) => {
            let _ = opened.send(Err(status));
        }
        Ok(attachment) => {
            if opened.send(Ok(attachment.outlet())).is_ok() {
                attachment.closed().cancelled().await;
            }
        }
    }
}

async fn begin(
    deps: &GrpcDeps,
    opening: Opening,
    mut reader: FrameReader,
) -> Result<Attachment, Status> {
    let limits = deps.limits.get();
    let first = tokio::time::timeout(limits.handshake, reader.read(limits.frame)).await;
    let first = first.map_err(|_| {
        status(Code::FailedPrecondition, "no_request", "no request within limits.handshake")
    })?;
    let missing = || status(Code::InvalidArgument, "malformed", "the request is missing");
    let frames = first.map_err(|error| status_of_reading(&error))?.ok_or_else(missing)?;
    let len = frames[1..PREFIX_LEN].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    let v1::WatchRequest { topic, counts_only } =
        v1::WatchRequest::decode(&frames[PREFIX_LEN..PREFIX_LEN + len])
            .map_err(|error| status(Code::InvalidArgument, "malformed", error.to_string()))?;

    let refuse = |error| convert::status_of(&error);
    let attachment = deps.broker.open(opening, &WatcherVoice).await.map_err(refuse)?;
    let asked = attachment.watch(&topic, counts_only).map_err(refuse)?;
    attachment.begin_watch(asked);
    Ok(attachment)
}
