//! The peer port: greets callers, and reads the links of those who have proved themselves.
//!
//! A tonic service written by hand, so that HTTP bodies stay ours.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, header};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tower_service::Service;

use super::board::bytes_counter;
use super::calls::CallService;
use super::deframer::Deframer;
use super::epochs::Known;
use super::error::LinkError;
use super::fence::Claim;
use super::frame::{Frame, Refusal, RefusalCode};
use super::guard::{self, ConnectionGuard};
use super::outbox::{Outbox, Outgoing};
use super::session::{Input, Output, Session, Up};
use super::stream::{Life, decode};
use super::{Direction, FRAME_LEN_MAX, OPEN_PATH, SERVICE_NAME, Shared, nonce};
use crate::membership::LinkEvidence;
use crate::metrics::names;
use crate::net::Listener;
use crate::supervise::{Shutdown, Task};
use crate::types::{LinkEpoch, NodeName};
use crate::wire::frames::FrameBody;

/// Connections that don't end by themselves when the node stops get so long.
const STOP_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// Serves until `shutdown`.
pub(super) async fn serve(shared: Arc<Shared>, listener: Listener, shutdown: Shutdown) {
    let limits = shared.config.limits.clone();
    let incoming = guard::accept_all(listener, limits.clone(), shared.config.tls.clone());
    let service = LinkService { shared: shared.clone(), shutdown: shutdown.clone() };
    let calls = CallService::new(shared.clone(), shutdown.clone());
    let served = Server::builder()
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(limits.http2_frame)
        .max_concurrent_streams(limits.http2_streams)
        .http2_max_header_list_size(limits.http2_headers)
        .http2_max_pending_accept_reset_streams(Some(limits.http2_resets))
        .http2_max_local_error_reset_streams(Some(limits.http2_resets))
        .add_service(service)
        .add_service(calls)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled());
    tokio::select! {
        served = served => {
            if let Err(err) = served {
                shared.supervisor.fail(format!("serve the peer port: {err}"));
            }
        }
        () = async {
            shutdown.cancelled().await;
            tokio::time::sleep(STOP_MAX).await;
        } => {}
    }
}

#[derive(Clone)]
struct LinkService {
    shared: Arc<Shared>,
    shutdown: Shutdown,
}

impl NamedService for LinkService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for LinkService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        ready(Ok(self.open(request)))
    }
}

impl LinkService {
    fn open(&self, request: http::Request<Body>) -> http::Response<Body> {
        if request.uri().path() != OPEN_PATH {
            return Status::unimplemented("links have one method").into_http();
        }
        let Some(guard) = request.extensions().get::<ConnectionGuard>().cloned() else {
            return Status::internal("a connection without a guard").into_http();
        };
        if !guard.begin() {
            return Status::failed_precondition("a connection carries one link").into_http();
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
        let mut response = http::Response::new(Body::new(FrameBody::response(body)));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        response
    }
}

/// One caller, before its link is up.
struct Greeting {
    shared: Arc<Shared>,
    shutdown: Shutdown,
    frames: Deframer<Body>,
    ending: Ending,
}

/// Ends the stream and then the connection, whatever becomes of the task.
pub(super) struct Ending {
    pub(super) outbox: Arc<Outbox>,
    pub(super) guard: ConnectionGuard,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.outbox.close(None);
        self.guard.end();
    }
}

impl Greeting {
    async fn run(mut self) {
        let limit = self.shared.config.limits.handshake;
        let shutdown = self.shutdown.clone();
        // Who calls is known from the hello on, and believed from its proof on.
        let mut caller = None;
        let greeted = tokio::select! {
            greeted = tokio::time::timeout(limit, self.greet(&mut caller)) => {
                greeted.unwrap_or(Err(LinkError::HandshakeTimeout(limit)))
            }
            () = shutdown.cancelled() => Err(LinkError::Stopped),
        };
        match greeted {
            Ok((session, up, claim)) => self.begin(session, up, claim),
            Err(LinkError::Stopped) => {}
            Err(error) => {
                if let LinkError::WeRefused(refusal) = &error {
                    self.ending.outbox.close(Some(Frame::Refused(refusal.clone())));
                }
                let now = self.shared.clock.now();
                self.shared.board.problem(caller.as_ref(), Direction::In, &error, now);
            }
        }
    }

    async fn greet(
        &mut self,
        caller: &mut Option<NodeName>,
    ) -> Result<(Session, Up, Claim), LinkError> {
        let credentials = self.shared.credentials();
        let own = self.shared.roster.me().incarnation;
        let mut session = Session::accept(credentials, own, nonce()?);
        let mut input = Input::Frame(decode(self.frames.next().await?)?);
        let mut claim = None;
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
                    let new = self::claim(&self.shared, &self.shutdown, &peer, epoch).await;
                    input = Input::Claimed(new.map(|new| claim.insert(new).had_epoch));
                }
                Output::Up(up) => {
                    let claim = claim.expect("a link is up only after its claim");
                    return Ok((session, up, claim));
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

    fn begin(self, mut session: Session, up: Up, claim: Claim) {
        let Self { shared, shutdown, mut frames, ending } = self;
        let must_end = claim.end();
        let supervisor = shared.supervisor.clone();
        frames.proven(FRAME_LEN_MAX, bytes_counter(&up.peer, Direction::In));
        // Before the dialer can know that it may send more.
        ending.guard.proven();
        supervisor.spawn(Task::LinkReader(up.peer.clone()), async move {
            let ending = ending;
            let outbox = ending.outbox.clone();
            let life = Life::accepted(shared.clone(), up, outbox, claim, &mut session);
            let error = life.read(&mut session, &mut frames, must_end).await;
            let peer = life.link().peer.clone();
            drop(life);
            if shutdown.is_cancelled() {
                return;
            }
            shared.board.problem(Some(&peer), Direction::In, &error, shared.clock.now());
        });
    }
}

/// The peer has proved itself: is its epoch current, and has the older one ended?
async fn claim(
    shared: &Shared,
    shutdown: &Shutdown,
    peer: &NodeName,
    epoch: LinkEpoch,
) -> Result<Claim, Refusal> {
    let roster = &shared.roster;
    let current = roster.watch().borrow().get(peer).map(|member| member.incarnation);
    let known = Known { own: roster.me().incarnation, peer: current };
    if let Some(current) = current
        && current < epoch.sender
    {
        roster.evidence(peer, current, LinkEvidence::OtherIncarnation(epoch.sender));
    }
    let claim = shared.fence.claim(peer, epoch, known, shutdown)?;
    if claim.has_older() {
        metrics::counter!(names::LINK_SUPERSEDED, "peer" => peer.as_str().to_owned()).increment(1);
    }
    claim.older_ended().await;
    if claim.is_over() {
        let reason = "a newer hello came meanwhile";
        return Err(Refusal::new(RefusalCode::StaleIncarnation, reason));
    }
    Ok(claim)
}
