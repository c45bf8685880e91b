//! ● What changed in a watched topic since its last tick, net: whoever came and went in between was never there.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use crate::presence::{Change, Reference, Shown};
use crate::replicator::update::{ENTRIES_MAX, Listed, UPDATE_BYTES_MAX, UpdateKind};

/// Bounded by the presences of the topic, before and after.
#[derive(Debug, Default)]
pub(in crate::replicator) struct Pending {
    changes: BTreeMap<Who, Net>,
    keys: HashMap<Box<str>, KeyNet>,
}

/// A presence's identity, in the order of lists.
#[derive(Debug)]
pub(super) struct Who(pub(super) Shown);

impl Who {
    pub(super) fn parts(&self) -> (&str, &str) {
        (self.0.key(), self.0.id())
    }
}

impl PartialEq for Who {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Who {}

impl PartialOrd for Who {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Who {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

#[derive(Debug)]
struct Net {
    before: Option<Shown>,
    after: Option<Shown>,
}

/// Whether a key had any presence at the last tick, and has any now.
#[derive(Debug, Clone, Copy)]
struct KeyNet {
    had: bool,
    has: bool,
}

/// The net changes of one tick, each in order of (key, id).
#[derive(Debug, Default)]
pub(in crate::replicator) struct Step {
    joins: Vec<Listed>,
    updates: Vec<(Listed, Reference)>,
    leaves: Vec<Listed>,
}

impl Pending {
    pub(in crate::replicator) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(in crate::replicator) fn note(&mut self, change: &Change) {
        let Some(shown) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let net = self
            .changes
            .entry(Who(shown.clone()))
            .or_insert_with(|| Net { before: change.before.clone(), after: None });
        net.after.clone_from(&change.after);
        let joins = change.before.is_none();
        let leaves = change.after.is_none();
        if let Some(key) = self.keys.get_mut(shown.key()) {
            key.has = !(leaves && change.last_of_key);
        } else {
            let had = !(joins && change.first_of_key);
            let has = !(leaves && change.last_of_key);
            self.keys.insert(shown.key().into(), KeyNet { had, has });
        }
    }

    pub(in crate::replicator) fn into_step(self) -> Step {
        let Self { changes, mut keys } = self;
        let mut step = Step::default();
        for net in changes.into_values() {
            match (net.before, net.after) {
                (None, None) => {}
                (None, Some(after)) => {
                    let key = keys.get_mut(after.key());
                    // The first of them in order takes the mark.
                    let first = key.is_some_and(|key| !std::mem::replace(&mut key.had, true));
                    step.joins.push(Listed {
                        shown: after,
                        first_of_key: first,
                        last_of_key: false,
                    });
                }
                (Some(before), Some(after)) if before.reference() == after.reference() => {}
                (Some(before), Some(after)) => {
                    let listed = Listed { shown: after, first_of_key: false, last_of_key: false };
                    step.updates.push((listed, before.reference()));
                }
                (Some(before), None) => step.leaves.push(Listed {
                    shown: before,
                    first_of_key: false,
                    last_of_key: false,
                }),
            }
        }
        // The last of them in order takes the mark.
        for leave in step.leaves.iter_mut().rev() {
            let key = keys.get_mut(leave.shown.key());
            leave.last_of_key = key.is_some_and(|key| !std::mem::replace(&mut key.has, true));
        }
        step
    }
}

impl Step {
    /// In updates of a bounded size: all joins before all updates before all leaves.
    pub(super) fn into_kinds(self) -> Vec<UpdateKind> {
        enum One {
            Join(Listed),
            Update(Listed, Reference),
            Leave(Listed),
        }
        let joins = self.joins.into_iter().map(One::Join);
        let updates = self.updates.into_iter().map(|(listed, before)| One::Update(listed, before));
        let leaves = self.leaves.into_iter().map(One::Leave);
        let all = joins.chain(updates).chain(leaves);
        let cost = |one: &One| match one {
            One::Join(listed) | One::Update(listed, _) | One::Leave(listed) => cost(listed),
        };
        in_parts(all, cost, |ones| {
            let (mut joins, mut updates, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
            for one in ones {
                match one {
                    One::Join(listed) => joins.push(listed),
                    One::Update(listed, before) => updates.push((listed, before)),
                    One::Leave(listed) => leaves.push(listed),
                }
            }
            UpdateKind::Diff { joins, updates, leaves }
        })
    }
}

/// A list, or a piece of it behind an entry of the key `after`, in parts of a bounded size; one part at least.
pub(super) fn snapshot_parts(entries: Vec<Shown>, after: Option<&str>) -> Vec<Vec<Listed>> {
    let listed = mark_firsts(entries, after);
    let parts = in_parts(listed.into_iter(), cost, |entries| entries);
    if parts.is_empty() { vec![Vec::new()] } else { parts }
}

/// Entries in order; each first of its key is marked. `after`: the key of the entry before them.
pub(in crate::replicator) fn mark_firsts(entries: Vec<Shown>, after: Option<&str>) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::with_capacity(entries.len());
    for shown in entries {
        let before = listed.last().map(|entry| entry.shown.key()).or(after);
        let first_of_key = before != Some(shown.key());
        listed.push(Listed { shown, first_of_key, last_of_key: false });
    }
    listed
}

fn cost(listed: &Listed) -> usize {
    let shown = &listed.shown;
    shown.key().len() + shown.id().len() + shown.meta().len() + 32
}

fn in_parts<T, P>(
    all: impl Iterator<Item = T>,
    cost: impl Fn(&T) -> usize,
    make: impl Fn(Vec<T>) -> P,
) -> Vec<P> {
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for one in all {
        let more = cost(&one);
        if !part.is_empty() && (part.len() == ENTRIES_MAX || bytes + more > UPDATE_BYTES_MAX) {
            parts.push(make(std::mem::take(&mut part)));
            bytes = 0;
        }
        bytes += more;
        part.push(one);
    }
    if !part.is_empty() {
        parts.push(make(part));
    }
    parts
}
