//! Judging the core: small helpers that every file here uses.

#![allow(clippy::print_stdout, reason = "the story of a walk, where its seed is given")]

mod exhaustive;
mod laws;
mod phoenix;
mod pieces;
mod plants;
mod scenarios;
mod tiny;
mod walks;
mod wishes;

use std::time::Duration;

use crate::types::{
    ClusterName, Incarnation, Namespace, NodeName, Replica, SessionId, Time, Topic, TopicHasher,
};

use super::*;

pub(super) fn topic(name: &str) -> Topic {
    let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
    hasher.topic(&Namespace::default(), name, 1_024).unwrap()
}

pub(super) fn replica(name: &str, incarnation: u64) -> Replica {
    Replica { name: NodeName::parse(name).unwrap(), incarnation: Incarnation(incarnation) }
}

pub(super) fn session(number: u8) -> SessionId {
    SessionId([number; 16])
}

pub(super) fn owner(number: u8, epoch: u64, linger_ms: u64) -> Owner {
    Owner { session: session(number), epoch, linger: Duration::from_millis(linger_ms) }
}

pub(super) fn track(key: &str, id: &str, meta: &str, revision: u64) -> Track {
    Track {
        topic: topic("room"),
        key: key.into(),
        id: Some(id.into()),
        meta: bytes::Bytes::copy_from_slice(meta.as_bytes()),
        revision,
    }
}

pub(super) fn untrack(key: &str, id: &str, release_ms: u64) -> Untrack {
    Untrack {
        topic: topic("room"),
        key: key.into(),
        id: Some(id.into()),
        release: (release_ms > 0).then(|| Duration::from_millis(release_ms)),
    }
}

/// A few trackers under one clock, and what each of them told its watchers.
pub(super) struct Nodes {
    pub(super) all: Vec<Tracker>,
    pub(super) now: Time,
    pub(super) told: Vec<Vec<String>>,
}

impl Nodes {
    /// Named a, b, c ..., all up, knowing each other.
    pub(super) fn new(count: usize) -> Self {
        Self::planted(count, None)
    }

    pub(super) fn planted(count: usize, plant: Option<Plant>) -> Self {
        let names: Vec<Replica> =
            (0..count).map(|at| replica(&char::from(b'a' + at as u8).to_string(), 1)).collect();
        let all: Vec<Tracker> =
            names.iter().map(|name| Tracker::planted(name.clone(), plant)).collect();
        let mut nodes = Self { all, now: Time::from_millis(1_000), told: vec![Vec::new(); count] };
        for at in 0..count {
            for other in names.iter().filter(|name| *name != &names[at]) {
                nodes.on(at, |node, now, diff| {
                    node.replica_up(other, now, diff);
                });
            }
        }
        nodes
    }

    /// Does something at one node, notes what it told, and checks its books.
    pub(super) fn on<R>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Tracker, Time, &mut Diff) -> R,
    ) -> R {
        let mut diff = Diff::new();
        let result = act(&mut self.all[at], self.now, &mut diff);
        while self.all[at].next_deadline().is_some_and(|due| due <= self.now) {
            self.all[at].tick(self.now, &mut diff);
        }
        for change in diff.0 {
            let name = |shown: &Shown| {
                format!("{}/{}={}", shown.key(), shown.id(), String::from_utf8_lossy(shown.meta()))
            };
            self.told[at].push(match (&change.before, &change.after) {
                (None, Some(after)) => format!("+{}", name(after)),
                (Some(before), None) => format!("-{}", name(before)),
                (Some(_), Some(after)) => format!("~{}", name(after)),
                (None, None) => unreachable!("a change of nothing"),
            });
        }
        self.all[at].check().unwrap();
        result
    }

    pub(super) fn track(&mut self, at: usize, owner: &Owner, track: &Track) -> Tracked {
        self.on(at, |node, now, diff| node.track(owner, track, now, 7, diff)).unwrap()
    }

    /// `to` gets what `from` has of one replica and it lacks.
    pub(super) fn pull(&mut self, to: usize, from: usize, of: &Replica) {
        for _ in 0..1_000 {
            let have = self.all[to].counter_of(of).unwrap();
            let source = self.all[from].me().name.clone();
            match self.all[from].interval(of, have, 100, self.now) {
                Answer::UpToDate | Answer::Unknown => return,
                Answer::Interval(delta) => {
                    self.on(to, |node, now, diff| node.merge(&source, delta, now, diff)).unwrap();
                }
                Answer::Whole(delta) => {
                    for part in delta.into_parts(500) {
                        self.on(to, |node, now, diff| node.merge(&source, part, now, diff))
                            .unwrap();
                    }
                }
            }
        }
        panic!("it never ends");
    }

    /// `to` gets all that `from` has.
    pub(super) fn pull_all(&mut self, to: usize, from: usize) {
        for row in self.all[from].rows() {
            if row.replica != *self.all[to].me() && self.all[to].counter_of(&row.replica).is_some()
            {
                self.pull(to, from, &row.replica);
            }
        }
    }

    /// Everybody gets everything, twice around: what a claim of the first round made others withdraw, too.
    pub(super) fn sync(&mut self) {
        for _ in 0..3 {
            for to in 0..self.all.len() {
                for from in (0..self.all.len()).filter(|from| *from != to) {
                    self.pull_all(to, from);
                }
            }
        }
    }

    pub(super) fn sleep(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for at in 0..self.all.len() {
            self.on(at, |_, _, _| ());
        }
    }

    pub(super) fn list(&self, at: usize) -> Vec<String> {
        let name = |shown: &Shown| {
            format!("{}/{}={}", shown.key(), shown.id(), String::from_utf8_lossy(shown.meta()))
        };
        self.all[at].snapshot(&topic("room")).iter().map(name).collect()
    }

    pub(super) fn told(&mut self, at: usize) -> Vec<String> {
        std::mem::take(&mut self.told[at])
    }
}
