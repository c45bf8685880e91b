//! What a link asks of the membership, and tells it.

use tokio::sync::watch;

use crate::membership::{LinkEvidence, Member, MembershipHandle, SharedMembers};
use crate::types::{Incarnation, NodeName};

/// Who is in the cluster, as links see it.
pub trait Roster: Send + Sync + 'static {
    /// This node's own row. Its incarnation may rise while the node runs.
    fn me(&self) -> Member;
    /// Wakes at every change.
    fn watch(&self) -> watch::Receiver<SharedMembers>;
    /// `host:port` of the member's peer port.
    fn dial_address(&self, peer: &NodeName) -> Option<String>;
    fn evidence(&self, peer: &NodeName, incarnation: Incarnation, evidence: LinkEvidence);
}

impl Roster for MembershipHandle {
    fn me(&self) -> Member {
        Self::me(self)
    }

    fn watch(&self) -> watch::Receiver<SharedMembers> {
        Self::watch(self)
    }

    fn dial_address(&self, peer: &NodeName) -> Option<String> {
        Self::dial_address(self, peer)
    }

    fn evidence(&self, peer: &NodeName, incarnation: Incarnation, evidence: LinkEvidence) {
        Self::evidence(self, peer, incarnation, evidence);
    }
}
