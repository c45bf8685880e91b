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
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

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

/// Clients that come back all at once, as when another node was killed, must not be refused; the kernel's own limit holds too.
const BACKLOG: u32 = 4096;

/// A listener of the operating system's.
pub fn bind_tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As the standard library does it: a node that starts again need not wait for its old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// The connection failed before it was accepted: its client has gone, and the next one has nothing to do with that.
pub fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// The operating system's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

#[async_trait]
impl Network for Host {
    async fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        Ok(bind_tcp(at)?.into())
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
