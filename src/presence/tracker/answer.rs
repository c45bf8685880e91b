//! What somebody else lacks: rows to compare, intervals, wholes. Of any replica, not only this node's own: so what a dead node said
//! last reaches everybody through whoever heard it.

use std::collections::HashSet;
use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::types::{Replica, Time};

use super::super::replica::{Known, Life};
use super::super::{Answer, Delta, Entry, Kind, Plant, Removal, Row, Tracker};

/// A whole that is being read, by whoever holds the shard now and then.
#[derive(Debug)]
pub struct Reading {
    replica: Replica,
    begun: Option<Begun>,
    /// All entries up to this counter have been read.
    after: u64,
    adds: Vec<Entry>,
    /// Of entries that waited to be removed when they were read.
    removes: Vec<Removal>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    counter: u64,
    /// How many wholes had been applied here.
    wholes: u64,
}

#[derive(Debug)]
pub enum Read {
    /// Go on with it.
    More,
    /// As one part; see [`Delta::into_parts`].
    Whole(Delta),
    /// That replica isn't known any more, or a whole of it is being applied.
    Nothing,
}

impl Reading {
    pub fn new(replica: &Replica) -> Self {
        let replica = replica.clone();
        Self { replica, begun: None, after: 0, adds: Vec::new(), removes: Vec::new() }
    }
}

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

    /// An interval can be served from there on; else it takes a whole.
    pub fn reaches(&self, replica: &Replica, from: u64) -> bool {
        self.served(replica).is_none_or(|(_, known)| known.log.reaches(from))
    }

    /// Everything of that replica, whatever the log could serve: for a want with `whole`.
    pub fn whole(&self, replica: &Replica, now: Time) -> Answer {
        if self.served(replica).is_none() {
            return Answer::Unknown;
        }
        let mut reading = Reading::new(replica);
        match self.read_whole(&mut reading, usize::MAX, now) {
            Read::Whole(whole) => Answer::Whole(whole),
            Read::More | Read::Nothing => Answer::UpToDate,
        }
    }

    /// Reads on, by about `most` entries. What it gives in the end is the whole as it is at that moment, whatever has changed since the
    /// first of it was read.
    pub fn read_whole(&self, reading: &mut Reading, most: usize, now: Time) -> Read {
        let Some((id, known)) = self.served(&reading.replica) else { return Read::Nothing };
        if self.applying.contains_key(&id) {
            return Read::Nothing;
        }
        let begun = reading.begun.filter(|begun| {
            // Else nobody could tell any more what has gone since it was read.
            begun.wholes == known.wholes && known.log.reaches(begun.counter)
        });
        if begun.is_none() {
            *reading = Reading::new(&reading.replica);
            reading.begun = Some(Begun { counter: known.counter, wholes: known.wholes });
            // Growing would copy all that was read before, again and again.
            reading.adds.reserve_exact(known.dots.len() + known.dots.len() / 8);
        }
        let to = known.counter;
        let adds = self.entries(known, reading.after, to, most);
        reading.removes.extend(self.withdrawn(&adds, known));
        let is_last = adds.len() < most;
        if let Some(last) = adds.last() {
            reading.after = last.counter;
        }
        reading.adds.extend(adds);
        if !is_last {
            return Read::More;
        }
        let (mut adds, withdrawn) =
            (std::mem::take(&mut reading.adds), std::mem::take(&mut reading.removes));
        let mut removes = known.log.removals(&known.replica, 0, to);
        let was_read = |counter| adds.binary_search_by_key(&counter, |add| add.counter).is_ok();
        let gone = |counter| was_read(counter) && self.slot_of(id, counter).is_none();
        let logged = removes.iter().map(|removal| removal.counter);
        let (logged, gone): (HashSet<u64>, HashSet<u64>) =
            (logged.clone().collect(), logged.filter(|counter| gone(*counter)).collect());
        if !gone.is_empty() {
            adds.retain(|add| !gone.contains(&add.counter));
        }
        // That it isn't in the whole says enough of what left.
        removes.retain(Removal::has_reason);
        removes.extend(withdrawn.into_iter().filter(|one| !logged.contains(&one.counter)));
        let kind = Kind::Whole { first: true, last: true };
        let (replica, down_for) = (known.replica.clone(), down_for(known, now));
        Read::Whole(Delta { replica, from: 0, to, adds, removes, kind, down_for })
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
            Some(Removal { counter: entry.counter, because: Some(because), given_up: None })
        };
        adds.iter().filter_map(waits).collect()
    }
}

fn down_for(known: &Known, now: Time) -> Option<Duration> {
    known.life.down_since().map(|since| now.since(since))
}
