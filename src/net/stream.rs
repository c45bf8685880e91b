//! One connection: bytes both ways, in order.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Small writes are sent at once.
#[derive(Debug)]
pub enum Stream {
    Host(TcpStream),
    Other(Box<dyn Duplex>),
}

/// What another network's connection must do.
pub trait Duplex: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin + 'static> Duplex for T {}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Host(tcp)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Host(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Other(other) => Pin::new(other).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Host(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Other(other) => Pin::new(other).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Host(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Other(other) => Pin::new(other).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Host(tcp) => tcp.is_write_vectored(),
            Self::Other(other) => other.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Host(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Other(other) => Pin::new(other).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Host(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Other(other) => Pin::new(other).poll_shutdown(cx),
        }
    }
}
