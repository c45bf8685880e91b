//! For tests: whether all books agree with each other, and all that a tracker knows, as text.

use std::fmt::Write as _;

use super::super::Tracker;
use super::super::order::visible;
#[cfg(test)]
use super::super::replica::Life;
#[cfg(test)]
use crate::types::Replica;

impl Tracker {
    /// For tests: all books agree with each other.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), String> {
        let fail = |what: &str| Err(format!("{}: {what}", self.me()));
        let mut shown = 0;
        let mut keys = 0;
        for (_, room) in self.set.rooms.iter() {
            let names: Vec<_> = room
                .order
                .iter()
                .map(|id| (self.set.presences[id].name.key(), self.set.presences[id].name.id()))
                .collect();
            if !names.is_sorted() {
                return fail("a topic is out of order");
            }
            let showing = room.order.iter().filter(|id| self.set.presences[*id].shown);
            let mut of: Vec<_> = showing.map(|id| self.set.presences[id].name.key()).collect();
            if of.len() != room.shown {
                return fail("a topic's count is wrong");
            }
            of.dedup();
            if of.len() != room.keys {
                return fail("a topic's count of keys is wrong");
            }
            shown += room.shown;
            keys += room.keys;
        }
        if (shown, keys) != (self.shown, self.keys) {
            return fail("the totals are wrong");
        }
        for (id, presence) in self.set.presences.iter() {
            if presence.touched || self.view(id).is_some() != presence.shown {
                return fail("a presence is not settled");
            }
            let mut replicas: Vec<_> = self.set.claims(id).map(|(_, slot)| slot.replica).collect();
            replicas.sort_unstable();
            let before = replicas.len();
            replicas.dedup();
            if replicas.len() != before || before == 0 {
                return fail("a presence has no claim, or two of one replica");
            }
            if visible(&self.set, id).count() == 0 && presence.shown {
                return fail("a presence shows without a claim");
            }
        }
        let mut claims = 0;
        for (id, known) in self.replicas.iter() {
            let slots: Vec<_> = known.dots.iter().map(|slot| &self.set.slots[slot]).collect();
            claims += slots.len();
            let settled = slots.iter().filter(|slot| !slot.waiting);
            let digest = settled.fold(0, |sum, slot| sum ^ super::hash_of_counter(slot.counter));
            if digest != known.digest
                || slots.iter().filter(|slot| slot.hidden).count() != known.hidden
                || slots.iter().any(|slot| slot.replica != id)
                || !slots.is_sorted_by_key(|slot| slot.counter)
            {
                return fail("a replica's books are wrong");
            }
        }
        let waiting = self.set.slots.iter().filter(|(_, slot)| slot.waiting).count();
        if claims != self.set.slots.len() || waiting != self.waiting.len() {
            return fail("claims are lost");
        }
        Ok(())
    }

    #[cfg(test)]
    pub(in super::super) fn is_up(&self, replica: &Replica) -> bool {
        let id = self.replicas.find(replica);
        id.is_some_and(|id| self.replicas[id].life == Life::Up)
    }

    /// As `dump`, in one number.
    #[cfg(test)]
    pub(in super::super) fn fingerprint(&self) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hash = siphasher::sip::SipHasher13::new_with_keys(1, 2);
        for (id, known) in self.replicas.iter() {
            (&known.replica, known.counter, known.covered, known.seen_up).hash(&mut hash);
            (known.life.rank(), known.life.down_since(), known.knew).hash(&mut hash);
            for slot in known.dots.iter() {
                let at = &self.set.slots[slot];
                let claim = at.claim.fields();
                (at.counter, claim.key, claim.id, claim.meta, claim.session).hash(&mut hash);
                (claim.epoch, claim.number, claim.revision, claim.base).hash(&mut hash);
                (at.hidden, at.ending, self.given_up.get(&slot), claim.linger).hash(&mut hash);
                (claim.asked, self.beside.get(&slot)).hash(&mut hash);
                let wait = self.waiting.get(slot).map(|wait| (&wait.successor, wait.since));
                (wait, self.released.get(&slot)).hash(&mut hash);
            }
            known.log.fingerprint(&mut hash);
            self.applying.contains_key(&id).hash(&mut hash);
        }
        self.replicas.floors().hash(&mut hash);
        self.sessions.fingerprint(&mut hash);
        self.waiting.all_forwards().hash(&mut hash);
        hash.finish()
    }

    /// Two trackers of which this is the same go on in the same way.
    #[doc(hidden)]
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (id, known) in self.replicas.iter() {
            let (replica, counter, life) = (&known.replica, known.counter, known.life);
            let _ = write!(text, "{replica} {counter} {life:?} {}", known.seen_up);
            for slot in known.dots.iter() {
                let at = &self.set.slots[slot];
                let claim = &at.claim;
                let _ = write!(text, " [{} {claim:?} {} {}", at.counter, at.hidden, at.released);
                let _ = write!(text, " {:?}]", self.waiting.get(slot).map(|wait| &wait.successor));
            }
            let _ = writeln!(text, " {:?} {}", known.log, self.applying.contains_key(&id));
        }
        let _ = writeln!(text, "{:?} {:?}", self.sessions.sorted(), self.waiting.all_forwards());
        text
    }
}
