//! The called side: greets who calls, and hands calls to the handler.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, header};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::super::FRAME_LEN_MAX;
use super::super::acceptor::Ending;
use super::super::codec;
use super::super::deframer::Deframer;
use super::super::error::LinkError;
use super::super::frame::{Accepted, Frame, Refusal, RefusalCode};
use super::super::guard::ConnectionGuard;
use super::super::links::{Shared, nonce};
use super::super::outbox::{Outbox, Outgoing};
use super::super::session::{Input, Output, Session, Up};
use super::super::stream::decode;
use super::{CALL_PATH, GREET_PATH, SERVICE_NAME, credentials};
use crate::supervise::{Shutdown, Task};
use crate::types::{Incarnation, NodeName};
use crate::wire::frames::{FrameBody, FrameSource};

#[derive(Clone)]
pub(in crate::link) struct CallService {
    shared: Arc<Shared>,
    shutdown: Shutdown,
}

/// A body of one message.
struct Once(Option<Bytes>);

impl FrameSource for Once {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

impl NamedService for CallService {
    const NAME: &'static str = SERVICE_NAME;
}

type Answering = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for CallService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answering {
        let this = self.clone();
        Box::pin(async move {
            let answered = match request.uri().path() {
                GREET_PATH => this.greet(request),
                CALL_PATH => this.answer(request).await,
                _ => Err(Status::unimplemented("there are two methods")),
            };
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

impl CallService {
    pub(in crate::link) fn new(shared: Arc<Shared>, shutdown: Shutdown) -> Self {
        Self { shared, shutdown }
    }

    fn greet(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let guard = guard_of(&request)?;
        if !guard.begin() {
            return Err(Status::failed_precondition("a connection is greeted once"));
        }
        let limits = &self.shared.config.limits;
        let outbox = Outbox::new(limits);
        let body = Outgoing::new(outbox.clone(), self.shared.clock, limits.clone());
        let greeting = Greeting {
            shared: self.shared.clone(),
            shutdown: self.shutdown.clone(),
            frames: Deframer::new(request.into_body(), limits.handshake_bytes),
            ending: Ending { outbox, guard },
        };
        self.shared.supervisor.spawn(Task::LinkGreeting, greeting.run());
        Ok(response(FrameBody::response(body)))
    }

    async fn answer(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let guard = guard_of(&request)?;
        let caller = guard.caller().cloned();
        let Some((name, incarnation)) = caller else {
            return Err(Status::unauthenticated("nobody was greeted on this connection"));
        };
        if !is_current(&self.shared, &name, incarnation) {
            guard.end();
            return Err(Status::unauthenticated("this incarnation is over"));
        }
        let Some(handler) = self.shared.calls.handler() else {
            return Err(Status::unavailable("this node answers no calls"));
        };
        let mut body = Deframer::new(request.into_body(), FRAME_LEN_MAX);
        let bad = |error: String| Status::invalid_argument(error);
        let message = body.next().await.map_err(|error| bad(error.to_string()))?;
        let payload = codec::payload(message).map_err(|error| bad(error.to_string()))?;
        let answer = handler.answer(name, incarnation, payload).await;
        Ok(response(FrameBody::response(Once(Some(codec::encode_payload(answer))))))
    }
}

fn guard_of(request: &http::Request<Body>) -> Result<ConnectionGuard, Status> {
    let guard = request.extensions().get::<ConnectionGuard>().cloned();
    guard.ok_or_else(|| Status::internal("a connection without a guard"))
}

fn response<S: FrameSource + Unpin>(body: FrameBody<S>) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(body));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

/// Is it the member's incarnation of now?
fn is_current(shared: &Shared, name: &NodeName, incarnation: Incarnation) -> bool {
    let members = shared.roster.watch();
    let members = members.borrow();
    members.get(name).is_some_and(|member| !member.me && member.incarnation == incarnation)
}

/// One caller, before and after its greeting.
struct Greeting {
    shared: Arc<Shared>,
    shutdown: Shutdown,
    frames: Deframer<Body>,
    ending: Ending,
}

impl Greeting {
    async fn run(mut self) {
        let limit = self.shared.config.limits.handshake;
        let shutdown = self.shutdown.clone();
        let mut caller = None;
        let over = tokio::select! {
            greeted = tokio::time::timeout(limit, self.greet(&mut caller)) => {
                greeted.unwrap_or(Err(LinkError::HandshakeTimeout(limit)))
            }
            () = shutdown.cancelled() => return,
        };
        let error = match over {
            // Whatever comes now ends it: calls are streams of their own.
            Ok(()) => tokio::select! {
                _ = self.frames.next() => return,
                () = shutdown.cancelled() => return,
            },
            Err(error) => error,
        };
        if let LinkError::WeRefused(refusal) = &error {
            self.ending.outbox.close(Some(Frame::Refused(refusal.clone())));
        }
        // Rows and counts are the links', which greet the same members and fail for the same reasons.
        tracing::debug!(?caller, %error, "a caller was not greeted");
    }

    async fn greet(&mut self, caller: &mut Option<NodeName>) -> Result<(), LinkError> {
        let own = self.shared.roster.me().incarnation;
        let mut session = Session::accept(credentials(&self.shared), own, nonce()?);
        let mut input = Input::Frame(decode(self.frames.next().await?)?);
        loop {
            if let Input::Frame(Frame::Hello(hello)) = &input {
                if !self.ending.guard.may_be(&hello.from) {
                    let reason = "the certificate is not this node's";
                    return Err(LinkError::WeRefused(Refusal::new(RefusalCode::WrongNode, reason)));
                }
                *caller = Some(hello.from.clone());
            }
            match session.handle(input)? {
                Output::Send(frame) => {
                    self.ending.outbox.greet(frame);
                    input = Input::Frame(decode(self.frames.next().await?)?);
                }
                Output::Claim { peer, epoch } => {
                    let known = is_current(&self.shared, &peer, epoch.sender);
                    let reason = "this node knows no such incarnation";
                    let unknown = || Refusal::new(RefusalCode::NotAMember, reason);
                    input = Input::Claimed(known.then_some(false).ok_or_else(unknown));
                }
                Output::Up(Up { peer, incarnation, .. }) => {
                    // Before the caller can know that it may call.
                    self.ending.guard.proven_caller(peer, incarnation);
                    let accepted = Accepted { position: 0, had_epoch: false, lost: 0 };
                    self.ending.outbox.greet(Frame::Accepted(accepted));
                    return Ok(());
                }
                Output::Refuse { refusal, .. } => return Err(LinkError::WeRefused(refusal)),
                Output::Refused(refusal) => return Err(LinkError::PeerRefused(refusal)),
                output @ (Output::Control(_)
                | Output::State(_)
                | Output::Content { .. }
                | Output::Ping { .. }
                | Output::Pong { .. }
                | Output::Acknowledged { .. }) => {
                    unreachable!("{output:?} belongs to a link that is up")
                }
            }
        }
    }
}
