//! Reading.

use crate::types::{NodeName, Topic};

use super::super::order::visible;
use super::super::replica::{Known, Life};
use super::super::set::Room;
use super::super::{Count, Report, Shown, Tracker};

impl Tracker {
    pub fn count(&self, topic: &Topic) -> Count {
        self.set.count(topic)
    }

    /// Presences of one key that show.
    pub fn count_of_key(&self, topic: &Topic, key: &str) -> usize {
        let Some(room) = self.set.room(topic) else { return 0 };
        let from = self.set.seek(room, key, "");
        let presences = self.set.rooms[room].order.iter_from(from);
        let presences = presences.map(|presence| &self.set.presences[presence]);
        let of_key = presences.take_while(|presence| presence.name.key() == key);
        of_key.filter(|presence| presence.shown).count()
    }

    /// In the order of (key, id), those after `after`; of one key where it is given.
    pub fn page(
        &self,
        topic: &Topic,
        key: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Vec<Shown> {
        let Some(room) = self.set.room(topic) else { return Vec::new() };
        let start = after.max(key.map(|key| (key, ""))).unwrap_or(("", ""));
        let order = &self.set.rooms[room].order;
        let name = |presence: u32| &self.set.presences[presence].name;
        let past = |presence: &u32| {
            let name = name(*presence);
            after.is_none_or(|after| (name.key(), name.id()) > after)
        };
        let of_key = |presence: &u32| key.is_none_or(|key| name(*presence).key() == key);
        let found = order.iter_from(self.set.seek(room, start.0, start.1)).filter(past);
        let found = found.take_while(of_key).filter(|id| self.set.presences[*id].shown);
        found.filter_map(|presence| self.view(presence)).take(limit).collect()
    }

    /// Everything of a topic, in the order of (key, id).
    pub fn snapshot(&self, topic: &Topic) -> Vec<Shown> {
        self.page(topic, None, None, usize::MAX)
    }

    /// Topics where something shows, in no order.
    pub fn topics(&self) -> impl Iterator<Item = (&Topic, Count)> {
        let count = |room: &Room| Count { presences: room.shown, keys: room.keys };
        let rooms = self.set.rooms.iter().filter(|(_, room)| room.shown > 0);
        rooms.map(move |(_, room)| (&room.topic, count(room)))
    }

    /// Rises with every change that shows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Nodes that are down, and how many claims of each show still.
    pub fn orphans(&self) -> impl Iterator<Item = (&NodeName, usize)> {
        let down = self.replicas.iter().filter(|(_, known)| known.life != Life::Up);
        let shows = down.map(|(_, known)| (&known.replica.name, known.dots.len() - known.hidden));
        shows.filter(|(_, claims)| *claims > 0)
    }

    pub fn report(&self) -> Report {
        let down = self.replicas.iter().filter(|(_, known)| known.life != Life::Up);
        let topics = self.set.rooms.iter().filter(|(_, room)| room.shown > 0).count();
        Report {
            presences: self.shown,
            keys: self.keys,
            topics,
            orphaned: down.map(|(_, known): (_, &Known)| known.dots.len() - known.hidden).sum(),
            waiting: self.waiting.len(),
            claims: self.set.slots.len(),
            own: self.replicas[self.me].dots.len(),
        }
    }

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
}
impl Tracker {
    #[doc(hidden)]
    pub fn dump(&self) -> String {
        let mut out = String::new();
        for (_, known) in self.replicas.iter() {
            out += &format!("{} c={} {:?}:", known.replica, known.counter, known.life);
            for slot in known.dots.iter() {
                let s = &self.set.slots[slot];
                out += &format!(
                    " {}:{}/{}{}{}",
                    s.counter,
                    s.claim.key(),
                    s.claim.id(),
                    if s.waiting { "W" } else { "" },
                    if s.hidden { "H" } else { "" }
                );
            }
            out += "\n";
        }
        out
    }
}
