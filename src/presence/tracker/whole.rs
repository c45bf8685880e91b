//! Wholes: everything of one replica, in parts. Collected until the last part has come, then applied in turns: first what it adds,
//! then what it lacks goes. Until that is done the replica's counter stays where it was, nobody is served from it, and its deltas queue.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::types::{NodeName, Replica, Time};

use super::super::{Delta, Dot, Entry, Kind, MergeError, Merged, Removal, Tracker};
use super::merge::{FETCH, by_counter};
use super::work::Work;

/// A whole of which nothing has come for so long is given up.
const STAGE_KEPT: Duration = Duration::from_secs(2);

/// Deltas that queue behind a whole, and about their bytes; what is more is asked for again later.
const BEHIND_MAX: usize = 256;
const BEHIND_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Stage {
    to: u64,
    adds: Vec<Entry>,
    removes: Vec<Removal>,
    heard: Time,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Applying {
    to: u64,
    adds: Vec<Entry>,
    removes: HashMap<u64, Removal>,
    /// How many of `adds` are in.
    added: usize,
    /// All adds are in; of those that were there before, all up to this counter have been looked at.
    swept: Option<u64>,
    behind: VecDeque<Delta>,
    behind_bytes: usize,
}

impl Tracker {
    /// A whole of that replica is coming in or being applied.
    pub(super) fn awaits_whole(&self, replica: u32, now: Time) -> bool {
        let fresh = |stage: &Stage| now.since(stage.heard) < STAGE_KEPT;
        self.applying.contains_key(&replica)
            || self.stages.iter().any(|((of, _), stage)| *of == replica && fresh(stage))
    }

    pub(super) fn stage(
        &mut self,
        id: u32,
        source: &NodeName,
        delta: Delta,
        now: Time,
    ) -> Result<Merged, MergeError> {
        let Kind::Whole { first, last } = delta.kind else { return Ok(Merged::default()) };
        self.stages.retain(|_, stage| now.since(stage.heard) < STAGE_KEPT);
        let key = (id, source.clone());
        if first {
            let stage =
                Stage { to: delta.to, adds: delta.adds, removes: delta.removes, heard: now };
            self.stages.insert(key.clone(), stage);
        } else {
            let stage = self.stages.get_mut(&key).ok_or(MergeError::NoBeginning)?;
            let after = stage.adds.last().map_or(0, |entry| entry.counter);
            let ordered = delta.adds.first().is_none_or(|entry| entry.counter > after);
            if stage.to != delta.to || !ordered {
                self.stages.remove(&key);
                return Err(MergeError::Malformed("parts of different wholes"));
            }
            stage.adds.extend(delta.adds);
            stage.removes.extend(delta.removes);
            stage.heard = now;
        }
        if !last {
            return Ok(Merged::default());
        }
        let Some(stage) = self.stages.remove(&key) else { return Ok(Merged::default()) };
        let known = &self.replicas[id];
        let news = stage.to > known.counter || (known.repairing && stage.to == known.counter);
        if news && !self.applying.contains_key(&id) {
            let applying = Applying {
                to: stage.to,
                adds: stage.adds,
                removes: by_counter(stage.removes),
                added: 0,
                swept: None,
                behind: VecDeque::new(),
                behind_bytes: 0,
            };
            self.applying.insert(id, applying);
            self.work.push_front(Work::Whole { replica: id });
        }
        Ok(Merged::default())
    }

    /// What that peer has sent of a whole of that replica goes: the rest won't come, or is more than is to be held.
    pub fn abandon(&mut self, replica: &Replica, source: &NodeName) {
        if let Some(id) = self.replicas.find(replica) {
            self.stages.remove(&(id, source.clone()));
        }
    }

    /// Gives an interval back, unless it has to queue behind a whole.
    pub(super) fn behind_whole(&mut self, id: u32, delta: Delta) -> Option<Delta> {
        match self.applying.get_mut(&id) {
            None => Some(delta),
            Some(applying) => {
                let bytes = applying.behind_bytes + delta.size();
                if applying.behind.len() < BEHIND_MAX && bytes <= BEHIND_BYTES_MAX {
                    applying.behind_bytes = bytes;
                    applying.behind.push_back(delta);
                }
                None
            }
        }
    }

    /// True: there is more.
    pub(super) fn apply_some(&mut self, id: u32, left: &mut usize, now: Time) -> bool {
        let Some(mut applying) = self.applying.remove(&id) else { return false };
        let (have, repairing) = (self.replicas[id].counter, self.replicas[id].repairing);
        let to = applying.to;
        if applying.swept.is_none() {
            let most = applying.adds.len().min(applying.added + *left);
            for some in applying.adds[applying.added..most].chunks(FETCH) {
                let near = self.set.fetch(some);
                for (entry, near) in some.iter().zip(near) {
                    // What this node knows of and doesn't have was removed since, unless it is known to be wrong.
                    let lacks = || self.slot_of(id, entry.counter).is_none();
                    if entry.counter > have || repairing && lacks() {
                        self.add(id, entry, near, to, now);
                    }
                }
            }
            *left -= most - applying.added;
            applying.added = most;
            if applying.added == applying.adds.len() {
                let known = &mut self.replicas[id];
                known.covered = known.covered.max(to);
                applying.swept = Some(0);
                let replica = known.replica.clone();
                self.learn_forwards(id, &applying, have, now);
                self.resolve(&replica, to, now);
            }
        }
        if let Some(swept) = applying.swept
            && *left > 0
        {
            let asked = *left;
            let slots = self.next_of(id, swept, asked);
            *left -= slots.len();
            let mut done = slots.len() < asked;
            let mut given_up = Vec::new();
            for slot in slots {
                let counter = self.set.slots[slot].counter;
                applying.swept = Some(counter);
                if counter > to {
                    done = true;
                    break;
                }
                let lives = applying.adds.binary_search_by_key(&counter, |add| add.counter).is_ok();
                let removal = applying.removes.get(&counter);
                // In it and removed as well: its sender waits for the successor too.
                if !self.set.slots[slot].waiting && (!lives || removal.is_some()) {
                    given_up.extend(removal.and_then(|removal| removal.given_up));
                    self.retire(slot, removal.and_then(|removal| removal.because.as_ref()), now);
                }
            }
            self.give_up_heirs(given_up, now);
            if done {
                self.applied(id, applying, now);
                return false;
            }
        }
        self.applying.insert(id, applying);
        true
    }

    /// Claims that came and went, and what they went for.
    fn learn_forwards(&mut self, id: u32, applying: &Applying, have: u64, now: Time) {
        let replica = self.replicas[id].replica.clone();
        let mut given_up = Vec::new();
        for (counter, removal) in &applying.removes {
            let lives = applying.adds.binary_search_by_key(counter, |add| add.counter).is_ok();
            if *counter > have && !lives {
                given_up.extend(removal.given_up);
            }
            if let Some(successor) = &removal.because
                && *counter > have
                && !lives
            {
                let dot = Dot { replica: replica.clone(), counter: *counter };
                self.waiting.forward(dot, successor.clone());
                self.keep_house(now);
            }
        }
        self.give_up_heirs(given_up, now);
    }

    fn applied(&mut self, id: u32, applying: Applying, now: Time) {
        let to = applying.to;
        self.advance(id, to);
        let known = &mut self.replicas[id];
        known.repairing = false;
        known.wholes += 1;
        known.log.restart(to);
        // In the order of counters, so that two nodes that apply the same whole log the same.
        let mut removes: Vec<_> = applying.removes.into_iter().collect();
        removes.sort_unstable_by_key(|(counter, _)| *counter);
        for (_, removal) in removes.iter().filter(|(_, removal)| removal.has_reason()) {
            self.log(id, (0, to), removal, now);
        }
        for delta in applying.behind {
            // What doesn't fit is asked for again.
            let _ = self.merge_interval(id, delta, now);
        }
    }
}
