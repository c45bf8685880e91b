//! `PubSub`: one publish a call, and streams that only listen.
//!
//! A listener is a session that nobody can resume. Its stream carries ready-made frames, so this service is written by hand, as
//! `Session` is.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Status};
use tower_service::Service;

use super::GrpcDeps;
use super::codec::{self, ListenerVoice, Names};
use super::convert::{self, status};
use super::reading::FrameReader;
use super::session::{caller, status_of_reading};
use super::writing::{self, Opened};
use crate::broker::{Attachment, Opening, Pass};
use crate::supervise::Task;
use crate::wire::frames::PREFIX_LEN;
use crate::wire::v1;

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

#[derive(Debug, Clone)]
pub(super) struct PubSubService {
    pub(super) deps: Arc<GrpcDeps>,
}

impl NamedService for PubSubService {
    const NAME: &'static str = "waxwing.v1.PubSub";
}

impl Service<Request<Body>> for PubSubService {
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
                "/waxwing.v1.PubSub/Publish" => publish(deps, request).await,
                "/waxwing.v1.PubSub/Subscribe" => {
                    listen(&deps, request).unwrap_or_else(Status::into_http)
                }
                _ => Status::unimplemented("the methods are Publish and Subscribe").into_http(),
            })
        })
    }
}

async fn publish(deps: Arc<GrpcDeps>, request: Request<Body>) -> Response<Body> {
    let pass = match convert::admit(deps.broker.door(), request.headers()) {
        Ok(pass) => pass,
        Err(status) => return status.into_http(),
    };
    let frame_max = deps.limits.get().frame;
    let codec = tonic_prost::ProstCodec::<v1::PublishResponse, v1::PublishRequest>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(frame_max);
    grpc.unary(PublishCall { deps, pass }, request).await
}

struct PublishCall {
    deps: Arc<GrpcDeps>,
    pass: Pass,
}

impl UnaryService<v1::PublishRequest> for PublishCall {
    type Response = v1::PublishResponse;
    type Future = BoxFuture<tonic::Response<v1::PublishResponse>, Status>;

    fn call(&mut self, request: tonic::Request<v1::PublishRequest>) -> Self::Future {
        let (deps, pass) = (self.deps.clone(), self.pass.clone());
        Box::pin(async move {
            let refuse = |error| convert::status_of(&error);
            let asked = codec::publish(request.into_inner()).map_err(refuse)?;
            let reach = deps.broker.reach(&asked.flags.only_node).map_err(refuse)?;
            let published = deps
                .broker
                .publish_once(&pass, &asked.topic, asked.messages, reach, asked.flags.confirm)
                .await
                .map_err(refuse)?;
            let id = deps.router.message_id(published.first);
            Ok(tonic::Response::new(codec::publish_response(id, &published, asked.flags.trace)))
        })
    }
}

fn listen(deps: &Arc<GrpcDeps>, request: Request<Body>) -> Result<Response<Body>, Status> {
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
    let subscribed = tokio::select! {
        biased;
        () = opened.closed() => return,
        subscribed = subscribe(&deps, opening, reader) => subscribed,
    };
    match subscribed {
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

async fn subscribe(
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
    let names = decode(&frames)?;

    let refuse = |error| convert::status_of(&error);
    let attachment = deps.broker.open(opening, &ListenerVoice).await.map_err(refuse)?;
    let mut asked = attachment.subscribe(&names.topics, &names.patterns).map_err(refuse)?;
    if asked.is_refused()
        && let Some(Err(error)) = asked.results.pop()
    {
        return Err(convert::status_of(&error));
    }
    let (asked, confirmed) = attachment.confirmed(asked).await;
    // There is no request with an id to be answered, but the answer is always given.
    let answer = codec::listening(&names, &asked.results, &confirmed);
    attachment.activate(asked, &confirmed, answer);
    Ok(attachment)
}

/// Of whole messages the first; a call has but one.
fn decode(frames: &[u8]) -> Result<Names, Status> {
    let len = frames[1..PREFIX_LEN].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    let request = v1::SubscribeRequest::decode(&frames[PREFIX_LEN..PREFIX_LEN + len]);
    request
        .map(codec::names)
        .map_err(|error| status(Code::InvalidArgument, "malformed", error.to_string()))
}
