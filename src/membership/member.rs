//! A row of the membership.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::types::{Incarnation, NodeName, Replica, Time};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: NodeName,
    pub incarnation: Incarnation,
    pub addresses: Addresses,
    /// The program's version, e.g. `0.1.0`.
    pub version: String,
    pub state: MemberState,
    pub load: Load,
    /// None: an older program, or one that takes no part.
    pub control: Option<ControlRow>,
    pub me: bool,
    /// When this node first saw this incarnation.
    pub since: Time,
    /// Why it is down or not let in, for people.
    pub problem: Option<String>,
}

impl Member {
    pub fn replica(&self) -> Replica {
        Replica { name: self.name.clone(), incarnation: self.incarnation }
    }
}

/// `host:port` that the member advertises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    pub grpc: String,
    pub peer: String,
    pub http: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    Joining,
    Ready,
    /// Takes no clients, hands over those it has.
    Draining,
    /// Departs; its silence is no failure.
    Leaving,
    /// Silent; may come back.
    Down,
}

impl MemberState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Down => "down",
        }
    }

    /// Messages may start there and must reach it: joining, ready and draining.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Joining | Self::Ready | Self::Draining)
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a member says of its part in the agreed facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRow {
    /// Its raft id.
    pub id: u64,
    /// Has it a disk?
    pub durable: bool,
    pub group: Option<ControlGroup>,
}

/// The group that a member's store has joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlGroup {
    pub id: [u8; 16],
    /// Was anything ever written to it?
    pub written: bool,
    /// The lost group that it goes on from.
    pub continues: Option<[u8; 16]>,
}

/// Coarse, at most every few seconds: each change is gossiped to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub sessions: u64,
    pub presences: u64,
}

/// One view of the cluster: the highest incarnation of each name, oneself included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    pub by_name: BTreeMap<NodeName, Member>,
}

impl Members {
    pub fn get(&self, name: &NodeName) -> Option<&Member> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_name.values()
    }

    /// Live members other than oneself.
    pub fn live_peers(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.me && member.state.is_live())
    }

    pub fn me(&self) -> Option<&Member> {
        self.iter().find(|member| member.me)
    }
}

pub type SharedMembers = Arc<Members>;
