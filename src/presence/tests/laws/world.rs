//! Histories to be heard of, and those who hear of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Strategy, prop, prop_oneof};

use super::super::super::{Answer, Delta, Diff, MergeError, Owner, Reference, Tracker};
use super::super::{owner, replica, session, topic, track, untrack};
use crate::types::{NodeName, Replica, SessionId, Time};

pub(super) const NODES: usize = 3;
const SESSIONS: usize = 3;
const NOW: Time = Time::from_millis(1_000);

#[derive(Debug, Clone)]
pub(super) enum Op {
    Track {
        session: usize,
        key: usize,
        meta: usize,
    },
    Untrack {
        session: usize,
        key: usize,
        released: bool,
    },
    Move {
        session: usize,
        node: usize,
        told: bool,
    },
    End {
        session: usize,
    },
    /// One node hears all that another has heard.
    Sync {
        to: usize,
        from: usize,
    },
}

pub(super) fn history() -> impl Strategy<Value = Vec<Op>> {
    let (session, node, key) = (0..SESSIONS, 0..NODES, 0..2_usize);
    let op = prop_oneof![
        4 => (session.clone(), key.clone(), 0..3_usize)
            .prop_map(|(session, key, meta)| Op::Track { session, key, meta }),
        1 => (session.clone(), key, proptest::bool::ANY)
            .prop_map(|(session, key, released)| Op::Untrack { session, key, released }),
        2 => (session.clone(), node.clone(), proptest::bool::ANY)
            .prop_map(|(session, node, told)| Op::Move { session, node, told }),
        1 => session.prop_map(|session| Op::End { session }),
        3 => (node.clone(), node).prop_map(|(to, from)| Op::Sync { to, from }),
    ];
    prop::collection::vec(op, 0..40)
}

fn writer(node: usize) -> Replica {
    replica(["a", "b", "c"][node], 1)
}

/// One presence as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) meta: Vec<u8>,
    pub(super) session: SessionId,
    pub(super) node: String,
}

/// What came of hearing something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    Changes,
    Gap,
}

/// A node and the list that somebody keeps who hears of its changes only. A node without sessions does nothing of its own.
pub(super) struct Observer {
    pub(super) tracker: Tracker,
    told: BTreeMap<(String, String), Reference>,
}

impl Observer {
    /// Knows all nodes that write, itself aside.
    pub(super) fn new(name: &str) -> Self {
        Self::with(&replica(name, 1))
    }

    fn with(me: &Replica) -> Self {
        let mut node = Self { tracker: Tracker::new(me.clone()), told: BTreeMap::new() };
        for other in (0..NODES).map(writer).filter(|other| other != me) {
            node.does(|tracker, diff| tracker.replica_up(&other, NOW, diff));
        }
        node
    }

    /// Whatever is done: the changes it tells of, applied to the list before, give the list after.
    fn does<R>(&mut self, act: impl FnOnce(&mut Tracker, &mut Diff) -> R) -> (R, bool) {
        let mut diff = Diff::new();
        let result = act(&mut self.tracker, &mut diff);
        while self.tracker.next_deadline().is_some_and(|due| due <= NOW) {
            self.tracker.tick(NOW, &mut diff);
        }
        let changed = !diff.is_empty();
        for change in diff.0 {
            let shown = change.after.as_ref().or(change.before.as_ref()).unwrap();
            let name = (shown.key().to_owned(), shown.id().to_owned());
            let before = change.before.as_ref().map(super::super::super::Shown::reference);
            assert_eq!(self.told.get(&name).copied(), before, "what was there before: {name:?}");
            match &change.after {
                Some(after) => self.told.insert(name, after.reference()),
                None => self.told.remove(&name),
            };
        }
        let shown = self.tracker.snapshot(&topic("room"));
        let name = |one: &super::super::super::Shown| {
            ((one.key().to_owned(), one.id().to_owned()), one.reference())
        };
        assert_eq!(self.told, shown.iter().map(name).collect(), "what was told is not the list");
        self.tracker.check().unwrap();
        (result, changed)
    }

    pub(super) fn hears(&mut self, delta: Delta) -> Heard {
        let source = NodeName::parse("somebody").unwrap();
        let (merged, changed) = self.does(|tracker, diff| tracker.merge(&source, delta, NOW, diff));
        match merged {
            Ok(_) if changed => Heard::Changes,
            Ok(_) => Heard::Nothing,
            Err(MergeError::Gap { .. }) => Heard::Gap,
            Err(wrong) => panic!("refused: {wrong}"),
        }
    }

    /// All that another has and this one lacks, in intervals of a few entries.
    pub(super) fn pulls(&mut self, from: &Tracker, few: usize) {
        for row in from.rows() {
            while let Some(have) = self.tracker.counter_of(&row.replica)
                && row.replica != *self.tracker.me()
                && have < row.counter
            {
                match from.interval(&row.replica, have, few, NOW) {
                    Answer::Interval(delta) => assert_ne!(self.hears(delta), Heard::Gap),
                    Answer::Whole(_) | Answer::UpToDate | Answer::Unknown => panic!("no interval"),
                }
            }
        }
    }

    /// All of that node's own, in parts.
    pub(super) fn takes_whole(&mut self, from: &Tracker, size: usize) {
        let Answer::Whole(whole) = from.whole(from.me(), NOW) else { panic!("no whole") };
        for part in whole.into_parts(size) {
            self.hears(part);
        }
    }

    /// Compares with each node in turn until nothing is lacking. `None`: that never comes.
    pub(super) fn repairs(&mut self, nodes: &[&Tracker], few: usize) -> Option<usize> {
        for round in 0..200 {
            let mut lacking = false;
            for node in nodes {
                let (rows, peer) = (node.rows(), node.me().name.clone());
                let behind = rows.iter().any(|row| {
                    self.tracker.counter_of(&row.replica).is_some_and(|have| have < row.counter)
                });
                lacking |= behind;
                for want in self.tracker.wants(&rows, &peer, NOW) {
                    assert!(!want.whole, "digests differ at equal counters");
                    match node.interval(&want.replica, want.from, few, NOW) {
                        Answer::Interval(delta) | Answer::Whole(delta) => drop(self.hears(delta)),
                        Answer::UpToDate | Answer::Unknown => (),
                    }
                }
            }
            if !lacking {
                return Some(round);
            }
        }
        None
    }

    pub(super) fn list(&self) -> BTreeSet<Listed> {
        let listed = |one: super::super::super::Shown| Listed {
            key: one.key().to_owned(),
            id: one.id().to_owned(),
            meta: one.meta().to_vec(),
            session: one.session(),
            node: one.node().to_string(),
        };
        self.tracker.snapshot(&topic("room")).into_iter().map(listed).collect()
    }

    /// All that it knows of the nodes that write: how far it is, what lives, what waits, what shows.
    pub(super) fn knows(&self) -> (Vec<String>, BTreeSet<Listed>) {
        let rows = self.tracker.rows().into_iter().filter(|row| row.replica != *self.tracker.me());
        let known = rows.map(|row| {
            let Answer::Whole(whole) = self.tracker.whole(&row.replica, NOW) else {
                return format!("{row:?}");
            };
            let waits = |counter| whole.removes.iter().any(|one| one.counter == counter);
            let lives: Vec<_> = whole
                .adds
                .iter()
                .map(|add| (add.counter, waits(add.counter), &add.claim))
                .collect();
            format!("{row:?} {lives:?}")
        });
        (known.collect(), self.list())
    }
}

/// Three nodes, and all that each of them did, delta by delta.
pub(super) struct History {
    pub(super) nodes: Vec<Observer>,
    pub(super) logs: Vec<Vec<Delta>>,
    /// Of each session: where it is attached, and under which epoch.
    sessions: Vec<(usize, u64)>,
}

impl History {
    pub(super) fn of(ops: &[Op]) -> Self {
        let mut history = Self {
            nodes: (0..NODES).map(|node| Observer::with(&writer(node))).collect(),
            logs: vec![Vec::new(); NODES],
            sessions: (0..SESSIONS).map(|at| (at % NODES, 1)).collect(),
        };
        for op in ops {
            history.does(op);
            (0..NODES).for_each(|node| history.write_down(node));
        }
        history
    }

    /// What a node has done by now that nobody could hear of before.
    fn write_down(&mut self, node: usize) {
        let from = self.logs[node].last().map_or(0, |delta| delta.to);
        let tracker = &self.nodes[node].tracker;
        if let Answer::Interval(delta) = tracker.interval(tracker.me(), from, 1_000, NOW) {
            self.logs[node].push(delta);
        }
    }

    fn owner(&self, session: usize) -> Owner {
        owner(session as u8 + 1, self.sessions[session].1, 5_000)
    }

    fn does(&mut self, op: &Op) {
        let key = |key: &usize| format!("key{key}");
        match op {
            Op::Track { session, key: of, meta } => {
                let owner = self.owner(*session);
                let track = track(&key(of), "1", &meta.to_string(), 0);
                let node = &mut self.nodes[self.sessions[*session].0];
                let (tracked, _) =
                    node.does(|tracker, diff| tracker.track(&owner, &track, NOW, 7, diff));
                tracked.unwrap();
            }
            Op::Untrack { session: of, key: name, released } => {
                let untrack = untrack(&key(name), "1", if *released { 3_000 } else { 0 });
                let node = &mut self.nodes[self.sessions[*of].0];
                let session = session(*of as u8 + 1);
                node.does(|tracker, diff| tracker.untrack(session, &untrack, NOW, diff));
            }
            Op::Move { session: of, node, told } => {
                let (old, epoch) = self.sessions[*of];
                self.sessions[*of] = (*node, epoch + 1);
                let owner = self.owner(*of);
                self.nodes[*node].does(|tracker, diff| tracker.attached(&owner, NOW, diff));
                if *told && old != *node {
                    let session = owner.session;
                    self.nodes[old].does(|tracker, _| tracker.moved(session, epoch + 1, NOW));
                }
            }
            Op::End { session: of } => {
                let node = &mut self.nodes[self.sessions[*of].0];
                let session = session(*of as u8 + 1);
                node.does(|tracker, diff| tracker.ended(session, NOW, diff));
                // It comes back as a later attachment.
                self.sessions[*of].1 += 1;
            }
            Op::Sync { to, from } if to != from => {
                let (to, from) = (*to, *from);
                for row in self.nodes[from].tracker.rows() {
                    let me = self.nodes[to].tracker.me().clone();
                    let have = self.nodes[to].tracker.counter_of(&row.replica);
                    let Some(have) = have.filter(|_| row.replica != me) else { continue };
                    let answer = self.nodes[from].tracker.interval(&row.replica, have, 1_000, NOW);
                    if let Answer::Interval(delta) = answer {
                        self.nodes[to].hears(delta);
                    }
                }
            }
            Op::Sync { .. } => (),
        }
    }
}
