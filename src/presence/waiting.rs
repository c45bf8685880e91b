//! Withdrawals that wait for their successor. A claim that was withdrawn in favour of another stays until that one is known; so
//! a presence that changes hands never seems to leave, whatever overtakes what on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::types::{Replica, Time};

use super::Dot;
use super::replica::Replicas;

/// A withdrawal whose successor's replica is not even known is applied after this time (or the claim's linger, if that is longer).
pub(super) const STRANGER_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// At most so many hops from successor to successor; more make no sense.
const HOPS_MAX: usize = 64;

/// How many successors of claims that were never seen are kept.
const FORWARDS_MAX: usize = 65_536;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Wait {
    /// What it waits for.
    pub(super) successor: Dot,
    pub(super) since: Time,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Waiting {
    by_slot: HashMap<u32, Wait, foldhash::fast::RandomState>,
    by_successor: BTreeSet<(Replica, u64, u32)>,
    /// Claims that came and went before this node heard of either, and their successors: somebody may have been withdrawn for one.
    forwards: BTreeMap<Dot, Dot>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Wait> {
        self.by_slot.get(&slot)
    }

    /// What has to come before a claim that went for `successor` may go. `None`: nothing.
    pub(super) fn blocker(&self, replicas: &Replicas, successor: &Dot) -> Option<Dot> {
        let mut dot = successor;
        for _ in 0..HOPS_MAX {
            if !replicas.covers(dot) {
                return Some(dot.clone());
            }
            dot = self.forwards.get(dot)?;
        }
        None
    }

    pub(super) fn add(&mut self, slot: u32, successor: Dot, since: Time) {
        self.remove(slot);
        self.by_successor.insert((successor.replica.clone(), successor.counter, slot));
        self.by_slot.insert(slot, Wait { successor, since });
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(Wait { successor, .. }) = self.by_slot.remove(&slot) {
            self.by_successor.remove(&(successor.replica, successor.counter, slot));
        }
    }

    /// Claims that wait for operations of that replica up to `counter`.
    pub(super) fn on(&self, replica: &Replica, counter: u64) -> Vec<u32> {
        let range = (replica.clone(), 0, 0)..=(replica.clone(), counter, u32::MAX);
        self.by_successor.range(range).map(|(_, _, slot)| *slot).collect()
    }

    /// `from` was never seen here, and went for `to`.
    pub(super) fn forward(&mut self, from: Dot, to: Dot) {
        if self.forwards.len() >= FORWARDS_MAX {
            self.forwards.pop_first();
        }
        self.forwards.insert(from, to);
    }

    /// Drops what leads to something known by now. Called now and then: it looks at all of them.
    pub(super) fn prune(&mut self, replicas: &Replicas) {
        let known = |dot: &Dot| replicas.covers(dot);
        // A chain stays while its end is open.
        let open: Vec<bool> = {
            let is_open = |to: &Dot| {
                let mut dot = to;
                for _ in 0..HOPS_MAX {
                    if !known(dot) {
                        return true;
                    }
                    match self.forwards.get(dot) {
                        Some(next) => dot = next,
                        None => return false,
                    }
                }
                false
            };
            self.forwards.values().map(is_open).collect()
        };
        let mut open = open.into_iter();
        self.forwards.retain(|_, _| open.next().unwrap_or(true));
    }

    pub(super) fn all_forwards(&self) -> &BTreeMap<Dot, Dot> {
        &self.forwards
    }

    pub(super) fn forwards(&self) -> usize {
        self.forwards.len()
    }
}
