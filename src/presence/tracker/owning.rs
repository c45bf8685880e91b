//! The rules of owning: whose claim a node makes, keeps or withdraws when what it knows of a presence has changed.

use std::collections::{BTreeMap, HashMap};

use crate::types::{SessionId, Time};

use super::super::order::{Order, visible};
use super::super::replica::Life;
use super::super::sessions::State;
use super::super::set::Slot;
use super::super::{Asked, Fields, GivenUp, Owner, Plant, Tracker};

/// What the rules of owning make this node do about a presence.
enum Move {
    /// Claim it for a session, with the content of that claim.
    Claim { like: u32, owner: Owner },
    /// Withdraw this claim in favour of that one.
    Yield { slot: u32, to: u32 },
    /// Keep this claim beside that one, which was made without knowing of it.
    Stand { slot: u32, beside: (u32, u64) },
    /// Withdraw this claim: nobody is left whom its end had to wait for.
    End { slot: u32 },
}

impl Tracker {
    /// The rules of owning, for one presence, until they are content with it.
    pub(super) fn own(&mut self, presence: u32, now: Time) {
        // Claiming settles it, and withdrawing does; a third round is never needed.
        for _ in 0..4 {
            match self.decide(presence, now) {
                None => return,
                Some(Move::Claim { like, owner }) => self.claim_like(presence, like, &owner, now),
                Some(Move::End { slot }) => self.withdraw(slot, None, now),
                Some(Move::Stand { slot, beside }) => drop(self.beside.insert(slot, beside)),
                Some(Move::Yield { slot, to }) => {
                    let because = self.dot(&self.set.slots[to]);
                    self.withdraw(slot, Some(because), now);
                }
            }
        }
    }

    /// Claims a presence for a session, with the content of one of its claims. Nobody asked for it: where the owner has given it up, and
    /// the news are on their way, this claim goes with it.
    pub(super) fn claim_like(&mut self, presence: u32, like: u32, owner: &Owner, now: Time) {
        let claims = self.set.claims(presence);
        let of_session = claims.filter(|(_, slot)| slot.claim.session() == owner.session);
        let asked = of_session.map(|(_, slot)| slot.claim.asked()).max().unwrap_or_default();
        let like = self.set.slots[like].claim.clone();
        let number = self.highest_number(presence) + 1;
        let (session, epoch, linger) = (owner.session, owner.epoch, owner.linger);
        let fields = Fields { session, epoch, linger, number, asked, ..like.fields() };
        self.mint(presence, like.renewed(&fields), now);
    }

    /// Sessions have given presences up elsewhere: what this node adopted of them unasked goes too, and nothing older is adopted. One look at
    /// what each session holds here, however much it gave up.
    pub(super) fn give_up_heirs(&mut self, all: impl IntoIterator<Item = GivenUp>, now: Time) {
        let mut of_holders: BTreeMap<SessionId, HashMap<u64, Asked>> = BTreeMap::new();
        for GivenUp { session, at, presence } in all {
            let Some(known) = self.sessions.get_mut(session) else { continue };
            known.remember_untracked(presence, at);
            if known.holds > 0 {
                let latest = of_holders.entry(session).or_default().entry(presence).or_insert(at);
                *latest = at.max(*latest);
            }
        }
        for (session, given_up) in of_holders {
            let own = self.set.owned_by(session).filter(|(_, slot)| slot.replica == self.me);
            let heir = |(id, slot): (u32, &Slot)| {
                let at = *given_up.get(&self.hash_of(slot.presence))?;
                (slot.claim.asked() <= at).then_some((id, at))
            };
            let heirs: Vec<(u32, Asked)> = own.filter_map(heir).collect();
            for (own, at) in heirs {
                self.given_up.insert(own, at);
                self.end(own, now);
            }
        }
    }

    fn decide(&self, presence: u32, now: Time) -> Option<Move> {
        let order = self.order();
        let (winner_id, winner) = order.best(visible(&self.set, presence))?;
        let (like, content) = order.content((winner_id, winner), visible(&self.set, presence));
        let session = winner.claim.session();
        if winner.replica == self.me && winner.ending {
            return Some(Move::End { slot: winner_id });
        }
        if winner.replica == self.me {
            // This node holds the claim, so what is said better elsewhere, it says: something later, or a higher number (of an
            // older attachment, which waits for that before it yields).
            let (epoch, linger) = (winner.claim.epoch(), winner.claim.linger());
            let owner = Owner { session, epoch, linger };
            let outdated = Order::says_later(content, winner)
                || visible(&self.set, presence).any(|(_, slot)| {
                    slot.claim.session() == session
                        && slot.replica != self.me
                        && order.between(slot, winner)
                });
            return outdated.then_some(Move::Claim { like, owner });
        }
        let known = &self.replicas[winner.replica];
        if let Some(owner) = self.owner_for(winner)
            && !winner.waiting
            && known.life.adoptable_until(winner.claim.linger()).is_none_or(|until| now < until)
            && (owner.epoch, self.me()) > (winner.claim.epoch(), &known.replica)
        {
            return Some(Move::Claim { like, owner });
        }
        let slot = self.claim_of(presence, self.me)?;
        let own = &self.set.slots[slot];
        // A claim that is about to go by itself is nothing to yield to.
        let stands = |slot: &Slot| {
            slot.replica == self.me
                || (!slot.waiting && self.replicas[slot.replica].life == Life::Up)
        };
        let (to, best) =
            order.best(visible(&self.set, presence).filter(|(_, slot)| stands(slot)))?;
        if best.replica == self.me {
            return None;
        }
        // Nothing yields to a claim of a lower number: so of several claims, each of which knows of some others only, the highest
        // always stays. Nor to what says less of the same session. Its holder has to see this claim first, and claims again.
        let older = best.claim.session() == own.claim.session() && Order::says_later(own, best);
        if older || !order.between(best, own) {
            return None;
        }
        if self.plant == Some(Plant::LingerNotCancelled) && self.lingers(slot) {
            return None;
        }
        // Somebody who never knew of this claim has taken nothing over. Whoever is attached here is still there when that one goes.
        if best.claim.session() != own.claim.session()
            && self.sessions.attached(own.claim.session()).is_some()
        {
            let beside = (best.replica, best.counter);
            if self.beside.get(&slot) == Some(&beside) {
                return None;
            }
            if self.is_concurrent(own, best) {
                return Some(Move::Stand { slot, beside });
            }
        }
        Some(Move::Yield { slot, to })
    }

    /// That claim was certainly made without knowing of this one, which is this node's: it has no higher number; or its replica has said,
    /// when it had made it, that it had not heard so much of this node.
    fn is_concurrent(&self, own: &Slot, other: &Slot) -> bool {
        let knew = self.replicas[other.replica].knew;
        own.claim.number() == other.claim.number()
            || knew.is_some_and(|(its, ours)| other.counter <= its && ours < own.counter)
    }

    /// The claim will go at a deadline.
    fn lingers(&self, slot: u32) -> bool {
        let session = self.set.slots[slot].claim.session();
        let state = self.sessions.get(session).map(|session| session.state);
        self.set.slots[slot].released || matches!(state, Some(State::Moved { .. } | State::Held))
    }

    /// The session whose claim that is, if it is attached here and would still have the presence.
    pub(super) fn owner_for(&self, slot: &Slot) -> Option<Owner> {
        let session = slot.claim.session();
        let epoch = self.sessions.attached(session)?;
        let known = self.sessions.get(session)?;
        if known.has_untracked(self.hash_of(slot.presence), slot.claim.asked()) {
            return None;
        }
        Some(Owner { session, epoch, linger: known.linger })
    }
}
