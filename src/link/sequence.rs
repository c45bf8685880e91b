//! Numbers of content in one epoch: what was sent and not acknowledged, what is expected, when to acknowledge. ● Pure.
//!
//! `Sent` is where a retransmit window belongs: it knows what the peer hasn't confirmed, by runs; a window keeps the runs' items too.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::types::Time;

/// Runs sent within this time share a row, so that the rows of a peer that acknowledges late are few.
const RUN_SPAN: Duration = Duration::from_millis(1);

/// Rows at most. At the limit nothing more is sent until the peer acknowledges.
const RUNS_MAX: usize = 1 << 14;

/// The dialer's numbering.
#[derive(Debug)]
pub(super) struct Sent {
    next: u64,
    acked: u64,
    unacked_bytes: u64,
    /// In order; `acked` lies in or before the first.
    runs: VecDeque<Run>,
}

#[derive(Debug)]
struct Run {
    /// The number after the run's last item.
    end: u64,
    bytes: u64,
    at: Time,
}

/// An acknowledgement of what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadAck {
    pub upto: u64,
    pub next: u64,
}

impl Sent {
    pub(super) const fn starting_at(position: u64) -> Self {
        Self { next: position, acked: position, unacked_bytes: 0, runs: VecDeque::new() }
    }

    /// Numbers `count` items; returns the first one's number.
    #[must_use]
    pub(super) fn push(&mut self, count: usize, bytes: usize, now: Time) -> u64 {
        let first = self.next;
        self.next += count as u64;
        self.unacked_bytes += bytes as u64;
        match self.runs.back_mut() {
            Some(run) if now.since(run.at) < RUN_SPAN => {
                run.end = self.next;
                run.bytes += bytes as u64;
            }
            _ => self.runs.push_back(Run { end: self.next, bytes: bytes as u64, at: now }),
        }
        first
    }

    /// Everything below `upto` has arrived. Older acknowledgements change nothing.
    pub(super) fn acknowledge(&mut self, upto: u64) -> Result<(), BadAck> {
        if upto > self.next {
            return Err(BadAck { upto, next: self.next });
        }
        self.acked = self.acked.max(upto);
        while let Some(run) = self.runs.front()
            && run.end <= self.acked
        {
            self.unacked_bytes -= run.bytes;
            self.runs.pop_front();
        }
        Ok(())
    }

    pub(super) fn has_room(&self, unacked_bytes_max: u64) -> bool {
        self.unacked_bytes < unacked_bytes_max && self.runs.len() < RUNS_MAX
    }

    pub(super) const fn unacked_bytes(&self) -> u64 {
        self.unacked_bytes
    }

    /// The age of the oldest item that is not acknowledged.
    pub(super) fn lag(&self, now: Time) -> Option<Duration> {
        self.runs.front().map(|run| now.since(run.at))
    }
}

/// The acceptor's side of it: what number comes next.
#[derive(Debug, Default)]
pub(super) struct Received {
    expected: u64,
}

/// What is left of a content frame after the numbers were looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Without those that came before.
    pub items: Vec<Bytes>,
    /// Numbers before these were never seen in this epoch.
    pub jumped: bool,
}

impl Received {
    /// `None`: the numbers don't fit into 64 bits.
    pub(super) fn take(&mut self, first: u64, mut items: Vec<Bytes>) -> Option<Taken> {
        let end = first.checked_add(items.len() as u64)?;
        if first > self.expected {
            self.expected = end;
            return Some(Taken { items, jumped: true });
        }
        let known = usize::try_from(self.expected - first)
            .map_or(items.len(), |known| known.min(items.len()));
        if known > 0 {
            items.drain(..known);
        }
        self.expected = self.expected.max(end);
        Some(Taken { items, jumped: false })
    }

    pub(super) const fn expected(&self) -> u64 {
        self.expected
    }
}

/// When an acknowledgement goes: at once where none went lately, else with the next 10 ms or 256 KiB.
#[derive(Debug)]
pub(super) struct AckPacer {
    every: Duration,
    bytes_max: usize,
    upto: u64,
    told: u64,
    bytes: usize,
    last: Option<Time>,
}

impl AckPacer {
    pub(super) const fn new(every: Duration, bytes_max: usize) -> Self {
        Self { every, bytes_max, upto: 0, told: 0, bytes: 0, last: None }
    }

    /// Returns whether the writer must look again: the first news since the last acknowledgement, or enough of it.
    #[must_use]
    pub(super) fn handed_on(&mut self, upto: u64, bytes: usize) -> bool {
        let first = self.upto == self.told;
        let was_due = self.bytes >= self.bytes_max;
        self.upto = self.upto.max(upto);
        self.bytes = self.bytes.saturating_add(bytes);
        self.upto > self.told && (first || (!was_due && self.bytes >= self.bytes_max))
    }

    /// How long until an acknowledgement is due; zero: now. `None`: there is nothing to tell.
    pub(super) fn due_in(&self, now: Time) -> Option<Duration> {
        if self.upto == self.told {
            return None;
        }
        let Some(last) = self.last else { return Some(Duration::ZERO) };
        if self.bytes >= self.bytes_max {
            return Some(Duration::ZERO);
        }
        Some((last + self.every).since(now))
    }

    /// The acknowledgement that goes now.
    pub(super) const fn tell(&mut self, now: Time) -> u64 {
        self.told = self.upto;
        self.bytes = 0;
        self.last = Some(now);
        self.told
    }
}

/// Whether the far end is still heard.
#[derive(Debug)]
pub(super) struct Silence {
    most: Duration,
    heard: Time,
    looked: Time,
}

impl Silence {
    pub(super) const fn new(most: Duration, now: Time) -> Self {
        Self { most, heard: now, looked: now }
    }

    pub(super) const fn heard(&mut self, now: Time) {
        self.heard = now;
    }

    /// `true`: silent for too long. A node that itself looks late (it was stopped, its host was busy) judges nobody: what the peer
    /// sent meanwhile may still wait to be read.
    #[must_use]
    pub(super) fn look(&mut self, now: Time) -> bool {
        let late = now.since(self.looked) > self.most / 2;
        self.looked = now;
        if late {
            self.heard = now;
        }
        now.since(self.heard) >= self.most
    }
}
