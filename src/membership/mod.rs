//! Who is in the cluster: chitchat's gossip behind our own words, over sealed UDP.
//!
//! SKELETON: signatures that the other modules rely on; bodies to be written.

mod member;

use std::sync::Arc;

use tokio::sync::watch;

pub use member::{Addresses, Load, Member, MemberState, Members, SharedMembers};

use crate::types::{Incarnation, NodeName};

/// What a link has seen of a peer; `Dead early` is decided from it.
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
    #[allow(dead_code, reason = "skeleton")]
    shared: Arc<()>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: &'static str,
    pub message: String,
    pub hint: String,
    pub since: crate::types::Time,
}

#[allow(clippy::todo, clippy::unused_async, unused_variables, reason = "skeleton")]
impl MembershipHandle {
    /// The current view, oneself included.
    pub fn members(&self) -> SharedMembers {
        self.view.borrow().clone()
    }

    /// Wakes at every change of the view.
    pub fn watch(&self) -> watch::Receiver<SharedMembers> {
        self.view.clone()
    }

    /// This node's own row.
    pub fn me(&self) -> Member {
        todo!()
    }

    pub fn set_state(&self, state: MemberState) {
        todo!()
    }

    pub fn set_load(&self, load: Load) {
        todo!()
    }

    pub fn evidence(&self, peer: &NodeName, incarnation: Incarnation, evidence: LinkEvidence) {
        todo!()
    }

    /// Where to dial this member's peer port: its override, else what it advertises.
    pub fn dial_address(&self, peer: &NodeName) -> Option<String> {
        todo!()
    }

    /// Gossips to these seeds at once; ends when one has answered, with the names of the members then seen.
    pub async fn join(&self, seeds: Vec<String>) -> anyhow::Result<Vec<NodeName>> {
        todo!()
    }

    /// Row = leaving, three gossip rounds, stop.
    pub async fn leave(&self) {
        todo!()
    }

    /// Why this node counts itself isolated, if it does.
    pub fn isolated(&self) -> Option<String> {
        todo!()
    }

    /// From now on the first seals, all open.
    pub fn set_secrets(&self, secrets: &[crate::config::Secret]) {
        todo!()
    }

    pub fn problems(&self) -> Vec<Problem> {
        todo!()
    }
}

#[derive(Debug)]
pub struct Membership {
    _skeleton: (),
}

#[derive(Debug)]
pub struct MembershipConfig {
    _skeleton: (),
}

#[allow(clippy::todo, clippy::unused_async, unused_variables, reason = "skeleton")]
impl MembershipConfig {
    pub fn of(config: &crate::config::Config, addresses: Addresses) -> Self {
        todo!()
    }
}

#[allow(clippy::todo, clippy::unused_async, unused_variables, reason = "skeleton")]
impl Membership {
    pub async fn start(
        config: MembershipConfig,
        socket: tokio::net::UdpSocket,
        supervisor: crate::supervise::Supervisor,
        clock: crate::supervise::Clock,
    ) -> anyhow::Result<Self> {
        todo!()
    }

    pub fn handle(&self) -> MembershipHandle {
        todo!()
    }
}
