//! A stream whose handshake happens while it is first read or written, so that whoever limits the time until the first request limits the
//! handshake with it. Until then it holds little: the bytes are counted.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::CallerName;
use super::certificate::Certificate;
use crate::metrics::names;
use crate::net::Stream;

/// What a handshake may take of the other side's bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

pub(super) struct Accepted {
    state: State,
    /// `None`: nobody asks who it is.
    name: Option<CallerName>,
    port: &'static str,
}

enum State {
    Handshake(Box<Accept<Counted>>),
    Open(Box<TlsStream<Counted>>),
    Failed,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("port", &self.port).finish_non_exhaustive()
    }
}

/// A handshake came to nothing.
pub fn count_failure(port: &'static str, error: &io::Error) {
    metrics::counter!(names::AUTH_FAILURES, "front" => port, "reason" => "tls").increment(1);
    tracing::debug!(port, %error, "a TLS handshake failed");
}

impl Accepted {
    pub(super) fn client(config: Arc<ServerConfig>, stream: Stream, port: &'static str) -> Self {
        Self::new(config, stream, None, port)
    }

    pub(super) fn peer(config: Arc<ServerConfig>, stream: Stream, name: CallerName) -> Self {
        Self::new(config, stream, Some(name), "peer")
    }

    fn new(
        config: Arc<ServerConfig>,
        stream: Stream,
        name: Option<CallerName>,
        port: &'static str,
    ) -> Self {
        let stream = Counted { stream, left: Some(HANDSHAKE_BYTES_MAX) };
        let accept = TlsAcceptor::from(config).accept(stream);
        Self { state: State::Handshake(Box::new(accept)), name, port }
    }

    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut TlsStream<Counted>>>> {
        if let State::Handshake(accept) = &mut self.state {
            self.state = match ready!(Pin::new(accept).poll(cx)) {
                Ok(stream) => self.opened(stream),
                Err(error) => {
                    count_failure(self.port, &error);
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
            };
        }
        match &mut self.state {
            State::Open(stream) => Poll::Ready(Ok(Pin::new(&mut **stream))),
            State::Handshake(_) | State::Failed => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "no handshake")))
            }
        }
    }

    fn opened(&self, mut stream: TlsStream<Counted>) -> State {
        stream.get_mut().0.left = None;
        if let Some(name) = &self.name {
            let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let node = leaf.and_then(|leaf| Certificate::read(leaf).ok()?.node());
            // The verifier has seen that it names one of this cluster.
            let Some((_, node)) = node else { return State::Failed };
            let _ = name.set(node);
        }
        State::Open(Box::new(stream))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_open(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_open(cx))?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_open(cx))?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.state {
            State::Open(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            // Nothing was said; dropping it closes it.
            State::Handshake(_) | State::Failed => Poll::Ready(Ok(())),
        }
    }
}

/// The bytes below, as long as they are a stranger's.
struct Counted {
    stream: Stream,
    /// `None`: it is no stranger any more.
    left: Option<usize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if let Some(left) = &mut this.left {
            let read = buf.filled().len() - before;
            let Some(rest) = left.checked_sub(read) else {
                let what = "more than a handshake takes";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
            };
            *left = rest;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
