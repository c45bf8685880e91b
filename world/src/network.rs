//! turmoil's sockets as a network for nodes, under the switchboard.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream, UdpSocket};
use waxwing::net::{Accept, DatagramSocket, Datagrams, Listener, Network, Stream};

use crate::switchboard::{Fate, Line, Reads, Switchboard};

/// TCP asks so long after it got no answer.
const SYN_AGAIN: Duration = Duration::from_secs(1);

/// The network as one host sees it.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedNetwork {
    pub(crate) near: IpAddr,
    pub(crate) switchboard: Switchboard,
}

#[async_trait]
impl Network for SimulatedNetwork {
    async fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        let listener = TcpListener::bind(at).await?;
        Ok(Listener::Other(Box::new(SimulatedListener {
            listener,
            switchboard: self.switchboard.clone(),
        })))
    }

    async fn datagrams(&self, at: SocketAddr) -> io::Result<Datagrams> {
        let socket = UdpSocket::bind(at).await?;
        Ok(Datagrams::Other(Box::new(SimulatedDatagrams {
            socket,
            switchboard: self.switchboard.clone(),
        })))
    }

    async fn connect(&self, to: &str) -> io::Result<Stream> {
        Ok(Stream::Other(Box::new(self.dial(to).await?)))
    }
}

impl SimulatedNetwork {
    pub(crate) async fn dial(&self, to: &str) -> io::Result<Connection> {
        let far: SocketAddr = to.parse().map_err(io::Error::other)?;
        loop {
            match TcpStream::connect(far).await {
                // turmoil refuses where the two are cut off from each other; a real network says nothing, and is asked again.
                Err(_) if self.switchboard.is_apart(self.near, far.ip()) => {
                    tokio::time::sleep(SYN_AGAIN).await;
                }
                Err(error) => return Err(error),
                Ok(tcp) => {
                    let line = self.switchboard.line(self.near, far.ip());
                    return Ok(Connection { tcp, line });
                }
            }
        }
    }
}

struct SimulatedListener {
    listener: TcpListener,
    switchboard: Switchboard,
}

#[async_trait]
impl Accept for SimulatedListener {
    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (tcp, from) = self.listener.accept().await?;
        let line = self.switchboard.line(tcp.local_addr()?.ip(), from.ip());
        Ok((Stream::Other(Box::new(Connection { tcp, line })), from))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl fmt::Debug for SimulatedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedListener").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct SimulatedDatagrams {
    socket: UdpSocket,
    switchboard: Switchboard,
}

#[async_trait]
impl DatagramSocket for SimulatedDatagrams {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let times = match self.switchboard.fate() {
            Fate::Lost => 0,
            Fate::Once => 1,
            Fate::Twice => 2,
        };
        for _ in 0..times {
            self.socket.send_to(datagram, to).await?;
        }
        Ok(())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that the switchboard can break.
#[derive(Debug)]
pub(crate) struct Connection {
    tcp: TcpStream,
    line: Arc<Line>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.line.reads(cx) {
            Reads::Whatever => Pin::new(&mut self.tcp).poll_read(cx, buf),
            Reads::Nothing => Poll::Pending,
            Reads::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.line.writes(cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
