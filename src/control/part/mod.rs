//! ○ This node's part in the agreed facts: its store, the group that it belongs to, and what the rest of the node asks of both.
//!
//! `round` ● is what it does again and again: found, wait, leave, tend. `writer` joins what waits to be written. `roster` is the membership
//! as control needs it, `door` lets other members in. Invariant: of a node's store there is one group at a time, and it changes under
//! one lock; who reads the facts waits for none of this.

mod door;
mod follow;
mod init;
mod roster;
mod round;
mod view;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

pub use follow::LeasesSeen;
pub use init::NotFounded;
pub use roster::Roster;
pub use view::{Role, SeatView};

use super::model::{Answer, Batch, Change, Command, GroupId, MemberAt, State};
use super::raft::calls::{Carrier, NotDone};
pub use super::raft::founding::Why;
use super::raft::store::{Changed, FILE, Store, StoreError};
use super::raft::types::RaftId;
use super::raft::{Group, GroupReport};
use crate::link::CallHandler;
use crate::supervise::{Clock, Shutdown};
use crate::types::{ClusterName, NodeName};
use writer::Asked;

/// Changes that wait to be written; more are refused.
const WAITING_MAX: usize = 4_096;
/// How long a change waits for a leader and a quorum before it is given up: an election takes less.
pub const QUORUM_WAIT_MAX: Duration = Duration::from_millis(2_500);

/// What a node is told of control.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    pub cluster: ClusterName,
    pub name: NodeName,
    /// None: all is in memory, and gone with the process.
    pub data_dir: Option<PathBuf>,
    pub has_seeds: bool,
    /// As `cluster.expect`.
    pub expect: usize,
}

/// A part of a node. Its tasks are `run` and `write`.
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

/// What others in the node use of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    shared: Arc<Shared>,
}

struct Shared {
    config: ControlConfig,
    carrier: Arc<dyn Carrier>,
    roster: Roster,
    clock: Clock,
    /// One change of group at a time.
    /// None while it is opened again after it had failed.
    store: tokio::sync::Mutex<Option<Store>>,
    now: RwLock<Now>,
    /// What nobody knows anything of has in a node without a group.
    nothing: Arc<State>,
    changed: Changed,
    standing: Mutex<Standing>,
    /// `control init` was asked.
    init: AtomicBool,
    round: tokio::sync::Notify,
    asks: mpsc::Sender<Asked>,
    asked: tokio::sync::Mutex<mpsc::Receiver<Asked>>,
}

#[derive(Debug, Clone)]
struct Now {
    id: RaftId,
    group: Option<Group>,
}

/// Where a node stands without regard to who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has no group yet.
    Waiting(Why),
    Member,
    /// It is a member, and there is another group; both were written to.
    Clash(GroupId),
}

/// How control stands on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlReport {
    pub id: RaftId,
    pub durable: bool,
    pub standing: Standing,
    /// None: no group.
    pub group: Option<GroupReport>,
    pub namespaces: u64,
    pub keys: u64,
    pub leases: u64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.config.name).finish_non_exhaustive()
    }
}

/// Looks at the store in the data directory, or makes it. What is wrong with it is found before the node does anything else.
pub fn open_store(config: &ControlConfig) -> Result<Store, StoreError> {
    let id = chance().map_err(|why| StoreError::Open {
        path: config.data_dir.clone().unwrap_or_default(),
        why,
    })?;
    match &config.data_dir {
        Some(dir) => Store::open(&dir.join(FILE), &config.cluster, id),
        None => Store::in_memory(&config.cluster, id),
    }
}

fn chance() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("no random numbers: {error}"))
}

fn opened(store: &mut Option<Store>) -> anyhow::Result<&mut Store> {
    store.as_mut().context("control's store has failed, and is opened again")
}

fn new_group() -> anyhow::Result<GroupId> {
    let (high, low) = (chance(), chance());
    let (high, low) = (high.map_err(anyhow::Error::msg)?, low.map_err(anyhow::Error::msg)?);
    Ok(GroupId((u128::from(high) << 64 | u128::from(low)).to_be_bytes()))
}

impl Control {
    /// Takes part in the group that the store has joined, if it has.
    pub async fn start(
        config: ControlConfig,
        store: Store,
        carrier: Arc<dyn Carrier>,
        roster: Roster,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        let identity = store.identity().clone();
        let shared = Arc::new(Shared {
            config,
            carrier,
            roster,
            clock,
            now: RwLock::new(Now { id: identity.raft_id, group: None }),
            store: tokio::sync::Mutex::new(Some(store)),
            nothing: Arc::default(),
            changed: Changed::default(),
            standing: Mutex::new(Standing::Waiting(Why::Settling)),
            init: AtomicBool::new(false),
            round: tokio::sync::Notify::new(),
            asks,
            asked: tokio::sync::Mutex::new(asked),
        });
        {
            let mut store = shared.store.lock().await;
            shared.take_part_again(opened(&mut store)?).await?;
        }
        shared.tell();
        Ok(Self { shared })
    }

    pub fn handle(&self) -> ControlHandle {
        ControlHandle { shared: self.shared.clone() }
    }

    /// Answers other members.
    pub fn door(&self) -> Arc<dyn CallHandler> {
        Arc::new(door::Door(Arc::downgrade(&self.shared)))
    }

    /// Founds, waits, leaves and tends, until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        round::run(self.shared, shutdown).await;
    }

    /// Writes what is asked for.
    pub async fn write(self, shutdown: Shutdown) {
        writer::run(&self.shared, shutdown).await;
    }
}

impl Shared {
    fn group(&self) -> Option<Group> {
        self.now.read().group.clone()
    }

    /// With a store that has joined a group.
    async fn take_part(&self, store: &mut Store) -> anyhow::Result<Group> {
        let carrier = self.carrier.clone();
        let group = Group::start(store, carrier, self.clock, self.changed.clone()).await?;
        *self.now.write() = Now { id: store.identity().raft_id, group: Some(group.clone()) };
        self.changed.send_replace(());
        Ok(group)
    }

    /// After a start of the node, or of its store: in the group that the store has joined, if it has.
    async fn take_part_again(&self, store: &mut Store) -> anyhow::Result<()> {
        // Who joined a group and was stopped before it had promised anything has joined none.
        if store.identity().group.is_some() && !store.is_blank() {
            self.take_part(store).await?;
        }
        Ok(())
    }

    /// The store had failed: it is opened anew, as at a start of the node, and what is in it goes on.
    async fn revive(&self) -> anyhow::Result<()> {
        let mut store = self.store.lock().await;
        if let Some(group) = self.group() {
            // Another one may have begun meanwhile.
            if group.report().stopped.is_none() {
                return Ok(());
            }
            group.stop().await;
        }
        if self.is_durable() {
            // A file is opened by one at a time, and redb writes no more to one that has failed.
            *store = None;
            *store = Some(open_store(&self.config)?);
            let store = opened(&mut store)?;
            *self.now.write() = Now { id: store.identity().raft_id, group: None };
            self.take_part_again(store).await?;
        } else {
            // As at another start.
            let id = chance().map_err(anyhow::Error::msg)?;
            opened(&mut store)?.forget(id)?;
            *self.now.write() = Now { id, group: None };
        }
        self.changed.send_replace(());
        self.tell();
        Ok(())
    }

    /// Joins a group and takes part in it, unless the node has one: then that.
    async fn join(&self, id: GroupId, me: RaftId) -> anyhow::Result<Option<Group>> {
        let mut store = self.store.lock().await;
        if let Some(group) = self.group() {
            return Ok(Some(group));
        }
        let store = opened(&mut store)?;
        if store.identity().raft_id != me {
            return Ok(None);
        }
        // It has one, which it could not take part in yet.
        if store.identity().group.is_some_and(|has| has != id) && !store.is_blank() {
            return Ok(None);
        }
        store.join(id)?;
        let group = self.take_part(store).await?;
        self.tell();
        self.round.notify_one();
        Ok(Some(group))
    }

    /// Drops what the store has of a group that has ended, and is another member from now on.
    async fn forget(&self, ended: GroupId) -> anyhow::Result<()> {
        let mut store = self.store.lock().await;
        if self.group().map(|group| group.id()) != Some(ended) {
            return Ok(());
        }
        let store = opened(&mut store)?;
        let id = chance().map_err(anyhow::Error::msg)?;
        let group = self.now.read().group.clone();
        if let Some(group) = group {
            group.stop().await;
        }
        store.forget(id)?;
        *self.now.write() = Now { id, group: None };
        self.changed.send_replace(());
        self.tell();
        Ok(())
    }

    /// A new group goes on from this state, with this node as its only voter so far. What its store had is gone.
    async fn found_again(&self, by: &str, mut state: State) -> anyhow::Result<GroupId> {
        let mut store = self.store.lock().await;
        let store = opened(&mut store)?;
        let (id, group) = (chance().map_err(anyhow::Error::msg)?, new_group()?);
        let at_ms = self.clock.unix_ms();
        let change = Change::FoundAgain { group, at_s: at_ms / 1_000 };
        let batch = Batch { at_ms, commands: vec![Command { by: by.into(), change }] };
        if let Some(Answer::Refused(why)) = state.apply(&batch).answers.0.first() {
            anyhow::bail!("{why}");
        }
        if let Some(group) = self.group() {
            group.stop().await;
        }
        store.found_again((id, self.roster.seat(self.is_durable())), group, &state)?;
        *self.now.write() = Now { id, group: None };
        self.take_part(store).await?;
        self.tell();
        self.round.notify_one();
        Ok(group)
    }

    fn tell(&self) {
        let now = self.now.read().clone();
        let group = now.group.as_ref().map(round::seen);
        self.roster.tell(now.id, self.is_durable(), group);
    }

    const fn is_durable(&self) -> bool {
        self.config.data_dir.is_some()
    }

    fn state(&self) -> Arc<State> {
        self.now
            .read()
            .group
            .as_ref()
            .map_or_else(|| self.nothing.clone(), |group| group.copy().state())
    }
}

impl ControlHandle {
    /// This member's copy of the facts. Empty where it has no group.
    pub fn state(&self) -> Arc<State> {
        self.shared.state()
    }

    /// Wakes when the copy has changed, also by a change of group.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// This incarnation of this member.
    pub fn me(&self) -> MemberAt {
        self.shared.roster.me()
    }

    /// As `submit`, for one change.
    pub async fn change(&self, by: &str, change: Change) -> Result<Answer, NotDone> {
        let answers = self.submit(vec![Command { by: by.into(), change }]).await?;
        answers.into_iter().next().ok_or_else(|| NotDone::Unknown("no answer".to_owned()))
    }

    /// Written in one entry, with what else waits; an answer for each. When it returns, this member's copy has them, unless it is far
    /// behind. Waits for a leader and a quorum, `QUORUM_WAIT_MAX` at most.
    pub async fn submit(&self, commands: Vec<Command>) -> Result<Vec<Answer>, NotDone> {
        let (reply, answer) = oneshot::channel();
        let until = self.shared.clock.now() + QUORUM_WAIT_MAX;
        let asked = Asked { commands, until, reply };
        self.shared.asks.try_send(asked).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                NotDone::TooMuch(format!("{WAITING_MAX} changes wait to be written already"))
            }
            mpsc::error::TrySendError::Closed(_) => NotDone::Stopped("the node ends".to_owned()),
        })?;
        answer.await.unwrap_or_else(|_| Err(NotDone::Unknown("the node ends".to_owned())))
    }

    pub fn report(&self) -> ControlReport {
        let shared = &self.shared;
        let now = shared.now.read().clone();
        let state = self.state();
        let count = |all: usize| all as u64;
        ControlReport {
            id: now.id,
            durable: shared.is_durable(),
            standing: *shared.standing.lock(),
            group: now.group.as_ref().map(Group::report),
            namespaces: count(state.namespace_count()),
            keys: count(state.key_count()),
            leases: count(state.lease_count()),
        }
    }

    /// Does this node vote, in a group that can give its seat to another one?
    pub fn has_seat_to_give(&self) -> bool {
        let report = self.shared.group().map(|group| group.report());
        report.is_some_and(|report| report.voter && report.quorum && report.stopped.is_none())
    }

    fn ask_init(&self) {
        self.shared.init.store(true, Ordering::Release);
        self.shared.round.notify_one();
    }
}
