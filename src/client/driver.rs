//! ○ The client's one task: owns the attachments' streams, does what `session` decides.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tonic::transport::Channel;

use super::codec::{self, ServerEvent};
use super::connect::{self, reason, status_reason};
use super::inbox::Inbox;
use super::message::{ClientError, Event, TopicResult};
use super::outbox::Outbox;
use super::outlet::Outlet;
use super::reader::{Reader, messages};
use super::scan::Batch;
use super::seen::Seen;
use super::session::{AttachmentId, Input, Output, PresenceAnswers, PresenceAsk, Session, Ticket};
use crate::supervise::Clock;
use crate::tls::ClientTls;
use crate::types::TokenBytes;

/// What the user asks the driver to do.
#[derive(Debug)]
pub(crate) enum Command {
    Ask {
        unsubscribe: bool,
        topics: Vec<String>,
        patterns: Vec<String>,
        answer: oneshot::Sender<Result<Vec<TopicResult>, ClientError>>,
    },
    Presence {
        ask: PresenceAsk,
        answer: oneshot::Sender<PresenceAnswers>,
    },
    Close {
        done: oneshot::Sender<bool>,
    },
}

/// What the user may look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Whereabouts {
    pub(crate) session_id: String,
    pub(crate) node: Option<String>,
    /// The address where the session is attached.
    pub(crate) attached: Option<String>,
    /// The session's.
    pub(crate) token: TokenBytes,
    /// Of other nodes, as far as they are known.
    pub(crate) endpoints: Vec<String>,
}

pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) clock: Clock,
    pub(crate) metadata: HeaderMap,
    tls: Option<ClientTls>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) whereabouts: Arc<Mutex<Whereabouts>>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) started: Option<oneshot::Sender<Result<(), ClientError>>>,
    pub(crate) held_bytes_max: usize,
    attachments: Vec<Attachment>,
    asks: HashMap<Ticket, oneshot::Sender<Result<Vec<TopicResult>, ClientError>>>,
    presence_asks: HashMap<Ticket, oneshot::Sender<PresenceAnswers>>,
    tickets: Ticket,
    seen: Seen,
    closing: Vec<oneshot::Sender<bool>>,
    closed: bool,
    events: Vec<ServerEvent>,
}

type Opening<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

struct Attachment {
    id: AttachmentId,
    stream: Stream,
    outlet: Outlet,
    /// Its messages go to the user; else they are held.
    delivers: bool,
    held: Vec<Held>,
    held_bytes: usize,
}

enum Stream {
    Connecting(Opening<Channel>),
    /// Waits for its hello.
    Connected(Channel),
    Opening(Opening<Reader>),
    Reading(Reader),
    Ended,
}

enum Held {
    Batch(Batch),
    Event(Event),
    /// The topic's events begin anew behind it.
    Watching(String),
}

/// What the driver waits for.
enum Signal {
    Command(Option<Command>),
    Connected(AttachmentId),
    Run(AttachmentId, Bytes),
    Ended(AttachmentId, Result<(), String>),
    WatchLost(String),
    Tick,
}

impl Driver {
    #[expect(clippy::too_many_arguments, reason = "called once; each is a part of its own")]
    pub(crate) fn new(
        session: Session,
        clock: Clock,
        metadata: HeaderMap,
        tls: Option<ClientTls>,
        outbox: Arc<Outbox>,
        inbox: Arc<Inbox>,
        whereabouts: Arc<Mutex<Whereabouts>>,
        commands: mpsc::Receiver<Command>,
        started: oneshot::Sender<Result<(), ClientError>>,
        held_bytes_max: usize,
    ) -> Self {
        Self {
            session,
            clock,
            metadata,
            tls,
            outbox,
            inbox,
            whereabouts,
            commands,
            started: Some(started),
            held_bytes_max,
            attachments: Vec::new(),
            asks: HashMap::new(),
            presence_asks: HashMap::new(),
            tickets: 0,
            seen: Seen::default(),
            closing: Vec::new(),
            closed: false,
            events: Vec::new(),
        }
    }

    /// Ends when the client is closed, or was never welcomed.
    pub(crate) async fn run(mut self) {
        self.decide(Input::Start);
        let mut timer: Pin<Box<Sleep>> = Box::pin(tokio::time::sleep(connect::IDLE));
        let mut armed = None;
        while !self.closed {
            let deadline = self.session.deadline();
            if deadline != armed || timer.is_elapsed() {
                armed = deadline;
                let wait = deadline.map_or(connect::IDLE, |at| at.since(self.clock.now()));
                timer.set(tokio::time::sleep(wait));
            }
            let signal = poll_fn(|cx| self.poll_signal(cx, timer.as_mut())).await;
            self.on_signal(signal);
            // A busy stream is always ready; others want to run too.
            tokio::task::consume_budget().await;
        }
        self.outbox.close();
        self.inbox.close();
    }

    fn poll_signal(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Signal> {
        if let Poll::Ready(command) = self.poll_command(cx) {
            return Poll::Ready(Signal::Command(command));
        }
        if let Some(topic) = self.inbox.take_lost_watch(cx) {
            return Poll::Ready(Signal::WatchLost(topic));
        }
        // Nobody takes events, and nobody awaits anything that may stand behind them.
        let full = self.inbox.poll_room(cx).is_pending()
            && !self.session.is_busy()
            && self.outbox.poll_waiting(cx).is_pending();
        for attachment in &mut self.attachments {
            let paused = if attachment.delivers {
                full
            } else {
                // What is held is bounded; it goes on when it is delivered.
                attachment.held_bytes > 2 * self.held_bytes_max
            };
            if let Poll::Ready(signal) = attachment.poll(cx, paused) {
                return Poll::Ready(signal);
            }
        }
        timer.poll(cx).map(|()| Signal::Tick)
    }

    fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Option<Command>> {
        if self.commands.is_closed() && self.commands.is_empty() && !self.closing.is_empty() {
            // Every handle is gone, and it is closing already.
            return Poll::Pending;
        }
        self.commands.poll_recv(cx)
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Command(Some(Command::Ask { unsubscribe, topics, patterns, answer })) => {
                self.tickets += 1;
                let ticket = self.tickets;
                self.asks.insert(ticket, answer);
                self.decide(Input::Ask { ticket, unsubscribe, topics, patterns });
            }
            Signal::Command(Some(Command::Presence { ask, answer })) => {
                self.tickets += 1;
                let ticket = self.tickets;
                self.presence_asks.insert(ticket, answer);
                self.decide(Input::AskPresence { ticket, ask });
            }
            Signal::Command(Some(Command::Close { done })) => {
                self.closing.push(done);
                self.outbox.refuse_more();
                self.decide(Input::Close);
            }
            Signal::Command(None) => {
                // The last handle was dropped without a close. Nobody hears how it ends.
                self.closing.push(oneshot::channel().0);
                self.outbox.refuse_more();
                self.decide(Input::Close);
            }
            Signal::Connected(id) => self.decide(Input::Connected(id)),
            Signal::Run(id, run) => self.on_run(id, &run),
            Signal::Ended(id, end) => self.decide(Input::Ended(id, end)),
            Signal::WatchLost(topic) => self.decide(Input::WatchLost(topic)),
            Signal::Tick => self.decide(Input::Tick),
        }
    }

    fn on_run(&mut self, id: AttachmentId, run: &Bytes) {
        let mut events = std::mem::take(&mut self.events);
        for message in messages(run) {
            let read = codec::events(&run.slice(message), &mut events);
            for event in events.drain(..) {
                self.on_event(id, event);
            }
            if let Err(malformed) = read {
                if let Some(attachment) = self.attachments.iter_mut().find(|a| a.id == id) {
                    attachment.stream = Stream::Ended;
                }
                self.decide(Input::Ended(id, Err(malformed.to_string())));
                break;
            }
        }
        self.events = events;
    }

    fn on_event(&mut self, id: AttachmentId, event: ServerEvent) {
        match event {
            ServerEvent::Batch(batch) => self.deliver_or_hold(id, Held::Batch(batch)),
            ServerEvent::Gap(gap) => self.deliver_or_hold(id, Held::Event(Event::Gap(gap))),
            ServerEvent::Presence(event) => {
                self.deliver_or_hold(id, Held::Event(Event::Presence(event)));
            }
            ServerEvent::Reply(reply) => {
                if self.outbox.answered(&reply) {
                    self.tell_answered();
                } else {
                    self.decide(Input::Replied(id, reply));
                }
            }
            ServerEvent::Welcome(welcome) => self.decide(Input::Welcomed(id, welcome)),
            ServerEvent::GoAway(away) => self.decide(Input::AskedAway(id, away)),
        }
    }

    fn deliver_or_hold(&mut self, id: AttachmentId, what: Held) {
        let Some(attachment) = self.attachments.iter_mut().find(|a| a.id == id) else { return };
        if attachment.delivers {
            return self.deliver(what);
        }
        attachment.held_bytes += match &what {
            Held::Batch(batch) => batch.encoded_len(),
            Held::Event(Event::Presence(event)) => 256 + event.bytes(),
            Held::Event(_) | Held::Watching(_) => 256,
        };
        attachment.held.push(what);
        if attachment.held_bytes > self.held_bytes_max {
            self.decide(Input::HeldFull(id));
        }
    }

    fn deliver(&mut self, what: Held) {
        match what {
            Held::Event(event) => self.inbox.push(event),
            Held::Watching(topic) => self.inbox.watching(&topic),
            Held::Batch(mut batch) => {
                self.seen.filter(&mut batch);
                if !batch.is_empty() {
                    self.inbox.push(Event::Messages(batch));
                }
            }
        }
    }

    fn tell_answered(&mut self) {
        if let Some(id) = self.session.awaits_answers()
            && self.outbox.unanswered(id) == 0
        {
            self.decide(Input::AllAnswered(id));
        }
    }

    fn decide(&mut self, input: Input) {
        self.session.handle(input, self.clock.now());
        while let Some(output) = self.session.poll_output() {
            self.perform(output);
        }
        // It may have begun to await answers that have all come.
        if let Some(id) = self.session.awaits_answers()
            && self.outbox.unanswered(id) == 0
        {
            self.session.handle(Input::AllAnswered(id), self.clock.now());
            while let Some(output) = self.session.poll_output() {
                self.perform(output);
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { attachment, address } => {
                self.attachments.push(Attachment::new(attachment, address, self.tls.clone()));
            }
            Output::Send { attachment, request } => self.send(attachment, request),
            Output::Publishes(owner) => {
                self.outbox.set_owner(owner);
                if let Some(attachment) = owner.and_then(|id| self.find(id)) {
                    attachment.outlet.wake();
                }
            }
            Output::Deliver(id) => {
                let Some(attachment) = self.find(id) else { return };
                attachment.delivers = true;
                attachment.held_bytes = 0;
                for held in std::mem::take(&mut attachment.held) {
                    self.deliver(held);
                }
            }
            Output::Drop(id) => {
                if let Some(attachment) = self.find(id) {
                    attachment.outlet.stop();
                }
                self.attachments.retain(|attachment| attachment.id != id);
                self.outbox.lost(id);
            }
            Output::Event(event) => self.inbox.push(event),
            Output::Answer { ticket, result } => {
                if let Some(answer) = self.asks.remove(&ticket) {
                    let _ = answer.send(result.map_err(ClientError::Refused));
                }
            }
            Output::AnswerPresence { ticket, answers } => {
                if let Some(answer) = self.presence_asks.remove(&ticket) {
                    let _ = answer.send(answers);
                }
            }
            Output::Watching { attachment, topic } => {
                self.deliver_or_hold(attachment, Held::Watching(topic));
            }
            Output::Started => self.start(Ok(())),
            Output::GaveUp(tried) => self.start(Err(ClientError::Unreachable { tried })),
            Output::Closed { clean } => {
                let clean = clean && !self.outbox.has_queued();
                for done in self.closing.drain(..) {
                    let _ = done.send(clean);
                }
                self.closed = true;
            }
        }
        let mut whereabouts = self.whereabouts.lock();
        if whereabouts.node.as_deref() != self.session.node() {
            whereabouts.node = self.session.node().map(str::to_owned);
        }
        if whereabouts.session_id != self.session.session_id() {
            whereabouts.session_id = self.session.session_id().to_owned();
        }
        if whereabouts.attached.as_deref() != self.session.attached_at() {
            whereabouts.attached = self.session.attached_at().map(str::to_owned);
        }
        if whereabouts.token != *self.session.token() {
            whereabouts.token = self.session.token().clone();
        }
        if whereabouts.endpoints != self.session.endpoints() {
            whereabouts.endpoints = self.session.endpoints().to_vec();
        }
    }

    fn start(&mut self, result: Result<(), ClientError>) {
        if let Some(started) = self.started.take() {
            let _ = started.send(result);
        }
    }

    fn send(&mut self, id: AttachmentId, request: super::session::Request) {
        let (outbox, metadata) = (Arc::clone(&self.outbox), self.metadata.clone());
        let Some(attachment) = self.find(id) else { return };
        attachment.outlet.send(request);
        if let Stream::Connected(_) = attachment.stream
            && let Stream::Connected(channel) =
                std::mem::replace(&mut attachment.stream, Stream::Ended)
        {
            let source = attachment.outlet.source(id, outbox);
            attachment.stream = Stream::Opening(Box::pin(async move {
                let opened = connect::open(channel, &metadata, source).await;
                opened.map_err(|status| status_reason(&status))
            }));
        }
    }

    fn find(&mut self, id: AttachmentId) -> Option<&mut Attachment> {
        self.attachments.iter_mut().find(|attachment| attachment.id == id)
    }
}

impl Attachment {
    fn new(id: AttachmentId, address: String, tls: Option<ClientTls>) -> Self {
        let connecting = async move {
            let endpoint = connect::endpoint(&address, super::session::CONNECT_MAX)
                .map_err(|err| err.to_string())?;
            connect::channel(&endpoint, tls.as_ref()).await.map_err(|err| reason(&err))
        };
        Self {
            id,
            stream: Stream::Connecting(Box::pin(connecting)),
            outlet: Outlet::new(),
            delivers: false,
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, paused: bool) -> Poll<Signal> {
        let failed = match &mut self.stream {
            Stream::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(channel)) => {
                    self.stream = Stream::Connected(channel);
                    return Poll::Ready(Signal::Connected(self.id));
                }
                Poll::Ready(Err(reason)) => Err(reason),
            },
            Stream::Opening(opening) => match opening.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(reader)) => {
                    self.stream = Stream::Reading(reader);
                    return self.poll(cx, paused);
                }
                Poll::Ready(Err(reason)) => Err(reason),
            },
            Stream::Reading(_) if paused => return Poll::Pending,
            Stream::Reading(reader) => match reader.poll_run(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(run))) => return Poll::Ready(Signal::Run(self.id, run)),
                Poll::Ready(Some(Err(status))) => Err(status_reason(&status)),
                Poll::Ready(None) => Ok(()),
            },
            Stream::Connected(_) | Stream::Ended => return Poll::Pending,
        };
        self.stream = Stream::Ended;
        Poll::Ready(Signal::Ended(self.id, failed))
    }
}
