//! A socket for datagrams.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::UdpSocket;

#[derive(Debug)]
pub enum Datagrams {
    Host(UdpSocket),
    Other(Box<dyn DatagramSocket>),
}

/// What another network's socket must do. Like UDP: whole or not at all, at most once or twice, in any order.
#[async_trait]
pub trait DatagramSocket: fmt::Debug + Send + Sync + 'static {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()>;
    /// Its length and where it came from; what doesn't fit into `buffer` is cut off.
    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Datagrams {
    pub async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        match self {
            Self::Host(udp) => udp.send_to(datagram, to).await.map(|_| ()),
            Self::Other(other) => other.send_to(datagram, to).await,
        }
    }

    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            Self::Host(udp) => udp.recv_from(buffer).await,
            Self::Other(other) => other.recv_from(buffer).await,
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Host(udp) => udp.local_addr(),
            Self::Other(other) => other.local_addr(),
        }
    }
}

impl From<UdpSocket> for Datagrams {
    fn from(udp: UdpSocket) -> Self {
        Self::Host(udp)
    }
}
