//! The claims themselves and everything that finds them: by presence (topic, key, id), by dot, by owner. Keeps books, decides
//! nothing.

use std::cmp::Ordering;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::types::{SessionId, Topic};

use super::slab::Slab;
use super::sorted::{Place, Sorted};
use super::{Claim, Count};

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
    /// Its owner untracked it.
    pub(super) given_up: bool,
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
    /// It is among those that the running call has changed.
    pub(super) touched: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Room {
    pub(super) topic: Topic,
    /// Its presences, in the order of (key, id).
    pub(super) order: Sorted,
    pub(super) shown: usize,
    pub(super) keys: usize,
}

/// Split, so that growing is never one long step. Tests that copy a tracker for each of a hundred thousand states have few owners.
const OWNER_MAPS: usize = if cfg!(test) { 2 } else { 256 };

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Set {
    pub(super) slots: Slab<Slot>,
    pub(super) presences: Slab<Presence>,
    pub(super) rooms: Slab<Room>,
    by_topic: HashMap<Topic, u32, RandomState>,
    /// The first of each session's claims.
    owners: Vec<HashMap<SessionId, u32, RandomState>>,
}

fn by_name(claim: &Claim, key: &str, id: &str) -> Ordering {
    claim
        .key()
        .as_bytes()
        .cmp(key.as_bytes())
        .then_with(|| claim.id().as_bytes().cmp(id.as_bytes()))
}

impl Set {
    pub(super) fn new() -> Self {
        Self {
            slots: Slab::default(),
            presences: Slab::default(),
            rooms: Slab::default(),
            by_topic: HashMap::default(),
            owners: Vec::new(),
        }
    }

    pub(super) fn room(&self, topic: &Topic) -> Option<u32> {
        self.by_topic.get(topic).copied()
    }

    /// The first presence of a room that is not before (key, id).
    pub(super) fn seek(&self, room: u32, key: &str, id: &str) -> Place {
        let presences = &self.presences;
        self.rooms[room].order.seek(|presence| by_name(&presences[presence].name, key, id))
    }

    pub(super) fn find(&self, topic: &Topic, key: &str, id: &str) -> Option<u32> {
        let room = self.room(topic)?;
        let presences = &self.presences;
        self.rooms[room].order.find(|presence| by_name(&presences[presence].name, key, id))
    }

    /// The presence that the claim is about; made, without claims, if it is new.
    pub(super) fn presence(&mut self, topic: &Topic, claim: &Claim) -> u32 {
        let room = match self.by_topic.get(topic) {
            Some(room) => *room,
            None => {
                let order = Sorted::default();
                let room = Room { topic: topic.clone(), order, shown: 0, keys: 0 };
                let room = self.rooms.insert(room);
                self.by_topic.insert(topic.clone(), room);
                room
            }
        };
        let place = self.seek(room, claim.key(), claim.id());
        if let Some(found) = self.rooms[room].order.get(place)
            && by_name(&self.presences[found].name, claim.key(), claim.id()).is_eq()
        {
            return found;
        }
        let name = claim.clone();
        let presence = Presence { name, topic: room, head: NONE, shown: false, touched: false };
        let presence = self.presences.insert(presence);
        self.rooms[room].order.insert(place, presence);
        presence
    }

    /// Forgets a presence without claims, and its room with the last of them.
    pub(super) fn drop_if_empty(&mut self, presence: u32) {
        let Some(Presence { head: NONE, topic: room, name, .. }) = self.presences.get(presence)
        else {
            return;
        };
        let (room, name) = (*room, name.clone());
        let place = self.seek(room, name.key(), name.id());
        self.rooms[room].order.remove(place);
        self.presences.remove(presence);
        if self.rooms[room].order.is_empty()
            && let Some(room) = self.rooms.remove(room)
        {
            self.by_topic.remove(&room.topic);
        }
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
        let next = self.presences[presence].head;
        let owner_next = self.owner_head(session).unwrap_or(NONE);
        let slot = Slot {
            claim,
            counter,
            replica,
            presence,
            next,
            owner_before: NONE,
            owner_next,
            hidden: false,
            waiting: false,
            released: false,
            ending: false,
            given_up: false,
            timed: false,
        };
        let slot = self.slots.insert(slot);
        self.presences[presence].head = slot;
        self.presences[presence].name = self.slots[slot].claim.clone();
        if let Some(next) = self.slots.get_mut(owner_next) {
            next.owner_before = slot;
        }
        if self.owners.is_empty() {
            self.owners.resize_with(OWNER_MAPS, HashMap::default);
        }
        self.owners[usize::from(session.0[0]) % OWNER_MAPS].insert(session, slot);
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
            let session = slot.claim.session();
            let map = &mut self.owners[usize::from(session.0[0]) % OWNER_MAPS];
            if slot.owner_next == NONE {
                map.remove(&session);
            } else {
                map.insert(session, slot.owner_next);
            }
        }
        Some(slot)
    }

    pub(super) fn owner_head(&self, session: SessionId) -> Option<u32> {
        self.owners.get(usize::from(session.0[0]) % OWNER_MAPS)?.get(&session).copied()
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
        let order = &self.rooms[this.topic].order;
        let same = |other: &u32| self.presences[*other].name.key() == this.name.key();
        let shows = |other: u32| self.presences[other].shown;
        let here = self.seek(this.topic, this.name.key(), this.name.id());
        let mut below = std::iter::successors(order.before(here), |at| order.before(*at))
            .map_while(|at| order.get(at))
            .take_while(same);
        let mut above = order.iter_from(order.after(here)).take_while(same);
        below.any(shows) || above.any(shows)
    }
}
