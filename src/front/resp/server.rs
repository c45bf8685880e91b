//! The accept loop: it survives running out of descriptors, and gives each connection a task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use super::connection::Connection;
use crate::metrics::names;
use crate::supervise::backoff::Backoff;
use crate::supervise::descriptors::Descriptor;
use crate::supervise::{Shutdown, Task};

/// So many connections beyond `limits.sessions` may be coming or going.
const STRANGERS_MIN: usize = 100;

/// So many come in, in a storm of them, before those who are connected have their turn.
const ACCEPTS_MAX: usize = 8;

/// How long clients have, once the node stops, to take what is still to be said to them.
const STOP_GRACE: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: &Arc<Shared>, listener: TcpListener, shutdown: Shutdown) {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    let mut is_failing = false;
    let mut in_a_row: usize = 0;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, from)) => {
                if std::mem::replace(&mut is_failing, false) {
                    tracing::info!("connections are accepted on the Redis port again");
                }
                backoff.reset();
                admit(shared, io, from, &shutdown);
                in_a_row = in_a_row.wrapping_add(1);
                if in_a_row.is_multiple_of(ACCEPTS_MAX) {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_the_clients(&error) => {}
            // Out of descriptors or memory: those who are connected go on; the others wait in the kernel's queue.
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "no connection can be accepted on the Redis port for now");
                }
                let wait = backoff.next(getrandom::u64().unwrap_or(0));
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
    drop(listener);
    shared.deps.broker.close_all("the node stops");
    let all_gone = async {
        while shared.connections.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(STOP_GRACE, all_gone).await;
}

/// The connection failed before it was accepted; the next one may not.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn admit(shared: &Arc<Shared>, io: TcpStream, from: SocketAddr, shutdown: &Shutdown) {
    let limits = shared.deps.limits.get();
    let Some(descriptor) = shared.descriptors.take() else {
        return turn_away(shared, from);
    };
    let place = Place::take(shared, descriptor);
    // The broker counts those who are no strangers; this bounds the strangers, and those who are being closed.
    if place.number > limits.sessions + (limits.sessions / 10).max(STRANGERS_MIN) {
        metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "sessions").increment(1);
        // In one write without waiting; who doesn't get it sees a closed connection.
        let _ = io.try_write(b"-ERR max number of clients reached\r\n");
        return;
    }
    // A connection without it works too, only slower; and one that is gone already is noticed when it is read.
    let _ = io.set_nodelay(true);
    keep_alive(&io, limits.idle);
    let Ok(local) = io.local_addr() else { return };
    let connection = Box::new(Connection::new(shared.clone(), io, from, local, place));
    let task = Task::RedisClient(from);
    shared.deps.supervisor.spawn_one_of_many(task, connection.run(shutdown.clone()));
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

/// Redis clients may be silent for ever; whether their host still answers is asked by TCP.
fn keep_alive(io: &TcpStream, idle: Duration) {
    let third = (idle / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(third).with_interval(third).with_retries(2);
    if let Err(error) = SockRef::from(io).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a connection has no keepalive");
    }
}

/// Given back when the connection has ended, however it ended.
pub(super) struct Place {
    shared: Arc<Shared>,
    /// How many there are with it.
    number: usize,
    _descriptor: Descriptor,
}

impl Place {
    fn take(shared: &Arc<Shared>, descriptor: Descriptor) -> Self {
        let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Self { shared: shared.clone(), number, _descriptor: descriptor }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
