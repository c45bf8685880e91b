//! All links of this node: one dialer task for each member, one acceptor for all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::time::MissedTickBehavior;

use super::board::Board;
use super::calls::{CallHandler, Calls, Uncalled};
use super::error::LinkError;
use super::fence::Fence;
use super::frame::{NONCE_LEN, Nonce};
use super::proof::Keys;
use super::session::Credentials;
use super::windows::Windows;
use super::{LinkConfig, LinkHandler, LinkReport, Roster, StateHandler, acceptor, calls, dialer};
use crate::config::Secret;
use crate::membership::{MemberState, SharedMembers};
use crate::net::{Listener, SharedNetwork};
use crate::supervise::{Clock, Shutdown, Supervisor, Task, TaskHandle};
use crate::types::{Incarnation, NodeName};

/// How often what has waited too long is looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Everything that the tasks of this module share.
pub(super) struct Shared {
    pub config: LinkConfig,
    credentials: RwLock<Arc<Credentials>>,
    pub roster: Arc<dyn Roster>,
    pub network: SharedNetwork,
    pub supervisor: Supervisor,
    pub clock: Clock,
    pub handler: Arc<dyn LinkHandler>,
    pub state: Arc<dyn StateHandler>,
    pub board: Board,
    pub fence: Fence,
    pub windows: Windows,
    pub calls: Calls,
    attempts: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }

    /// Rises for every peer and incarnation alike.
    pub(super) fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Not cryptographic by itself: the operating system's source is.
pub(super) fn nonce() -> Result<Nonce, LinkError> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|err| LinkError::Random(err.to_string()))?;
    Ok(nonce)
}

#[derive(Debug)]
pub struct Links {
    shared: Arc<Shared>,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct LinksHandle {
    shared: Arc<Shared>,
}

impl Links {
    pub fn new(
        config: LinkConfig,
        roster: Arc<dyn Roster>,
        network: SharedNetwork,
        supervisor: Supervisor,
        clock: Clock,
        handler: Arc<dyn LinkHandler>,
        state: Arc<dyn StateHandler>,
    ) -> Self {
        let credentials = Credentials {
            cluster: config.cluster.clone(),
            name: config.name.clone(),
            keys: Keys::derive(&config.cluster, &config.secrets),
            versions: config.versions.clone(),
            settings: config.settings.clone(),
        };
        Self {
            shared: Arc::new(Shared {
                config,
                credentials: RwLock::new(Arc::new(credentials)),
                roster,
                network,
                supervisor,
                clock,
                handler,
                state,
                board: Board::default(),
                fence: Fence::default(),
                windows: Windows::default(),
                calls: Calls::default(),
                attempts: AtomicU64::new(0),
            }),
        }
    }

    pub fn handle(&self) -> LinksHandle {
        LinksHandle { shared: self.shared.clone() }
    }

    /// Dials and accepts until `shutdown`; then all links end, and it returns.
    pub async fn run(self, listener: impl Into<Listener>, shutdown: Shutdown) {
        let accepting = acceptor::serve(self.shared.clone(), listener.into(), shutdown.clone());
        let dialing = follow_members(self.shared, shutdown);
        tokio::join!(Box::pin(accepting), dialing);
    }
}

impl LinksHandle {
    /// Two rows for each member but oneself, by name.
    pub fn report(&self) -> Vec<LinkReport> {
        self.shared.board.report(&self.shared.windows, self.shared.clock.now())
    }

    /// Up in both directions with this incarnation.
    pub fn connected(&self, peer: &NodeName, incarnation: Incarnation) -> bool {
        self.shared.board.connected(peer, incarnation)
    }

    /// Who answers the calls of others, from now on and for good.
    pub fn answer_calls(&self, handler: Arc<dyn CallHandler>) {
        self.shared.calls.answer_with(handler);
    }

    /// Asks a member; whoever waits for the answer says how long.
    pub async fn call(&self, peer: &NodeName, payload: Bytes) -> Result<Bytes, Uncalled> {
        calls::call(&self.shared, peer, payload).await
    }

    /// From the next greeting on. Links that are up stay.
    pub fn set_secrets(&self, secrets: &[Secret]) {
        let keys = Keys::derive(&self.shared.config.cluster, secrets);
        let mut credentials = self.shared.credentials.write();
        *credentials = Arc::new(Credentials { keys, ..(**credentials).clone() });
    }
}

/// One dialer for each member, none for others; ends links whose incarnations are over.
async fn follow_members(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut dialers = BTreeMap::<NodeName, TaskHandle>::new();
    let mut view = shared.roster.watch();
    let mut expiry = tokio::time::interval(EXPIRE_EVERY);
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let members = view.borrow_and_update().clone();
        for gone in retain_members(&shared, &members, &mut dialers) {
            gone.abort();
            gone.ended().await;
        }
        let own = shared.roster.me().incarnation;
        shared.fence.retain(
            |peer, epoch| {
                let current = members.get(peer).map(|member| member.incarnation);
                epoch.receiver == own && current == Some(epoch.sender)
            },
            |peer| is_peer(&members, peer),
        );
        let changed = loop {
            tokio::select! {
                changed = view.changed() => break Some(changed),
                () = shutdown.cancelled() => break None,
                _ = expiry.tick() => {
                    let age = shared.config.limits.window_age;
                    shared.windows.expire(shared.clock.now(), age);
                }
            }
        };
        let Some(changed) = changed else { break };
        if changed.is_err() {
            shutdown.cancelled().await;
            break;
        }
    }
    for dialer in dialers.into_values() {
        dialer.abort();
        dialer.ended().await;
    }
}

/// Starts dialers for new members; returns those of members that are no more.
fn retain_members(
    shared: &Arc<Shared>,
    members: &SharedMembers,
    dialers: &mut BTreeMap<NodeName, TaskHandle>,
) -> Vec<TaskHandle> {
    let gone: Vec<_> = dialers.keys().filter(|peer| !is_peer(members, peer)).cloned().collect();
    let gone = gone.iter().filter_map(|peer| dialers.remove(peer)).collect();
    shared.board.retain(|peer| is_peer(members, peer));
    shared.windows.retain(|peer| is_peer(members, peer));
    for member in members.iter().filter(|member| !member.me) {
        let peer = &member.name;
        shared.board.add(peer);
        // One that leaves keeps the link it has, and gets no new one.
        if member.state != MemberState::Leaving && !dialers.contains_key(peer) {
            let (shared, name) = (shared.clone(), peer.clone());
            let task = Task::LinkDialer(peer.clone());
            let dialer = shared.supervisor.clone().spawn_restarting(task, move || {
                Box::pin(dialer::keep_link(shared.clone(), name.clone()))
            });
            dialers.insert(peer.clone(), dialer);
        }
    }
    gone
}

fn is_peer(members: &SharedMembers, peer: &NodeName) -> bool {
    members.get(peer).is_some_and(|member| !member.me)
}
