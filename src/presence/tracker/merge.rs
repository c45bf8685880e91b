//! A delta is merged. An interval that begins behind what is known is refused, never applied as if it were whole; what is known
//! already is passed over; so any order, loss and duplication of deltas ends, after repair, in the same state.

use std::collections::HashMap;

use crate::types::{NodeName, Time};

use super::super::replica::Life;
use super::super::{Delta, Diff, Dot, Entry, Kind, MergeError, Merged, Plant, Removal, Tracker};

/// Counters, claim numbers and revisions above this come from no honest node.
const ABSURD: u64 = 1 << 60;

/// Entries that are looked for in the memory at once: what they need has to stay in the processor's cache until it is used.
pub(super) const FETCH: usize = 64;

impl Tracker {
    /// `source` is the peer that sent it: parts of one whole must come from one peer.
    pub fn merge(
        &mut self,
        source: &NodeName,
        delta: Delta,
        now: Time,
        diff: &mut Diff,
    ) -> Result<Merged, MergeError> {
        check(&delta)?;
        if delta.replica == *self.me() {
            return Err(MergeError::Own);
        }
        if self.replicas.is_forgotten(&delta.replica) {
            if self.plant != Some(Plant::ForgottenTaken) {
                return Err(MergeError::Forgotten(delta.replica));
            }
            if self.replicas.find(&delta.replica).is_none() {
                self.replicas.insert(&delta.replica, Life::Up);
            }
        }
        let known = self.know(&delta.replica, now);
        let id = known.ok_or_else(|| MergeError::Unknown(delta.replica.clone()))?;
        if let Some(down_for) = delta.down_for {
            self.down_for(id, Time::ZERO + now.since(Time::ZERO + down_for));
        }
        let mut merged = Merged::default();
        match delta.kind {
            Kind::Whole { .. } => {
                merged = self.stage(id, source, delta, now)?;
            }
            Kind::Interval => {
                if let Some(delta) = self.behind_whole(id, delta) {
                    merged = self.merge_interval(id, delta, now)?;
                }
            }
        }
        let claims = self.set.slots.len();
        self.proceed(now, diff);
        merged.more = !self.work.is_empty();
        // A whole that was small enough has been applied by now.
        merged.adds += self.set.slots.len().saturating_sub(claims);
        merged.removes += claims.saturating_sub(self.set.slots.len());
        Ok(merged)
    }

    pub(super) fn merge_interval(
        &mut self,
        id: u32,
        delta: Delta,
        now: Time,
    ) -> Result<Merged, MergeError> {
        let have = self.replicas[id].counter;
        let mut merged = Merged::default();
        if delta.to <= have {
            return Ok(merged);
        }
        if delta.from > have && self.plant != Some(Plant::GapApplied) {
            return Err(MergeError::Gap { have, from: delta.from });
        }
        let to = delta.to;
        for some in delta.adds.chunks(FETCH) {
            let near = self.set.fetch(some);
            for (entry, near) in some.iter().zip(near) {
                if entry.counter > have && self.add(id, entry, near, to, now) {
                    merged.adds += 1;
                }
            }
        }
        // First of all what it covers: a successor may be in the same interval.
        self.advance(id, to);
        let known = |removal: &&Removal| self.slot_of(id, removal.counter).is_some();
        let news = delta.removes.iter().filter(|removal| removal.counter > have || known(removal));
        let given_up: Vec<_> = news.filter_map(|removal| removal.given_up).collect();
        self.give_up_heirs(given_up, now);
        // Then what came and went: a chain of successors may lead through it.
        let (here, passed): (Vec<_>, Vec<_>) =
            delta.removes.iter().partition(|removal| self.slot_of(id, removal.counter).is_some());
        for removal in passed.into_iter().chain(here) {
            merged.removes += usize::from(self.remove(id, removal, (have, to), now));
        }
        let replica = delta.replica;
        self.resolve(&replica, to, now);
        Ok(merged)
    }

    /// False: that replica has a later claim of the same presence already.
    pub(super) fn add(
        &mut self,
        id: u32,
        entry: &Entry,
        near: Option<usize>,
        to: u64,
        now: Time,
    ) -> bool {
        let presence = self.set.presence(&entry.topic, &entry.claim, near);
        self.touch(presence);
        let old = self.claim_of(presence, id);
        if let Some(old) = old {
            let counter = self.set.slots[old].counter;
            if counter >= entry.counter {
                return false;
            }
            // A replica has one claim of a presence: the later is in the place of the earlier.
            let replica = self.replicas[id].replica.clone();
            let because = Some(Dot { replica, counter: entry.counter });
            let have = self.replicas[id].counter;
            self.log(id, (have, to), &Removal { counter, because, given_up: None }, now);
        }
        let slot = self.put(presence, entry.claim.clone(), id, entry.counter);
        if let Some(old) = old {
            self.take(old);
        }
        if self.replicas[id].life != Life::Up {
            self.review(slot, now);
        }
        true
    }

    /// One removal by operations in (have, to].
    fn remove(&mut self, id: u32, removal: &Removal, (have, to): (u64, u64), now: Time) -> bool {
        let Some(slot) = self.slot_of(id, removal.counter) else {
            // It came and went before this node heard of it. Others may have heard of it; and somebody may have been withdrawn in
            // its favour.
            if removal.counter > have {
                self.log(id, (have, to), removal, now);
                if let Some(successor) = &removal.because {
                    let replica = self.replicas[id].replica.clone();
                    let dot = Dot { replica, counter: removal.counter };
                    self.waiting.forward(dot, successor.clone());
                    self.keep_house(now);
                }
            }
            return false;
        };
        if self.set.slots[slot].waiting {
            return false;
        }
        self.log(id, (have, to), removal, now);
        self.retire(slot, removal.because.as_ref(), now)
    }

    /// A claim was withdrawn: it goes, or waits for its successor. True: it has gone.
    pub(super) fn retire(&mut self, slot: u32, because: Option<&Dot>, now: Time) -> bool {
        self.touch(self.set.slots[slot].presence);
        let blocker = because.and_then(|dot| self.waiting.blocker(&self.replicas, dot));
        match blocker {
            Some(successor) if !self.set.slots[slot].hidden => {
                let (id, counter) = (self.set.slots[slot].replica, self.set.slots[slot].counter);
                self.set.slots[slot].waiting = true;
                self.replicas[id].digest ^= super::hash_of_counter(counter);
                self.waiting.add(slot, successor, now);
                self.review(slot, now);
                self.set.slots.get(slot).is_none()
            }
            // What is hidden anyway needs no protection.
            _ => {
                self.take(slot);
                true
            }
        }
    }
}

/// What no honest node sends.
fn check(delta: &Delta) -> Result<(), MergeError> {
    let whole = matches!(delta.kind, Kind::Whole { .. });
    if delta.to > ABSURD || delta.from > delta.to {
        return Err(MergeError::Malformed("its counters make no sense"));
    }
    if whole && delta.from != 0 {
        return Err(MergeError::Malformed("a whole begins at 0"));
    }
    let mut last = delta.from;
    for entry in &delta.adds {
        if entry.counter <= last || entry.counter > delta.to {
            return Err(MergeError::Malformed("its entries are out of order or out of its range"));
        }
        if entry.claim.number() > ABSURD || entry.claim.revision() > ABSURD {
            return Err(MergeError::Malformed("a claim with absurd numbers"));
        }
        last = entry.counter;
    }
    for removal in &delta.removes {
        let mut lawful = (1..=delta.to).contains(&removal.counter);
        if let Some(because) = &removal.because {
            // Successors come later, so a chain of them ends.
            lawful &= (1..=ABSURD).contains(&because.counter)
                && (because.replica != delta.replica || because.counter > removal.counter);
        }
        if !lawful {
            return Err(MergeError::Malformed("a removal that can't be"));
        }
    }
    Ok(())
}

/// Removals of a whole, to be looked up.
pub(super) fn by_counter(removes: Vec<Removal>) -> HashMap<u64, Removal> {
    removes.into_iter().map(|removal| (removal.counter, removal)).collect()
}
