//! What travels between nodes: entries, removals, the intervals they stand for, and the rows that tell what is missing.

use std::time::Duration;

use crate::types::{Replica, SessionId, Topic};

use super::{Asked, Claim};

/// The name of one operation: the `counter`-th of `replica` in this shard. Counters start at 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    pub replica: Replica,
    pub counter: u64,
}

/// A claim that lives, and the operation that made it (of the delta's replica).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub counter: u64,
    pub topic: Topic,
    pub claim: Claim,
}

/// A claim that was withdrawn or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The operation (of the delta's replica) that had made the claim.
    pub counter: u64,
    /// The claim that took its place. `None`: it left.
    pub because: Option<Dot>,
    /// It left since its owner untracked it. Of a claim that has a successor: `None`.
    pub given_up: Option<GivenUp>,
}

/// A session said that it doesn't want a presence any more. Whoever has adopted that meanwhile, unasked, lets it go too, whether the
/// claim that was untracked was known there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GivenUp {
    pub session: SessionId,
    /// What the session asks for later stands.
    pub at: Asked,
    /// A hash of (topic, key, id), the same on all nodes.
    pub presence: u64,
}

impl Removal {
    /// Why a claim went, where that isn't just that it did.
    pub(super) fn has_reason(&self) -> bool {
        self.because.is_some() || self.given_up.is_some()
    }
}

/// A part of what one replica did in this shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    pub replica: Replica,
    /// What it says holds from just after this counter (of a whole: 0) ...
    pub from: u64,
    /// ... to this one.
    pub to: u64,
    /// In the order of their counters.
    pub adds: Vec<Entry>,
    pub removes: Vec<Removal>,
    pub kind: Kind,
    /// For how long the sender has been holding that replica for down.
    pub down_for: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The operations in (from, to]: what they added and still lives, what they removed.
    Interval,
    /// Everything of the replica that lives at `to`, in parts; those between the first and the last are one unit.
    Whole { first: bool, last: bool },
}

/// About what a removal takes on a wire.
const REMOVAL_SIZE: usize = 40;

impl Entry {
    /// About the bytes it takes on a wire.
    pub fn size(&self) -> usize {
        let names = self.topic.name().len() + self.claim.key().len() + self.claim.id().len();
        84 + names + self.claim.meta().len()
    }
}

impl Delta {
    /// About the bytes it takes on a wire.
    pub fn size(&self) -> usize {
        let adds = self.adds.iter().map(Entry::size).sum::<usize>();
        adds + self.removes.len() * REMOVAL_SIZE
    }

    /// A whole in parts of about `size_max` bytes; anything else is one part. Needs no lock: the entries are shared, not copied.
    pub fn into_parts(self, size_max: usize) -> Parts {
        let whole = matches!(self.kind, Kind::Whole { .. });
        let Self { replica, from, to, adds, removes, kind, down_for } = self;
        let (nothing, none) = (Vec::new(), Vec::new());
        let frame = Self { replica, from, to, adds: nothing, removes: none, kind, down_for };
        Parts {
            frame,
            adds: adds.into_iter(),
            removes: removes.into_iter(),
            size_max: if whole { size_max } else { usize::MAX },
            begun: false,
            done: false,
        }
    }
}

/// Made one by one, as they are asked for.
#[derive(Debug)]
pub struct Parts {
    frame: Delta,
    adds: std::vec::IntoIter<Entry>,
    removes: std::vec::IntoIter<Removal>,
    size_max: usize,
    begun: bool,
    done: bool,
}

impl Parts {
    pub const fn is_done(&self) -> bool {
        self.done
    }
}

impl Iterator for Parts {
    type Item = Delta;

    fn next(&mut self) -> Option<Delta> {
        if self.done {
            return None;
        }
        let mut part = self.frame.clone();
        let mut size = 0;
        while size < self.size_max {
            let Some(entry) = self.adds.next() else { break };
            size += entry.size();
            part.adds.push(entry);
        }
        while size < self.size_max {
            let Some(removal) = self.removes.next() else { break };
            size += REMOVAL_SIZE;
            part.removes.push(removal);
        }
        self.done = self.adds.len() == 0 && self.removes.len() == 0;
        if let Kind::Whole { first, last } = &mut part.kind {
            (*first, *last) = (!std::mem::replace(&mut self.begun, true), self.done);
        }
        Some(part)
    }
}

/// To somebody who has `from` and wants the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is missing there (or it is ahead of this node).
    UpToDate,
    /// An interval that begins where it was asked to. It may end before the end, where that is far: ask again from its `to`.
    Interval(Delta),
    /// The log no longer reaches back so far: everything, as one part; see [`Delta::into_parts`].
    Whole(Delta),
    /// That replica isn't known here, or is forgotten.
    Unknown,
}

/// How far this node has come with one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub replica: Replica,
    pub counter: u64,
    /// Of the claims that live at `counter`; compared only between settled rows of equal counters.
    pub digest: u64,
    /// False: a whole is just being applied.
    pub settled: bool,
}

/// Something that the peer whose rows were compared has and this node lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub replica: Replica,
    /// Ask for what follows this counter. With `whole`: 0.
    pub from: u64,
    /// The digests differ at equal counters: the whole is needed, whatever the log could serve.
    pub whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Claims that were new here.
    pub adds: usize,
    /// Claims that went.
    pub removes: usize,
    /// There is more of it to apply than fits into one turn: `next_deadline` is now, and `tick` goes on.
    pub more: bool,
}

/// Refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    #[error("a gap: it begins at {from}, and only {have} is known")]
    Gap { have: u64, from: u64 },
    #[error("{0} is no known member")]
    Unknown(Replica),
    #[error("{0} was forgotten")]
    Forgotten(Replica),
    #[error("it is about this node's own presences")]
    Own,
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("part of a whole whose beginning did not come")]
    NoBeginning,
}

impl MergeError {
    /// For the label of a metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "gap",
            Self::Unknown(_) => "unknown_replica",
            Self::Forgotten(_) => "forgotten",
            Self::Own => "own",
            Self::Malformed(_) => "malformed",
            Self::NoBeginning => "no_beginning",
        }
    }
}
