//! Accepted connections of the peer port, and what they may do before anybody has proved anything.
//!
//! A stranger's connection has a deadline and a byte budget on the socket itself, so whatever it speaks (HTTP/1, half a preface,
//! nothing) holds little and not for long. A connection carries one link; when that is over the connection has a moment to say
//! goodbye.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::LinkLimits;
use crate::metrics::names;
use crate::net;
use crate::tls::{CallerName, Tls};
use crate::types::{Incarnation, NodeName};

/// For the last frame to leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// After an accept has failed: file descriptors may come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const STRANGER: u8 = 0;
const GREETING: u8 = 1;
const PROVEN: u8 = 2;
const ENDING: u8 = 3;

/// Tells a connection how far its link has come. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionGuard(Arc<GuardState>);

#[derive(Debug)]
struct GuardState {
    stage: AtomicU8,
    reader: AtomicWaker,
    /// Where links are TLS: whose certificate was shown.
    certified: Option<CallerName>,
    /// Who has proved to be whom, where the connection carries calls.
    caller: OnceLock<(NodeName, Incarnation)>,
}

impl ConnectionGuard {
    /// Is the caller, who says it is this node, whom its certificate names? Always, where none is asked for.
    pub(super) fn may_be(&self, node: &NodeName) -> bool {
        self.0.certified.as_ref().is_none_or(|name| name.get() == Some(node))
    }

    /// The one link of this connection begins. `false`: it has had it.
    #[must_use]
    pub(super) fn begin(&self) -> bool {
        let stage = &self.0.stage;
        stage.compare_exchange(STRANGER, GREETING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// From now on calls may come.
    pub(super) fn proven_caller(&self, name: NodeName, incarnation: Incarnation) {
        let _ = self.0.caller.set((name, incarnation));
        self.proven();
    }

    /// Whose calls these are. `None`: nobody's, or not any more.
    pub(super) fn caller(&self) -> Option<&(NodeName, Incarnation)> {
        self.0.caller.get().filter(|_| self.0.stage.load(Ordering::Acquire) == PROVEN)
    }

    pub(super) fn proven(&self) {
        let stage = &self.0.stage;
        let _ = stage.compare_exchange(GREETING, PROVEN, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(super) fn end(&self) {
        self.0.stage.store(ENDING, Ordering::Release);
        self.0.reader.wake();
    }
}

/// A TCP connection that obeys its guard.
#[derive(Debug)]
pub(super) struct GuardedStream {
    tcp: net::Stream,
    guard: ConnectionGuard,
    deadline: Pin<Box<Sleep>>,
    ending: bool,
    /// What a stranger may still send.
    budget: usize,
    _counted: Counted,
}

/// One of the connections that count against a limit.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn try_new(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let this = Self(open.clone());
        (open.fetch_add(1, Ordering::Relaxed) < max).then_some(this)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts for ever. Failures (no file descriptors, an aborted connect) cost a pause, never the loop.
pub(super) fn accept_all(
    listener: net::Listener,
    limits: LinkLimits,
    tls: Option<Tls>,
) -> impl Stream<Item = Result<GuardedStream, io::Error>> + Send {
    let open = Arc::new(AtomicUsize::new(0));
    let all = (listener, limits, tls, open, 0u64);
    stream::unfold(all, async |(listener, limits, tls, open, mut failed)| {
        loop {
            match listener.accept().await {
                Ok((tcp, _)) => {
                    let Some(counted) = Counted::try_new(&open, limits.connections) else {
                        metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "peer_connections")
                            .increment(1);
                        continue;
                    };
                    let (tcp, certified) = greet(tcp, tls.as_ref());
                    let stream = GuardedStream::new(tcp, certified, &limits, counted);
                    return Some((Ok(stream), (listener, limits, tls, open, failed)));
                }
                Err(err) => {
                    if failed.is_power_of_two() || failed == 0 {
                        tracing::warn!(%err, failed, "a peer connection could not be accepted");
                    }
                    failed += 1;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// The handshake happens when it is first read, within the guard's deadline.
fn greet(tcp: net::Stream, tls: Option<&Tls>) -> (net::Stream, Option<CallerName>) {
    let Some(tls) = tls else { return (tcp, None) };
    match tls.accept_peer(tcp) {
        Ok((stream, name)) => (stream, Some(name)),
        Err(tcp) => (tcp, None),
    }
}

impl GuardedStream {
    fn new(
        tcp: net::Stream,
        certified: Option<CallerName>,
        limits: &LinkLimits,
        counted: Counted,
    ) -> Self {
        let state = GuardState {
            stage: AtomicU8::new(STRANGER),
            reader: AtomicWaker::new(),
            certified,
            caller: OnceLock::new(),
        };
        Self {
            tcp,
            guard: ConnectionGuard(Arc::new(state)),
            deadline: Box::pin(tokio::time::sleep(limits.handshake)),
            ending: false,
            budget: limits.handshake_bytes,
            _counted: counted,
        }
    }

    /// A TLS handshake may happen within a write, and that has the same time.
    fn checked<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let stage = self.guard.0.stage.load(Ordering::Acquire);
        if written.is_pending() && matches!(stage, STRANGER | GREETING) {
            self.poll_deadline(cx)?;
        }
        written
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.guard.0.reader.register(cx.waker());
        let stage = this.guard.0.stage.load(Ordering::Acquire);
        match stage {
            PROVEN => return Pin::new(&mut this.tcp).poll_read(cx, buf),
            ENDING if !this.ending => {
                this.ending = true;
                this.deadline = Box::pin(tokio::time::sleep(GOODBYE));
            }
            _ => {}
        }
        this.poll_deadline(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.tcp).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read > this.budget {
            let err = "more than a greeting takes, before any proof";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, err)));
        }
        this.budget -= read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.checked(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.checked(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.tcp).poll_flush(cx);
        self.checked(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Connected for GuardedStream {
    type ConnectInfo = ConnectionGuard;

    fn connect_info(&self) -> ConnectionGuard {
        self.guard.clone()
    }
}
