//! One shard: the door to everything in this module.
//!
//! Every call works in the same way: it *touches* each presence it is going to change (what showed before is kept), changes claims,
//! and then *settles*: for each presence touched, this node claims or withdraws as `owning` says, and what shows now is
//! compared with what showed before.

mod answer;
mod check;
mod lives;
mod local;
mod merge;
mod owning;
mod read;
mod wants;
mod whole;
mod work;

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::types::{NodeName, Replica, SessionId, Time, Topic};

use super::order::{Order, visible};
use super::replica::{Life, Replicas, hash_of_counter};
use super::sessions::{Sessions, State};
use super::set::{Set, Slot};
use super::timers::{Due, Timers};
use super::waiting::Waiting;
use super::{Asked, Change, Claim, Diff, Dot, GivenUp, Plant, Reference, Removal, Shown};

pub use answer::{Read, Reading};

use wants::Lack;
use whole::{Applying, Stage};
use work::Work;

/// All presences of one shard as this node knows them. Plain data: no lock, no clock. Calls that change something append what
/// they changed to a [`Diff`]. No call works on much more than 1,000 claims (copies of whole lists aside): what is left over is
/// done by [`Tracker::tick`], and [`Tracker::next_deadline`] is not later than now meanwhile.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Tracker {
    /// This node among the replicas.
    me: u32,
    set: Set,
    replicas: Replicas,
    sessions: Sessions,
    waiting: Waiting,
    timers: Timers,
    /// What was too much for one call.
    work: VecDeque<Work>,
    /// Wholes that are coming in, by replica and by whoever sends them.
    stages: BTreeMap<(u32, NodeName), Stage>,
    /// Wholes that are complete and being applied.
    applying: BTreeMap<u32, Applying>,
    /// Claims of this node that stay until then for somebody to adopt.
    released: HashMap<u32, Time, RandomState>,
    /// Claims of this node that stay though another one counts, which was made without knowing of them; and which that is.
    beside: HashMap<u32, (u32, u64), RandomState>,
    /// Claims of this node whose owner has untracked them, and when.
    given_up: HashMap<u32, Asked, RandomState>,
    /// What the running call has changed, and what showed before.
    touched: Vec<(u32, Option<Shown>)>,
    lacking: BTreeMap<(Replica, NodeName), Lack>,
    shown: usize,
    keys: usize,
    version: u64,
    housekeeping: bool,
    plant: Option<Plant>,
}

impl Tracker {
    pub fn new(me: Replica) -> Self {
        Self::planted(me, None)
    }

    /// With a bug, for tests that must find it.
    #[doc(hidden)]
    #[expect(clippy::needless_pass_by_value, reason = "the same as `new`")]
    pub fn planted(me: Replica, plant: Option<Plant>) -> Self {
        let mut replicas = Replicas::default();
        let me = replicas.insert(&me, Life::Up);
        Self {
            me,
            set: Set::new(),
            replicas,
            sessions: Sessions::default(),
            waiting: Waiting::default(),
            timers: Timers::default(),
            work: VecDeque::new(),
            stages: BTreeMap::new(),
            applying: BTreeMap::new(),
            released: HashMap::default(),
            beside: HashMap::default(),
            given_up: HashMap::default(),
            touched: Vec::new(),
            lacking: BTreeMap::new(),
            shown: 0,
            keys: 0,
            version: 0,
            housekeeping: false,
            plant,
        }
    }

    #[cfg(test)]
    pub(super) fn sessions_known(&self) -> usize {
        self.sessions.len()
    }

    pub fn me(&self) -> &Replica {
        &self.replicas[self.me].replica
    }

    fn order(&self) -> Order<'_> {
        Order { replicas: &self.replicas, plant: self.plant }
    }

    fn dot(&self, slot: &Slot) -> Dot {
        Dot { replica: self.replicas[slot.replica].replica.clone(), counter: slot.counter }
    }

    fn slot_of(&self, replica: u32, counter: u64) -> Option<u32> {
        let slots = &self.set.slots;
        self.replicas[replica].dots.find(|slot| slots[slot].counter.cmp(&counter))
    }

    /// This replica's claim of a presence. There is at most one.
    fn claim_of(&self, presence: u32, replica: u32) -> Option<u32> {
        self.set.claims(presence).find(|(_, slot)| slot.replica == replica).map(|(id, _)| id)
    }

    fn highest_number(&self, presence: u32) -> u64 {
        let numbers = self.set.claims(presence).map(|(_, slot)| slot.claim.number());
        numbers.max().unwrap_or(0)
    }

    /// What shows of a presence.
    fn view(&self, presence: u32) -> Option<Shown> {
        let order = self.order();
        let winner = order.best(visible(&self.set, presence))?;
        let content = order.content(winner, visible(&self.set, presence));
        let known = &self.replicas[winner.1.replica];
        Some(Shown {
            claim: content.1.claim.clone(),
            node: known.replica.name.clone(),
            session: winner.1.claim.session(),
            since_ms: winner.1.claim.since_ms(),
            reference: Reference::of(self.set.topic(presence), &content.1.claim),
            leaves_at: match known.life {
                Life::Up => None,
                // One that was forgotten is about to go.
                life => Some(life.hidden_from(winner.1.claim.linger()).unwrap_or_default()),
            },
        })
    }

    /// To be called before any change to a presence.
    fn touch(&mut self, presence: u32) {
        if !self.set.presences[presence].touched {
            let before = self.view(presence);
            self.set.presences[presence].touched = true;
            self.touched.push((presence, before));
        }
    }

    /// To be called at the end of every call that may have touched something.
    fn settle(&mut self, now: Time, diff: &mut Diff) {
        let mut touched = std::mem::take(&mut self.touched);
        diff.0.reserve(touched.len());
        for (presence, before) in touched.drain(..) {
            self.own(presence, now);
            self.set.presences[presence].touched = false;
            let after = self.view(presence);
            self.announce(presence, before, after, diff);
            self.set.drop_if_empty(presence);
        }
        self.touched = touched;
    }

    fn announce(
        &mut self,
        presence: u32,
        before: Option<Shown>,
        after: Option<Shown>,
        diff: &mut Diff,
    ) {
        let reference = |shown: &Option<Shown>| shown.as_ref().map(Shown::reference);
        if reference(&before) == reference(&after) {
            return;
        }
        self.version += 1;
        let (mut first_of_key, mut last_of_key) = (false, false);
        if before.is_some() != after.is_some() {
            let joins = after.is_some();
            let alone = !self.set.key_shows_beside(presence);
            (first_of_key, last_of_key) = (alone && joins, alone && !joins);
            self.set.presences[presence].shown = joins;
            let room = &mut self.set.rooms[self.set.presences[presence].topic];
            if joins {
                (room.shown, room.keys) = (room.shown + 1, room.keys + usize::from(alone));
                (self.shown, self.keys) = (self.shown + 1, self.keys + usize::from(alone));
            } else {
                (room.shown, room.keys) = (room.shown - 1, room.keys - usize::from(alone));
                (self.shown, self.keys) = (self.shown - 1, self.keys - usize::from(alone));
            }
        }
        let topic = self.set.topic(presence).clone();
        diff.0.push(Change { topic, before, after, first_of_key, last_of_key });
    }

    fn hash_of(&self, presence: u32) -> u64 {
        let name = &self.set.presences[presence].name;
        hash_of_name(self.set.topic(presence), name.key(), name.id())
    }

    /// One operation: a claim of this node, in the place of the one it had.
    fn mint(&mut self, presence: u32, claim: Claim, now: Time) {
        self.touch(presence);
        let (me, counter) = (self.me, self.replicas[self.me].counter + 1);
        let old = self.claim_of(presence, me);
        self.put(presence, claim, me, counter);
        if let Some(old) = old {
            let gone = self.set.slots[old].counter;
            let dot = Dot { replica: self.me().clone(), counter };
            let removal = Removal { counter: gone, because: Some(dot), given_up: None };
            self.log(me, (counter - 1, counter), &removal, now);
            self.take(old);
        }
        self.advance(me, counter);
    }

    /// One operation: a claim of this node goes.
    fn withdraw(&mut self, slot: u32, because: Option<Dot>, now: Time) {
        self.touch(self.set.slots[slot].presence);
        let (me, counter) = (self.me, self.replicas[self.me].counter + 1);
        let because = because.filter(|_| self.plant != Some(Plant::NoBecause));
        let given_up = self.given_up(slot).filter(|_| because.is_none());
        let removal = Removal { counter: self.set.slots[slot].counter, because, given_up };
        self.log(me, (counter - 1, counter), &removal, now);
        self.take(slot);
        self.advance(me, counter);
    }

    /// What others are told of a claim of this node that was untracked.
    fn given_up(&self, slot: u32) -> Option<GivenUp> {
        let at = *self.given_up.get(&slot)?;
        let slot = self.set.slots.get(slot)?;
        Some(GivenUp { session: slot.claim.session(), at, presence: self.hash_of(slot.presence) })
    }

    /// A claim of this node goes because its owner or its time says so. Where another one stands above it, for that one; but for none of
    /// a lower number (see `decide`), so where that stands above it, it stays until its holder has claimed again.
    fn end(&mut self, slot: u32, now: Time) {
        let own = &self.set.slots[slot];
        let best = self.order().best(visible(&self.set, own.presence));
        let best = best
            .filter(|(_, best)| best.replica != self.me && !best.waiting)
            .filter(|_| self.plant != Some(Plant::LingerNotCancelled));
        match best {
            Some((_, best)) if !self.order().between(best, own) => {
                self.set.slots[slot].ending = true;
            }
            best => {
                let because = best.map(|(_, best)| self.dot(best));
                self.withdraw(slot, because, now);
            }
        }
    }

    /// One of its operations in (since, at] was that removal.
    fn log(&mut self, replica: u32, (since, at): (u64, u64), removal: &Removal, now: Time) {
        let known = &mut self.replicas[replica];
        let here = removal.because.as_ref().is_some_and(|dot| dot.replica == known.replica);
        known.log.push((since, at), removal, here, now);
        self.keep_house(now);
    }

    fn advance(&mut self, replica: u32, counter: u64) {
        let known = &mut self.replicas[replica];
        known.counter = known.counter.max(counter);
        known.covered = known.covered.max(counter);
    }

    /// Adds a claim to all books. Its presence must have been touched.
    fn put(&mut self, presence: u32, claim: Claim, replica: u32, counter: u64) -> u32 {
        let session = claim.session();
        let slot = self.set.insert(presence, claim, replica, counter);
        let slots = &self.set.slots;
        let known = &mut self.replicas[replica];
        known.longest_linger = known.longest_linger.max(slots[slot].claim.linger());
        let place = known.dots.seek(|slot| slots[slot].counter.cmp(&counter));
        known.dots.insert(place, slot);
        known.digest ^= hash_of_counter(counter);
        if replica == self.me
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.holds += 1;
        }
        slot
    }

    /// Takes a claim out of all books. Its presence must have been touched.
    fn take(&mut self, id: u32) {
        let slot = &self.set.slots[id];
        let (replica, counter, session) = (slot.replica, slot.counter, slot.claim.session());
        let slots = &self.set.slots;
        let known = &mut self.replicas[replica];
        let place = known.dots.seek(|slot| slots[slot].counter.cmp(&counter));
        known.dots.remove(place);
        let Some(slot) = self.set.remove(id) else { return };
        known.hidden -= usize::from(slot.hidden);
        if slot.waiting {
            self.waiting.remove(id);
        } else {
            known.digest ^= hash_of_counter(counter);
        }
        if slot.released {
            self.released.remove(&id);
        }
        if replica == self.me {
            self.beside.remove(&id);
            self.given_up.remove(&id);
            self.lets_go(session);
        }
    }

    /// A session holds one claim less here.
    fn lets_go(&mut self, session: SessionId) {
        if let Some(known) = self.sessions.get_mut(session) {
            debug_assert!(known.holds > 0, "it held what it lets go");
            known.holds = known.holds.saturating_sub(1);
            // One that has a time of its own has no attachment behind it that could have more to come.
            let is_attached =
                matches!(known.state, State::Attached { .. }) && known.expires.is_none();
            if known.holds == 0 && !is_attached {
                self.sessions.remove(session);
            }
        }
    }

    /// Makes sure that logs are trimmed in time.
    fn keep_house(&mut self, now: Time) {
        if !self.housekeeping {
            self.housekeeping = true;
            self.timers.set(now + super::log::KEPT, Due::Housekeeping);
        }
    }
}

/// Of a presence, for what sessions remember.
fn hash_of_name(topic: &Topic, key: &str, id: &str) -> u64 {
    use std::hash::Hasher;
    let mut hash = siphasher::sip::SipHasher13::new_with_keys(topic.hash64(), 0);
    hash.write_u64(key.len() as u64);
    hash.write(key.as_bytes());
    hash.write(id.as_bytes());
    hash.finish()
}
