//! A model that nobody could get wrong: all claims that were ever heard of, and what each was withdrawn for.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::{Claim, Delta, Dot, NOBODY};
use super::world::Listed;
use crate::types::Replica;

#[derive(Debug, Default)]
pub(super) struct Naive {
    claims: BTreeMap<Dot, Claim>,
    gone: BTreeMap<Dot, Option<Dot>>,
    heard: BTreeMap<Replica, u64>,
}

impl Naive {
    pub(super) fn hears(&mut self, delta: &Delta) {
        let dot = |counter| Dot { replica: delta.replica.clone(), counter };
        for entry in &delta.adds {
            self.claims.insert(dot(entry.counter), entry.claim.clone());
        }
        for removal in &delta.removes {
            self.gone.insert(dot(removal.counter), removal.because.clone());
        }
        let heard = self.heard.entry(delta.replica.clone()).or_default();
        *heard = delta.to.max(*heard);
    }

    fn heard_of(&self, dot: &Dot) -> bool {
        self.heard.get(&dot.replica).is_some_and(|to| *to >= dot.counter)
    }

    /// A claim that was withdrawn stays until what it was withdrawn for has been heard of; of what came and went unseen, that for
    /// which it went. A replica's later claim of the same is in the place of its earlier in any case.
    fn stays(&self, dot: &Dot) -> bool {
        let name = |claim: &Claim| (claim.key().to_owned(), claim.id().to_owned());
        let later = |(other, claim): (&Dot, &Claim)| {
            other.replica == dot.replica
                && other.counter > dot.counter
                && self.claims.get(dot).is_some_and(|this| name(this) == name(claim))
        };
        if self.claims.iter().any(later) {
            return false;
        }
        let Some(because) = self.gone.get(dot) else { return true };
        let mut next = because.as_ref();
        while let Some(successor) = next {
            if !self.heard_of(successor) {
                return true;
            }
            if self.claims.contains_key(successor) {
                return false;
            }
            next = self.gone.get(successor).and_then(Option::as_ref);
        }
        false
    }

    /// Of each session its latest attachment's claim, of those the highest; its content is what the session asked for last.
    pub(super) fn list(&self) -> BTreeSet<Listed> {
        type Claims<'a> = Vec<(&'a Dot, &'a Claim)>;
        let mut presences: BTreeMap<(&str, &str), Claims<'_>> = BTreeMap::new();
        for (dot, claim) in self.claims.iter().filter(|(dot, _)| self.stays(dot)) {
            presences.entry((claim.key(), claim.id())).or_default().push((dot, claim));
        }
        let shows = |((key, id), claims): ((&str, &str), Claims<'_>)| {
            let sessions: BTreeSet<_> = claims.iter().map(|(_, claim)| claim.session()).collect();
            let of = |session| claims.iter().filter(move |(_, claim)| claim.session() == session);
            let latest = |session| {
                let rank = |(dot, claim): &&(&Dot, &Claim)| {
                    (claim.epoch(), claim.number(), dot.replica.clone())
                };
                of(session).max_by_key(rank).copied()
            };
            let winners = sessions.into_iter().filter_map(latest);
            let winner = winners.max_by_key(|(dot, claim)| {
                (claim.session() != NOBODY, claim.number(), dot.replica.clone())
            });
            let (dot, winner) = winner.expect("somebody claims it");
            let said = |claim: &Claim| match claim.session() {
                // Different sessions had what was released: what all nodes see counts.
                NOBODY => (0, i128::from(claim.revision())),
                _ => {
                    let own = i128::from(claim.revision()) - i128::from(claim.base());
                    (claim.asked().epoch, own)
                }
            };
            let later = of(winner.session()).filter(|(_, one)| said(one) > said(winner));
            let rank = |(dot, claim): &&(&Dot, &Claim)| {
                (said(claim), claim.epoch(), claim.number(), dot.replica.clone())
            };
            let content = later.max_by_key(rank).map_or(winner, |(_, one)| one);
            Listed {
                key: key.to_owned(),
                id: id.to_owned(),
                meta: content.meta().to_vec(),
                session: winner.session(),
                node: dot.replica.name.to_string(),
            }
        };
        presences.into_iter().map(shows).collect()
    }
}
