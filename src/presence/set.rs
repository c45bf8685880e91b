//! The claims themselves and everything that finds them: by presence (topic, key, id), by dot, by owner. Keeps books, decides
//! nothing.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::types::{SessionId, Topic};

use super::name::Name;
use super::names::{Names, Place};
use super::owners::Owners;
use super::slab::Slab;
use super::{Claim, Count, Entry};

pub(super) const NONE: u32 = u32::MAX;

/// A claim in its place.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Slot {
    pub(super) claim: Claim,
    pub(super) counter: u64,
    pub(super) replica: u32,
    pub(super) presence: u32,
    /// The next claim of the same presence.
    next: u32,
    owner_before: u32,
    owner_next: u32,
    /// Its replica has been down for too long: it doesn't count.
    pub(super) hidden: bool,
    /// Withdrawn in favour of a claim that isn't known here yet.
    pub(super) waiting: bool,
    /// Its owner gave it up, for somebody to adopt within a time.
    pub(super) released: bool,
    /// Its owner is done with it, but another node has to claim above it first.
    pub(super) ending: bool,
    /// A deadline is set that will look at it again.
    pub(super) timed: bool,
}

/// One (topic, key, id) of which there is a claim.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Presence {
    /// For key and id: any claim of it.
    pub(super) name: Claim,
    pub(super) topic: u32,
    head: u32,
    pub(super) shown: bool,
    /// No other presence has its key. (If not so: one has, or had.)
    alone: bool,
    /// It is among those that the running call has changed.
    pub(super) touched: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Room {
    pub(super) topic: Topic,
    /// Its presences, in the order of (key, id).
    pub(super) order: Names,
    pub(super) shown: usize,
    pub(super) keys: usize,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Set {
    pub(super) slots: Slab<Slot>,
    pub(super) presences: Slab<Presence>,
    pub(super) rooms: Slab<Room>,
    by_topic: HashMap<Topic, u32, RandomState>,
    owners: Owners,
}

impl Set {
    pub(super) fn new() -> Self {
        Self {
            slots: Slab::default(),
            presences: Slab::default(),
            rooms: Slab::default(),
            by_topic: HashMap::default(),
            owners: Owners::default(),
        }
    }

    pub(super) fn room(&self, topic: &Topic) -> Option<u32> {
        self.by_topic.get(topic).copied()
    }

    fn search(&self, room: u32, name: Name<'_>) -> Result<Place, Place> {
        self.search_near(room, name, None)
    }

    fn search_near(&self, room: u32, name: Name<'_>, near: Option<usize>) -> Result<Place, Place> {
        self.rooms[room].order.search(name, near, |presence| self.presences[presence].name.name())
    }

    /// The presences of a room that are not before (key, id), in order.
    pub(super) fn from(&self, room: u32, key: &str, id: &str) -> impl Iterator<Item = u32> + '_ {
        let place = self.search(room, Name::new(key, id)).unwrap_or_else(|place| place);
        self.rooms[room].order.iter_from(place)
    }

    pub(super) fn find(&self, topic: &Topic, key: &str, id: &str) -> Option<u32> {
        let room = self.room(topic)?;
        let place = self.search(room, Name::new(key, id)).ok()?;
        self.rooms[room].order.get(place)
    }

    /// The presence that the claim is about; made, without claims, if it is new. `near`: what `fetch` said of it, if that was asked.
    pub(super) fn presence(&mut self, topic: &Topic, claim: &Claim, near: Option<usize>) -> u32 {
        let room = match self.by_topic.get(topic) {
            Some(room) => *room,
            None => {
                let order = Names::default();
                let room = Room { topic: topic.clone(), order, shown: 0, keys: 0 };
                let room = self.rooms.insert(room);
                self.by_topic.insert(topic.clone(), room);
                room
            }
        };
        let place = match self.search_near(room, claim.name(), near) {
            Err(place) => place,
            Ok(place) => {
                let found = self.rooms[room].order.get(place);
                return found.unwrap_or_else(|| unreachable!("it has just been found there"));
            }
        };
        let name_of = |other: u32| self.presences[other].name.name();
        let beside = self.rooms[room].order.of_key_beside(place, claim.name(), name_of);
        for other in beside.into_iter().flatten() {
            self.presences[other].alone = false;
        }
        let presence = self.presences.insert(Presence {
            name: claim.clone(),
            topic: room,
            head: NONE,
            shown: false,
            alone: beside == [None, None],
            touched: false,
        });
        let presences = &self.presences;
        let name_of = |other: u32| presences[other].name.name();
        self.rooms[room].order.insert(place, claim.name(), presence, name_of);
        presence
    }

    /// Forgets a presence without claims, and its room with the last of them.
    pub(super) fn drop_if_empty(&mut self, presence: u32) {
        let Some(Presence { head: NONE, topic: room, name, .. }) = self.presences.get(presence)
        else {
            return;
        };
        let room = *room;
        if let Ok(place) = self.search(room, name.name()) {
            let presences = &self.presences;
            self.rooms[room].order.remove(place, |other| presences[other].name.name());
        }
        self.presences.remove(presence);
        if self.rooms[room].order.is_empty()
            && let Some(room) = self.rooms.remove(room)
        {
            self.by_topic.remove(&room.topic);
        }
    }

    /// Fetches from the memory what adding these would look at. That is much faster than to add one after another and wait for the memory
    /// each time: it answers many questions at once, if they don't depend on each other. Of each, where in its room it was looked for.
    pub(super) fn fetch(&self, entries: &[Entry]) -> Vec<Option<usize>> {
        let name_of = |presence: u32| self.presences[presence].name.name();
        let runs = entries.iter().map(|entry| {
            let order = &self.rooms[self.room(&entry.topic)?].order;
            Some((order, order.run_of(entry.claim.name(), name_of)?))
        });
        let runs: Vec<Option<(&Names, usize)>> = runs.collect();
        let fetched = runs.iter().flatten().fold(0, |sum, (order, run)| sum ^ order.fetch(*run));
        let owners = entries.iter().filter_map(|entry| self.owner_head(entry.claim.session()));
        std::hint::black_box(owners.fold(fetched, |sum, owner| sum ^ u64::from(owner)));
        runs.into_iter().map(|run| run.map(|(_, run)| run)).collect()
    }

    /// Adds a claim to a presence, and to its owner's.
    pub(super) fn insert(
        &mut self,
        presence: u32,
        claim: Claim,
        replica: u32,
        counter: u64,
    ) -> u32 {
        let session = claim.session();
        let name = claim.clone();
        let slot = Slot {
            claim,
            counter,
            replica,
            presence,
            next: self.presences[presence].head,
            owner_before: NONE,
            owner_next: NONE,
            hidden: false,
            waiting: false,
            released: false,
            ending: false,
            timed: false,
        };
        let slot = self.slots.insert(slot);
        let of = &mut self.presences[presence];
        (of.head, of.name) = (slot, name);
        let slots = &self.slots;
        if let Some(first) = self.owners.put(session, slot, |slot| slots[slot].claim.session()) {
            self.slots[slot].owner_next = first;
            self.slots[first].owner_before = slot;
        }
        slot
    }

    /// Takes a claim out. Its presence stays, if need be without claims, until `drop_if_empty`.
    pub(super) fn remove(&mut self, id: u32) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        let presence = &mut self.presences[slot.presence];
        if presence.head == id {
            presence.head = slot.next;
        } else {
            let mut at = presence.head;
            while self.slots[at].next != id {
                at = self.slots[at].next;
            }
            self.slots[at].next = slot.next;
        }
        // So that the memory of a claim that went is not kept for its name.
        if let Some(head) = self.slots.get(presence.head) {
            presence.name = head.claim.clone();
        }
        if let Some(next) = self.slots.get_mut(slot.owner_next) {
            next.owner_before = slot.owner_before;
        }
        if let Some(before) = self.slots.get_mut(slot.owner_before) {
            before.owner_next = slot.owner_next;
        } else {
            let next = Some(slot.owner_next).filter(|next| *next != NONE);
            self.owners.replace(slot.claim.session(), id, next);
        }
        Some(slot)
    }

    pub(super) fn owner_head(&self, session: SessionId) -> Option<u32> {
        self.owners.head(session, |slot| self.slots[slot].claim.session())
    }

    /// All claims of a session, anybody's.
    pub(super) fn owned_by(&self, session: SessionId) -> impl Iterator<Item = (u32, &Slot)> {
        let first = self.owner_head(session);
        std::iter::successors(first, |slot| Some(self.slots.get(*slot)?.owner_next))
            .map_while(|slot| Some((slot, self.slots.get(slot)?)))
    }

    /// All claims of a presence, hidden and waiting ones too.
    pub(super) fn claims(&self, presence: u32) -> impl Iterator<Item = (u32, &Slot)> + Clone {
        let first = self.presences[presence].head;
        std::iter::successors(Some(first), |slot| Some(self.slots.get(*slot)?.next))
            .map_while(|slot| Some((slot, self.slots.get(slot)?)))
    }

    pub(super) fn topic(&self, presence: u32) -> &Topic {
        &self.rooms[self.presences[presence].topic].topic
    }

    pub(super) fn count(&self, topic: &Topic) -> Count {
        self.room(topic).map_or_else(Count::default, |room| {
            let room = &self.rooms[room];
            Count { presences: room.shown, keys: room.keys }
        })
    }

    /// Whether anything else of its key shows: what stands beside it in the order.
    pub(super) fn key_shows_beside(&self, presence: u32) -> bool {
        let this = &self.presences[presence];
        if this.alone {
            return false;
        }
        let order = &self.rooms[this.topic].order;
        let Ok(here) = self.search(this.topic, this.name.name()) else { return false };
        let key = this.name.name().key;
        let of_key = |at: Place| {
            // Its key and what ends it.
            let told_apart = order.differ_within(here, at, key.len() + 1);
            let other = order.get(at).filter(|_| !told_apart)?;
            let other = &self.presences[other];
            (other.name.name().key == key).then_some(other.shown)
        };
        let below = std::iter::successors(order.before(here), |at| order.before(*at));
        let above = std::iter::successors(order.after(here), |at| order.after(*at));
        below.map_while(of_key).any(|shown| shown) || above.map_while(of_key).any(|shown| shown)
    }
}
