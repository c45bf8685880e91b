//! ○ The one door that all fronts use: who may come in and do what, sessions, limits, readiness.
//!
//! A front opens an `Attachment` for each connection and does everything through it; `sessions` decides who holds which session, and
//! this shell does what it decides. No lock is held while an attachment is closed or a peer is asked.

mod attachment;
mod door;
mod endpoints;
pub mod error;
mod holders;
mod open;
mod presence;
mod reaper;
mod reports;
mod seat;
mod sessions;
mod tenant;
mod visits;
mod writers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use attachment::{Asked, Attachment, PublishOptions};
pub use door::{Door, DoorReport, Here, Pass, bearer};
pub use error::{BadKey, BrokerError, NotHere};
pub use holders::Holding;
pub use holders::reports::report;
pub use open::{Opening, Welcome};
pub use presence::{TrackAnswer, TrackAsk, UntrackAsk, Verb, WatchAsked};
pub use reports::{SessionFilter, SessionReport};
pub use seat::{Ending, Outlet, Voice};
pub use visits::{page_text, parse_page};

use crate::config::limits::LimitsHandle;
use crate::membership::MembershipHandle;
use crate::plants::{self, Plant};
use crate::pubsub::Messages;
use crate::replicator::ReplicatorHandle;
use crate::router::{
    Confirm, Publish, Published, Reach, RouterHandle, SessionDirectory, SessionKnown, SessionMoved,
};
use crate::supervise::{Clock, Supervisor, Task};
use crate::types::{NodeName, SessionId, Time};
use holders::Holders;
use seat::{Card, Seat};
use sessions::{AttachmentId, Input, Output, Sessions};
use tenant::Place;
use writers::Writers;

/// Farewells are spread over so long, so that not all clients reconnect at once.
const FAREWELL_SPREAD: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeName,
    router: RouterHandle,
    replicator: ReplicatorHandle,
    membership: MembershipHandle,
    limits: LimitsHandle,
    clock: Clock,
    door: Door,
    table: Mutex<Table>,
    next: AtomicU64,
    ready: watch::Sender<bool>,
    /// The same as `ready`, for the hot path.
    is_ready: AtomicBool,
    /// Topics with local subscribers, as of a moment ago: counting them is too dear for every subscribe.
    topics: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    sessions: Sessions,
    seats: HashMap<AttachmentId, Arc<Seat>>,
    /// What people see of a session, lingering ones included.
    cards: HashMap<SessionId, Arc<Card>>,
    /// Of the sessions behind a locked door, each among those of its namespace; lingering ones included, so that nobody has more sessions
    /// by leaving them alone.
    places: HashMap<SessionId, Place>,
    writers: Writers,
    /// How many seats each front has.
    by_front: BTreeMap<&'static str, u64>,
    /// Who is still to be told to go, and when.
    farewells: BTreeSet<(Time, AttachmentId)>,
    /// Whose pass is over when.
    expiries: BTreeSet<(Time, AttachmentId)>,
    away: Option<GoAway>,
    /// Which of the sessions hold leases.
    holders: Holders,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SessionCounts {
    pub attached: u64,
    /// Those of them that came by the Redis front.
    pub redis: u64,
    pub lingering: u64,
}

/// Tells a client where to go.
#[derive(Debug, Clone)]
pub struct GoAway {
    pub reason: String,
    pub grace: Duration,
    /// Empty: the other ready members at the moment of telling.
    pub endpoints: Vec<String>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("counts", &self.session_counts()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts its reaper, and answers the router's questions about sessions from now on.
    pub fn new(
        node: NodeName,
        router: RouterHandle,
        replicator: ReplicatorHandle,
        membership: MembershipHandle,
        limits: LimitsHandle,
        supervisor: &Supervisor,
        door: Door,
    ) -> Self {
        let clock = door.clock();
        let shared = Arc::new(Shared {
            node,
            router,
            replicator,
            membership,
            limits,
            clock,
            door,
            table: Mutex::default(),
            next: AtomicU64::new(1),
            ready: watch::Sender::new(false),
            is_ready: AtomicBool::new(false),
            topics: AtomicU64::new(0),
        });
        shared.router.set_directory(Arc::new(Directory(Arc::downgrade(&shared))));
        let (reaped, shutdown) = (Arc::downgrade(&shared), supervisor.shutdown().clone());
        let _ = supervisor.spawn_restarting(Task::SessionReaper, move || {
            reaper::run(reaped.clone(), shutdown.clone())
        });
        Self { shared }
    }

    pub fn node(&self) -> &NodeName {
        &self.shared.node
    }

    /// A publish by somebody without a session (unary call, HTTP). The topic is checked here.
    pub async fn publish_once(
        &self,
        pass: &Pass,
        topic: &str,
        messages: Messages,
        reach: Reach,
        confirm: Confirm,
    ) -> Result<Published, BrokerError> {
        let publish =
            self.checked(pass, topic, messages, reach, confirm).inspect_err(BrokerError::count)?;
        self.until_ready().await;
        Ok(self.shared.router.publish(publish, self.shared.clock.now()).await?)
    }

    fn checked(
        &self,
        pass: &Pass,
        topic: &str,
        messages: Messages,
        reach: Reach,
        confirm: Confirm,
    ) -> Result<Publish, BrokerError> {
        let limits = pass.limits(&self.shared.limits);
        let topic = self.shared.router.hasher().topic(pass.namespace(), topic, limits.topic)?;
        for (payload, fields) in messages.iter() {
            check_sizes(payload.len(), fields.len(), &limits)?;
        }
        pass.may_publish(&topic, &messages, self.shared.clock.now())?;
        Ok(Publish { topic, messages, exclude: None, reach, confirm })
    }

    /// What `only_node` of a publish means: nothing said, this node, or another one.
    pub fn reach(&self, only_node: &str) -> Result<Reach, BrokerError> {
        match only_node {
            "" => Ok(Reach::Cluster),
            "self" => Ok(Reach::Here),
            name if name == self.shared.node.as_str() => Ok(Reach::Here),
            name => NodeName::parse(name)
                .map(Reach::Node)
                .map_err(|bad| BrokerError::Invalid(bad.to_string())),
        }
    }

    /// Attached counts sessions' connections, an older one that still receives included.
    pub fn session_counts(&self) -> SessionCounts {
        let table = self.shared.table.lock();
        SessionCounts {
            attached: table.seats.len() as u64,
            redis: table.by_front.get("redis").copied().unwrap_or(0),
            lingering: table.sessions.lingering() as u64,
        }
    }

    /// From now on publishes are taken; until then they wait (P1: a node holds its clients' publishes until it is ready).
    pub fn set_ready(&self) {
        self.shared.is_ready.store(true, Ordering::Release);
        self.shared.ready.send_replace(true);
    }

    pub fn is_ready(&self) -> bool {
        self.shared.is_ready.load(Ordering::Acquire)
    }

    /// Ends when publishes are taken.
    pub async fn until_ready(&self) {
        if !self.is_ready() {
            // The sender lives in `self`.
            let _ = self.shared.ready.subscribe().wait_for(|ready| *ready).await;
        }
    }

    /// From now on new sessions and new subscriptions of strangers are refused with `draining`; everybody attached is sent this, spread
    /// over a second.
    pub fn drain(&self, away: GoAway) {
        let mut random = endpoints::Random::new();
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        if table.away.is_some() {
            return;
        }
        table.away = Some(away);
        let spread = FAREWELL_SPREAD.as_millis() as u64;
        let farewells: Vec<_> = table
            .seats
            .keys()
            .map(|id| (now + Duration::from_millis(random.below(spread)), *id))
            .collect();
        table.farewells.extend(farewells);
    }

    pub fn is_draining(&self) -> bool {
        self.shared.table.lock().away.is_some()
    }

    /// Attachments still here.
    pub fn attached(&self) -> u64 {
        self.shared.table.lock().seats.len() as u64
    }

    /// Sessions that have lost their attachment here, and when they end.
    pub fn lingering(&self) -> HashMap<SessionId, Time> {
        self.shared.table.lock().sessions.lingers().collect()
    }

    /// Closes whatever is still attached, with this reason.
    pub fn close_all(&self, reason: &str) {
        let seats: Vec<_> = self.shared.table.lock().seats.values().cloned().collect();
        for seat in seats {
            seat.end(Ending::NodeCloses(reason.to_owned()));
        }
    }

    /// Ends a session of this node, and its older attachments on others.
    pub async fn kill(&self, id: &str) -> Result<(), BrokerError> {
        let unknown = || BrokerError::UnknownSession(id.chars().take(64).collect());
        let session = SessionId::parse(id).ok_or_else(unknown)?;
        let outputs = self.shared.decide(Input::Kill { session });
        if outputs.is_empty() {
            return Err(unknown());
        }
        self.shared.announce(&outputs).await;
        Ok(())
    }
}

pub(crate) fn check_sizes(
    payload: usize,
    fields: usize,
    limits: &crate::config::Limits,
) -> Result<(), BrokerError> {
    if payload > limits.payload {
        return Err(BrokerError::PayloadTooLarge { size: payload, max: limits.payload });
    }
    if fields > limits.headers {
        return Err(BrokerError::HeadersTooLarge { size: fields, max: limits.headers });
    }
    Ok(())
}

impl Shared {
    /// Lets the table decide, does what can be done at once, and returns what was decided.
    fn decide(&self, input: Input) -> Vec<Output> {
        self.decide_if(input, |_| true)
    }

    /// As `decide`, where the table is so; else nothing.
    fn decide_if(&self, input: Input, is_so: impl FnOnce(&Table) -> bool) -> Vec<Output> {
        let now = self.clock.now();
        let mut table = self.table.lock();
        if !is_so(&table) {
            return Vec::new();
        }
        let outputs = table.handle(input, now);
        let affected = table.affected(&outputs);
        self.tell_replicator(&outputs);
        drop(table);
        obey(affected);
        outputs
    }

    /// What became of sessions, for what they own. With the table locked: told late, the end of a session could take what its next life
    /// owns.
    fn tell_replicator(&self, outputs: &[Output]) {
        for output in outputs {
            match *output {
                Output::Ended { .. } if plants::is(Plant::EndUntold) => {}
                Output::Elsewhere { session, .. } if plants::is(Plant::MoveEnds) => {
                    self.replicator.ended(session);
                }
                Output::Ended { session, .. } => self.replicator.ended(session),
                Output::Elsewhere { session, epoch } => self.replicator.moved(session, epoch),
                _ => {}
            }
        }
    }

    async fn announce(&self, outputs: &[Output]) {
        for output in outputs {
            if let Output::Announce(moved) = output {
                self.router.session_moved(*moved, false).await;
            }
        }
    }
}

/// What is to be done to an attachment, once no lock is held.
#[derive(Debug)]
enum Affected {
    ReceiveOnly(Arc<Seat>),
    End(Arc<Seat>, Ending),
}

impl Table {
    /// The only way in which sessions change: of those that hold leases it is noted.
    fn handle(&mut self, input: Input, now: Time) -> Vec<Output> {
        if self.holders.are_none() {
            return self.sessions.handle(input, now);
        }
        let session = self.sessions.session_of(&input);
        let outputs = self.sessions.handle(input, now);
        self.holders.note(session, &outputs);
        outputs
    }

    /// Once for a session, however often it is attached, until nothing of it is left here.
    fn take_place(&mut self, session: SessionId, pass: &Pass) -> Result<(), BrokerError> {
        if let Some(tenant) = pass.tenant()
            && !self.places.contains_key(&session)
        {
            self.places.insert(session, tenant.enter()?);
        }
        Ok(())
    }

    fn affected(&mut self, outputs: &[Output]) -> Vec<Affected> {
        let mut affected = Vec::new();
        for output in outputs {
            match output {
                Output::ReceiveOnly(id) => {
                    affected.extend(self.seats.get(id).cloned().map(Affected::ReceiveOnly));
                }
                Output::Close { attachment, why } => {
                    let seat = self.seats.get(attachment).cloned();
                    affected.extend(seat.map(|seat| Affected::End(seat, (*why).into())));
                }
                Output::Gone(session) => {
                    self.cards.remove(session);
                    self.places.remove(session);
                }
                Output::Ended { session, .. } => self.writers.forget(*session),
                Output::Ask { .. }
                | Output::Announce(_)
                | Output::Welcome { .. }
                | Output::Elsewhere { .. }
                | Output::Known(_) => {}
            }
        }
        affected
    }
}

fn obey(affected: Vec<Affected>) {
    for each in affected {
        match each {
            Affected::ReceiveOnly(seat) => seat.set_receive_only(),
            Affected::End(seat, ending) => seat.end(ending),
        }
    }
}

/// What the router asks; it must not keep the broker alive, since the broker keeps the router.
struct Directory(Weak<Shared>);

impl SessionDirectory for Directory {
    fn moved(&self, moved: SessionMoved) -> SessionKnown {
        let Some(shared) = self.0.upgrade() else { return SessionKnown::default() };
        let outputs = shared.decide(Input::Moved(moved));
        let known = outputs.iter().find_map(|output| match output {
            Output::Known(known) => Some(*known),
            _ => None,
        });
        known.unwrap_or_default()
    }
}
