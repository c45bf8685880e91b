//! What a mailbox holds, and its rules: what is taken, what is dropped, who is woken. ● Pure but for the wakers it keeps.
//!
//! Batches and gaps never take it over its limit; replies may, and whoever causes them waits for `Awaited::Room`.

use std::collections::VecDeque;
use std::task::{Context, Waker};
use std::time::Duration;

use super::turns::Shared;
use super::{Closed, Entry, GAP_COST, Pushed};
use crate::plants::{self, Plant};
use crate::pubsub::gap::{Dropped, GapCounts};
use crate::pubsub::{Batch, Gap, GapReason};
use crate::types::Time;

/// Runs of at least this size are handed on as they are; smaller ones are copied together.
const ALONE_BYTES: usize = 16 * 1024;
/// A receiver that took nothing for so long has lost its right to slow its publishers down.
const PACE_PATIENCE: Duration = Duration::from_millis(100);

/// What somebody outside waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// One more reply may be caused.
    Room,
    HalfEmpty,
    /// That it is closed.
    End,
}

/// Of `Copies::EachMatch`.
#[derive(Debug)]
pub(super) struct Strict {
    pub(super) soft: usize,
    pub(super) soft_for: Duration,
    pub(super) over_since: Option<Time>,
}

impl Strict {
    /// Over the soft limit for too long?
    pub(super) fn is_over(&mut self, bytes: usize, now: Time) -> bool {
        if bytes <= self.soft {
            self.over_since = None;
        }
        bytes > self.soft && now - *self.over_since.get_or_insert(now) >= self.soft_for
    }
}

/// There are very many, nearly all of them idle: what few have, or only once, is behind a box.
#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: VecDeque<Entry>,
    /// Replies among them.
    events: u32,
    pub(super) bytes: usize,
    /// Of an outbox: taken, and still pinned until the peer has acknowledged it. Counts against the limit.
    pub(super) unsettled: usize,
    /// It is an outbox, and takes are not the end of it.
    pub(super) shared: Option<Box<Shared>>,
    pub(super) limit: usize,
    /// Why gaps of this mailbox arise.
    reason: GapReason,
    pub(super) strict: Option<Strict>,
    dropping: Option<Box<Dropped>>,
    /// How many entries the writer may take, while a subscription is being put in place.
    pub(super) held_from: Option<u32>,
    /// None: the client never gave any, so HTTP/2 alone limits it.
    pub(super) credit: Option<i64>,
    pub(super) writer: Option<Waker>,
    #[expect(clippy::box_collection, reason = "nearly nobody waits, and each pays for its room")]
    waiting: Option<Box<Vec<(Awaited, Waker)>>>,
    pub(super) closed: Option<Box<Closed>>,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    gaps: Option<Box<GapCounts>>,
    /// Rises with every take.
    takes: u64,
    /// The takes that the last look saw, and when that number was first seen.
    pub(super) seen: (u64, Time),
}

impl State {
    pub(super) fn new(limit: usize, reason: GapReason) -> Self {
        Self {
            queue: VecDeque::new(),
            events: 0,
            bytes: 0,
            unsettled: 0,
            shared: None,
            limit,
            reason,
            strict: None,
            dropping: None,
            held_from: None,
            credit: None,
            writer: None,
            waiting: None,
            closed: None,
            delivered: 0,
            dropped: 0,
            gaps: None,
            takes: 0,
            seen: (0, Time::ZERO),
        }
    }

    pub(super) fn count_gap(&mut self, reason: GapReason) {
        self.gaps.get_or_insert_default()[reason as usize] += 1;
    }

    pub(super) fn gaps(&self) -> GapCounts {
        self.gaps.as_deref().copied().unwrap_or_default()
    }

    /// The first reason stands.
    pub(super) fn close(&mut self, why: Closed) {
        self.closed.get_or_insert_with(|| Box::new(why));
    }

    pub(super) fn append(&mut self, entry: Entry) {
        match &entry {
            Entry::Gap(gap) => self.count_gap(gap.reason),
            Entry::Event(_) => self.events += 1,
            Entry::Batch(_) | Entry::Match(_) | Entry::InterestPlace(_) => {}
        }
        self.bytes += entry.cost();
        match self.shared.as_mut().and_then(|shared| shared.turns.as_mut()) {
            Some(turns) => turns.push(entry),
            None => self.queue.push_back(entry),
        }
    }

    /// What was pushed last, as far as it can be told: of several tenants, only what concerns all.
    fn last(&mut self) -> Option<&mut Entry> {
        match self.shared.as_mut().and_then(|shared| shared.turns.as_mut()) {
            Some(turns) => turns.last(),
            None => self.queue.back_mut(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.shared.as_ref().is_none_or(|shared| shared.turns.is_none())
    }

    fn cost_of(&self, at: usize) -> Option<usize> {
        match self.shared.as_ref().and_then(|shared| shared.turns.as_ref()) {
            Some(turns) => turns.next().map(Entry::cost),
            None => self.queue.get(at).map(Entry::cost),
        }
    }

    fn remove(&mut self, at: usize) -> Option<Entry> {
        let Some(turns) = self.shared.as_mut().map(|shared| &mut shared.turns) else {
            return self.queue.remove(at);
        };
        let Some(of_several) = turns else { return self.queue.remove(at) };
        let entry = of_several.pop();
        if of_several.is_empty() {
            *turns = None;
        }
        entry
    }

    /// Whether the limit has no room for one more batch of this cost.
    fn is_too_much(&mut self, batch: &Batch, cost: usize) -> bool {
        let (pinned, is_dropping) = (self.pinned(), self.dropping.is_some());
        let by_itself = self.shared.as_mut().and_then(|shared| {
            let namespace = batch.topic().namespace();
            shared.note(namespace, &mut self.queue, is_dropping);
            let free = self.limit.saturating_sub(pinned);
            shared.is_too_much(namespace, cost, self.bytes, free)
        });
        by_itself.unwrap_or(is_dropping || pinned + cost > self.limit)
    }

    /// Whether whoever published it should be slower.
    fn is_slow(&mut self, batch: &Batch, now: Time) -> bool {
        let pinned = self.pinned();
        if pinned <= self.half() || self.progress(now) >= PACE_PATIENCE {
            return false;
        }
        self.shared.as_ref().is_none_or(|shared| {
            let free = self.limit.saturating_sub(pinned);
            shared.is_filling(batch.topic().namespace(), self.bytes, free)
        })
    }

    /// `entry` carries `batch`, whole or in another form, and costs `cost`.
    pub(super) fn push(
        &mut self,
        entry: impl FnOnce() -> Entry,
        batch: &Batch,
        cost: usize,
        now: Time,
    ) -> Pushed {
        if self.closed.is_some() {
            return Pushed::Closed;
        }
        if let Some(strict) = &mut self.strict {
            let bytes = self.bytes + cost;
            if bytes > self.limit || strict.is_over(bytes, now) {
                self.overflow();
                return Pushed::Closed;
            }
        }
        if self.is_too_much(batch, cost) {
            let messages = u64::from(batch.count());
            self.dropped += messages;
            self.dropping.get_or_insert_default().count(batch.topic(), batch.origin(), messages);
            self.end_dropping();
            if plants::is(Plant::DeliveryAfterGap) {
                self.append(entry());
            }
            return Pushed::Dropped;
        }
        self.append(entry());
        if self.is_slow(batch, now) { Pushed::Slow } else { Pushed::Queued }
    }

    pub(super) const fn pinned(&self) -> usize {
        self.bytes + self.unsettled
    }

    /// So much of what was taken is pinned no more.
    pub(super) fn settle(&mut self, cost: usize) {
        self.unsettled = self.unsettled.saturating_sub(cost);
        self.end_dropping();
    }

    /// Above this a receiver asks to be spared.
    fn half(&self) -> usize {
        self.strict.as_ref().map_or(self.limit, |strict| strict.soft.min(self.limit)) / 2
    }

    /// What waits is given up at once: nobody will take it.
    pub(super) fn overflow(&mut self) {
        self.close(Closed::Overflow);
        self.held_from = None;
        self.queue = VecDeque::new();
        self.events = 0;
        self.bytes = 0;
    }

    pub(super) fn push_gap(&mut self, gap: Gap) {
        if self.closed.is_some() {
            return;
        }
        let repeats = !gap.certain
            && self.dropping.is_none()
            && matches!(self.last(), Some(Entry::Gap(last)) if *last == gap);
        if repeats {
            return;
        }
        if self.dropping.is_none() && self.joins_last(&gap) {
            return;
        }
        if self.dropping.is_none() && self.pinned() + GAP_COST <= self.limit {
            self.append(Entry::Gap(gap));
            return;
        }
        // Behind what is counted already, and bounded as that is.
        self.dropping.get_or_insert_default().add_gap(gap);
        self.end_dropping();
    }

    pub(super) fn push_interest_place(&mut self, version: u64) {
        if self.closed.is_some() {
            return;
        }
        match self.last() {
            Some(Entry::InterestPlace(last)) => *last = version,
            _ => self.append(Entry::InterestPlace(version)),
        }
    }

    /// Losses that were counted one after another, with nothing between them, are one.
    fn joins_last(&mut self, gap: &Gap) -> bool {
        let Some(Entry::Gap(last)) = self.last().filter(|_| gap.certain) else {
            return false;
        };
        let same = (last.reason, last.certain, &last.origin, &last.topics)
            == (gap.reason, gap.certain, &gap.origin, &gap.topics);
        match (last.missing, gap.missing) {
            (Some(before), Some(more)) if same => last.missing = Some(before + more),
            _ => return false,
        }
        true
    }

    /// Every batch that waits is dropped and counted; gaps and replies stay.
    pub(super) fn give_up(&mut self) {
        let mut dropped = self.dropping.take().unwrap_or_default();
        let mut waiting = std::mem::take(&mut self.queue);
        if let Some(mut turns) = self.shared.as_mut().and_then(|shared| shared.turns.take()) {
            waiting.extend(std::iter::from_fn(|| turns.pop()));
        }
        for entry in waiting {
            let Some(batch) = entry.batch() else {
                self.queue.push_back(entry);
                continue;
            };
            self.bytes -= entry.cost();
            self.dropped += u64::from(batch.count());
            dropped.count(batch.topic(), batch.origin(), batch.count().into());
            if let Some(shared) = &mut self.shared {
                shared.note_dropped(batch.topic().namespace());
            }
        }
        self.dropping = Some(dropped);
        self.end_dropping();
    }

    /// Half empty: the gap takes its place, and messages are taken again.
    fn end_dropping(&mut self) {
        if self.pinned() > self.limit / 2 {
            return;
        }
        if let Some(dropped) = self.dropping.take() {
            if let Some(shared) = &mut self.shared {
                shared.dropping.clear();
            }
            for gap in (*dropped).into_gaps(self.reason) {
                self.append(Entry::Gap(gap));
            }
        }
    }

    /// How long nothing was taken, as far as has been seen.
    pub(super) fn progress(&mut self, now: Time) -> Duration {
        if self.takes != self.seen.0 || self.seen.1 == Time::ZERO {
            self.seen = (self.takes, now);
        }
        now - self.seen.1
    }

    /// The writer's waker, when it sleeps and there is something for it.
    pub(super) fn waker(&mut self) -> Option<Waker> {
        if self.writer.is_some() && (self.next().is_some() || self.closed.is_some()) {
            self.writer.take()
        } else {
            None
        }
    }

    /// The position of the next entry that may be taken.
    pub(super) fn next(&self) -> Option<usize> {
        if self.shared.as_ref().is_some_and(|shared| shared.turns.is_some()) {
            return Some(0);
        }
        let held_from = self.held_from.map_or(usize::MAX, |at| at as usize);
        let end = self.queue.len().min(held_from);
        if end == 0 {
            return None;
        }
        if self.credit.is_none_or(|credit| credit > 0) {
            return Some(0);
        }
        if self.events == 0 {
            // Not looked for: a client without credit must not make each push to it dearer.
            return None;
        }
        // Without credit messages wait, but what answers a request may pass them: else a client that waits for the answer before it
        // gives credit would wait for ever.
        self.queue.iter().take(end).position(|entry| matches!(entry, Entry::Event(_)))
    }

    pub(super) fn take(
        &mut self,
        bytes_max: usize,
        large_alone: bool,
        take: &mut dyn FnMut(Entry),
    ) -> bool {
        let mut bytes = 0;
        let mut any = false;
        while let Some(at) = self.next() {
            let Some(cost) = self.cost_of(at) else { break };
            let alone = large_alone && cost >= ALONE_BYTES;
            if any && (alone || bytes + cost > bytes_max) {
                break;
            }
            let Some(entry) = self.remove(at) else { break };
            if let Some(held) = &mut self.held_from {
                *held -= 1;
            }
            bytes += cost;
            self.bytes -= cost;
            if self.shared.is_some() {
                self.unsettled += cost;
            }
            any = true;
            self.events -= u32::from(matches!(entry, Entry::Event(_)));
            if let Some(batch) = entry.batch() {
                self.delivered += u64::from(batch.count());
                if let Some(credit) = &mut self.credit {
                    *credit -= i64::from(batch.count());
                }
            }
            take(entry);
            if alone {
                break;
            }
        }
        if any {
            // The writer is awake; it comes again by itself.
            self.writer = None;
            self.takes += 1;
            self.end_dropping();
        }
        if let Some(strict) = self.strict.as_mut().filter(|strict| self.bytes <= strict.soft) {
            strict.over_since = None;
        }
        any
    }

    pub(super) fn sleep(&mut self, cx: &Context<'_>) {
        self.rest();
        if !self.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.writer = Some(cx.waker().clone());
        }
    }

    /// An idle connection owns no buffers.
    pub(super) fn rest(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }

    /// Replies can be taken without credit, messages can't: so a mailbox full of messages without a reply has room for one, or a client
    /// could never say that it gives credit.
    pub(super) fn has_room(&self) -> bool {
        self.bytes <= self.limit || self.events == 0
    }

    fn is_over(&self, awaited: Awaited) -> bool {
        match awaited {
            Awaited::Room => self.has_room(),
            Awaited::HalfEmpty => self.pinned() <= self.half(),
            Awaited::End => false,
        }
    }

    /// True: it is so, or never will be. Else the waker is kept.
    pub(super) fn wait(&mut self, awaited: Awaited, cx: &Context<'_>) -> bool {
        if self.is_over(awaited) || self.closed.is_some() {
            return true;
        }
        let waiting = self.waiting.get_or_insert_default();
        waiting.retain(|(_, waker)| !waker.will_wake(cx.waker()));
        waiting.push((awaited, cx.waker().clone()));
        false
    }

    /// Those whose waiting is over.
    pub(super) fn waited(&mut self) -> Vec<Waker> {
        let Some(waiting) = self.waiting.take() else { return Vec::new() };
        let closed = self.closed.is_some();
        let (over, still): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(awaited, _)| closed || self.is_over(*awaited));
        self.waiting = (!still.is_empty()).then(|| Box::new(still));
        over.into_iter().map(|(_, waker)| waker).collect()
    }
}
