//! What one replica removed lately, in order, so that whoever missed a part can be told just that part. What it added needs no
//! log: what still lives is found by its counter.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::types::{Replica, Time};

use super::{Dot, GivenUp, Removal};

pub(super) const REMOVALS_MAX: usize = 65_536;
pub(super) const KEPT: Duration = Duration::from_secs(60);

/// The successor, without the weight of a whole [`Dot`] where it is of the same replica, as it is with every update.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Because {
    Left,
    GivenUp(Box<GivenUp>),
    Here(u64),
    Elsewhere(Box<Dot>),
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
struct Line {
    /// The operation that removed: this one, or, where it is known by an interval only, any of those after `since`.
    at: u64,
    since: u64,
    /// The operation that had added.
    counter: u64,
    because: Because,
    when: Time,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Log {
    /// Everything removed by operations after this one is in `lines`.
    start: u64,
    lines: VecDeque<Line>,
}

impl Log {
    /// An interval that begins here or later can be served.
    pub(super) fn reaches(&self, from: u64) -> bool {
        from >= self.start
    }

    #[cfg(test)]
    pub(super) fn fingerprint(&self, hash: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        (self.start, &self.lines).hash(hash);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// That `removal` was done by one of the operations in (since, at]. `here`: its successor is of the same replica.
    pub(super) fn push(
        &mut self,
        (since, at): (u64, u64),
        removal: &Removal,
        here: bool,
        now: Time,
    ) {
        let because = match &removal.because {
            None => match removal.given_up {
                Some(given_up) => Because::GivenUp(Box::new(given_up)),
                None => Because::Left,
            },
            Some(dot) if here => Because::Here(dot.counter),
            Some(dot) => Because::Elsewhere(Box::new(dot.clone())),
        };
        self.lines.push_back(Line { at, since, counter: removal.counter, because, when: now });
        if self.lines.len() > REMOVALS_MAX {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.start = self.start.max(line.at);
        }
    }

    /// Drops at most `most` lines that are too old.
    pub(super) fn trim(&mut self, now: Time, most: usize) {
        for _ in 0..most {
            match self.lines.front() {
                Some(line) if now.since(line.when) >= KEPT => self.drop_first(),
                _ => return,
            }
        }
    }

    /// A whole was applied: nothing is known of how it came to be.
    pub(super) fn restart(&mut self, at: u64) {
        self.start = self.start.max(at);
        self.lines.clear();
    }

    /// When the operation that removed the `most`-th of those after `from` was.
    pub(super) fn nth_after(&self, from: u64, most: usize) -> Option<u64> {
        let first = self.lines.partition_point(|line| line.at <= from);
        self.lines.get(first + most).map(|line| line.at)
    }

    /// What somebody who is told of (from, to] must hear is gone: what was there at `from` and was removed by operations up to `to`; and
    /// what was added in between and isn't there any more, whenever it went. That too, because somebody else may have heard of
    /// it, and hear of its end from whoever is told now. And what may have gone by `to`: whoever is told goes on from there, and
    /// with somebody else, who knows better when it went.
    ///
    /// Each with the claim that stands at the end of its chain of successors: where one took another's place and then went for a
    /// third, the first went for the third.
    pub(super) fn removals(&self, replica: &Replica, from: u64, to: u64) -> Vec<Removal> {
        let first = self.lines.partition_point(|line| line.at <= from);
        let fates: HashMap<u64, &Because> =
            self.lines.iter().skip(first).map(|line| (line.counter, &line.because)).collect();
        let told = |line: &&Line| {
            line.at <= to || line.counter <= to && (line.counter > from || line.since < to)
        };
        let removal = |line: &Line| {
            let mut fate = &line.because;
            while let Because::Here(counter) = fate {
                match fates.get(counter) {
                    Some(next) => fate = next,
                    None => break,
                }
            }
            let because = match fate {
                Because::Left | Because::GivenUp(_) => None,
                Because::Here(counter) => Some(Dot { replica: replica.clone(), counter: *counter }),
                Because::Elsewhere(dot) => Some(Dot::clone(dot)),
            };
            let given_up = match fate {
                Because::GivenUp(given_up) => Some(**given_up),
                _ => None,
            };
            Removal { counter: line.counter, because, given_up }
        };
        self.lines.iter().skip(first).filter(told).map(removal).collect()
    }
}
