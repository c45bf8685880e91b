//! The receiving side of content numbers: what is expected, when to acknowledge; and how long silence may last. ● Pure.

use std::time::Duration;

use bytes::Bytes;

use crate::types::Time;

/// What number comes next, over all links between the same two incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    expected: u64,
    /// Whatever number comes next is right: nothing has come yet, or what came before it was declared lost.
    open: bool,
}

impl Default for Received {
    fn default() -> Self {
        Self { expected: 0, open: true }
    }
}

/// What is left of a content frame after the numbers were looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Without those that came before.
    pub items: Vec<Bytes>,
    /// Numbers before these never came.
    pub jumped: bool,
}

impl Received {
    /// `None`: the numbers don't fit into 64 bits.
    pub(super) fn take(&mut self, first: u64, mut items: Vec<Bytes>) -> Option<Taken> {
        let end = first.checked_add(items.len() as u64)?;
        if first > self.expected {
            self.expected = end;
            let jumped = !std::mem::take(&mut self.open);
            return Some(Taken { items, jumped });
        }
        self.open = false;
        let known = usize::try_from(self.expected - first)
            .map_or(items.len(), |known| known.min(items.len()));
        if known > 0 {
            items.drain(..known);
        }
        self.expected = self.expected.max(end);
        Some(Taken { items, jumped: false })
    }

    /// Everything up to here is lost. The peer goes on at a number of its own.
    pub(super) const fn declare_lost(&mut self) {
        self.open = true;
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

    /// Everything below this is known to have arrived.
    pub(super) const fn starting_at(&mut self, position: u64) {
        self.upto = position;
        self.told = position;
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
