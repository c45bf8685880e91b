//! One connection, one task: it polls the socket and the mailbox together, and owns no buffer while neither has anything.
//!
//! Everything that is said to a client goes through its mailbox, so that answers and messages have one order. A stranger, who has none
//! yet, is read no further until it has taken what it was told.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::clients::{Card, Seen};
use super::frame::FrameLimits;
use super::greeter::Newcomer;
use super::input::{Input, Read};
use super::line::{Line, WRITE_BYTES_MAX, count_gap, run_of, shut};
use super::output::Output;
use super::server::Place;
use super::session::Session;
use super::{FRONT, RespVoice, Shared};
use crate::broker::{Attachment, BrokerError, Ending, Opening, Outlet, Pass};
use crate::config::{Limits, OnGap};
use crate::metrics::names;
use crate::pubsub::mailbox::Entry;
use crate::pubsub::{DirectWriter, Gap};
use crate::supervise::Shutdown;
use crate::types::Namespace;

/// Reads in a row; then other connections have their turn.
const READS_MAX: usize = 4;
/// How long a connection that ends has to take what is still to be said to it.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// A stranger's command is no longer than this.
pub(super) const STRANGER_BYTES_MAX: usize = 16 << 10;

/// What a command may be, and how many bytes of it there may be in all.
pub(super) fn limits_of(is_stranger: bool, limits: &Limits) -> (FrameLimits, usize) {
    if is_stranger {
        (FrameLimits::stranger(), STRANGER_BYTES_MAX)
    } else {
        (FrameLimits::new(limits.payload.max(limits.topic)), limits.frame)
    }
}

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Session,
    pub(super) card: Arc<Card>,
    pub(super) seat: Option<Box<Seat>>,
    line: Arc<Line>,
    input: Input,
    reads: usize,
    _place: Place,
}

/// What somebody has who is no stranger.
pub(super) struct Seat {
    pub(super) attachment: Attachment,
    pub(super) pass: Pass,
    channels: Namespace,
    sharded: Namespace,
    outlet: Outlet,
    id: u64,
    shared: Arc<Shared>,
}

impl Seat {
    pub(super) fn namespace(&self, sharded: bool) -> &Namespace {
        if sharded { &self.sharded } else { &self.channels }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.clients.remove(self.id);
    }
}

enum Next {
    Readable,
    Over(Ending),
}

impl Connection {
    /// `input`: what it has said so far.
    pub(super) fn new(shared: Arc<Shared>, newcomer: Newcomer, input: Input) -> Self {
        let Newcomer { io, from, local, since, place } = newcomer;
        let id = shared.clients.next_id();
        let is_stranger = shared.is_locked();
        let card = Card::new(id, from, local, since);
        Self {
            session: Session::new(id, is_stranger),
            card: Arc::new(card),
            seat: None,
            line: Arc::new(Line::new(io)),
            input,
            reads: 0,
            _place: place,
            shared,
        }
    }

    /// Until it ends, from whichever side. Boxed: each layer of futures around a task keeps room for a copy of what it is given.
    pub(super) async fn run(mut self: Box<Self>, shutdown: Shutdown) {
        // What happens once is apart, so that it takes no room in the task afterwards.
        let begun = Box::pin(self.begin(&shutdown)).await;
        drop(shutdown);
        let ending = match begun {
            Ok(()) => self.serve().await,
            Err(ending) => ending,
        };
        Box::pin(self.end(ending)).await;
    }

    async fn begin(&mut self, shutdown: &Shutdown) -> Result<(), Ending> {
        if !self.session.is_stranger() {
            self.enter(Pass::open(Namespace::default())).await?;
            return self.listen().await;
        }
        let known_by = self.card.since() + self.shared.deps.limits.get().handshake;
        let handshake = known_by - self.shared.deps.clock.now();
        let known = async {
            self.listen().await?;
            while self.seat.is_none() {
                match self.next().await {
                    Next::Readable => Box::pin(self.work()).await?,
                    Next::Over(ending) => return Err(ending),
                }
            }
            Ok(())
        };
        tokio::select! {
            known = tokio::time::timeout(handshake, known) => match known {
                Ok(known) => known,
                Err(_) => {
                    metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "handshake").increment(1);
                    Err(Ending::Malformed("not authenticated within limits.handshake".to_owned()))
                }
            },
            () = shutdown.cancelled() => Err(Ending::NodeCloses("the node stops".to_owned())),
        }
    }

    async fn serve(&mut self) -> Ending {
        loop {
            match self.next().await {
                Next::Readable => {
                    if let Err(ending) = Box::pin(self.work()).await {
                        return ending;
                    }
                }
                Next::Over(ending) => return ending,
            }
        }
    }

    /// Opens the broker's door. Refused: the client has been told why.
    pub(super) async fn enter(&mut self, pass: Pass) -> Result<(), Ending> {
        if self.seat.is_some() {
            // It comes again, after a RESET. Who it was goes first: its place is free then, and it is shown as who it is.
            self.settle_protocol();
            self.seat = None;
        }
        let opening = Opening {
            pass: pass.clone(),
            front: FRONT,
            client: String::new(),
            address: self.card.address().to_string(),
            token: Vec::new(),
            epoch: 0,
            linger: Some(Duration::ZERO),
            overlap: false,
        };
        let opened = self.shared.deps.broker.open_with(opening, &RespVoice, self.shared.copies);
        let attachment = match opened.await {
            Ok(attachment) => attachment,
            Err(error) => {
                let said = match &error {
                    BrokerError::TooManySessions { .. } => {
                        "max number of clients reached".to_owned()
                    }
                    other => format!("{other}; {}", other.hint()),
                };
                self.line.output.lock().push(format!("-ERR {said}\r\n").into());
                return Err(Ending::NodeCloses(error.to_string()));
            }
        };
        *self.card.seen.lock() = Seen {
            session: attachment.session(),
            shown: self.session.shown().clone(),
            at: self.shared.deps.clock.now(),
        };
        self.shared.clients.add(self.card.clone());
        let outlet = attachment.outlet();
        if self.shared.deps.config.on_gap == OnGap::Ignore {
            // Whoever is to be disconnected at a gap must be looked at by its own task.
            let line: Weak<dyn DirectWriter> = Arc::downgrade(&self.line) as _;
            outlet.write_directly(line);
        }
        let shared = self.shared.clone();
        let (channels, sharded) = shared.places(&pass);
        let id = self.card.id;
        self.seat =
            Some(Box::new(Seat { attachment, pass, channels, sharded, outlet, id, shared }));
        Ok(())
    }

    /// Writes what there is, until something is to be read or the connection is over.
    async fn next(&mut self) -> Next {
        poll_fn(|cx| {
            if let Poll::Ready(ending) = self.poll_write(cx) {
                return Poll::Ready(Next::Over(ending));
            }
            if self.seat.is_none() && !self.line.output.lock().is_empty() {
                return Poll::Pending;
            }
            match ready!(self.line.io.poll_read_ready(cx)) {
                Ok(()) => Poll::Ready(Next::Readable),
                Err(_) => Poll::Ready(Next::Over(Ending::Lost)),
            }
        })
        .await
    }

    /// Reads once, and does what is asked.
    async fn work(&mut self) -> Result<(), Ending> {
        if let Some(seat) = &self.seat {
            seat.outlet.note_awake();
        }
        let most = if self.session.is_stranger() { STRANGER_BYTES_MAX } else { usize::MAX };
        let read = self.input.read(&self.line.io, most);
        let more = match read {
            Ok(Read::Nothing) => {
                self.input.rest();
                self.reads = 0;
                return Ok(());
            }
            Ok(Read::Some { more }) => more,
            Ok(Read::End) | Err(_) => {
                self.input.rest();
                return Err(Ending::Lost);
            }
        };
        self.listen().await?;
        self.reads = if more { self.reads + 1 } else { 0 };
        if self.reads >= READS_MAX {
            self.reads = 0;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Does what is asked by what has been read.
    async fn listen(&mut self) -> Result<(), Ending> {
        let mut input = std::mem::take(&mut self.input);
        let done = self.talk(&mut input).await;
        input.rest();
        self.input = input;
        done
    }

    /// Awaits `future`; meanwhile what there is is written.
    pub(super) async fn wait<F: Future>(&mut self, future: F) -> Result<F::Output, Ending> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            self.poll_write(cx).map(Err)
        })
        .await
    }

    /// Puts answers behind all that is there. False: room must be waited for.
    pub(super) fn say(&mut self, answers: Vec<u8>) -> bool {
        if answers.is_empty() {
            return true;
        }
        let answers = Bytes::from(answers);
        match &self.seat {
            Some(seat) => seat.attachment.push(answers),
            None => {
                self.line.output.lock().push(answers);
                true
            }
        }
    }

    /// Ready: the connection is over.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let Self { line, seat, shared, .. } = self;
        let mut output = line.output.lock();
        let mut written = 0;
        loop {
            if output.is_empty() {
                // Records that wait for the socket come first.
                if let Some(blocked) = poll_flush(line, seat.as_deref(), cx) {
                    return blocked;
                }
                match ready!(poll_refill(seat.as_deref_mut(), line, shared, &mut output, cx)) {
                    Ok(()) => {}
                    Err(ending) => return Poll::Ready(ending),
                }
            }
            match output.write(&line.io) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match poll_writable(line, seat.as_deref(), cx) {
                        None => continue,
                        Some(blocked) => return blocked,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Poll::Ready(Ending::Lost),
            }
            if written >= WRITE_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Encodes what waits for the protocol that the client leaves here.
    pub(super) fn settle_protocol(&mut self) {
        let mut output = self.line.output.lock();
        let before = self.line.resp();
        self.line.set_resp(self.session.resp());
        let Some(seat) = &mut self.seat else { return };
        let cx = Context::from_waker(std::task::Waker::noop());
        let mut entries = Vec::new();
        while let Poll::Ready(Ok(())) =
            seat.outlet.poll_entries(&cx, usize::MAX, &mut |entry| entries.push(entry))
        {}
        for run in entries.into_iter().filter_map(|entry| run_of(entry, before).ok()) {
            output.push(run);
        }
    }

    /// Says what is still to be said, to who still listens.
    async fn end(mut self: Box<Self>, ending: Ending) {
        let say_rest = !matches!(ending, Ending::Lost | Ending::OutputLimit | Ending::Failed);
        // A client that closes by itself has read what it wanted.
        let linger = say_rest && ending != Ending::Bye;
        if let Some(seat) = &self.seat {
            seat.attachment.end(ending);
        }
        if say_rest {
            let rest = async {
                // It ends when the mailbox is empty, since that is closed.
                poll_fn(|cx| self.poll_write_rest(cx)).await;
                // It is nobody any more, though its socket is still there.
                self.seat = None;
                if linger {
                    shut(&self.line.io).await;
                } else {
                    self.line.io.say_end();
                }
            };
            let _ = tokio::time::timeout(FAREWELL_MAX, rest).await;
        }
    }

    fn poll_write_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { line, seat, shared, .. } = self;
        let mut output = line.output.lock();
        while !output.is_empty()
            || matches!(
                poll_refill(seat.as_deref_mut(), line, shared, &mut output, cx),
                Poll::Ready(Ok(()))
            )
        {
            match output.write(&line.io) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if ready!(line.io.poll_write_ready(cx)).is_err() {
                        return Poll::Ready(());
                    }
                }
                Err(_) => return Poll::Ready(()),
            }
        }
        match poll_flush(line, None, cx) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(_)) | None => Poll::Ready(()),
        }
    }
}

/// `None`: something can be written. While nothing can, only the end of the attachment matters.
fn poll_writable(line: &Line, seat: Option<&Seat>, cx: &mut Context<'_>) -> Option<Poll<Ending>> {
    match line.io.poll_write_ready(cx) {
        Poll::Ready(Ok(())) => None,
        Poll::Ready(Err(_)) => Some(Poll::Ready(Ending::Lost)),
        Poll::Pending => Some(seat.map_or(Poll::Pending, |seat| seat.outlet.poll_ended(cx))),
    }
}

/// `None`: nothing waits in records.
fn poll_flush(line: &Line, seat: Option<&Seat>, cx: &mut Context<'_>) -> Option<Poll<Ending>> {
    loop {
        match line.io.flush() {
            Ok(()) => return None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(blocked) = poll_writable(line, seat, cx) {
                    return Some(blocked);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Some(Poll::Ready(Ending::Lost)),
        }
    }
}

/// Takes more from the mailbox.
fn poll_refill(
    seat: Option<&mut Seat>,
    line: &Line,
    shared: &Shared,
    output: &mut Output,
    cx: &Context<'_>,
) -> Poll<Result<(), Ending>> {
    let Some(seat) = seat else { return Poll::Pending };
    let mut entries: SmallVec<[Entry; 8]> = SmallVec::new();
    while output.is_empty() {
        ready!(seat.outlet.poll_entries(cx, WRITE_BYTES_MAX, &mut |entry| entries.push(entry)))?;
        // Encoding happens outside the mailbox's lock, by whichever subscriber comes first.
        for entry in entries.drain(..) {
            match run_of(entry, line.resp()) {
                Ok(run) => output.push(run),
                Err(gap) => note_gap(&gap, shared.deps.config.on_gap)?,
            }
        }
    }
    Poll::Ready(Ok(()))
}

fn note_gap(gap: &Gap, on_gap: OnGap) -> Result<(), Ending> {
    count_gap(gap);
    match on_gap {
        OnGap::Ignore => Ok(()),
        OnGap::Disconnect => Err(Ending::Gap),
    }
}
