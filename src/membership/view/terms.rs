//! What goes into the fold and what comes out of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::member::{Member, SharedMembers};
use super::super::row::Facts;
use crate::types::{Incarnation, NodeName, Replica, Time};

/// A row of chitchat.
#[derive(Debug, Clone)]
pub(in crate::membership) struct Row {
    pub(in crate::membership) replica: Replica,
    pub(in crate::membership) address: SocketAddr,
    pub(in crate::membership) heartbeat: u64,
    pub(in crate::membership) live: bool,
    pub(in crate::membership) facts: Option<Facts>,
}

#[derive(Debug, Clone)]
pub(in crate::membership) struct Timing {
    /// How often `tick` is called.
    pub(in crate::membership) tick: Duration,
    /// Without a sign of life for so long, and not live by phi: down. Phi alone would call a peer down that was not scheduled for
    /// half a second.
    pub(in crate::membership) silence: Duration,
    /// As long as detecting a failure takes at most, usually.
    pub(in crate::membership) detection: Duration,
    /// A leaving member is gone after so long.
    pub(in crate::membership) leaving: Duration,
    pub(in crate::membership) forget_after: Duration,
}

impl Timing {
    pub(in crate::membership) fn new(gossip_interval: Duration, forget_after: Duration) -> Self {
        let silence = (gossip_interval * 6).max(Duration::from_millis(1_200));
        Self {
            tick: (gossip_interval / 2)
                .clamp(Duration::from_millis(10), Duration::from_millis(100)),
            silence,
            detection: silence * 5 / 2,
            leaving: gossip_interval * 3,
            forget_after,
        }
    }
}

/// This node, in its own view.
#[derive(Debug, Clone)]
pub(in crate::membership) struct Me {
    pub(in crate::membership) replica: Replica,
    pub(in crate::membership) address: SocketAddr,
    pub(in crate::membership) facts: Facts,
    pub(in crate::membership) since: Time,
}

impl Me {
    pub(in crate::membership) fn member(&self) -> Member {
        Member { me: true, ..member(&self.replica, &self.facts, self.since) }
    }
}

/// A peer, as isolation looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::membership) struct Sight {
    pub(in crate::membership) address: SocketAddr,
    pub(in crate::membership) live: bool,
    /// For how long every try to link to it has failed.
    pub(in crate::membership) failing: Option<Duration>,
}

/// What a tick found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::membership) struct Folded {
    pub(in crate::membership) members: SharedMembers,
    /// A higher incarnation of this node's name at its own address: this node must rise above it.
    pub(in crate::membership) outrun: Option<Incarnation>,
    pub(in crate::membership) conflicts: Vec<Conflict>,
    /// Names that found no room.
    pub(in crate::membership) left_out: Vec<NodeName>,
}

/// Two nodes with one name, both alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::membership) struct Conflict {
    pub(in crate::membership) name: NodeName,
    pub(in crate::membership) holder: SocketAddr,
    pub(in crate::membership) claimant: SocketAddr,
}

pub(in crate::membership) fn member(replica: &Replica, facts: &Facts, since: Time) -> Member {
    Member {
        name: replica.name.clone(),
        incarnation: replica.incarnation,
        addresses: facts.addresses.clone(),
        version: facts.version.clone(),
        state: facts.state,
        load: facts.load,
        control: facts.control,
        me: false,
        since,
        problem: None,
    }
}
