//! Content that a peer has not acknowledged, over all links between the same two incarnations. ● Pure.
//!
//! Items are numbered once, when they are written for the first time, and keep their numbers. A new link goes on from where the peer
//! is: what it has is let go, the rest is written again. What has waited for longer than the window's age gives up its bytes and keeps
//! a summary under the same number, so that the peer is told of exactly what it has not got, and nothing twice.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::ContentItem;
use super::frame::Accepted;
use crate::types::Time;

/// Items written within this time share a row, so that the rows of a peer that acknowledges late are few.
const RUN_SPAN: Duration = Duration::from_millis(1);

/// Rows at most. At the limit nothing more is written until the peer acknowledges.
const RUNS_MAX: usize = 1 << 14;

#[derive(Debug, Default)]
pub(super) struct Window {
    /// The number of the first of `kept`.
    base: u64,
    kept: VecDeque<ContentItem>,
    /// So many of `kept` have been written on the present link, or need not be.
    written: usize,
    /// What `kept` pins.
    cost: usize,
    /// Let go since `take_freed`.
    freed: usize,
    /// When they were written first, in order; the last ends where `kept` does.
    runs: VecDeque<Run>,
    /// Those below this number are summaries.
    summaries_end: u64,
    /// The newest declaration of the peer that all is lost, which was obeyed.
    lost: u64,
    /// It has had a link.
    begun: bool,
}

#[derive(Debug)]
struct Run {
    /// The number after the run's last item.
    end: u64,
    at: Time,
}

/// An acknowledgement of what was never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadAck {
    pub upto: u64,
    pub next: u64,
}

/// What a new link found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumed {
    /// Nothing that waited for an acknowledgement.
    Clean,
    /// Something did; so many items of it had not arrived.
    Again(usize),
    /// The peer has declared lost what came before: so many items were dropped.
    Declared(usize),
    /// One of the two ends knows of nothing before; so many items were dropped.
    Unknown(usize),
}

impl Window {
    fn end(&self) -> u64 {
        self.base + self.kept.len() as u64
    }

    /// A new link, and what the peer said of the old ones. `Err`: it expects what was never written.
    pub(super) fn resume(&mut self, said: Accepted) -> Result<Resumed, BadAck> {
        let Accepted { position, had_epoch, lost } = said;
        let found = self.kept.len();
        let begun = std::mem::replace(&mut self.begun, true);
        if !begun {
            // This node has forgotten the peer in between, or there was nothing: numbers go on where the peer is.
            (self.base, self.lost) = (position, lost);
            return Ok(Resumed::Unknown(found));
        }
        if !had_epoch || lost > self.lost {
            self.lost = lost;
            self.release(self.end());
            let why = if had_epoch { Resumed::Declared } else { Resumed::Unknown };
            return Ok(why(found));
        }
        if position > self.end() {
            return Err(BadAck { upto: position, next: self.end() });
        }
        // Below the base lies what was dropped because the peer wanted it so; it takes any number that comes next.
        self.release(position);
        self.written = 0;
        Ok(if found == 0 { Resumed::Clean } else { Resumed::Again(self.kept.len()) })
    }

    /// What is still to be written again: items, until about `bytes_max`, and the number of the first.
    pub(super) fn again(
        &mut self,
        bytes_max: usize,
    ) -> Option<(u64, impl ExactSizeIterator<Item = &Bytes> + Clone)> {
        let from = self.written;
        if from == self.kept.len() {
            return None;
        }
        let mut bytes = 0;
        while self.written < self.kept.len() && bytes < bytes_max {
            bytes += self.kept[self.written].bytes.len();
            self.written += 1;
        }
        let items = self.kept.range(from..self.written).map(|item| &item.bytes);
        Some((self.base + from as u64, items))
    }

    /// The number of the first of the items that `push` takes next.
    pub(super) fn next(&self) -> u64 {
        self.end()
    }

    /// Keeps what is written for the first time. All older ones have been written on this link.
    pub(super) fn push(&mut self, items: impl Iterator<Item = ContentItem>, now: Time) {
        debug_assert_eq!(self.written, self.kept.len(), "what is older goes first");
        self.kept.extend(items.inspect(|item| self.cost += item.cost));
        self.written = self.kept.len();
        let end = self.end();
        match self.runs.back_mut() {
            Some(run) if now.since(run.at) < RUN_SPAN => run.end = end,
            _ => self.runs.push_back(Run { end, at: now }),
        }
    }

    /// Everything below `upto` has arrived. Older acknowledgements change nothing.
    pub(super) fn acknowledge(&mut self, upto: u64) -> Result<(), BadAck> {
        let next = self.base + self.written as u64;
        if upto > next {
            return Err(BadAck { upto, next });
        }
        self.release(upto);
        Ok(())
    }

    /// Lets go of everything below `upto`.
    fn release(&mut self, upto: u64) {
        let gone = usize::try_from(upto.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let gone = gone.min(self.kept.len());
        let cost: usize = self.kept.drain(..gone).map(|item| item.cost).sum();
        self.cost -= cost;
        self.freed += cost;
        self.base += gone as u64;
        self.written = self.written.saturating_sub(gone);
        while self.runs.front().is_some_and(|run| run.end <= self.base) {
            self.runs.pop_front();
        }
        if self.kept.is_empty() && self.kept.capacity() > 1_024 {
            // An idle link owns no buffers.
            self.kept = VecDeque::new();
        }
    }

    /// Items older than `age` become summaries under the same numbers. Returns how many did.
    pub(super) fn expire(
        &mut self,
        now: Time,
        age: Duration,
        mut summary: impl FnMut(&Bytes) -> Bytes,
    ) -> usize {
        let old = |run: &&Run| now.since(run.at) >= age;
        let Some(upto) = self.runs.iter().take_while(old).last().map(|run| run.end) else {
            return 0;
        };
        let first = self.summaries_end.max(self.base);
        for number in first..upto {
            let item = &mut self.kept[(number - self.base) as usize];
            let short = summary(&item.bytes);
            let cost = item.cost.min(short.len() + size_of::<ContentItem>());
            let freed = item.cost - cost;
            *item = ContentItem { bytes: short, cost };
            self.cost -= freed;
            self.freed += freed;
        }
        self.summaries_end = self.summaries_end.max(upto);
        upto.saturating_sub(first) as usize
    }

    /// For a planted bug alone: what has not arrived is not sent again.
    pub(super) fn drop_unacknowledged(&mut self) {
        self.release(self.end());
    }

    /// How many are kept.
    pub(super) fn items(&self) -> u64 {
        self.kept.len() as u64
    }

    pub(super) fn has_room(&self, cost_max: usize) -> bool {
        self.cost < cost_max && self.runs.len() < RUNS_MAX
    }

    /// Bytes pinned by what is not acknowledged.
    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    /// What was let go since the last call.
    pub(super) const fn take_freed(&mut self) -> usize {
        std::mem::replace(&mut self.freed, 0)
    }

    /// The age of the oldest item that is not acknowledged.
    pub(super) fn lag(&self, now: Time) -> Option<Duration> {
        self.runs.front().map(|run| now.since(run.at))
    }
}
