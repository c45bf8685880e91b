//! Replicas come and go; their claims with them.

use crate::types::{Replica, Time};

use super::super::replica::{GONE_KEPT, Life};
use super::super::timers::Due;
use super::super::waiting::STRANGER_WAIT;
use super::super::{Diff, Tracker};
use super::work::Work;

impl Tracker {
    /// Known and alive. False: it was forgotten, or its name has a newer incarnation; nothing changed.
    pub fn replica_up(&mut self, replica: &Replica, now: Time, diff: &mut Diff) -> bool {
        if self.replicas.is_outdated(replica) {
            return false;
        }
        match self.replicas.find(replica) {
            None => {
                self.replicas.insert(replica, Life::Up);
            }
            Some(id) => {
                let known = &mut self.replicas[id];
                known.seen_up = true;
                match known.life {
                    Life::Up => return true,
                    Life::Down { .. } => known.life = Life::Up,
                    Life::Gone { .. } | Life::Forgotten => return false,
                }
                self.review_all(id);
            }
        }
        let older: Vec<Replica> = self
            .replicas
            .of_name(&replica.name)
            .filter(|(_, known)| known.replica.incarnation < replica.incarnation)
            .map(|(_, known)| known.replica.clone())
            .collect();
        for older in older {
            self.lose(&older, now, now, true);
        }
        self.proceed(now, diff);
        true
    }

    /// Silent `since` then; it may come back. Known from now on, if it wasn't.
    pub fn replica_down(&mut self, replica: &Replica, since: Time, now: Time, diff: &mut Diff) {
        self.lose(replica, since, now, self.replicas.is_outdated(replica));
        self.proceed(now, diff);
    }

    /// It can't return: it left, or a newer incarnation of its name is there. As down, then forgotten by itself once nothing
    /// of it shows.
    pub fn replica_gone(&mut self, replica: &Replica, since: Time, now: Time, diff: &mut Diff) {
        self.lose(replica, since, now, true);
        self.proceed(now, diff);
    }

    /// Nothing of this incarnation, or of older ones of its name, is ever accepted again.
    pub fn forget(&mut self, replica: &Replica, now: Time, diff: &mut Diff) {
        if *replica != *self.me() {
            self.drop_replica(replica, now);
            self.proceed(now, diff);
        }
    }

    /// A replica that membership told of, or a former life of this node: what that held is an orphan here as everywhere.
    pub(super) fn know(&mut self, replica: &Replica, now: Time) -> Option<u32> {
        let me = self.me();
        let former = replica.name == me.name && replica.incarnation < me.incarnation;
        if former && self.replicas.find(replica).is_none() && !self.replicas.is_forgotten(replica) {
            self.lose(replica, now, now, true);
        }
        self.replicas.find(replica)
    }

    fn lose(&mut self, replica: &Replica, since: Time, now: Time, gone: bool) {
        if *replica == *self.me() || self.replicas.is_forgotten(replica) {
            return;
        }
        let life = if gone { Life::Gone { since } } else { Life::Down { since } };
        let id = match self.replicas.find(replica) {
            None => self.replicas.insert(replica, life),
            Some(id) => {
                let known = &mut self.replicas[id];
                known.life = match known.life {
                    Life::Up => life,
                    Life::Down { since } if gone => Life::Gone { since },
                    Life::Down { .. } | Life::Gone { .. } | Life::Forgotten => return,
                };
                id
            }
        };
        if gone {
            self.timers.set(now + GONE_KEPT, Due::Replica(id));
        }
        self.review_all(id);
        for slot in self.waiting.on(replica, u64::MAX) {
            self.review(slot, now);
        }
    }

    /// Other nodes have held it for down for that long. Believed where this node has never seen it up: its own eyes come first.
    pub(super) fn down_for(&mut self, id: u32, since: Time) {
        let known = &mut self.replicas[id];
        if known.seen_up {
            return;
        }
        match &mut known.life {
            Life::Down { since: at } | Life::Gone { since: at } if since < *at => *at = since,
            _ => return,
        }
        self.review_all(id);
    }

    fn review_all(&mut self, replica: u32) {
        self.work.retain(
            |work| !matches!(work, Work::Review { replica: other, .. } if *other == replica),
        );
        self.work.push_back(Work::Review { replica, after: 0 });
    }

    pub(super) fn drop_replica(&mut self, replica: &Replica, now: Time) {
        self.replicas.set_floor(replica);
        let all = self.replicas.of_name(&replica.name);
        let all = all.filter(|(id, known)| {
            *id != self.me && known.replica.incarnation <= replica.incarnation
        });
        let all: Vec<(u32, Replica)> = all.map(|(id, known)| (id, known.replica.clone())).collect();
        for (id, replica) in all {
            self.replicas[id].life = Life::Forgotten;
            self.stages.retain(|(of, _), _| *of != id);
            self.applying.remove(&id);
            self.lacking.retain(|(of, _), _| *of != replica);
            if !self
                .work
                .iter()
                .any(|work| matches!(work, Work::Forget { replica } if *replica == id))
            {
                self.work.push_back(Work::Forget { replica: id });
            }
            self.resolve(&replica, u64::MAX, now);
        }
        // What waits for an incarnation that this node has never met can't come any more either.
        self.resolve(replica, u64::MAX, now);
    }

    /// A replica that can't return is forgotten once nothing of it shows.
    pub(super) fn forget_if_gone(&mut self, id: u32, now: Time) {
        let Some(known) = self.replicas.get(id) else { return };
        if !matches!(known.life, Life::Gone { .. }) {
            return;
        }
        if known.dots.len() > known.hidden {
            self.timers.set(now + GONE_KEPT, Due::Replica(id));
            return;
        }
        self.drop_replica(&known.replica.clone(), now);
    }

    /// What waited for operations of that replica up to `counter` goes, or waits for the next in the chain.
    pub(super) fn resolve(&mut self, replica: &Replica, counter: u64, now: Time) {
        for slot in self.waiting.on(replica, counter) {
            let Some(wait) = self.waiting.get(slot) else { continue };
            match self.waiting.blocker(&self.replicas, &wait.successor) {
                None => self.let_go(slot),
                Some(next) => {
                    let since = wait.since;
                    self.waiting.add(slot, next, since);
                    self.review(slot, now);
                }
            }
        }
    }

    /// Takes a claim out, whosever it is.
    pub(super) fn let_go(&mut self, slot: u32) {
        self.touch(self.set.slots[slot].presence);
        self.take(slot);
    }

    /// Looks whether a claim should be hidden, shown or gone by now, and sets the deadline for the next look.
    pub(super) fn review(&mut self, id: u32, now: Time) {
        let Some(slot) = self.set.slots.get(id) else { return };
        let (linger, replica) = (slot.claim.linger(), slot.replica);
        if let Some(wait) = self.waiting.get(id) {
            let successor = &wait.successor.replica;
            let until = match self.replicas.find(successor) {
                Some(id) => self.replicas[id].life.hidden_from(linger),
                None => Some(wait.since + linger.max(STRANGER_WAIT)),
            };
            match until {
                Some(until) if until <= now => self.let_go(id),
                Some(until) => self.timers.set(until, Due::Claim(id)),
                None => (),
            }
            return;
        }
        if let Some(until) = self.released.get(&id).copied() {
            if until <= now {
                self.end(id, now);
            }
            return;
        }
        let from = self.replicas[replica].life.hidden_from(linger);
        let hide = from.is_some_and(|from| from <= now);
        if hide != slot.hidden {
            self.touch(slot.presence);
            self.set.slots[id].hidden = hide;
            let hidden = &mut self.replicas[replica].hidden;
            *hidden = if hide { *hidden + 1 } else { *hidden - 1 };
        }
        if let Some(from) = from.filter(|from| *from > now)
            && !self.set.slots[id].timed
        {
            self.set.slots[id].timed = true;
            self.timers.set(from, Due::Claim(id));
        }
    }
}
