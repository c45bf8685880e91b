//! Accepting connections: clients leave the last file descriptors to others, it survives running out of them all the same, and a
//! connection that asks nothing is closed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::config::limits::LimitsHandle;
use crate::net;
use crate::supervise::Shutdown;
use crate::supervise::backoff::Backoff;
use crate::supervise::descriptors::{Descriptor, Descriptors};
use crate::tls::{Front, Tls};

/// What each request knows of its connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    known: Arc<Known>,
}

#[derive(Debug, Default)]
struct Known {
    is: AtomicBool,
    /// Whoever reads no further before.
    reader: AtomicWaker,
}

impl Caller {
    /// It is nobody that just holds a connection.
    pub(super) fn note_known(&self) {
        self.known.is.store(true, Ordering::Release);
        self.known.reader.wake();
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.is.load(Ordering::Acquire)
    }
}

/// A client's connection. It breaks when no request has come in time, and when `cut` is cancelled.
#[derive(Debug)]
pub(super) struct Connection {
    tcp: net::Stream,
    caller: Caller,
    /// Until it is known.
    deadline: Option<Pin<Box<Sleep>>>,
    /// What is read of it before that.
    stranger_bytes: usize,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Given back after `tcp` is closed, which stands before it.
    _descriptor: Descriptor,
}

/// Connections as they come, without an end.
pub(super) fn connections(
    listener: net::Listener,
    tls: Option<Tls>,
    limits: LimitsHandle,
    stranger_bytes: usize,
    cut: Shutdown,
    descriptors: Descriptors,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let all = (listener, tls, limits, stranger_bytes, cut, descriptors);
    futures_util::stream::unfold(all, async |all| {
        let (listener, tls, limits, stranger_bytes, cut, descriptors) = &all;
        let mut connection = accept(listener, tls.as_ref(), limits, cut, descriptors).await;
        connection.stranger_bytes = *stranger_bytes;
        Some((Ok(connection), all))
    })
}

async fn accept(
    listener: &net::Listener,
    tls: Option<&Tls>,
    limits: &LimitsHandle,
    cut: &Shutdown,
    descriptors: &Descriptors,
) -> Connection {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => {
                let Some(descriptor) = descriptors.take() else {
                    turn_away(tcp, address, descriptors);
                    continue;
                };
                // Its handshake is a part of what must come in time.
                let tcp = match tls {
                    Some(tls) => tls.accept(Front::Grpc, tcp),
                    None => tcp,
                };
                let caller = Caller { address, known: Arc::default() };
                let deadline = Some(Box::pin(tokio::time::sleep(limits.get().handshake)));
                let cut = Box::pin(cut.clone().cancelled_owned());
                let stranger_bytes = 0;
                return Connection {
                    tcp,
                    caller,
                    deadline,
                    stranger_bytes,
                    cut,
                    _descriptor: descriptor,
                };
            }
            Err(error) if net::is_the_clients(&error) => {}
            Err(error) => {
                // Too many open files, no memory: who is connected goes on, and who waits is taken as soon as there is room.
                let wait = backoff.next(getrandom::u64().unwrap_or(0));
                tracing::warn!(%error, ?wait, "accept a client");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Closed at once: in the kernel's queue it would wait for nothing. Its client goes to another node.
fn turn_away(tcp: net::Stream, address: SocketAddr, descriptors: &Descriptors) {
    drop(tcp);
    super::count_limit("descriptors");
    if descriptors.is_to_be_told() {
        let max = descriptors.clients_max();
        tracing::warn!(
            %address,
            max,
            "clients have all file descriptors that are not kept for links and probes; refused: raise the limit of open files \
             (ulimit -n, LimitNOFILE)"
        );
    }
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the node stops"));
        }
        let Some(deadline) = &mut self.deadline else { return Ok(()) };
        self.caller.known.reader.register(cx.waker());
        if self.caller.is_known() {
            self.deadline = None;
            return Ok(());
        }
        if deadline.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no request within limits.handshake",
            ));
        }
        Ok(())
    }

    /// A TLS handshake may happen within a write, and that has the same time.
    fn checked<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() && self.deadline.is_some() {
            self.check(cx)?;
        }
        written
    }

    /// No more is read than a stranger may have said: the rest waits in the kernel until it is known, or its time is over.
    fn poll_read_stranger(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [0; 4 << 10];
        let most = room.len().min(self.stranger_bytes).min(buf.remaining());
        if most == 0 {
            return Poll::Pending;
        }
        let mut part = ReadBuf::new(&mut room[..most]);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut part))?;
        self.stranger_bytes -= part.filled().len();
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.deadline.is_some() {
            // Before the first request a trickle of bytes must not keep it open.
            self.check(cx)?;
        }
        let this = &mut *self;
        if this.deadline.is_some() && this.stranger_bytes < usize::MAX {
            return this.poll_read_stranger(cx, buf);
        }
        match Pin::new(&mut this.tcp).poll_read(cx, buf) {
            Poll::Pending => {
                this.check(cx)?;
                Poll::Pending
            }
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl AsyncWrite for Connection {
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
        ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::StreamExt;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::connections;
    use crate::config::Limits;
    use crate::config::limits::LimitsHandle;
    use crate::supervise::Shutdown;
    use crate::supervise::descriptors::Descriptors;

    #[tokio::test]
    async fn a_client_that_would_take_of_the_reserve_is_closed_and_a_later_one_let_in() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = LimitsHandle::new(Limits::default());
        let descriptors = Descriptors::new(33);
        let mut connections = pin!(connections(
            listener.into(),
            None,
            limits,
            usize::MAX,
            Shutdown::new(),
            descriptors.clone()
        ));
        let _first = TcpStream::connect(address).await.unwrap();
        let taken = connections.next().await.unwrap().unwrap();
        assert!(descriptors.take().is_none());

        let mut second = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = connections.next() => panic!("a second one was let in"),
            read = second.read_u8() => assert!(read.is_err(), "it was not closed"),
        }
        drop(taken);
        let _third = TcpStream::connect(address).await.unwrap();
        assert!(connections.next().await.is_some());
    }
}
