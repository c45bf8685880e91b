//! Who is in the cluster: chitchat's gossip behind our own words, over sealed UDP.
//!
//! - `seal`, `envelope`, `replay`, `fragment`, `bucket`, `check` decide what is let in from the socket; `wire` and `receiver` do it.
//! - `gossip` runs chitchat, whose word is evidence; `view` decides who is a member and how it does, `isolation` how this node does.
//! - `start` finds out which incarnation to be, `driver` keeps it all going, and `MembershipHandle` is what the rest of the node has.

mod bucket;
mod check;
mod codec;
mod config;
mod driver;
mod envelope;
mod fragment;
mod gossip;
mod isolation;
mod member;
mod peers;
mod problems;
mod receiver;
mod rejected;
mod replay;
mod row;
#[cfg(any(test, fuzzing))]
pub(crate) mod rules;
mod seal;
mod seeds;
mod shared;
mod start;
mod view;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use config::{IncarnationStore, MembershipConfig, MembershipError};
pub use member::{
    Addresses, ControlGroup, ControlRow, Load, Member, MemberState, Members, SharedMembers,
};
pub use problems::{Problem, SEEDS_UNREACHABLE};
pub use start::Membership;

use self::envelope::Control;
use self::seal::Keyring;
use self::shared::{Reply, Shared};
use crate::config::Secret;
use crate::types::{Incarnation, NodeName, Replica};

/// For the first seed to answer, and then for its members to be seen.
const JOIN_WITHIN: Duration = Duration::from_secs(5);
const SEE_WITHIN: Duration = Duration::from_secs(3);
const SEEDS_MAX: usize = 64;
const LEAVE_ROUNDS: u32 = 3;

/// What a link has seen of a peer; dead early is decided from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEvidence {
    /// The link to that incarnation is up and answers.
    Up,
    /// The link to that incarnation ended.
    Ended,
    /// Its address refused a connection.
    Refused,
    /// Another incarnation greeted at that address.
    OtherIncarnation(Incarnation),
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct MembershipHandle {
    view: watch::Receiver<SharedMembers>,
    shared: Arc<Shared>,
}

impl MembershipHandle {
    fn new(shared: Arc<Shared>) -> Self {
        Self { view: shared.members.subscribe(), shared }
    }

    /// The current view, oneself included.
    pub fn members(&self) -> SharedMembers {
        self.view.borrow().clone()
    }

    /// Wakes at every change of the view. Clone what is borrowed from it, and give it back before anything else is called: a change waits
    /// for it while it holds `core`, and whoever looks again waits for the change.
    pub fn watch(&self) -> watch::Receiver<SharedMembers> {
        self.view.clone()
    }

    /// This node's own row.
    pub fn me(&self) -> Member {
        self.shared.core.lock().me.member()
    }

    /// Joining, ready, draining or leaving; nobody says of itself that it is down. What has left stays so.
    pub fn set_state(&self, state: MemberState) {
        let mut core = self.shared.core.lock();
        if state == MemberState::Down || core.left {
            tracing::warn!(%state, "a node can't take this state");
            return;
        }
        core.me.facts.state = state;
        self.shared.wake.notify_one();
    }

    /// Told to the others at once.
    pub fn set_control(&self, row: ControlRow) {
        let mut core = self.shared.core.lock();
        if core.me.facts.control != Some(row) {
            core.me.facts.control = Some(row);
            self.shared.wake.notify_one();
        }
    }

    /// Told to the others coarsely, and every few seconds at most.
    pub fn set_load(&self, load: Load) {
        self.shared.core.lock().load = load;
    }

    /// What a link to this incarnation of a peer has seen.
    pub fn evidence(&self, peer: &NodeName, incarnation: Incarnation, evidence: LinkEvidence) {
        let now = self.shared.clock.now();
        self.shared.core.lock().view.evidence(peer, incarnation, evidence, now);
    }

    /// Dead early, forgotten, or replaced by a newer incarnation: it won't come back, unlike one that is only silent.
    pub fn confirmed_dead(&self, replica: &Replica) -> bool {
        let now = self.shared.clock.now();
        self.shared.core.lock().view.confirmed_dead(replica, now)
    }

    /// Where to dial this member's peer port: its override, else what it advertises.
    pub fn dial_address(&self, peer: &NodeName) -> Option<String> {
        let to = self.shared.config.dial.get(peer).map(ToString::to_string);
        to.or_else(|| Some(self.view.borrow().get(peer)?.addresses.peer.clone()))
    }

    /// Gossips to these seeds at once; ends when one has answered, with the names of the members then seen.
    pub async fn join(&self, seeds: Vec<String>) -> anyhow::Result<Vec<NodeName>> {
        let shared = &self.shared;
        let found = shared.resolve(&seeds).await;
        anyhow::ensure!(
            !found.is_empty(),
            "no address but this node's own in {}",
            seeds.join(", ")
        );
        {
            let mut core = shared.core.lock();
            anyhow::ensure!(!core.left, "this node has left the cluster");
            let new = |seed: &String| !core.seeds.contains(seed);
            let new: Vec<_> = seeds.iter().filter(|seed| new(seed)).cloned().collect();
            let room = SEEDS_MAX.saturating_sub(core.seeds.len());
            core.seeds.extend(new.into_iter().take(room));
        }
        shared.seek.notify_one();
        let replies = shared.ask(&found, JOIN_WITHIN, 1).await;
        let Some(reply) = replies.first() else {
            anyhow::bail!(
                "no answer from {} (a node with another cluster name or secret stays silent)",
                seeds.join(", ")
            );
        };
        if let Some(error) = start::in_use(&replies, shared.wire.address(), &shared.config.name) {
            return Err(error.into());
        }
        self.see(reply).await
    }

    /// Waits until the one that answered, and those that it sees, are members here too.
    async fn see(&self, reply: &Reply) -> anyhow::Result<Vec<NodeName>> {
        let all: BTreeSet<_> =
            reply.answer.members.iter().filter_map(|name| NodeName::parse(name).ok()).collect();
        let live = |members: &SharedMembers| {
            let live = members.iter().filter(|member| member.me || member.state.is_live());
            live.map(|member| member.name.clone()).collect::<BTreeSet<_>>()
        };
        let mut view = self.view.clone();
        let seen = view.wait_for(|members| all.is_subset(&live(members)));
        // In time or not: what is seen then counts.
        let _ = tokio::time::timeout(SEE_WITHIN, seen).await;
        let seen = live(&self.members());
        if !seen.contains(&reply.name) {
            let why = self.isolated().unwrap_or_else(|| "its gossip doesn't arrive".to_owned());
            anyhow::bail!("`{}` answered, but is no member here: {why}", reply.name);
        }
        Ok(seen.into_iter().collect())
    }

    /// Row = leaving, three gossip rounds, stop.
    pub async fn leave(&self) {
        let shared = &self.shared;
        self.set_state(MemberState::Leaving);
        tokio::time::sleep(shared.config.gossip_interval * LEAVE_ROUNDS).await;
        let incarnation = self.me().incarnation.0;
        // Told twice, for want of answers; who misses both sees the silence of a leaving member.
        for _ in 0..2 {
            driver::tell_all(shared, &Control::Farewell { incarnation }).await;
        }
        shared.core.lock().left = true;
        shared.wake.notify_one();
    }

    /// Why this node counts itself isolated, if it does.
    pub fn isolated(&self) -> Option<String> {
        self.shared.core.lock().isolated.clone()
    }

    pub fn problems(&self) -> Vec<Problem> {
        self.shared.core.lock().problems.clone()
    }

    /// How many datagrams and messages this node has dropped, by reason.
    pub fn gossip_rejected(&self) -> Vec<(&'static str, u64)> {
        self.shared.wire.rejections().all()
    }

    /// The first seals from now on, any opens. None: the key that comes from the cluster's name.
    pub fn set_secrets(&self, secrets: &[Secret]) {
        self.shared.wire.set_keyring(Keyring::new(&self.shared.config.cluster, secrets));
    }
}

#[cfg(test)]
mod tests;
