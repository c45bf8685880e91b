//! One connection: two pumps with a bounded queue each, and the cut that resets both ends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::{Lane, Shared, add};
use crate::types::Time;

/// Bytes waiting in one lane of one connection; at the limit the sender is no longer read.
pub(super) const WAITING_MAX: usize = 1 << 20;
const READ_SIZE: usize = 16 << 10;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A cut hits data if some has moved so shortly before it.
const RECENT: Duration = Duration::from_millis(10);

/// What a cut asks about both pumps.
#[derive(Debug, Default)]
struct Traffic {
    waiting: AtomicU64,
    moved_at_us: AtomicU64,
}

/// `cuts`: how many there had been when the door let this one in. `ended` is told when the target's end ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut client: TcpStream,
    cuts: u64,
    ended: mpsc::Sender<()>,
) {
    let mut faults = shared.faults.subscribe();
    let cut = async move {
        // The sender lives in `shared`: it can't be gone.
        let _ = faults.wait_for(|faults| faults.connection_cuts() != cuts).await;
    };
    tokio::pin!(cut);

    let connected = tokio::select! {
        () = &mut cut => Err(io::ErrorKind::ConnectionReset.into()),
        () = shared.stop.cancelled() => return,
        tried = tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(shared.target)) => {
            tried.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
    };
    let Ok(mut target) = connected else {
        let _ = ended.try_send(());
        reset(&client);
        return;
    };
    add(&shared.counters.connections, 1);
    for end in [&client, &target] {
        // Only ever costs delay: an end that is closed already shows at the first read.
        let _ = end.set_nodelay(true);
    }

    let traffic = Traffic::default();
    let outcome = {
        let (client_reader, client_writer) = client.split();
        let (target_reader, target_writer) = target.split();
        let there = pump(&shared, Lane::There, &traffic, client_reader, target_writer);
        let back = async {
            let outcome = pump(&shared, Lane::Back, &traffic, target_reader, client_writer).await;
            let _ = ended.try_send(());
            outcome
        };
        tokio::select! {
            both = async { tokio::try_join!(there, back) } => both.map(|_| ()),
            () = &mut cut => {
                add(&shared.counters.resets, 1);
                add(&shared.counters.cuts_hitting_data, u64::from(traffic.busy(shared.clock.now())));
                Err(io::ErrorKind::ConnectionReset.into())
            }
            () = shared.stop.cancelled() => Ok(()),
        }
    };
    if outcome.is_err() {
        // One end broke, or was cut: the other must not take it for an orderly end.
        reset(&client);
        reset(&target);
    }
}

impl Traffic {
    fn busy(&self, now: Time) -> bool {
        let moved_at = self.moved_at_us.load(Ordering::Relaxed);
        self.waiting.load(Ordering::Relaxed) > 0
            || (moved_at > 0 && now.since(Time::from_micros(moved_at)) < RECENT)
    }
}

/// Closing it then sends a reset instead of what is buffered.
fn reset(end: &TcpStream) {
    let _ = end.set_zero_linger();
}

/// Ends when `from` has ended and all of it is written; the end is passed on as such.
async fn pump(
    shared: &Shared,
    lane: Lane,
    traffic: &Traffic,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> io::Result<()> {
    let moved = match lane {
        Lane::Back => &shared.counters.bytes_back,
        Lane::There | Lane::Datagrams => &shared.counters.bytes_there,
    };
    let mut faults = shared.faults.subscribe();
    let mut queue: VecDeque<(Time, Bytes)> = VecDeque::new();
    let mut waiting = 0;
    let mut buffer = BytesMut::new();
    let mut open = true;
    loop {
        let (still, half_open) = {
            let faults = faults.borrow_and_update();
            (faults.lane(lane).still(), faults.lane(lane).half_open)
        };
        if queue.is_empty() && !open && !still {
            return to.shutdown().await;
        }
        buffer.reserve(READ_SIZE);
        let front = if still { None } else { queue.front().cloned() };
        tokio::select! {
            _ = faults.changed() => {}
            read = from.read_buf(&mut buffer), if open && !half_open && waiting < WAITING_MAX => {
                let size = read?;
                open = size > 0;
                if open {
                    let now = shared.clock.now();
                    // Read anew: it may have been set since this turn began.
                    let delay = shared.faults.borrow().lane(lane).delay;
                    traffic.moved_at_us.store(now.as_micros(), Ordering::Relaxed);
                    traffic.waiting.fetch_add(size as u64, Ordering::Relaxed);
                    waiting += size;
                    queue.push_back((now + delay, buffer.split().freeze()));
                }
            }
            wrote = write_when_due(shared, &mut to, front.clone()), if front.is_some() => {
                let size = wrote?;
                traffic.moved_at_us.store(shared.clock.now().as_micros(), Ordering::Relaxed);
                traffic.waiting.fetch_sub(size as u64, Ordering::Relaxed);
                waiting -= size;
                add(moved, size as u64);
                if let Some((_, bytes)) = queue.front_mut() {
                    bytes.advance(size);
                    if bytes.is_empty() {
                        queue.pop_front();
                    }
                }
            }
        }
    }
}

/// Safe to drop at any time: nothing has been written then.
async fn write_when_due(
    shared: &Shared,
    to: &mut WriteHalf<'_>,
    front: Option<(Time, Bytes)>,
) -> io::Result<usize> {
    let Some((due, bytes)) = front else { return std::future::pending().await };
    let wait = due.since(shared.clock.now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    match to.write(&bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        size => Ok(size),
    }
}
