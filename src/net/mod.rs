//! The network as a node sees it: it listens for connections, sends datagrams, and dials its peers.
//!
//! The composition root chooses which network. [`Host`] is the operating system's, and its sockets are used as they are, without a
//! table of functions in between; any other gives its own behind a box. The fronts that write to raw sockets (HTTP, Redis) stand on
//! the operating system's alone.

mod datagrams;
mod listener;
mod stream;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

pub use datagrams::{DatagramSocket, Datagrams};
pub use listener::{Accept, Listener};
pub use stream::{Duplex, Stream};

pub type SharedNetwork = Arc<dyn Network>;

#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    async fn listen(&self, at: SocketAddr) -> io::Result<Listener>;
    async fn datagrams(&self, at: SocketAddr) -> io::Result<Datagrams>;
    /// `to`: an address, or a name with a port.
    async fn connect(&self, to: &str) -> io::Result<Stream>;
}

/// The operating system's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

#[async_trait]
impl Network for Host {
    async fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        Ok(TcpListener::bind(at).await?.into())
    }

    async fn datagrams(&self, at: SocketAddr) -> io::Result<Datagrams> {
        Ok(UdpSocket::bind(at).await?.into())
    }

    async fn connect(&self, to: &str) -> io::Result<Stream> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp.into())
    }
}

#[cfg(test)]
mod tests;
