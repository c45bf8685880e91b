//! Reading.

use crate::types::{NodeName, Time, Topic};

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
        let presences = self.set.from(room, key, "");
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
        let name = |presence: u32| &self.set.presences[presence].name;
        let past = |presence: &u32| {
            let name = name(*presence);
            after.is_none_or(|after| (name.key(), name.id()) > after)
        };
        let of_key = |presence: &u32| key.is_none_or(|key| name(*presence).key() == key);
        let found = self.set.from(room, start.0, start.1).filter(past);
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

    /// Nodes that are down, how many claims of each show still, and when the last of them leaves at the latest.
    pub fn orphans(&self) -> impl Iterator<Item = (&NodeName, usize, Time)> {
        let down = self.replicas.iter().filter(|(_, known)| known.life != Life::Up);
        let shows = down.map(|(_, known)| {
            let until = known.life.hidden_from(known.longest_linger).unwrap_or_default();
            (&known.replica.name, known.dots.len() - known.hidden, until)
        });
        shows.filter(|(_, claims, _)| *claims > 0)
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
}
