//! Who has said nothing yet is met on a thread apart from the node's own: it accepts, and hands on whoever has said one whole command.
//! Junk, half-open connections and storms of new ones are kept off those who are connected by the operating system's scheduler, and never
//! get to the broker.
//!
//! The accept loop survives running out of descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::Shared;
use super::connection::{Connection, FAREWELL_MAX, STRANGER_BYTES_MAX, limits_of};
use super::frame::{Arguments, Parsed};
use super::input::{Input, Read};
use super::io::Io;
use super::line::shut;
use super::server::Place;
use crate::metrics::names;
use crate::net;
use crate::supervise::backoff::Backoff;
use crate::supervise::{Shutdown, Task};
use crate::tls::count_failure;
use crate::types::Time;

/// So many connections beyond `limits.sessions` may be coming or going.
const STRANGERS_MIN: usize = 100;

pub(super) struct Greeter {
    shared: Arc<Shared>,
    /// Where those are served who have said something.
    node: Handle,
    shutdown: Shutdown,
}

/// A connection nothing is known of.
pub(super) struct Newcomer {
    pub(super) io: Io,
    pub(super) from: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) since: Time,
    pub(super) place: Place,
}

/// What a newcomer has said.
enum Heard {
    /// Something the session can answer, or has to judge.
    Something,
    /// No command, for this reason.
    Junk(String),
    /// It has gone.
    Nothing,
}

impl Greeter {
    pub(super) const fn new(shared: Arc<Shared>, node: Handle, shutdown: Shutdown) -> Self {
        Self { shared, node, shutdown }
    }

    /// Until told to stop. Whoever it has not handed on by then is closed with its runtime.
    pub(super) async fn run(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the Redis port can't be listened to"),
        };
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut is_failing = false;
        let mut prepared_for = None;
        loop {
            let idle = self.shared.deps.limits.get().idle;
            if prepared_for.replace(idle) != Some(idle) {
                prepare(&listener, idle);
            }
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((io, from)) => {
                    if std::mem::replace(&mut is_failing, false) {
                        tracing::info!("connections are accepted on the Redis port again");
                    }
                    backoff.reset();
                    self.admit(io, from);
                }
                Err(error) if net::is_the_clients(&error) => {}
                // Out of descriptors or memory: those who are connected go on; the others wait in the kernel's queue.
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "no connection can be accepted on the Redis port for now");
                    }
                    let wait = backoff.next(getrandom::u64().unwrap_or(0));
                    tokio::select! {
                        () = self.shutdown.cancelled() => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, io: TcpStream, from: SocketAddr) {
        let shared = &self.shared;
        let limits = shared.deps.limits.get();
        let Some(descriptor) = shared.descriptors.take() else {
            return turn_away(shared, from);
        };
        let place = Place::take(shared, descriptor);
        let Ok(io) = Io::new(io, shared.deps.tls.as_ref()) else { return };
        let Ok(local) = io.local_addr() else { return };
        let newcomer = Newcomer { io, from, local, since: shared.deps.clock.now(), place };
        let (supervisor, task) = (&shared.deps.supervisor, Task::RedisClient(from));
        // The broker counts those who have said something; this bounds the others, and those who are being closed.
        let most = limits.sessions + (limits.sessions / 10).max(STRANGERS_MIN);
        if shared.deps.broker.attached() >= limits.sessions as u64 || newcomer.place.number > most {
            metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "sessions").increment(1);
            supervisor.spawn_one_of_many(task, part(newcomer, "max number of clients reached"));
        } else {
            supervisor.spawn_one_of_many(task, self.clone().meet(newcomer));
        }
    }

    async fn meet(self: Arc<Self>, newcomer: Newcomer) {
        let mut input = Input::default();
        let io = &newcomer.io;
        if self.shared.deps.tls.is_some() && !self.greet(io).await {
            return;
        }
        let heard = if self.shared.is_locked() {
            let handshake = self.shared.deps.limits.get().handshake;
            match tokio::time::timeout(handshake, self.hear(io, &mut input)).await {
                Ok(heard) => heard,
                Err(_) => {
                    metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "handshake").increment(1);
                    return;
                }
            }
        } else {
            self.hear(io, &mut input).await
        };
        match heard {
            Heard::Nothing => {}
            // Boxed: very many wait, and few come here.
            Heard::Junk(why) => {
                Box::pin(part(newcomer, &format!("Protocol error: {why}"))).await;
            }
            Heard::Something => self.hand_on(newcomer, input),
        }
    }

    /// Shakes hands. False: that came to nothing.
    async fn greet(&self, io: &Io) -> bool {
        let handshake = self.shared.deps.limits.get().handshake;
        match tokio::time::timeout(handshake, Box::pin(io.greet())).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                count_failure(super::FRONT, &error);
                false
            }
            Err(_) => {
                metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "handshake").increment(1);
                false
            }
        }
    }

    /// Listens until there is something.
    async fn hear(&self, io: &Io, input: &mut Input) -> Heard {
        let mut arguments = Arguments::default();
        loop {
            match input.read(io, STRANGER_BYTES_MAX) {
                Ok(Read::Some { .. }) => {}
                Ok(Read::Nothing) => {
                    input.rest();
                    if io.readable().await.is_err() {
                        return Heard::Nothing;
                    }
                    continue;
                }
                Ok(Read::End) | Err(_) => return Heard::Nothing,
            }
            let is_stranger = self.shared.is_locked();
            let (limits, _) = limits_of(is_stranger, &self.shared.deps.limits.get());
            let unread = input.unread();
            // Whether a long one may be so long, the session knows. A line is never very long.
            let is_long = unread.len() >= STRANGER_BYTES_MAX && unread.starts_with(b"*");
            match arguments.parse(unread, &limits) {
                Ok(Parsed::Partial(_)) if !is_long => {}
                Ok(Parsed::Partial(_) | Parsed::Command(_)) => return Heard::Something,
                Err(error) => return Heard::Junk(error.to_string()),
            }
        }
    }

    fn hand_on(&self, newcomer: Newcomer, mut input: Input) {
        input.rest();
        let Newcomer { io, from, local, since, place } = newcomer;
        let Ok(io) = io.detach() else { return };
        let supervisor = &self.shared.deps.supervisor;
        let _there = self.node.enter();
        let Ok(io) = Io::attach(io) else { return };
        let newcomer = Newcomer { io, from, local, since, place };
        let connection = Box::new(Connection::new(self.shared.clone(), newcomer, input));
        let task = Task::RedisClient(from);
        supervisor.spawn_one_of_many(task, connection.run(self.shutdown.clone()));
    }
}

/// As a session would answer.
async fn part(newcomer: Newcomer, why: &str) {
    let said = format!("-ERR {why}\r\n");
    let _ = newcomer.io.write(&[io::IoSlice::new(said.as_bytes())]);
    let _ = tokio::time::timeout(FAREWELL_MAX, shut(&newcomer.io)).await;
}

/// Closed at once, as the socket is dropped: the last descriptors are not for clients. They go to another node.
fn turn_away(shared: &Shared, from: SocketAddr) {
    metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "descriptors").increment(1);
    if shared.descriptors.is_to_be_told() {
        let max = shared.descriptors.clients_max();
        tracing::warn!(
            %from,
            max,
            "clients have all file descriptors that are not kept for links and probes; refused: raise the limit of open files \
             (ulimit -n, LimitNOFILE)"
        );
    }
}

/// What connections inherit from the listener: they answer at once, and though Redis clients may be silent for ever, TCP asks whether their
/// host still answers.
fn prepare(listener: &TcpListener, idle: Duration) {
    let third = (idle / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(third).with_interval(third).with_retries(2);
    let socket = SockRef::from(listener);
    let prepared = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = prepared {
        tracing::warn!(%error, "connections to the Redis port have no keepalive, or are slower than need be");
    }
}
