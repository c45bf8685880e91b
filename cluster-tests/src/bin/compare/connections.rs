//! The load's sockets: many subscribers and one publisher, all driven by one thread.
//!
//! The generator shares the processors with what it measures, so it reads much at a time and copies nothing but a last, partial frame.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::protocol::{Channel, Dialect, Inbox, Place, Replies, greeting};

const READ_LEN: usize = 256 * 1024;
/// A server's queue of connections that it hasn't taken may be short.
const OPENED_AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(20);
const PUBLISHER: Token = Token(usize::MAX);

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Closed at once: ten thousand connections that linger would leave no ports for the next run.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

#[derive(Debug)]
struct Subscriber {
    stream: mio::net::TcpStream,
    inbox: Inbox,
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// Is listed to be read again.
    unfinished: bool,
}

/// Subscribed connections.
#[derive(Debug)]
pub(crate) struct Subscribers {
    all: Vec<Subscriber>,
    poll: Poll,
    events: Events,
    /// Those that may have more to read than was read at once.
    unfinished: Vec<usize>,
    buffer: Vec<u8>,
}

impl Subscribers {
    /// Each is acknowledged. `channel_of` gives the channel of the i-th.
    pub(crate) fn open(
        address: SocketAddr,
        count: usize,
        channel_of: impl Fn(usize) -> std::sync::Arc<Channel>,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut all = Vec::with_capacity(count);
        let mut buffer = vec![0; READ_LEN];
        while all.len() < count {
            let mut opening = Vec::new();
            for i in all.len()..count.min(all.len() + OPENED_AT_ONCE) {
                let mut stream = connect(address)?;
                let channel = channel_of(i);
                stream.write_all(channel.subscribe())?;
                opening.push((stream, channel));
            }
            for (mut stream, channel) in opening {
                let (inbox, partial) = subscribed(&mut stream, &channel, &mut buffer)?;
                stream.set_nonblocking(true)?;
                let mut stream = mio::net::TcpStream::from_std(stream);
                poll.registry().register(&mut stream, Token(all.len()), Interest::READABLE)?;
                all.push(Subscriber { stream, inbox, partial, unfinished: false });
            }
        }
        Ok(Self { all, poll, events: Events::with_capacity(1024), unfinished: Vec::new(), buffer })
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many the slowest has.
    pub(crate) fn least(&self) -> u64 {
        self.all.iter().map(|subscriber| subscriber.inbox.received).min().unwrap_or(0)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.all.iter().map(|subscriber| subscriber.inbox.received).sum()
    }

    pub(crate) fn have_probes(&self) -> bool {
        self.all.iter().all(|subscriber| subscriber.inbox.probes > 0)
    }

    /// Reads what there is, of the publisher too, or waits at most so long for it.
    pub(crate) fn turn(
        &mut self,
        channel: &Channel,
        publisher: &mut Publisher,
        wait: Duration,
        mut each: impl FnMut(u64),
    ) -> anyhow::Result<()> {
        let wait = if self.unfinished.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let mut ready = std::mem::take(&mut self.unfinished);
        for event in &self.events {
            match event.token() {
                PUBLISHER => {
                    publisher.writable |= event.is_writable();
                    if event.is_readable() {
                        publisher.read(&mut self.buffer)?;
                    }
                }
                Token(i) if !self.all[i].unfinished => ready.push(i),
                Token(_) => {}
            }
        }
        for i in ready {
            let subscriber = &mut self.all[i];
            let more = subscriber.read(channel, &mut self.buffer, &mut each);
            subscriber.unfinished = more.with_context(|| format!("subscriber {i}"))?;
            if subscriber.unfinished {
                self.unfinished.push(i);
            }
        }
        Ok(())
    }
}

impl Subscriber {
    /// Whether there may be more. After a short read there is none: the next arrival is an event of its own.
    fn read(
        &mut self,
        channel: &Channel,
        buffer: &mut [u8],
        each: &mut impl FnMut(u64),
    ) -> anyhow::Result<bool> {
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        let read = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let end = kept + read;
        let taken = self.inbox.take(channel, &buffer[..end], each)?;
        self.partial.clear();
        self.partial.extend_from_slice(&buffer[taken..end]);
        if self.inbox.pings > 0 {
            self.inbox.pings = 0;
            self.stream.write_all(b"PONG\r\n")?;
        }
        Ok(end == buffer.len())
    }
}

fn subscribed(
    stream: &mut TcpStream,
    channel: &Channel,
    buffer: &mut [u8],
) -> anyhow::Result<(Inbox, Vec<u8>)> {
    let mut inbox = Inbox::default();
    let mut partial = Vec::new();
    while !inbox.subscribed {
        let read = stream.read(buffer).context("wait for a subscription's acknowledgement")?;
        ensure!(read > 0, "the server closed a connection that subscribes");
        partial.extend_from_slice(&buffer[..read]);
        let taken = inbox.take(channel, &partial, |_| ())?;
        partial.drain(..taken);
    }
    Ok((inbox, partial))
}

/// The one connection that publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    stream: mio::net::TcpStream,
    dialect: Dialect,
    /// Whole frames, written up to `at`.
    out: Vec<u8>,
    at: usize,
    writable: bool,
    replies: Replies,
    partial: Vec<u8>,
}

impl Publisher {
    pub(crate) fn open(place: &Place, subscribers: &Subscribers) -> anyhow::Result<Self> {
        let mut stream = connect(place.publisher)?;
        let (greeting, answer) = greeting(place.dialect);
        stream.write_all(greeting.as_bytes())?;
        let mut heard = Vec::new();
        while !heard.ends_with(answer.as_bytes()) {
            let mut byte = [0];
            ensure!(stream.read(&mut byte)? > 0, "the server closed the publisher's connection");
            heard.push(byte[0]);
        }
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        subscribers.poll.registry().register(&mut stream, PUBLISHER, interest)?;
        Ok(Self {
            stream,
            dialect: place.dialect,
            out: Vec::new(),
            at: 0,
            writable: true,
            replies: Replies::default(),
            partial: Vec::new(),
        })
    }

    /// All that was given has gone out.
    pub(crate) fn is_idle(&self) -> bool {
        self.at == self.out.len()
    }

    /// Where to append whole frames; only while idle.
    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.is_idle());
        self.out.clear();
        self.at = 0;
        &mut self.out
    }

    pub(crate) fn write(&mut self) -> anyhow::Result<()> {
        while self.writable && !self.is_idle() {
            match self.stream.write(&self.out[self.at..]) {
                Ok(written) => self.at += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write to the publisher's connection"),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        loop {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let end = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the server closed the publisher's connection"),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("read from the publisher's connection"),
            };
            let taken = self.replies.take(self.dialect, &buffer[..end])?;
            self.partial.clear();
            self.partial.extend_from_slice(&buffer[taken..end]);
            if self.replies.pings > 0 {
                self.replies.pings = 0;
                // Behind whole frames; small enough to fit behind what is not yet written, too.
                self.out.extend_from_slice(b"PONG\r\n");
            }
        }
    }

    /// For a thread that writes at its own pace. Nothing else may then write.
    pub(crate) fn writer(&self) -> io::Result<Writer> {
        use std::os::fd::AsFd as _;
        let stream = TcpStream::from(self.stream.as_fd().try_clone_to_owned()?);
        Ok(Writer { stream })
    }

    /// A reply to each publish, where the protocol has one.
    pub(crate) fn replied_to(&self, sent: u64) -> bool {
        self.dialect == Dialect::Nats || self.replies.count >= sent
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    stream: TcpStream,
}

impl Writer {
    /// `wait` is called where the socket takes no more.
    pub(crate) fn write(&mut self, frame: &[u8], wait: impl Fn()) -> io::Result<()> {
        let mut rest = frame;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
