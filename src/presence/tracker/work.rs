//! What is due, and what was too much for one call: done in turns of about 1,000 claims, so that nobody waits long for the shard.

use crate::types::{SessionId, Time};

use super::super::log::KEPT;
use super::super::replica::Life;
use super::super::sessions::{IDLE_KEPT, State};
use super::super::timers::Due;
use super::super::{Diff, Owner, Tracker};

/// Claims looked at in one turn.
pub(super) const TURN: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Each claim of a replica behind `after` is looked at again: its life has changed.
    Review { replica: u32, after: u64 },
    /// Each claim of a replica goes.
    Forget { replica: u32 },
    /// Each claim that a session holds here goes.
    End { session: SessionId },
    /// Each claim of a session is adopted.
    Adopt { session: SessionId },
    /// A whole is applied.
    Whole { replica: u32 },
}

impl Tracker {
    /// Whatever is due. Call it when `next_deadline` has passed, and again while it has.
    pub fn tick(&mut self, now: Time, diff: &mut Diff) {
        for _ in 0..TURN {
            let Some(due) = self.timers.pop(now) else { break };
            match due {
                Due::Claim(slot) => {
                    if let Some(slot) = self.set.slots.get_mut(slot) {
                        slot.timed = false;
                    }
                    self.review(slot, now);
                }
                Due::Session(session) => self.review_session(session, now),
                Due::Replica(replica) => self.forget_if_gone(replica, now),
                Due::Housekeeping => self.housekeeping(now),
            }
        }
        self.proceed(now, diff);
    }

    /// `Time::ZERO`: there is work left.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.work.is_empty() { self.timers.next() } else { Some(Time::ZERO) }
    }

    /// Works for one turn, and settles.
    pub(super) fn proceed(&mut self, now: Time, diff: &mut Diff) {
        let mut left = TURN;
        while left > 0 {
            let Some(work) = self.work.pop_front() else { break };
            if let Some(rest) = self.do_some(work, &mut left, now) {
                self.work.push_back(rest);
            }
        }
        self.settle(now, diff);
    }

    /// What is left of it.
    fn do_some(&mut self, work: Work, left: &mut usize, now: Time) -> Option<Work> {
        match work {
            Work::Review { replica, after } => {
                self.replicas.get(replica)?;
                let slots = self.next_of(replica, after, *left);
                *left -= slots.len();
                let last = slots.last().map(|slot| self.set.slots[*slot].counter);
                for slot in slots {
                    self.review(slot, now);
                }
                last.map(|after| Work::Review { replica, after })
            }
            Work::Forget { replica } => {
                self.replicas.get(replica).filter(|known| known.life == Life::Forgotten)?;
                let slots = self.next_of(replica, 0, *left);
                *left -= slots.len();
                for slot in slots {
                    self.let_go(slot);
                }
                if self.replicas[replica].dots.is_empty() {
                    self.replicas.remove(replica);
                    return None;
                }
                Some(work)
            }
            Work::End { session } => {
                let ended = |state: State| state == State::Ended;
                self.sessions.get(session).filter(|session| ended(session.state))?;
                let own = self.set.owned_by(session);
                let own = own.filter(|(_, slot)| slot.replica == self.me && !slot.ending);
                let own: Vec<u32> = own.take(*left).map(|(slot, _)| slot).collect();
                *left -= own.len();
                for slot in &own {
                    self.end(*slot, now);
                }
                (!own.is_empty()).then_some(work)
            }
            Work::Adopt { session } => {
                let epoch = self.sessions.attached(session)?;
                let linger = self.sessions.get(session)?.linger;
                let owner = Owner { session, epoch, linger };
                let presences = self.to_adopt(&owner, now, *left);
                *left -= presences.len();
                for presence in &presences {
                    self.claim_for(*presence, &owner, now);
                }
                (!presences.is_empty()).then_some(work)
            }
            Work::Whole { replica } => self.apply_some(replica, left, now).then_some(work),
        }
    }

    /// Claims of a replica behind a counter.
    pub(super) fn next_of(&self, replica: u32, after: u64, most: usize) -> Vec<u32> {
        let slots = &self.set.slots;
        let dots = &self.replicas[replica].dots;
        let place = dots.seek(|slot| slots[slot].counter.cmp(&(after + 1)));
        dots.iter_from(place).take(most).collect()
    }

    /// What shows as that session's and isn't held here under its latest attachment.
    fn to_adopt(&self, owner: &Owner, now: Time, most: usize) -> Vec<u32> {
        let order = self.order();
        let mut found: Vec<u32> = self
            .set
            .owned_by(owner.session)
            .filter(|(_, slot)| !slot.hidden && !slot.waiting)
            .filter(|(_, slot)| {
                let visible = super::visible(&self.set, slot.presence);
                let Some((_, winner)) = order.best(visible) else { return false };
                let life = self.replicas[winner.replica].life;
                let until = life.adoptable_until(winner.claim.linger());
                winner.claim.session() == owner.session
                    && self.owner_for(winner).is_some()
                    && winner.claim.epoch() <= owner.epoch
                    && !(winner.replica == self.me && winner.claim.epoch() == owner.epoch)
                    && !winner.waiting
                    && until.is_none_or(|until| now < until)
            })
            .map(|(_, slot)| slot.presence)
            .take(most)
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn claim_for(&mut self, presence: u32, owner: &Owner, now: Time) {
        let visible = super::visible(&self.set, presence);
        let Some(winner) = self.order().best(visible.clone()) else { return };
        let (like, _) = self.order().content(winner, visible);
        self.claim_like(presence, like, owner, now);
    }

    fn review_session(&mut self, session: SessionId, now: Time) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        if known.expires.is_some_and(|at| at <= now) {
            if known.holds == 0 {
                self.sessions.remove(session);
            } else {
                known.state = State::Ended;
                self.work.push_back(Work::End { session });
            }
            return;
        }
        match known.state {
            State::Attached { since } => {
                if known.holds == 0 && now.since(since) >= IDLE_KEPT {
                    self.sessions.remove(session);
                }
            }
            State::Moved { since } => {
                let own = self.set.owned_by(session);
                let own = own.filter(|(_, slot)| slot.replica == self.me && !slot.ending);
                let until = |slot: &super::Slot| Self::moved_until(since, slot.claim.linger());
                let own: Vec<(Time, u32)> = own.map(|(id, slot)| (until(slot), id)).collect();
                for (_, slot) in own.iter().filter(|(until, _)| *until <= now).take(TURN) {
                    self.end(*slot, now);
                }
                let rest =
                    own.iter().filter(|(until, _)| *until > now).map(|(until, _)| *until).min();
                // More than a turn's worth was due: the rest follows at once.
                let rest = if own.iter().filter(|(until, _)| *until <= now).count() > TURN {
                    Some(now)
                } else {
                    rest
                };
                if let Some(at) = rest {
                    self.timers.set(at, Due::Session(session));
                }
            }
            State::Held | State::Ended => (),
        }
    }

    fn housekeeping(&mut self, now: Time) {
        self.housekeeping = false;
        let ids: Vec<u32> = self.replicas.iter().map(|(id, _)| id).collect();
        let mut busy = self.waiting.forwards() > 0;
        for id in ids {
            let log = &mut self.replicas[id].log;
            log.trim(now, usize::MAX);
            busy |= !log.is_empty();
        }
        self.waiting.prune(&self.replicas);
        if busy {
            self.housekeeping = true;
            self.timers.set(now + KEPT / 4, Due::Housekeeping);
        }
    }
}
