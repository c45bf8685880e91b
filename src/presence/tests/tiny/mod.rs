//! A tiny world in which every step is a choice: three nodes, two sessions, one presence that both want. Time stands still but where
//! the choice is that it passes. `walks` goes through it at random, `exhaustive` through all of it.
//!
//! What may not be: while no linger and none of P7's times has passed, nobody sees the presence leave, whatever is delivered when, twice or
//! never; nobody takes back what it has forgotten; and from every state, once all is delivered, all agree.

mod act;
mod judge;

use std::sync::Arc;

use super::super::*;
use super::replica;
use crate::types::{Replica, SessionId, Time};

pub(super) const NODES: usize = 3;
pub(super) const SESSIONS: usize = 2;
const LINGER: u64 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A session attaches, and says again what it wants.
    Attach {
        session: usize,
        node: usize,
    },
    /// The same, through an attachment that isn't the latest: a connection that doesn't know of the other.
    Stale {
        session: usize,
        node: usize,
    },
    /// A node is told that a session is attached elsewhere.
    Moved {
        session: usize,
        node: usize,
    },
    /// A node's linger for an attachment that is gone is over.
    Lingers {
        session: usize,
        node: usize,
    },
    /// A node sends what it did last to another; what it had sent before and was not delivered is lost.
    Send {
        from: usize,
        to: usize,
    },
    /// What was sent arrives, for the first time or again.
    Deliver {
        from: usize,
        to: usize,
    },
    /// A node asks another for what it lacks of a replica, and gets it.
    Pull {
        to: usize,
        from: usize,
        of: usize,
    },
    /// The same, of an incarnation that is dead.
    PullDead {
        to: usize,
        from: usize,
    },
    /// The same, everything that there is of it.
    PullWhole {
        to: usize,
        from: usize,
        of: usize,
    },
    /// A node dies and starts again.
    Crash {
        node: usize,
    },
    /// A node hears nothing of another, or of its last incarnation.
    Down {
        at: usize,
        node: usize,
    },
    Up {
        at: usize,
        node: usize,
    },
    Forget {
        at: usize,
    },
    /// A node hands all over to another and is about to stop.
    Drain {
        from: usize,
        to: usize,
    },
    /// A linger's time passes for everybody.
    Pass,
}

/// Cheap to copy: a step copies only what it changes.
#[derive(Debug, Clone)]
pub(super) struct Tiny {
    pub(super) nodes: Vec<Arc<Tracker>>,
    /// Of each node: all that it knows, as a number.
    prints: Vec<u64>,
    plant: Option<Plant>,
    now: Time,
    /// Of each session: its epoch, where it attached last, where it was attached, and the last operation made for it.
    sessions: Vec<Client>,
    /// `told[from][to]`: how far, and what is on its way.
    told: Vec<Vec<u64>>,
    flying: Vec<Vec<Option<Arc<Delta>>>>,
    dead: Vec<Replica>,
    forgotten: Vec<(usize, Replica)>,
    /// A leave would have its reason.
    excused: bool,
    incarnations: u64,
    pub(super) passes: usize,
    pub(super) crashes: usize,
}

#[derive(Debug, Clone, Default, Hash)]
struct Client {
    epoch: u64,
    node: Option<usize>,
    /// Epochs under which nodes know it.
    known: Vec<(usize, u64)>,
    latest: Option<Dot>,
}

fn id(session: usize) -> SessionId {
    super::session(session as u8 + 1)
}

fn owner(session: usize, epoch: u64) -> Owner {
    super::owner(session as u8 + 1, epoch, LINGER)
}

fn name(node: usize) -> String {
    char::from(b'a' + node as u8).to_string()
}

impl Tiny {
    pub(super) fn new(plant: Option<Plant>) -> Self {
        let replicas: Vec<Replica> = (0..NODES).map(|at| replica(&name(at), 1)).collect();
        let nodes = replicas.iter().map(|replica| Tracker::planted(replica.clone(), plant));
        let mut tiny = Self {
            nodes: nodes.map(Arc::new).collect(),
            prints: vec![0; NODES],
            plant,
            now: Time::from_millis(1_000_000),
            sessions: vec![Client::default(); SESSIONS],
            told: vec![vec![0; NODES]; NODES],
            flying: vec![vec![None; NODES]; NODES],
            dead: Vec::new(),
            forgotten: Vec::new(),
            excused: false,
            incarnations: 1,
            passes: 0,
            crashes: 0,
        };
        for at in 0..NODES {
            for other in &replicas {
                if *other != replicas[at] {
                    let node = Arc::make_mut(&mut tiny.nodes[at]);
                    let _ = node.replica_up(other, tiny.now, &mut Diff::new());
                }
            }
        }
        tiny
    }

    /// What could happen next.
    pub(super) fn choices(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let pairs = (0..NODES).flat_map(|one| (0..NODES).map(move |other| (one, other)));
        let pairs: Vec<_> = pairs.filter(|(one, other)| one != other).collect();
        for session in 0..SESSIONS {
            for node in 0..NODES {
                steps.push(Step::Attach { session, node });
                let client = &self.sessions[session];
                if client.known.iter().any(|(at, epoch)| *at == node && *epoch < client.epoch) {
                    steps.push(Step::Stale { session, node });
                    steps.push(Step::Moved { session, node });
                    steps.push(Step::Lingers { session, node });
                }
            }
        }
        for (from, to) in pairs {
            if self.nodes[from].own_counter() > self.told[from][to] {
                steps.push(Step::Send { from, to });
            }
            if self.flying[from][to].is_some() {
                steps.push(Step::Deliver { from, to });
            }
            for of in (0..NODES).filter(|of| *of != to) {
                let replica = self.nodes[of].me();
                let has = |at: usize| self.nodes[at].counter_of(replica).unwrap_or(0);
                if has(from) > has(to) {
                    steps.push(Step::Pull { to, from, of });
                    steps.push(Step::PullWhole { to, from, of });
                }
            }
            if !self.dead.is_empty() {
                steps.push(Step::PullDead { to, from });
            }
            steps.push(Step::Down { at: from, node: to });
            steps.push(Step::Up { at: from, node: to });
            steps.push(Step::Drain { from, to });
        }
        for node in 0..NODES {
            steps.push(Step::Crash { node });
            if !self.dead.is_empty() {
                steps.push(Step::Forget { at: node });
            }
        }
        steps.push(Step::Pass);
        steps
    }
}
