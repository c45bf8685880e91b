//! Judges histories. Each checker is a pure function from a history to the promises it breaks, and each is proven on histories that
//! were made bad by hand: a checker that never finds anything is worse than none.
//!
//! A history must end quiet: whatever was published has arrived, or never will.

mod duplicates;
mod finality;
mod glob;
mod lease;
mod loss;
mod order;
mod outcome;
mod places;
pub mod presence;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod world;

use std::path::Path;

use crate::history::{Record, Recorder};

/// A promise of the design that a history can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// P1: an acknowledged subscription receives every publish that starts afterwards.
    SubscribedMeansSubscribed,
    /// P2: what one attachment publishes arrives everywhere in that order, over topics too.
    PublisherOrder,
    /// P2: all subscribers see one origin's messages on one topic in one order.
    CommonOrder,
    /// P3: within one attachment of a subscriber nothing comes twice.
    NoDuplicates,
    /// P5: every missing message is explained by exactly one gap.
    LossExplained,
    /// P5: a gap is final; nothing that it counts is delivered.
    GapFinal,
    /// P6: when nothing has happened for long, all list the same, and everyone who is there.
    PresenceConverges,
    /// P7: nobody is listed who isn't there, and nobody comes back.
    NoGhosts,
    /// P8: nobody leaves who is there, moves or comes back in time.
    NoFalseLeaves,
    /// P9: a snapshot, then exactly the changes: applied, they give the list.
    WatchWithoutHole,
    /// A token has one holder and one lease.
    OneHolder,
    /// Whoever gets a lease after somebody else got one, of whatever name, has a higher token.
    TokensRise,
    /// Nobody has a lease before its last holder's time, counted from when that asked, is over, unless that gave it back.
    LeaseKept,
    /// What carries a token is not taken after a higher one was given for the same name.
    Fenced,
    /// What is answered about a lease was so at some moment of the call.
    LeaseAnswers,
    /// What failed never happened, and nobody receives what nobody published.
    OnlyWhatWasPublished,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub what: String,
}

impl Violation {
    pub(crate) const fn new(promise: Promise, what: String) -> Self {
        Self { promise, what }
    }
}

/// Everything that is wrong with it.
pub fn judge(history: &[Record]) -> Vec<Violation> {
    let world = world::World::of(history);
    let mut all = order::per_publisher(&world);
    all.extend(order::common(&world));
    all.extend(duplicates::check(&world));
    all.extend(outcome::check(&world));
    all.extend(loss::check(&world));
    all.extend(finality::check(&world));
    all.extend(presence::judge(history));
    all.extend(lease::judge(history));
    all
}

/// Panics when a promise is broken, with the first violations; the whole history is then written to `dir`.
#[expect(clippy::print_stderr, reason = "why a test failed is for whoever runs it")]
pub fn expect_promises_kept(recorder: &Recorder, dir: &Path) {
    const SHOWN: usize = 10;
    let violations = judge(&recorder.history());
    if violations.is_empty() {
        return;
    }
    let file = dir.join("history.jsonl");
    if let Err(error) = recorder.write(&file) {
        eprintln!("write {}: {error}", file.display());
    }
    for violation in violations.iter().take(SHOWN) {
        eprintln!("violation of {:?}: {}", violation.promise, violation.what);
    }
    panic!("{} violations; the history is {}", violations.len(), file.display());
}
