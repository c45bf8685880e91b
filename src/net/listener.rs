//! Takes connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::TcpListener;

use super::Stream;

#[derive(Debug)]
pub enum Listener {
    Host(TcpListener),
    Other(Box<dyn Accept>),
}

/// What another network's listener must do. Connections that come early wait.
#[async_trait]
pub trait Accept: fmt::Debug + Send + Sync + 'static {
    async fn accept(&self) -> io::Result<(Stream, SocketAddr)>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listener {
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Host(tcp) => {
                let (stream, from) = tcp.accept().await?;
                // A connection without it works too, only slower.
                let _ = stream.set_nodelay(true);
                Ok((stream.into(), from))
            }
            Self::Other(other) => other.accept().await,
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Host(tcp) => tcp.local_addr(),
            Self::Other(other) => other.local_addr(),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::Host(tcp)
    }
}
