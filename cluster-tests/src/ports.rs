//! Port numbers for nodes that are about to start.
//!
//! They lie below the range from which the system takes numbers for outgoing connections, so that a node which is killed and started
//! again finds its own port free. No number is given out twice by one test process; another process can still be faster, so a
//! start that finds a port taken is tried again with others.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

const LOWEST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// What one node listens on.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub grpc: SocketAddr,
    /// TCP and UDP.
    pub peer: SocketAddr,
    pub http: SocketAddr,
}

impl Ports {
    pub fn reserve() -> Self {
        Self { grpc: next(false), peer: next(true), http: next(false) }
    }
}

/// For another program than a node.
pub fn reserve_tcp() -> SocketAddr {
    next(false)
}

static CURSOR: Mutex<Option<u16>> = Mutex::new(None);

fn next(udp_too: bool) -> SocketAddr {
    let mut cursor = CURSOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Test processes that run at the same time begin far apart.
    let mut offset = cursor
        .unwrap_or_else(|| u16::try_from(std::process::id() * 997 % u32::from(COUNT)).unwrap_or(0));
    for _ in 0..COUNT {
        offset = (offset + 1) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, LOWEST + offset));
        if TcpListener::bind(address).is_ok() && (!udp_too || UdpSocket::bind(address).is_ok()) {
            *cursor = Some(offset);
            return address;
        }
    }
    panic!("no free port from {LOWEST} to {}", LOWEST + COUNT);
}
