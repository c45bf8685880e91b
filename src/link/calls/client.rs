//! The calling side: one connection to a member, made by the first who calls, and shared by all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use super::super::FRAME_LEN_MAX;
use super::super::codec;
use super::super::deframer::Deframer;
use super::super::dialer::{Connection, Target, connect, secure};
use super::super::error::LinkError;
use super::super::frame::Frame;
use super::super::links::{Shared, nonce};
use super::super::outbox::{Outbox, Outgoing};
use super::super::session::{Dial, Input, Output, Session};
use super::super::stream::decode;
use super::{CALL_PATH, GREET_PATH, Uncalled, credentials};
use crate::net::Stream;
use crate::supervise::Task;
use crate::types::{NodeName, Time};
use crate::wire::frames::{FrameBody, FrameSource};

/// After a failure nobody dials for so long: whoever calls then is told of it at once.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection whose far end is silent is no use to anybody.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_MAX: Duration = Duration::from_secs(2);

type Requests = http2::SendRequest<Body>;

/// The way to one member.
pub(in crate::link) struct Way {
    state: watch::Receiver<State>,
}

#[derive(Clone)]
enum State {
    Connecting,
    Up { requests: Requests, target: Target },
    Down { why: String, at: Time },
}

/// One message, and then the end.
struct Once(Option<Bytes>);

impl FrameSource for Once {
    fn poll_next(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Status>>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}

pub(in crate::link) async fn call(
    shared: &Arc<Shared>,
    peer: &NodeName,
    payload: Bytes,
) -> Result<Bytes, Uncalled> {
    let mut requests = connected(shared, peer).await.map_err(Uncalled::NotSent)?;
    let body = Body::new(FrameBody::request(Once(Some(codec::encode_payload(payload)))));
    let request =
        request(peer, CALL_PATH, body).map_err(|error| Uncalled::NotSent(error.to_string()))?;
    requests.ready().await.map_err(|error| Uncalled::NotSent(error.to_string()))?;
    let no_answer = |what: String| Uncalled::NoAnswer(what);
    let response = requests.send_request(request).await;
    let response = response.map_err(|error| no_answer(error.to_string()))?;
    judge(&response).map_err(|error| no_answer(error.to_string()))?;
    let mut answer = Deframer::new(response.into_body(), FRAME_LEN_MAX);
    let message = answer.next().await.map_err(|error| no_answer(error.to_string()))?;
    codec::payload(message).map_err(|error| no_answer(error.to_string()))
}

fn request(peer: &NodeName, path: &str, body: Body) -> Result<http::Request<Body>, http::Error> {
    http::Request::post(format!("http://{peer}{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(body)
}

fn judge(response: &http::Response<Incoming>) -> Result<(), LinkError> {
    if response.status() != http::StatusCode::OK {
        return Err(LinkError::Http(format!("HTTP status {}", response.status())));
    }
    match Status::from_header_map(response.headers()) {
        Some(status) => {
            let why = status.message().chars().filter(|c| !c.is_control()).take(300);
            Err(LinkError::Http(format!("{:?} {}", status.code(), why.collect::<String>())))
        }
        None => Ok(()),
    }
}

/// A connection that is up, or why there is none.
async fn connected(shared: &Arc<Shared>, peer: &NodeName) -> Result<Requests, String> {
    let mut state = state_of(shared, peer)?;
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            State::Up { requests, .. } => return Ok(requests),
            State::Down { why, .. } => return Err(why),
            State::Connecting => {}
        }
        if state.changed().await.is_err() {
            return Err("the connection's task has ended".to_owned());
        }
    }
}

/// The way as it is, or a new one where it is none.
fn state_of(shared: &Arc<Shared>, peer: &NodeName) -> Result<watch::Receiver<State>, String> {
    let members = shared.roster.watch().borrow().clone();
    let target = Target::look(shared, &members, peer).ok_or("it is no member here")?;
    let now = shared.clock.now();
    let mut ways = shared.calls.ways.lock();
    ways.retain(|peer, _| members.get(peer).is_some());
    if let Some(way) = ways.get(peer) {
        let is_good = match &*way.state.borrow() {
            State::Connecting => way.state.has_changed().is_ok(),
            State::Up { requests, target: of } => !requests.is_closed() && of.is_same(&target),
            State::Down { at, .. } => now.since(*at) < PAUSE,
        };
        if is_good {
            return Ok(way.state.clone());
        }
    }
    let (tell, state) = watch::channel(State::Connecting);
    ways.insert(peer.clone(), Way { state: state.clone() });
    drop(ways);
    let (shared, peer) = (shared.clone(), peer.clone());
    let task = Task::LinkCalls(peer.clone());
    shared.supervisor.clone().spawn(task, async move {
        Box::pin(keep(shared, peer, target, tell)).await;
    });
    Ok(state)
}

/// From the dial until it breaks.
async fn keep(shared: Arc<Shared>, peer: NodeName, target: Target, tell: watch::Sender<State>) {
    let limit = shared.config.limits.handshake.min(shared.config.limits.silence);
    let outbox = Outbox::new(&shared.config.limits);
    let shutdown = shared.supervisor.shutdown().clone();
    let dialing = dial(&shared, &peer, target, &outbox);
    let dialed = tokio::select! {
        dialed = tokio::time::timeout(limit, dialing) => {
            dialed.unwrap_or(Err(LinkError::HandshakeTimeout(limit)))
        }
        () = shutdown.cancelled() => Err(LinkError::Stopped),
    };
    let error = match dialed {
        Ok((requests, mut frames, _connection)) => {
            tell.send_replace(State::Up { requests, target });
            // The called side says nothing more until it ends.
            let ended = tokio::select! {
                ended = frames.next() => ended.err(),
                () = shutdown.cancelled() => Some(LinkError::Stopped),
                () = replaced(&shared, &peer, target) => Some(LinkError::Outdated),
            };
            outbox.close(None);
            ended.unwrap_or(LinkError::Broke)
        }
        Err(error) => {
            let last = match &error {
                LinkError::WeRefused(refusal) => Some(Frame::Refused(refusal.clone())),
                _ => None,
            };
            outbox.close(last);
            error
        }
    };
    tracing::debug!(%peer, %error, "a connection for calls is over");
    tell.send_replace(State::Down { why: error.to_string(), at: shared.clock.now() });
}

/// Ends when one of the two incarnations is over.
async fn replaced(shared: &Shared, peer: &NodeName, target: Target) {
    let mut view = shared.roster.watch();
    loop {
        let members = view.borrow_and_update().clone();
        if !Target::look(shared, &members, peer).is_some_and(|now| now.is_same(&target)) {
            return;
        }
        if view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

type Dialed = (Requests, Deframer<Incoming>, Connection);

async fn dial(
    shared: &Shared,
    peer: &NodeName,
    target: Target,
    outbox: &Arc<Outbox>,
) -> Result<Dialed, LinkError> {
    let tcp = connect(shared, peer, target).await?;
    let tcp = secure(shared, peer, tcp).await?;
    let (mut requests, connection) = handshake(shared, peer, tcp).await?;
    let limits = &shared.config.limits;
    let body = Outgoing::new(outbox.clone(), shared.clock, limits.clone());
    let request = request(peer, GREET_PATH, Body::new(FrameBody::request(body)));
    let request = request.map_err(|error| LinkError::Http(error.to_string()))?;
    let dial = Dial {
        peer: peer.clone(),
        peer_incarnation: target.peer,
        own_incarnation: target.own,
        attempt: shared.next_attempt(),
        nonce: nonce()?,
    };
    let (mut session, hello) = Session::dial(credentials(shared), dial);
    outbox.greet(hello);
    let response = requests.send_request(request).await.map_err(|_| LinkError::Broke)?;
    judge(&response)?;
    let mut frames = Deframer::new(response.into_body(), limits.handshake_bytes);
    loop {
        match session.handle(Input::Frame(decode(frames.next().await?)?))? {
            Output::Send(frame) => outbox.greet(frame),
            Output::Up(_) => return Ok((requests, frames, connection)),
            Output::Refuse { refusal, .. } => return Err(LinkError::WeRefused(refusal)),
            Output::Refused(refusal) => return Err(LinkError::PeerRefused(refusal)),
            output @ (Output::Claim { .. }
            | Output::Control(_)
            | Output::State(_)
            | Output::Content { .. }
            | Output::Ping { .. }
            | Output::Pong { .. }
            | Output::Acknowledged { .. }) => {
                unreachable!("{output:?} does not happen to a dialer who greets")
            }
        }
    }
}

async fn handshake(
    shared: &Shared,
    peer: &NodeName,
    tcp: Stream,
) -> Result<(Requests, Connection), LinkError> {
    let limits = &shared.config.limits;
    let connection = Connection::new(&shared.supervisor, peer);
    let executor = connection.executor();
    let made = http2::Builder::new(executor.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(limits.http2_frame)
        .max_header_list_size(limits.http2_headers)
        .max_concurrent_reset_streams(limits.http2_resets)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(tcp))
        .await;
    let (requests, driver) = made.map_err(|_| LinkError::Broke)?;
    executor.run(async move {
        // Its failure shows at the greeting's stream.
        let _ = driver.await;
    });
    Ok((requests, connection))
}
