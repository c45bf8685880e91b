//! The Rust client: one session over the gRPC stream, on whichever node will have it.
//!
//! It tries several addresses, comes back after a break, subscribes again, moves without a gap when a node asks it to, batches
//! publishes by itself, and never publishes anything twice. What may have been lost is an event, never a silence.
//!
//! In reading order: `message` (what a user sees), `session` ● (what is decided), `scan` ● and `codec` (bytes), `seen` ●, `outbox`
//! and `inbox` (the two queues), `reader`, `outlet`, `connect` (one stream), `driver` ○ (the task); `lease`, beside the stream. `lean` is a receiver, and `present` an attendee, for those who only count.

mod codec;
pub(crate) mod connect;
mod driver;
mod inbox;
pub(crate) mod lean;
mod lease;
mod message;
mod outbox;
mod outlet;
mod presence;
pub(crate) mod present;
mod reader;
mod scan;
mod seen;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub use lease::{
    Acquire, Acquired, Granted, HeldLease, LeaseChange, LeaseEntry, LeaseError, LeaseList,
    LeaseLost, LeaseOwner, LeaseWatch, LeaseWatched, Leases,
};
pub use message::{
    ClientError, Confirm, Event, Gap, GapReason, MemberTrace, Outcome, Publish, Published,
    ServerError, TopicResult,
};
pub use presence::{Changes, PresenceCount, PresenceEntry, PresenceEvent, Roster, Track, Untrack};
pub use scan::{Batch, Headers, Message, Messages};

use crate::supervise::{Clock, Shutdown, Supervisor, Task};
pub use crate::tls::ClientTls;
use driver::{Command, Driver, Whereabouts};
use inbox::Inbox;
use outbox::{Outbox, Queued};
use session::{PresenceAsk, Session, Settings};

/// Asks that wait for the driver; further ones await their turn.
const COMMANDS: usize = 64;

/// How a client behaves. Start from `Options::new`.
#[derive(Clone)]
pub struct Options {
    /// `host:port` of nodes' client listeners. More are learned from the nodes.
    pub addresses: Vec<String>,
    /// Empty: the key's, or the default one.
    pub namespace: String,
    /// A key or a signed token; sent as a bearer token.
    pub key: Option<String>,
    /// `None`: in the clear.
    pub tls: Option<ClientTls>,
    /// For people who look at sessions.
    pub client: String,
    /// How long the session outlives its connection. `None`: as the node has it.
    pub linger: Option<Duration>,
    /// Publishes that have not been written yet, in bytes. A publisher awaits room.
    pub outbox_bytes: usize,
    /// Events that the user has not taken yet, in bytes. Then the client stops reading, and the node's limits hold.
    pub inbox_bytes: usize,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("addresses", &self.addresses)
            .field("namespace", &self.namespace)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Options {
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            namespace: String::new(),
            key: None,
            tls: None,
            client: concat!("waxwing-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            linger: None,
            outbox_bytes: 1 << 20,
            inbox_bytes: 8 << 20,
        }
    }
}

/// Cheap to clone; clones are the same session. When the last one is dropped the client closes.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    outbox: Arc<Outbox>,
    whereabouts: Arc<Mutex<Whereabouts>>,
    ways: Arc<lease::Ways>,
}

/// What happens to a client. Dropping it throws away what comes.
#[derive(Debug)]
pub struct Events {
    inbox: Arc<Inbox>,
}

impl Client {
    /// Tries each address once, in turn; the first that welcomes the client decides. From then on it stays connected by itself.
    pub async fn connect(options: Options) -> Result<(Self, Events), ClientError> {
        for address in &options.addresses {
            connect::endpoint(address, session::CONNECT_MAX)?;
        }
        let metadata = connect::metadata(&options.namespace, options.key.as_deref())?;
        let ways = Arc::new(lease::Ways {
            addresses: options.addresses.clone(),
            metadata: metadata.clone(),
            tls: options.tls.clone(),
        });
        let clock = Clock::new();
        let mut seed = [0; 8];
        // Without randomness the clock must do: it only spreads clients out.
        let seed = match getrandom::fill(&mut seed) {
            Ok(()) => u64::from_le_bytes(seed),
            Err(_) => clock.unix_ms(),
        };
        let settings = Settings {
            addresses: options.addresses,
            client: options.client.clone(),
            linger: options.linger,
        };
        let outbox = Arc::new(Outbox::new(options.outbox_bytes));
        let inbox = Arc::new(Inbox::new(options.inbox_bytes));
        let whereabouts = Arc::new(Mutex::new(Whereabouts::default()));
        let (commands, commanded) = mpsc::channel(COMMANDS);
        let (started, start) = oneshot::channel();
        let driver = Driver::new(
            Session::new(settings, seed),
            clock,
            metadata,
            options.tls,
            Arc::clone(&outbox),
            Arc::clone(&inbox),
            Arc::clone(&whereabouts),
            commanded,
            started,
            options.inbox_bytes,
        );
        Supervisor::new(Shutdown::new()).spawn(Task::Client(options.client), driver.run());
        let client = Self { commands, outbox, whereabouts, ways };
        start.await.unwrap_or(Err(ClientError::Closed))?;
        Ok((client, Events { inbox }))
    }

    /// Ends when the node has answered: how far each name holds, topics first, then patterns. A subscription outlives its connection.
    pub async fn subscribe<T: Into<String>, P: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Vec<TopicResult>, ClientError> {
        self.ask(false, collect(topics), collect(patterns)).await
    }

    pub async fn unsubscribe<T: Into<String>, P: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Vec<TopicResult>, ClientError> {
        self.ask(true, collect(topics), collect(patterns)).await
    }

    async fn ask(
        &self,
        unsubscribe: bool,
        topics: Vec<String>,
        patterns: Vec<String>,
    ) -> Result<Vec<TopicResult>, ClientError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Ask { unsubscribe, topics, patterns, answer };
        self.commands.send(command).await.map_err(|_| ClientError::Closed)?;
        answered.await.unwrap_or(Err(ClientError::Closed))
    }

    /// Tracks a presence, or tracks it otherwise; ends with its reference when it is listed on the node. From then on the client keeps
    /// it there: it is tracked again wherever the client goes, until it is untracked or the client closes.
    pub async fn track(&self, track: Track) -> Result<String, ClientError> {
        self.one(PresenceAsk::Track(vec![track])).await
    }

    /// Many in one go, which costs far less. One answer for each, in order.
    pub async fn track_all(
        &self,
        tracks: Vec<Track>,
    ) -> Result<Vec<Result<String, ServerError>>, ClientError> {
        if tracks.is_empty() {
            return Ok(Vec::new());
        }
        self.ask_presence(PresenceAsk::Track(tracks)).await
    }

    /// As `track_all`, and ends when it has been asked; what is returned ends with the answers.
    pub(crate) async fn begin_track_all(
        &self,
        tracks: Vec<Track>,
    ) -> Result<
        impl Future<Output = Result<Vec<Result<String, ServerError>>, ClientError>> + use<>,
        ClientError,
    > {
        let (answer, answered) = oneshot::channel();
        let ask = PresenceAsk::Track(tracks);
        let asked = self.commands.send(Command::Presence { ask, answer }).await;
        asked.map_err(|_| ClientError::Closed)?;
        Ok(async move { answered.await.map_err(|_| ClientError::Closed) })
    }

    /// As `track`, of what this client tracks already; refused with `not_owner` where another session has taken it over.
    pub async fn update(&self, track: Track) -> Result<String, ClientError> {
        self.one(PresenceAsk::Update(vec![track])).await
    }

    pub async fn untrack(&self, untrack: Untrack) -> Result<(), ClientError> {
        self.one(PresenceAsk::Untrack(untrack)).await.map(drop)
    }

    /// `Event::Presence` tells who is there and what changes, until `unwatch`. A `Roster` keeps the list.
    pub async fn watch(&self, topic: impl Into<String>) -> Result<(), ClientError> {
        self.one(PresenceAsk::Watch { topic: topic.into(), counts_only: false }).await.map(drop)
    }

    /// As `watch`, but only how many there are.
    pub async fn watch_counts(&self, topic: impl Into<String>) -> Result<(), ClientError> {
        self.one(PresenceAsk::Watch { topic: topic.into(), counts_only: true }).await.map(drop)
    }

    pub async fn unwatch(&self, topic: impl Into<String>) -> Result<(), ClientError> {
        self.one(PresenceAsk::Unwatch { topic: topic.into() }).await.map(drop)
    }

    async fn one(&self, ask: PresenceAsk) -> Result<String, ClientError> {
        let answer = self.ask_presence(ask).await?.pop().ok_or(ClientError::Closed)?;
        Ok(answer?)
    }

    async fn ask_presence(
        &self,
        ask: PresenceAsk,
    ) -> Result<Vec<Result<String, ServerError>>, ClientError> {
        let (answer, answered) = oneshot::channel();
        self.commands
            .send(Command::Presence { ask, answer })
            .await
            .map_err(|_| ClientError::Closed)?;
        answered.await.map_err(|_| ClientError::Closed)
    }

    /// Publishes, and ends when it is confirmed as far as asked.
    pub async fn publish(&self, publish: Publish<'_>) -> Result<Outcome, ClientError> {
        self.send(publish).await?.await
    }

    /// Ends when there was room in the queue; what is returned ends with the confirmation. Publishes go out in the order in which they
    /// found room.
    pub async fn send(&self, publish: Publish<'_>) -> Result<Confirmation, ClientError> {
        match self.outbox.push(&publish).await? {
            Queued::Awaits(answer) => Ok(Confirmation { answer: Some(answer) }),
            Queued::Sent | Queued::Full => Ok(Confirmation { answer: None }),
        }
    }

    /// `None`: there is no room now.
    pub fn try_send(&self, publish: &Publish<'_>) -> Result<Option<Confirmation>, ClientError> {
        Ok(match self.outbox.try_push(publish)? {
            Queued::Awaits(answer) => Some(Confirmation { answer: Some(answer) }),
            Queued::Sent => Some(Confirmation { answer: None }),
            Queued::Full => None,
        })
    }

    /// Leases that are this session's: they come with it to other nodes, and end when the client closes. `Leases::new` has them without.
    pub fn leases(&self) -> Leases {
        Leases::of_session(Arc::clone(&self.ways), Arc::clone(&self.whereabouts))
    }

    /// The id that other people may see, and that `waxwing sessions` shows.
    pub fn session_id(&self) -> String {
        self.whereabouts.lock().session_id.clone()
    }

    /// `None`: between two nodes.
    pub fn node(&self) -> Option<String> {
        self.whereabouts.lock().node.clone()
    }

    /// Writes what is queued, then ends the session. False: not all of it could be handed over, or nobody knows.
    pub async fn close(&self) -> bool {
        let (done, closed) = oneshot::channel();
        match self.commands.send(Command::Close { done }).await {
            Ok(()) => closed.await.unwrap_or(false),
            Err(_) => false,
        }
    }
}

fn collect<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<String> {
    names.into_iter().map(Into::into).collect()
}

/// What becomes of a publish. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Confirmation {
    answer: Option<oneshot::Receiver<Result<Outcome, ClientError>>>,
}

impl Confirmation {
    /// Awaiting it would not wait.
    pub fn is_there(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| !answer.is_empty() || answer.is_terminated())
    }
}

impl Future for Confirmation {
    type Output = Result<Outcome, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            None => Poll::Ready(Ok(Outcome::Sent)),
            // A client that ends without a word leaves everything open.
            Some(answer) => {
                Poll::Ready(ready!(Pin::new(answer).poll(cx)).unwrap_or(Ok(Outcome::Unknown)))
            }
        }
    }
}

impl Events {
    /// `None`: the client is closed. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.inbox.poll_next(cx)).await
    }

    /// What is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.inbox.poll_next(&mut cx) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.inbox.deafen();
    }
}
