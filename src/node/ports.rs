//! Every port of the node, bound before anything else starts: a port in use is told before anybody has heard of this node, and all
//! that fail are told at once.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::ListenConfig;
use crate::net::{self, Datagrams, Listener, Network};

/// With port 0, TCP and UDP numbers are found apart: how often to look for one that is free in both.
const PEER_PORT_TRIES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Ports {
    pub(super) grpc: Listener,
    pub(super) links: Listener,
    /// The same number as `links`.
    pub(super) gossip: Datagrams,
    pub(super) http: Option<TcpListener>,
    pub(super) redis: Option<TcpListener>,
    pub(super) bound: Bound,
}

/// Where a node really listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub grpc: SocketAddr,
    pub peer: SocketAddr,
    pub http: Option<SocketAddr>,
    pub redis: Option<SocketAddr>,
}

/// Nothing stays bound.
#[derive(Debug, thiserror::Error)]
#[error("{}", Lines(.0))]
pub struct PortsError(Vec<PortFault>);

#[derive(Debug)]
struct PortFault {
    flag: &'static str,
    addr: SocketAddr,
    error: io::Error,
}

struct Lines<'a>(&'a [PortFault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, PortFault { flag, addr, error }) in self.0.iter().enumerate() {
            let line = if i == 0 { "" } else { "\n" };
            write!(f, "{line}{flag} {addr}: {}", bind_reason(error))?;
        }
        Ok(())
    }
}

/// Why a port can't be bound, in words for whoever gave it.
pub fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use; does another node run here?".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host does not have the address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need privileges".to_owned()
        }
        _ => error.to_string(),
    }
}

impl Ports {
    pub(super) async fn bind(
        listen: &ListenConfig,
        network: &dyn Network,
    ) -> Result<Self, PortsError> {
        let mut faults = Vec::new();
        let grpc = bind(network, listen.grpc).await;
        let grpc = keep(&mut faults, "--listen-grpc", listen.grpc, grpc);
        let http = match listen.http {
            Some(addr) => keep(&mut faults, "--listen-http", addr, bind_tcp(addr).await).map(Some),
            None => Some(None),
        };
        let redis = match listen.redis {
            Some(addr) => keep(&mut faults, "--listen-redis", addr, bind_tcp(addr).await).map(Some),
            None => Some(None),
        };
        let peer = bind_peer(network, listen.peer).await;
        let peer = keep(&mut faults, "--listen-peer", listen.peer, peer);
        match (grpc, http, redis, peer) {
            (
                Some((grpc, grpc_addr)),
                Some(http),
                Some(redis),
                Some((links, gossip, peer_addr)),
            ) => {
                let bound = Bound {
                    grpc: grpc_addr,
                    peer: peer_addr,
                    http: http.as_ref().map(|(_, addr)| *addr),
                    redis: redis.as_ref().map(|(_, addr)| *addr),
                };
                let (http, redis) =
                    (http.map(|(socket, _)| socket), redis.map(|(socket, _)| socket));
                Ok(Self { grpc, links, gossip, http, redis, bound })
            }
            _ => Err(PortsError(faults)),
        }
    }
}

fn keep<T>(
    faults: &mut Vec<PortFault>,
    flag: &'static str,
    addr: SocketAddr,
    result: io::Result<T>,
) -> Option<T> {
    result.map_err(|error| faults.push(PortFault { flag, addr, error })).ok()
}

async fn bind(network: &dyn Network, addr: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let listener = network.listen(addr).await?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// For the fronts that stand on the operating system's sockets.
async fn bind_tcp(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = net::bind_tcp(addr)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

async fn bind_peer(
    network: &dyn Network,
    addr: SocketAddr,
) -> io::Result<(Listener, Datagrams, SocketAddr)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (links, bound) = bind(network, addr).await?;
        match network.datagrams(bound).await {
            Ok(gossip) => return Ok((links, gossip, bound)),
            Err(error)
                if addr.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && tries < PEER_PORT_TRIES_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::{TcpListener, UdpSocket};

    use super::Ports;
    use crate::config::ListenConfig;
    use crate::net::Host;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[tokio::test]
    async fn free_ports_are_bound_and_told() {
        let listen =
            ListenConfig { grpc: any(), peer: any(), http: Some(any()), redis: Some(any()) };
        let ports = Ports::bind(&listen, &Host).await.unwrap();
        assert_eq!(ports.gossip.local_addr().unwrap(), ports.links.local_addr().unwrap());
        assert_eq!(ports.bound.peer, ports.links.local_addr().unwrap());
        assert_eq!(ports.bound.grpc, ports.grpc.local_addr().unwrap());
        assert!(ports.bound.http.is_some_and(|addr| addr.port() != 0));
        assert_eq!(ports.bound.redis, Some(ports.redis.as_ref().unwrap().local_addr().unwrap()));

        let listen = ListenConfig { http: None, redis: None, ..listen };
        let bound = Ports::bind(&listen, &Host).await.unwrap().bound;
        assert_eq!((bound.http, bound.redis), (None, None));
    }

    #[tokio::test]
    async fn all_ports_in_use_are_told_at_once_with_their_flags() {
        let grpc = TcpListener::bind(any()).await.unwrap();
        let http = TcpListener::bind(any()).await.unwrap();
        let gossip = UdpSocket::bind(any()).await.unwrap();
        let listen = ListenConfig {
            grpc: grpc.local_addr().unwrap(),
            peer: gossip.local_addr().unwrap(),
            http: Some(http.local_addr().unwrap()),
            redis: None,
        };
        let told = Ports::bind(&listen, &Host).await.unwrap_err().to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 3, "{told}");
        for (line, (flag, addr)) in lines.iter().zip([
            ("--listen-grpc", listen.grpc),
            ("--listen-http", http.local_addr().unwrap()),
            ("--listen-peer", listen.peer),
        ]) {
            assert!(line.starts_with(&format!("{flag} {addr}: the port is in use")), "{line}");
        }
    }
}
