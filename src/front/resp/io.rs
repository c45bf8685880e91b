//! The socket of a Redis client, in the clear or with TLS. Both are read and written without waiting, by whoever has something to do.
//!
//! Without TLS each call is the socket's own. With it the records are made and opened here, under a lock, since a message may be written
//! by whoever publishes it while the connection's task reads.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::tls::{Front, HANDSHAKE_BYTES_MAX, Tls};

#[derive(Debug)]
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<Sealed>),
}

/// A socket with TLS.
#[derive(Debug)]
pub(super) struct Sealed {
    tcp: TcpStream,
    state: Mutex<ServerConnection>,
}

/// Between two runtimes.
pub(super) struct Detached {
    tcp: std::net::TcpStream,
    state: Option<ServerConnection>,
}

/// How much came, if anything was asked of the socket; and whether a wake-up is to be waited for.
pub(super) type Received = (Option<usize>, io::Result<()>);

impl Io {
    pub(super) fn new(tcp: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(Self::Plain(tcp)) };
        let state = ServerConnection::new(tls.server(Front::Redis)).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Sealed { tcp, state: Mutex::new(state) })))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(sealed) => &sealed.tcp,
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().local_addr()
    }

    pub(super) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Plain(tcp) => Ok(Detached { tcp: tcp.into_std()?, state: None }),
            Self::Tls(sealed) => {
                let Sealed { tcp, state } = *sealed;
                Ok(Detached { tcp: tcp.into_std()?, state: Some(state.into_inner()) })
            }
        }
    }

    /// In the runtime that has been entered.
    pub(super) fn attach(Detached { tcp, state }: Detached) -> io::Result<Self> {
        let tcp = TcpStream::from_std(tcp)?;
        Ok(match state {
            None => Self::Plain(tcp),
            Some(state) => Self::Tls(Box::new(Sealed { tcp, state: Mutex::new(state) })),
        })
    }

    /// With TLS: ends when both have shaken hands.
    pub(super) async fn greet(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(sealed) => sealed.greet().await,
        }
    }

    /// Reads once.
    pub(super) fn receive(&self, free: &mut [u8]) -> Received {
        match self {
            Self::Plain(tcp) => receive(tcp, free),
            Self::Tls(sealed) => sealed.receive(free),
        }
    }

    /// Something can be read, or the connection is over.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tls(sealed) if sealed.has_opened() => Ok(()),
            _ => self.tcp().readable().await,
        }
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(sealed) if sealed.has_opened() => Poll::Ready(Ok(())),
            Self::Tls(sealed) => sealed.tcp.poll_read_ready(cx),
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(cx)
    }

    /// One call; how much was taken. With TLS some of it may wait in records: `flush` says so.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write_vectored(slices),
            Self::Tls(sealed) => sealed.write(slices),
        }
    }

    /// `WouldBlock`: records wait for the socket.
    pub(super) fn flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(sealed) => sealed.flush(&mut sealed.state.lock()),
        }
    }

    /// With TLS: what was written is whole, and nobody has cut it off.
    pub(super) fn say_end(&self) {
        if let Self::Tls(sealed) = self {
            let mut state = sealed.state.lock();
            state.send_close_notify();
            // Who does not take it sees the socket end.
            let _ = sealed.flush(&mut state);
        }
    }

    /// No more is written. What has been, arrives.
    pub(super) fn shut_writing(&self) -> io::Result<()> {
        self.say_end();
        SockRef::from(self.tcp()).shutdown(Shutdown::Write)
    }

    /// What comes is thrown away.
    pub(super) fn try_discard(&self, nowhere: &mut [u8]) -> io::Result<usize> {
        self.tcp().try_read(nowhere)
    }

    /// As `readable`, of the socket itself.
    pub(super) async fn arrived(&self) -> io::Result<()> {
        self.tcp().readable().await
    }
}

fn receive(tcp: &TcpStream, free: &mut [u8]) -> Received {
    let mut got = None;
    let tried = tcp.try_io(Interest::READABLE, || {
        let read = (&*SockRef::from(tcp)).read(free)?;
        got = Some(read);
        if 0 < read && read < free.len() {
            // That was all: say so, which saves the call that would find nothing.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    (got, tried)
}

impl Sealed {
    async fn greet(&self) -> io::Result<()> {
        let mut left = HANDSHAKE_BYTES_MAX;
        loop {
            let wants_write = {
                let mut state = self.state.lock();
                let flushed = self.flush(&mut state);
                match flushed {
                    Ok(()) if !state.is_handshaking() => return Ok(()),
                    Ok(()) => {
                        let read = match state.read_tls(&mut Socket(&self.tcp)) {
                            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                            Ok(read) => read,
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                            Err(error) => return Err(error),
                        };
                        left = left.checked_sub(read).ok_or_else(|| {
                            io::Error::new(
                                io::ErrorKind::InvalidData,
                                "more than a handshake takes",
                            )
                        })?;
                        self.open(&mut state)?;
                        if read > 0 {
                            continue;
                        }
                        false
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                    Err(error) => return Err(error),
                }
            };
            if wants_write {
                self.tcp.writable().await?;
            } else {
                self.tcp.readable().await?;
            }
        }
    }

    /// Opens the records that have come.
    fn open(&self, state: &mut ServerConnection) -> io::Result<()> {
        let opened = state.process_new_packets();
        // The alert says why, to who listens; an answer to a key update must go out.
        let _ = self.flush(state);
        opened.map(|_| ()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn receive(&self, free: &mut [u8]) -> Received {
        let mut state = self.state.lock();
        let mut got = 0;
        while got < free.len() {
            match state.reader().read(&mut free[got..]) {
                // It has said that it is over.
                Ok(0) => return (Some(got), Ok(())),
                Ok(read) => {
                    got += read;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It has gone without saying so.
                Err(_) => return (Some(got), Ok(())),
            }
            let read = match state.read_tls(&mut Socket(&self.tcp)) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && got > 0 => break,
                Err(error) => return (None, Err(error)),
            };
            if let Err(error) = self.open(&mut state) {
                return (None, Err(error));
            }
            if read == 0 && got > 0 {
                break;
            }
        }
        (Some(got), Ok(()))
    }

    /// More than the last read took has been opened already.
    fn has_opened(&self) -> bool {
        let mut state = self.state.lock();
        // It opens nothing: nothing has come since.
        state.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock();
        self.flush(&mut state)?;
        let taken = state.writer().write_vectored(slices)?;
        match self.flush(&mut state) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&self, state: &mut ServerConnection) -> io::Result<()> {
        while state.wants_write() {
            state.write_tls(&mut Socket(&self.tcp))?;
        }
        Ok(())
    }
}

/// The socket as rustls wants it: never waits.
struct Socket<'a>(&'a TcpStream);

impl io::Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
