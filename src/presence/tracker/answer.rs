//! What somebody else lacks: rows to compare, intervals, wholes. Of any replica, not only this node's own: so what a dead node said
//! last reaches everybody through whoever heard it.

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::types::{Replica, Time};

use super::super::replica::{Known, Life};
use super::super::{Answer, Delta, Entry, Kind, Plant, Removal, Row, Tracker};

impl Tracker {
    /// How far this node is with each replica that isn't forgotten, itself included; in the order of replicas.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(id, known): (u32, &Known)| Row {
            replica: known.replica.clone(),
            counter: known.counter,
            digest: known.digest,
            settled: !self.applying.contains_key(&id),
        };
        let all = self.replicas.iter().filter(|(_, known)| known.life != Life::Forgotten);
        all.map(row).collect()
    }

    /// One hash over all rows, for pings.
    pub fn row_hash(&self) -> u64 {
        let mut hash = SipHasher13::new_with_keys(0, 0);
        for (_, known) in self.replicas.iter() {
            // Of what can't return and has left nothing, nobody needs to be reminded.
            let matters = match known.life {
                Life::Up | Life::Down { .. } => known.counter > 0,
                Life::Gone { .. } => !known.dots.is_empty(),
                Life::Forgotten => false,
            };
            if matters {
                hash.write(known.replica.name.as_str().as_bytes());
                hash.write_u64(known.replica.incarnation.0);
                hash.write_u64(known.counter);
                hash.write_u64(known.digest);
            }
        }
        hash.finish()
    }

    /// The number of this node's last operation.
    pub fn own_counter(&self) -> u64 {
        self.replicas[self.me].counter
    }

    /// `None`: not known, or forgotten.
    pub fn counter_of(&self, replica: &Replica) -> Option<u64> {
        self.served(replica).map(|(_, known)| known.counter)
    }

    fn served(&self, replica: &Replica) -> Option<(u32, &Known)> {
        let id = self.replicas.find(replica)?;
        let known = &self.replicas[id];
        (known.life != Life::Forgotten).then_some((id, known))
    }

    /// What somebody who has `from` of that replica lacks. At most about `entries_max` entries and as many removals, except in a
    /// whole. While a whole of that replica is being applied here, nothing.
    pub fn interval(&self, replica: &Replica, from: u64, entries_max: usize, now: Time) -> Answer {
        let Some((id, known)) = self.served(replica) else { return Answer::Unknown };
        if from >= known.counter || self.applying.contains_key(&id) {
            return Answer::UpToDate;
        }
        if !known.log.reaches(from) {
            return self.whole(replica, now);
        }
        let most = entries_max.max(1);
        let mut to = known.counter;
        if let Some(at) = known.log.nth_after(from, most) {
            // Before that removal, or, where it came together with many others, just behind them.
            to = if at - 1 > from { at - 1 } else { at };
        }
        let mut adds = self.entries(known, from, to, most + 1);
        if adds.len() > most {
            adds.truncate(most);
            to = adds.last().map_or(to, |entry| entry.counter);
        }
        let mut removes = known.log.removals(replica, from, to);
        removes.extend(self.withdrawn(&adds, known));
        let kind = Kind::Interval;
        let down_for = down_for(known, now);
        Answer::Interval(Delta {
            replica: replica.clone(),
            from,
            to,
            adds,
            removes,
            kind,
            down_for,
        })
    }

    /// Everything of that replica, whatever the log could serve: for a want with `whole`.
    pub fn whole(&self, replica: &Replica, now: Time) -> Answer {
        let Some((id, known)) = self.served(replica) else { return Answer::Unknown };
        if self.applying.contains_key(&id) {
            return Answer::UpToDate;
        }
        let to = known.counter;
        let adds = self.entries(known, 0, to, usize::MAX);
        let mut removes = known.log.removals(replica, 0, to);
        // That it isn't in the whole says enough of what left.
        removes.retain(Removal::has_reason);
        let logged: std::collections::HashSet<u64> =
            removes.iter().map(|removal| removal.counter).collect();
        let withdrawn = self.withdrawn(&adds, known);
        removes.extend(withdrawn.into_iter().filter(|one| !logged.contains(&one.counter)));
        let kind = Kind::Whole { first: true, last: true };
        let down_for = down_for(known, now);
        Answer::Whole(Delta {
            replica: replica.clone(),
            from: 0,
            to,
            adds,
            removes,
            kind,
            down_for,
        })
    }

    /// What was added in (from, to] and is here still, withdrawn or not.
    fn entries(&self, known: &Known, from: u64, to: u64, most: usize) -> Vec<Entry> {
        let slots = &self.set.slots;
        let place = known.dots.seek(|slot| slots[slot].counter.cmp(&(from + 1)));
        let found = known.dots.iter_from(place).map(|slot| &slots[slot]);
        let found = found.take_while(|slot| slot.counter <= to);
        let found = found.filter(|slot| !slot.waiting || self.plant != Some(Plant::WaitingLeftOut));
        let entry = |slot: &super::Slot| Entry {
            counter: slot.counter,
            topic: self.set.topic(slot.presence).clone(),
            claim: slot.claim.clone(),
        };
        found.take(most).map(entry).collect()
    }

    /// For entries that wait to be removed: what they wait for. Whoever learns of the one must learn of the other.
    fn withdrawn(&self, adds: &[Entry], known: &Known) -> Vec<Removal> {
        if self.waiting.len() == 0 {
            return Vec::new();
        }
        let slots = &self.set.slots;
        let waits = |entry: &Entry| {
            let slot = known.dots.find(|slot| slots[slot].counter.cmp(&entry.counter))?;
            let because = self.waiting.get(slot)?.successor.clone();
            let given_up = false;
            Some(Removal { counter: entry.counter, because: Some(because), given_up })
        };
        adds.iter().filter_map(waits).collect()
    }
}

fn down_for(known: &Known, now: Time) -> Option<Duration> {
    known.life.down_since().map(|since| now.since(since))
}
