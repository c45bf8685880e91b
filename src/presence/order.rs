//! Which of several claims of one presence shows.
//!
//! Of one session the claim of its latest attachment counts (epoch, then claim number), however many hands its older claims went
//! through; between sessions whoever claimed last does (claim number), and anybody rather than nobody. Ties fall to the higher replica: the same on all nodes.

use super::replica::Replicas;
use super::set::{Set, Slot};
use super::{NOBODY, Plant};

/// One of a presence's claims.
pub(super) type Candidate<'a> = (u32, &'a Slot);

/// How claims stand to each other; needs the names of replicas.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) replicas: &'a Replicas,
    pub(super) plant: Option<Plant>,
}

impl<'a> Order<'a> {
    /// `a` counts rather than `b`, of the same session.
    fn within(self, a: &Slot, b: &Slot) -> bool {
        let rank = |slot: &Slot| {
            let (epoch, number) = (slot.claim.epoch(), slot.claim.number());
            if self.plant == Some(Plant::ClaimBeforeEpoch) {
                (number, epoch)
            } else {
                (epoch, number)
            }
        };
        let replica = |slot: &Slot| &self.replicas[slot.replica].replica;
        rank(a).cmp(&rank(b)).then_with(|| replica(a).cmp(replica(b))).is_gt()
    }

    /// `a` counts rather than `b`, of different sessions.
    pub(super) fn between(self, a: &Slot, b: &Slot) -> bool {
        let replica = |slot: &Slot| &self.replicas[slot.replica].replica;
        // What was released counts only where nobody has it.
        let by_owner = (a.claim.session() != NOBODY).cmp(&(b.claim.session() != NOBODY));
        let by_number = by_owner.then_with(|| a.claim.number().cmp(&b.claim.number()));
        by_number.then_with(|| replica(a).cmp(replica(b))).is_gt()
    }

    /// Of these claims (of one presence) the one that shows.
    #[expect(clippy::needless_pass_by_value, reason = "an iterator made for this call")]
    pub(super) fn best(
        self,
        claims: impl Iterator<Item = Candidate<'a>> + Clone,
    ) -> Option<Candidate<'a>> {
        let mut best: Option<Candidate<'a>> = None;
        for (id, slot) in claims.clone() {
            let session = slot.claim.session();
            let outdone = |(other, than): Candidate<'_>| {
                other != id && than.claim.session() == session && self.within(than, slot)
            };
            let beats = |(_, than): Candidate<'_>| {
                than.claim.session() != session && self.between(slot, than)
            };
            if best.is_none_or(|best| best.1.claim.session() == session || beats(best))
                && !claims.clone().any(outdone)
            {
                best = Some((id, slot));
            }
        }
        best
    }

    /// Whose metadata shows for the winner: its own, unless its session has said something later elsewhere.
    pub(super) fn content(
        self,
        winner: Candidate<'a>,
        claims: impl Iterator<Item = Candidate<'a>>,
    ) -> Candidate<'a> {
        let session = winner.1.claim.session();
        claims.filter(|(_, slot)| slot.claim.session() == session).fold(winner, |best, other| {
            if Self::says_later(other.1, best.1) { other } else { best }
        })
    }

    /// Of claims of one session: `a` has what the session asked for later, at a later attachment or with a higher revision by its own count.
    /// The revisions that nodes see say nothing: of what came and went, a node may have missed the going, and counted on.
    pub(super) fn says_later(a: &Slot, b: &Slot) -> bool {
        let said = |slot: &Slot| (slot.claim.asked().epoch, slot.claim.own_revision());
        said(a) > said(b)
    }
}

/// The claims that count at all.
pub(super) fn visible(set: &Set, presence: u32) -> impl Iterator<Item = Candidate<'_>> + Clone {
    set.claims(presence).filter(|(_, slot)| !slot.hidden)
}
