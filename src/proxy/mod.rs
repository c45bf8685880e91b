//! A small proxy that stands on one *ordered* pair of nodes and does there what networks do: cut, freeze, delay, hold back, lose.
//!
//! One loopback port, TCP and UDP under the same number, forwards to one target. `dev` and the tests put one on each ordered pair (with
//! `--dial NAME=ADDR`). Datagrams go one way only: nodes answer to the address that a sealed sender advertises, never to a packet's
//! source, so the way back is another pair's proxy.
//!
//! Invariants: as long as no fault is on, every byte arrives, in order; what the proxy queues is bounded; where the target refuses
//! connections, so does the proxy (a node that looks for refusals sees them); a fault holds as soon as the call that set it returns for
//! all that is read afterwards.

mod chance;
mod datagrams;
mod door;
mod faults;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::Socket;
use tokio::sync::watch;

use crate::supervise::{Clock, Shutdown, Supervisor, Task};
use chance::Odds;
use faults::{Faults, LaneFaults};

/// TCP and UDP ports are numbered apart: how often to look for a number that is free in both.
const PORT_TRIES_MAX: usize = 64;

/// What a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Bytes of connections, towards the target.
    There,
    /// Bytes of connections, back from the target.
    Back,
    /// Datagrams, towards the target.
    Datagrams,
}

const ALL: [Lane; 3] = [Lane::There, Lane::Back, Lane::Datagrams];

/// Starts proxies.
#[derive(Debug)]
pub struct Proxy;

/// Sets faults on the lanes it stands for (at first all) and tells what passed. Cheap to clone; dropping it stops nothing.
#[derive(Debug, Clone)]
pub struct ProxyHandle {
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    target: SocketAddr,
    clock: Clock,
    faults: watch::Sender<Faults>,
    counters: Counters,
    /// How often odds were set.
    settings: AtomicU64,
    stop: Shutdown,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    bytes_there: AtomicU64,
    bytes_back: AtomicU64,
    resets: AtomicU64,
    cuts_hitting_data: AtomicU64,
    datagrams: AtomicU64,
    datagrams_dropped: AtomicU64,
    datagrams_doubled: AtomicU64,
    datagrams_late: AtomicU64,
}

/// What passed since the proxy started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProxyReport {
    /// Connections that reached the target.
    pub connections: u64,
    pub bytes_there: u64,
    pub bytes_back: u64,
    /// Connections that a cut has reset.
    pub resets: u64,
    /// Those of them that had bytes waiting here, or had moved some in the last 10 ms: cuts that may have cost something.
    pub cuts_hitting_data: u64,
    /// Datagrams forwarded, second copies included.
    pub datagrams: u64,
    pub datagrams_dropped: u64,
    pub datagrams_doubled: u64,
    pub datagrams_late: u64,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 until `stop`, or until the supervisor shuts down. Call it inside a runtime.
    pub fn start(
        supervisor: &Supervisor,
        clock: Clock,
        target: SocketAddr,
    ) -> io::Result<ProxyHandle> {
        Self::start_at(Ipv4Addr::LOCALHOST, supervisor, clock, target)
    }

    /// As `start`, on another address of this host.
    pub fn start_at(
        at: Ipv4Addr,
        supervisor: &Supervisor,
        clock: Clock,
        target: SocketAddr,
    ) -> io::Result<ProxyHandle> {
        let (place, udp) = bind_both(at)?;
        let addr = udp.local_addr()?;
        let listener = door::listen(addr)?;
        udp.set_nonblocking(true)?;
        let inlet = tokio::net::UdpSocket::from_std(udp)?;
        // Of its own, so that what the target sends back is not forwarded to it again, and its refusals don't end reading.
        let outlet = UdpSocket::bind(SocketAddr::new(unspecified(target), 0))?;
        outlet.set_nonblocking(true)?;
        let outlet = tokio::net::UdpSocket::from_std(outlet)?;

        let shared = Arc::new(Shared {
            addr,
            target,
            clock,
            faults: watch::Sender::new(Faults::default()),
            counters: Counters::default(),
            settings: AtomicU64::new(0),
            stop: supervisor.shutdown().child_token(),
        });
        let task = || Task::Client(format!("proxy {addr} to {target}"));
        let door = door::run(supervisor.clone(), shared.clone(), place, listener);
        supervisor.spawn(task(), door);
        supervisor.spawn(task(), datagrams::run(shared.clone(), inlet, outlet));
        Ok(ProxyHandle { shared, lanes: ALL.into() })
    }
}

impl ProxyHandle {
    /// The address to dial, TCP and UDP.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    pub fn target(&self) -> SocketAddr {
        self.shared.target
    }

    /// The same proxy, for faults on these lanes alone.
    #[must_use]
    pub fn only(&self, lanes: &[Lane]) -> Self {
        Self { shared: self.shared.clone(), lanes: lanes.to_vec() }
    }

    /// Resets the connections there are, refuses new ones, drops datagrams, those waiting too. A connection can't be cut one way: either of
    /// its lanes cuts both.
    pub fn cut(&self) {
        self.change(|faults| faults.cut = true);
    }

    /// Cut at this moment? On any of the lanes.
    pub fn is_cut(&self) -> bool {
        let faults = self.shared.faults.borrow();
        self.lanes.iter().any(|lane| faults.lane(*lane).cut)
    }

    /// Moves nothing more and tells nobody: connections stay open, new ones are accepted, bytes stay where they are, datagrams are lost.
    pub fn half_open(&self) {
        self.change(|faults| faults.half_open = true);
    }

    /// What is read from now on is passed on so much later; 0 ends it. Order is kept.
    pub fn delay(&self, delay: Duration) {
        self.change(|faults| faults.delay = delay);
    }

    /// Keeps what arrives: up to 1 MiB a connection and lane (then the sender is no longer read), 4,096 datagrams (then the newest are
    /// dropped).
    pub fn hold(&self) {
        self.change(|faults| faults.held = true);
    }

    /// Sends what was held, at once and in order.
    pub fn release(&self) {
        self.change(|faults| faults.held = false);
    }

    /// Ends every fault on the lanes, the datagrams' chances among them.
    pub fn heal(&self) {
        self.change(|faults| *faults = LaneFaults { cuts: faults.cuts, ..LaneFaults::default() });
    }

    /// Drops each datagram with probability `p`, from 0 to 1; the same seed drops the same ones.
    pub fn datagram_loss(&self, p: f64, seed: u64) {
        let odds = self.odds(p, seed);
        self.change_datagrams(|faults| faults.loss = odds);
    }

    /// Sends each datagram twice with probability `p`.
    pub fn datagram_duplication(&self, p: f64, seed: u64) {
        let odds = self.odds(p, seed);
        self.change_datagrams(|faults| faults.duplication = odds);
    }

    /// Sends each datagram up to 30 ms late with probability `p`, so that others overtake it.
    pub fn datagram_reordering(&self, p: f64, seed: u64) {
        let odds = self.odds(p, seed);
        self.change_datagrams(|faults| faults.reordering = odds);
    }

    pub fn report(&self) -> ProxyReport {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProxyReport {
            connections: read(&counters.connections),
            bytes_there: read(&counters.bytes_there),
            bytes_back: read(&counters.bytes_back),
            resets: read(&counters.resets),
            cuts_hitting_data: read(&counters.cuts_hitting_data),
            datagrams: read(&counters.datagrams),
            datagrams_dropped: read(&counters.datagrams_dropped),
            datagrams_doubled: read(&counters.datagrams_doubled),
            datagrams_late: read(&counters.datagrams_late),
        }
    }

    /// Closes the port and every connection.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    fn change(&self, change: impl Fn(&mut LaneFaults)) {
        self.shared.faults.send_modify(|faults| {
            for lane in &self.lanes {
                let lane = faults.lane_mut(*lane);
                let was_cut = lane.cut;
                change(lane);
                lane.cuts += u64::from(lane.cut && !was_cut);
            }
        });
    }

    fn odds(&self, p: f64, seed: u64) -> Odds {
        Odds::new(p, seed, 1 + self.shared.settings.fetch_add(1, Ordering::Relaxed))
    }

    fn change_datagrams(&self, change: impl Fn(&mut LaneFaults)) {
        self.only(&[Lane::Datagrams]).change(change);
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// One number for both. The TCP socket is bound and never listens: it keeps the number ours while the door is shut.
fn bind_both(at: Ipv4Addr) -> io::Result<(Socket, UdpSocket)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let place = door::bind(SocketAddr::from((at, 0)))?;
        let addr = place.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        match UdpSocket::bind(addr) {
            Ok(udp) => return Ok((place, udp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < PORT_TRIES_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

const fn unspecified(like: SocketAddr) -> std::net::IpAddr {
    match like {
        SocketAddr::V4(_) => std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
