//! What is due when. A deadline names what to look at again; looking at something that isn't due any more costs nothing else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::types::{SessionId, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Claim(u32),
    Session(SessionId),
    Replica(u32),
    /// Logs are trimmed and successors nobody waits for are dropped.
    Housekeeping,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Timers(BinaryHeap<Reverse<(Time, Due)>>);

impl Timers {
    pub(super) fn set(&mut self, at: Time, due: Due) {
        self.0.push(Reverse((at, due)));
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn pop(&mut self, now: Time) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, due))| due)
    }
}
