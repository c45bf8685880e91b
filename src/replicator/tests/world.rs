//! Replicators whose links are two function calls, for tests that need no sockets and no time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::link::{Direction, LinkInfo, Past, Roster, StateHandler, StateSource};
use crate::membership::{
    Addresses, LinkEvidence, Load, Member, MemberState, Members, SharedMembers,
};
use crate::presence::Owner;
use crate::replicator::{Replicator, ReplicatorConfig, ReplicatorHandle};
use crate::supervise::Clock;
use crate::types::{
    ClusterName, Incarnation, LinkEpoch, Namespace, NodeName, Replica, SessionId, Time, Topic,
    TopicHasher,
};

/// Splitmix: the same numbers for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most as u64) as usize
    }
}

pub(super) fn cluster() -> ClusterName {
    ClusterName::parse("test").expect("a name")
}

pub(super) fn hasher() -> TopicHasher {
    TopicHasher::new(&cluster())
}

pub(super) fn name(name: &str) -> NodeName {
    NodeName::parse(name).expect("a name")
}

pub(super) fn replica(called: &str, incarnation: u64) -> Replica {
    Replica { name: name(called), incarnation: Incarnation(incarnation) }
}

pub(super) fn topic(name: &str) -> Topic {
    hasher().topic(&Namespace::default(), name, 1_024).expect("a topic")
}

pub(super) fn session(number: u8) -> SessionId {
    SessionId([number; 16])
}

pub(super) fn owner(number: u8) -> Owner {
    Owner { session: session(number), epoch: 1, linger: std::time::Duration::from_secs(5) }
}

/// A membership that says what it is told.
pub(super) struct Told {
    me: NodeName,
    view: watch::Sender<SharedMembers>,
}

impl Roster for Told {
    fn me(&self) -> Member {
        self.view.borrow().get(&self.me).cloned().expect("it is a member")
    }

    fn watch(&self) -> watch::Receiver<SharedMembers> {
        self.view.subscribe()
    }

    fn dial_address(&self, _: &NodeName) -> Option<String> {
        None
    }

    fn evidence(&self, _: &NodeName, _: Incarnation, _: LinkEvidence) {}
}

pub(super) struct Node {
    pub(super) replicator: Arc<Replicator>,
    pub(super) handle: ReplicatorHandle,
    roster: Arc<Told>,
    sources: BTreeMap<String, (LinkInfo, Arc<dyn StateSource>)>,
}

/// Nodes that all know each other.
pub(super) struct World {
    pub(super) nodes: BTreeMap<String, Node>,
    rows: BTreeMap<String, (u64, MemberState)>,
    attempts: u64,
}

impl World {
    pub(super) fn new(names: &[&str]) -> Self {
        let rows = names.iter().map(|name| ((*name).to_owned(), (1, MemberState::Ready)));
        let mut world = Self { nodes: BTreeMap::new(), rows: rows.collect(), attempts: 0 };
        for name in names {
            world.start(name);
        }
        world
    }

    /// As a new process, under the incarnation of its row.
    pub(super) fn start(&mut self, called: &str) {
        let roster =
            Arc::new(Told { me: name(called), view: watch::Sender::new(self.view(called)) });
        let config = ReplicatorConfig::new(cluster());
        let replicator = Replicator::new(config, roster.clone(), Clock::new());
        let handle = ReplicatorHandle(replicator.clone());
        let node = Node { replicator, handle, roster, sources: BTreeMap::new() };
        self.nodes.insert(called.to_owned(), node);
        self.tell();
    }

    fn view(&self, me: &str) -> SharedMembers {
        let rows = self.rows.iter().map(|(called, (incarnation, state))| {
            let member = Member {
                name: name(called),
                incarnation: Incarnation(*incarnation),
                addresses: Addresses::default(),
                version: String::new(),
                state: *state,
                load: Load::default(),
                control: None,
                me: called == me,
                since: Time::ZERO,
                problem: None,
            };
            (name(called), member)
        });
        Arc::new(Members { by_name: rows.collect() })
    }

    /// Everybody sees the rows.
    fn tell(&self) {
        for (called, node) in &self.nodes {
            let view = self.view(called);
            node.roster.view.send_replace(view);
            node.replicator.follow_members();
        }
    }

    pub(super) fn set(&mut self, called: &str, incarnation: u64, state: MemberState) {
        self.rows.insert(called.to_owned(), (incarnation, state));
        self.tell();
    }

    pub(super) fn handle(&self, called: &str) -> &ReplicatorHandle {
        &self.nodes[called].handle
    }

    /// The link that `from` dialed to `to`; as `to` dialed none, both speak over it.
    pub(super) fn link(&mut self, from: &str, to: &str) {
        self.attempts += 1;
        let incarnation = |called: &str| Incarnation(self.rows[called].0);
        let epoch = LinkEpoch {
            sender: incarnation(from),
            receiver: incarnation(to),
            attempt: self.attempts,
        };
        for (me, peer, direction) in [(from, to, Direction::Out), (to, from, Direction::In)] {
            let link = LinkInfo {
                peer: name(peer),
                incarnation: incarnation(peer),
                direction,
                epoch,
                had_epoch: false,
                past: Past::Unknown,
            };
            let node = self.nodes.get_mut(me).expect("a node");
            let source = node.replicator.up(&link);
            node.sources.insert(peer.to_owned(), (link, source));
        }
    }

    pub(super) fn cut(&mut self, one: &str, other: &str) {
        for (me, peer) in [(one, other), (other, one)] {
            let node = self.nodes.get_mut(me).expect("a node");
            if let Some((link, _)) = node.sources.remove(peer) {
                node.replicator.down(&link);
            }
        }
    }

    /// What one has to say to the other now.
    pub(super) fn take(&self, from: &str, to: &str) -> Vec<Bytes> {
        let mut frames = Vec::new();
        if let Some((_, source)) = self.nodes[from].sources.get(to) {
            source.take_state(&mut frames, 64 << 10);
        }
        frames
    }

    pub(super) fn give(&self, from: &str, to: &str, frame: Bytes) -> Result<(), String> {
        let node = &self.nodes[to];
        let (link, _) = &node.sources[from];
        node.replicator.state(link, frame).map(|_| ())
    }

    pub(super) fn ping(&self, from: &str, to: &str) {
        let hash = self.nodes[from].sources[to].1.ping();
        let node = &self.nodes[to];
        let (link, _) = &node.sources[from];
        node.replicator.ping(link, hash).expect("a hash");
    }

    /// Carries everything that anybody has to say, until nobody has; `true`: to be lost.
    pub(super) fn settle(&self, mut lose: impl FnMut(&str, &str) -> bool) {
        for _ in 0..10_000 {
            let mut any = false;
            for from in self.nodes.keys() {
                for to in self.nodes.keys() {
                    for frame in self.take(from, to) {
                        any = true;
                        if !lose(from, to) {
                            self.give(from, to, frame).expect("no link is closed");
                        }
                    }
                }
            }
            self.work();
            if !any {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// What is due at once in the shards.
    fn work(&self) {
        for node in self.nodes.values() {
            node.replicator.change_all(|tracker, diff, now| {
                while tracker.next_deadline().is_some_and(|due| due <= now) {
                    tracker.tick(now, diff);
                }
            });
        }
    }

    /// All have the same rows.
    pub(super) fn agree(&self) -> bool {
        let hashes: Vec<u64> = self.nodes.values().map(|node| node.replicator.row_hash()).collect();
        hashes.windows(2).all(|pair| pair[0] == pair[1])
    }
}
