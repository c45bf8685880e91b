//! Dials one member, again and again, and reads what comes back on the link.
//!
//! Each try is one TCP connection with one HTTP/2 stream. Everything that it started ends with it: whoever drops the try closes the
//! connection.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::board::bytes_counter;
use super::deframer::Deframer;
use super::error::LinkError;
use super::frame::Frame;
use super::outbox::{Outbox, Outgoing};
use super::session::{Dial, Input, Output, Session, Up};
use super::stream::{Life, decode};
use super::{Direction, FRAME_LEN_MAX, OPEN_PATH, Shared, nonce};
use crate::membership::{LinkEvidence, MemberState, SharedMembers};
use crate::net::Stream;
use crate::supervise::backoff::Backoff;
use crate::supervise::{Shutdown, Supervisor, Task, TaskHandle};
use crate::types::{Incarnation, NodeName, Time};
use crate::wire::frames::FrameBody;

/// A link that broke is tried for so long at the first pause, before the pauses grow: what is published meanwhile waits in a window that
/// may not last much longer, and whatever cut the link often lets it through again at once.
const EAGER: Duration = Duration::from_secs(1);
/// For a refusal to reach the acceptor before the connection closes.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a try depends on: when it changes, the next one doesn't wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) own: Incarnation,
    pub(super) peer: Incarnation,
    state: MemberState,
}

impl Target {
    /// `None`: there is nobody to dial.
    pub(super) fn look(shared: &Shared, members: &SharedMembers, peer: &NodeName) -> Option<Self> {
        let member = members.get(peer)?;
        if member.me || member.state == MemberState::Leaving {
            return None;
        }
        let own = shared.roster.me().incarnation;
        Some(Self { own, peer: member.incarnation, state: member.state })
    }

    /// The same two incarnations, whatever their state.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.own, self.peer) == (other.own, other.peer)
    }
}

/// Keeps a link to `peer`. Never ends; whoever drops it ends the link.
pub(super) async fn keep_link(shared: Arc<Shared>, peer: NodeName) {
    let mut view = shared.roster.watch();
    let limits = &shared.config.limits;
    let mut backoff = Backoff::new(limits.backoff_first, limits.backoff_most);
    let mut up = false;
    let mut broke: Option<Time> = None;
    loop {
        let members = view.borrow_and_update().clone();
        let Some(target) = Target::look(&shared, &members, &peer) else {
            changed(&mut view).await;
            backoff.reset();
            continue;
        };
        shared.board.connecting(&peer);
        let began = shared.clock.now();
        let error = tokio::select! {
            error = Box::pin(try_link(&shared, &peer, target, &mut up)) => error,
            () = outdated(&shared, view.clone(), &peer, target) => LinkError::Outdated,
        };
        let now = shared.clock.now();
        shared.board.problem(Some(&peer), Direction::Out, &error, now);
        // A link that was up and broke is wanted back soon. One that was ended for what was said on it would only be ended again.
        let was_up = std::mem::take(&mut up);
        if error.reason().is_some() {
            broke = None;
        } else if was_up {
            broke = Some(now);
        }
        if broke.is_some_and(|broke| now.since(broke) < EAGER)
            || now.since(began) > limits.backoff_most + limits.handshake
        {
            backoff.reset();
        }
        let random = getrandom::u64().unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(backoff.next(random)) => {}
            () = retarget(&shared, &mut view, &peer, target) => backoff.reset(),
        }
    }
}

/// Ends when the members have changed; never, when there will be no more changes.
async fn changed(view: &mut watch::Receiver<SharedMembers>) {
    if view.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Ends when one of the two incarnations is over.
async fn outdated(
    shared: &Shared,
    mut view: watch::Receiver<SharedMembers>,
    peer: &NodeName,
    target: Target,
) {
    loop {
        let current = view.borrow_and_update().get(peer).map(|member| member.incarnation);
        if current != Some(target.peer) || shared.roster.me().incarnation != target.own {
            return;
        }
        changed(&mut view).await;
    }
}

/// Ends when the target is another one.
async fn retarget(
    shared: &Shared,
    view: &mut watch::Receiver<SharedMembers>,
    peer: &NodeName,
    target: Target,
) {
    loop {
        let members = view.borrow_and_update().clone();
        if Target::look(shared, &members, peer) != Some(target) {
            return;
        }
        changed(view).await;
    }
}

/// One link from its dial to its end. `was_up`: it came up in between.
async fn try_link(
    shared: &Arc<Shared>,
    peer: &NodeName,
    target: Target,
    was_up: &mut bool,
) -> LinkError {
    let limits = &shared.config.limits;
    // Whoever is dialed again and again need not be waited for as a stranger is: a greeting whose bytes were lost must not be what keeps
    // two nodes apart that can hear each other again.
    let limit = limits.handshake.min(limits.silence);
    let outbox = Outbox::new(limits);
    let tcp = match connect(shared, peer, target).await {
        Ok(tcp) => tcp,
        Err(error) => return error,
    };
    let greeting = async {
        let tcp = secure(shared, peer, tcp).await?;
        let (mut frames, connection) = open(shared, peer, tcp, &outbox).await?;
        let (session, up) = greet(shared, peer, target, &mut frames, &outbox).await?;
        Ok((frames, connection, session, up))
    };
    let greeted = tokio::time::timeout(limit, greeting).await;
    let (mut frames, _connection, mut session, up) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => return error,
        Err(_) => return LinkError::HandshakeTimeout(limit),
    };
    frames.proven(FRAME_LEN_MAX, bytes_counter(peer, Direction::In));
    let said = up.said.expect("an acceptor says where it is");
    match Life::dialed(shared.clone(), up, said, outbox) {
        Ok(life) => {
            *was_up = true;
            life.read(&mut session, &mut frames, Shutdown::new()).await
        }
        Err(error) => error,
    }
}

pub(super) async fn connect(
    shared: &Shared,
    peer: &NodeName,
    target: Target,
) -> Result<Stream, LinkError> {
    let address = shared.roster.dial_address(peer).ok_or(LinkError::NoAddress)?;
    let connecting =
        tokio::time::timeout(shared.config.limits.silence, shared.network.connect(&address));
    let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|source| {
        if source.kind() == io::ErrorKind::ConnectionRefused {
            shared.roster.evidence(peer, target.peer, LinkEvidence::Refused);
        }
        LinkError::Connect { address, source }
    })
}

pub(super) async fn secure(
    shared: &Shared,
    peer: &NodeName,
    tcp: Stream,
) -> Result<Stream, LinkError> {
    match &shared.config.tls {
        None => Ok(tcp),
        Some(tls) => {
            let secured = tls.connect_peer(peer, tcp).await;
            secured.map_err(|error| LinkError::Tls(error.to_string()))
        }
    }
}

/// Makes the connection and opens the stream.
async fn open(
    shared: &Shared,
    peer: &NodeName,
    tcp: Stream,
    outbox: &Arc<Outbox>,
) -> Result<(Deframer<Incoming>, Connection), LinkError> {
    let limits = &shared.config.limits;
    let broke = |err: hyper::Error| {
        tracing::debug!(%err, cause = ?err.source(), "a link's connection broke");
        LinkError::Broke
    };
    let connection = Connection::new(&shared.supervisor, peer);
    let executor = connection.executor();
    let (mut requests, driver) = http2::Builder::new(executor.clone())
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(limits.http2_frame)
        .max_header_list_size(limits.http2_headers)
        .max_send_buf_size(limits.ahead_bytes.saturating_sub(2 * limits.chunk_bytes))
        .max_concurrent_reset_streams(limits.http2_resets)
        .handshake(TokioIo::new(tcp))
        .await
        .map_err(broke)?;
    executor.run(async move {
        // Its failure shows at the stream.
        let _ = driver.await;
    });
    let body = Outgoing::new(outbox.clone(), shared.clock, limits.clone());
    let request = http::Request::post(format!("http://{peer}{OPEN_PATH}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(FrameBody::request(body))
        .map_err(|err| LinkError::Http(err.to_string()))?;
    let response = requests.send_request(request).await.map_err(broke)?;
    if response.status() != http::StatusCode::OK {
        return Err(LinkError::Http(format!("HTTP status {}", response.status())));
    }
    if let Some(status) = tonic::Status::from_header_map(response.headers()) {
        let why: String = status.message().chars().filter(|c| !c.is_control()).take(300).collect();
        return Err(LinkError::Http(format!("{:?} {why}", status.code())));
    }
    Ok((Deframer::new(response.into_body(), limits.handshake_bytes), connection))
}

async fn greet(
    shared: &Shared,
    peer: &NodeName,
    target: Target,
    frames: &mut Deframer<Incoming>,
    outbox: &Outbox,
) -> Result<(Session, Up), LinkError> {
    let dial = Dial {
        peer: peer.clone(),
        peer_incarnation: target.peer,
        own_incarnation: target.own,
        attempt: shared.next_attempt(),
        nonce: nonce()?,
    };
    let (mut session, hello) = Session::dial(shared.credentials(), dial);
    outbox.greet(hello);
    loop {
        match session.handle(Input::Frame(decode(frames.next().await?)?))? {
            Output::Send(frame) => outbox.greet(frame),
            Output::Up(up) => return Ok((session, up)),
            Output::Refuse { refusal, greeted, .. } => {
                if let Some(other) = greeted {
                    let evidence = LinkEvidence::OtherIncarnation(other);
                    shared.roster.evidence(peer, target.peer, evidence);
                }
                outbox.close(Some(Frame::Refused(refusal.clone())));
                let _ = tokio::time::timeout(GOODBYE, frames.next()).await;
                return Err(LinkError::WeRefused(refusal));
            }
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

/// The tasks that one HTTP/2 connection runs in. They end when it is dropped.
pub(super) struct Connection {
    executor: ConnectionExecutor,
}

/// Runs hyper's own tasks under the supervisor.
#[derive(Clone)]
pub(super) struct ConnectionExecutor {
    supervisor: Supervisor,
    peer: NodeName,
    tasks: Arc<Mutex<Vec<TaskHandle>>>,
}

impl Connection {
    pub(super) fn new(supervisor: &Supervisor, peer: &NodeName) -> Self {
        let (supervisor, peer) = (supervisor.clone(), peer.clone());
        Self { executor: ConnectionExecutor { supervisor, peer, tasks: Arc::default() } }
    }

    pub(super) fn executor(&self) -> ConnectionExecutor {
        self.executor.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.executor.tasks.lock());
        tasks.iter().for_each(TaskHandle::abort);
    }
}

impl ConnectionExecutor {
    pub(super) fn run(&self, future: impl Future<Output = ()> + Send + 'static) {
        let task = self.supervisor.spawn(Task::LinkConnection(self.peer.clone()), future);
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for ConnectionExecutor {
    fn execute(&self, future: F) {
        self.run(future);
    }
}
