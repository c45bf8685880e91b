//! An attachment's (or a link's) bounded outgoing queue.
//!
//! - Over its limit the newest are dropped until it is half empty; then gaps with exact counts stand in their place.
//! - A writer that is awake is not woken again: the waker is kept only while the writer sleeps.
//! - One of a protocol that can't tell of loss is closed instead, over a hard limit at once and over a soft one after a time.
//! - Replies and other ready-made runs are never dropped; `room` keeps a session from asking for more of them than fit.
//!
//! Everything is one value under one mutex, so each call is atomic: the tests over sequences of calls cover every interleaving.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::gap::Dropped;
use super::{Batch, Gap, GapReason, PatternRun, encode};
use crate::types::{SessionId, Time};

/// Runs of at least this size are handed on as they are; smaller ones are copied together.
const ALONE_BYTES: usize = 16 * 1024;
/// A receiver that took nothing for so long has lost its right to slow its publishers down.
const PACE_PATIENCE: Duration = Duration::from_millis(100);
const GAP_COST: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Mailbox {
    id: u64,
    session: SessionId,
    each_match: bool,
    state: Mutex<State>,
}

/// Why a mailbox gives nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Said by the broker: moved elsewhere, killed, drained.
    Reason(String),
    /// It took nothing for too long while messages waited.
    Stalled,
    /// More waited than it may have; nothing of it can be taken any more.
    Overflow,
}

/// How an attachment gets messages, and what happens to one that doesn't keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// One copy however many of its subscriptions match. Over `limits.mailbox` the newest are dropped, and a gap stands for them.
    One,
    /// A copy for each subscription that matches. It is closed over `hard` bytes, and when it is over `soft` for so long.
    EachMatch { hard: usize, soft: usize, soft_for: Duration },
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Queued,
    /// Queued, but it is over half full, and drains: the publisher should slow down.
    Slow,
    /// Counted for a gap.
    Dropped,
    /// It is closed; nobody wants it any more.
    Closed,
}

/// One thing in the queue.
#[derive(Debug, Clone)]
pub enum Entry {
    Batch(Arc<Batch>),
    /// As `Copies::EachMatch` gets it by pattern.
    Match(Arc<PatternRun>),
    Gap(Gap),
    /// One or more whole messages in the wire form of the front.
    Event(Bytes),
}

impl Entry {
    fn cost(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.cost(),
            Self::Match(run) => run.cost(),
            Self::Gap(_) => GAP_COST,
            Self::Event(run) => run.len(),
        }
    }

    fn batch(&self) -> Option<&Arc<Batch>> {
        match self {
            Self::Batch(batch) => Some(batch),
            Self::Match(run) => Some(run.batch()),
            Self::Gap(_) | Self::Event(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct MailboxReport {
    pub bytes: usize,
    pub limit: usize,
    /// Messages taken by the writer.
    pub delivered: u64,
    pub dropped: u64,
    /// Gaps that its own overflowing has made.
    pub overflows: u64,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    /// Why gaps of this mailbox arise.
    reason: GapReason,
    strict: Option<Strict>,
    dropping: Option<Dropped>,
    /// How many entries the writer may take, while a subscription is being put in place.
    held_from: Option<usize>,
    /// None: the client never gave any, so HTTP/2 alone limits it.
    credit: Option<i64>,
    writer: Option<Waker>,
    room: Vec<Waker>,
    closed: Option<Closed>,
    delivered: u64,
    dropped: u64,
    overflows: u64,
    /// Rises with every take.
    takes: u64,
    /// The takes that the last look saw, and when that number was first seen.
    seen: (u64, Time),
}

/// Of `Copies::EachMatch`.
#[derive(Debug)]
struct Strict {
    soft: usize,
    soft_for: Duration,
    over_since: Option<Time>,
}

impl Strict {
    /// Over the soft limit for too long?
    fn is_over(&mut self, bytes: usize, now: Time) -> bool {
        if bytes <= self.soft {
            self.over_since = None;
        }
        bytes > self.soft && now - *self.over_since.get_or_insert(now) >= self.soft_for
    }
}

impl Mailbox {
    /// `id` is unique on this node, `limit` in bytes.
    pub fn new(id: u64, session: SessionId, limit: usize) -> Self {
        Self::with_reason(id, session, limit, GapReason::SlowSubscriber)
    }

    /// `limit` holds for `Copies::One`.
    pub fn with_copies(id: u64, session: SessionId, limit: usize, copies: Copies) -> Self {
        match copies {
            Copies::One => Self::new(id, session, limit),
            Copies::EachMatch { hard, soft, soft_for } => {
                let mut mailbox = Self::new(id, session, hard);
                mailbox.each_match = true;
                mailbox.state.get_mut().strict = Some(Strict { soft, soft_for, over_since: None });
                mailbox
            }
        }
    }

    /// A link's outbox.
    pub fn outbox(id: u64, limit: usize) -> Self {
        Self::with_reason(id, SessionId([0; 16]), limit, GapReason::Link)
    }

    fn with_reason(id: u64, session: SessionId, limit: usize, reason: GapReason) -> Self {
        Self {
            id,
            session,
            each_match: false,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                limit,
                reason,
                strict: None,
                dropping: None,
                held_from: None,
                credit: None,
                writer: None,
                room: Vec::new(),
                closed: None,
                delivered: 0,
                dropped: 0,
                overflows: 0,
                takes: 0,
                seen: (0, Time::ZERO),
            }),
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Is it `Copies::EachMatch`?
    pub fn wants_each_match(&self) -> bool {
        self.each_match
    }

    /// `now` tells whether the writer makes progress.
    pub fn push(&self, batch: &Arc<Batch>, now: Time) -> Pushed {
        self.push_entry(|| Entry::Batch(batch.clone()), batch, batch.cost(), now)
    }

    /// One copy more, by pattern.
    pub fn push_match(&self, run: &Arc<PatternRun>, now: Time) -> Pushed {
        self.push_entry(|| Entry::Match(run.clone()), run.batch(), run.cost(), now)
    }

    fn push_entry(
        &self,
        entry: impl FnOnce() -> Entry,
        batch: &Batch,
        cost: usize,
        now: Time,
    ) -> Pushed {
        let mut state = self.state.lock();
        let pushed = state.push(entry, batch, cost, now);
        let waker = state.waker();
        let room =
            if state.closed.is_some() { std::mem::take(&mut state.room) } else { Vec::new() };
        drop(state);
        wake(waker);
        room.into_iter().for_each(Waker::wake);
        pushed
    }

    /// Puts a report of loss in its place. Never dropped; an equal one that would follow it at once is left out.
    pub fn push_gap(&self, gap: Gap) {
        let mut state = self.state.lock();
        state.push_gap(gap);
        let waker = state.waker();
        drop(state);
        wake(waker);
    }

    /// Puts a ready-made run (a reply, a go-away) behind all that is there; never dropped. False: the mailbox is full; ask `room`.
    pub fn push_event(&self, run: Bytes) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.append(Entry::Event(run));
        }
        let roomy = state.bytes < state.limit;
        let waker = state.waker();
        drop(state);
        wake(waker);
        roomy
    }

    /// As `push_event`, but the writer gets neither it nor anything behind it before the hold is dropped. So a subscription's answer
    /// comes before its first message, and no message is missed in between.
    pub fn push_held(self: &Arc<Self>, run: Bytes) -> Hold {
        let mut state = self.state.lock();
        let at = state.queue.len();
        state.held_from.get_or_insert(at);
        if state.closed.is_none() {
            state.append(Entry::Event(run));
        }
        drop(state);
        Hold { mailbox: self.clone() }
    }

    /// Takes what there is, joined into one run of about `bytes_max` at most. `Err`: closed, and all that came before has been taken.
    pub fn poll_take(&self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Result<Bytes, Closed>> {
        let mut taken = SmallVec::<[Entry; 16]>::new();
        {
            let mut state = self.state.lock();
            if !state.take(bytes_max, true, &mut |entry| taken.push(entry)) {
                if let Some(closed) = &state.closed {
                    return Poll::Ready(Err(closed.clone()));
                }
                state.sleep(cx);
                return Poll::Pending;
            }
            let room = state.room_wakers();
            drop(state);
            room.into_iter().for_each(Waker::wake);
        }
        // Encoding happens outside the lock, by whichever subscriber comes first.
        if taken.len() == 1 {
            return Poll::Ready(Ok(run_of(&taken[0])));
        }
        let runs: SmallVec<[Bytes; 16]> = taken.iter().map(run_of).collect();
        let mut joined = BytesMut::with_capacity(runs.iter().map(Bytes::len).sum());
        runs.iter().for_each(|run| joined.extend_from_slice(run));
        Poll::Ready(Ok(joined.freeze()))
    }

    /// Takes entries as they are, about `bytes_max` of them; for links, which `register` before.
    pub fn take_entries(&self, bytes_max: usize, take: &mut dyn FnMut(Entry)) {
        let mut state = self.state.lock();
        if state.take(bytes_max, false, take) {
            let room = state.room_wakers();
            drop(state);
            room.into_iter().for_each(Waker::wake);
        }
    }

    /// As `poll_take`, with the entries as they are.
    pub fn poll_entries(
        &self,
        cx: &Context<'_>,
        bytes_max: usize,
        take: &mut dyn FnMut(Entry),
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.state.lock();
        if !state.take(bytes_max, false, take) {
            if let Some(closed) = &state.closed {
                return Poll::Ready(Err(closed.clone()));
            }
            state.sleep(cx);
            return Poll::Pending;
        }
        let room = state.room_wakers();
        drop(state);
        room.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    /// Keeps the waker for the next push, unless something is taken before.
    pub fn register(&self, cx: &Context<'_>) {
        self.state.lock().sleep(cx);
    }

    /// Ends when the mailbox is below its limit, or closed. A session awaits this before it reads on, so that replies can't pile up.
    pub async fn room(&self) {
        self.below(|state| state.bytes < state.limit).await;
    }

    /// Ends when the mailbox is at most half full, or closed. Half of the soft limit, where there is one.
    pub async fn half_empty(&self) {
        self.below(|state| state.bytes <= state.half()).await;
    }

    async fn below(&self, enough: impl Fn(&State) -> bool) {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock();
            if enough(&state) || state.closed.is_some() {
                return Poll::Ready(());
            }
            state.wait_for_room(cx);
            Poll::Pending
        })
        .await;
    }

    /// For a writer that can't take anything now: its end alone wakes it, and, in vain, that there is room again.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<Closed> {
        let mut state = self.state.lock();
        match &state.closed {
            Some(closed) => Poll::Ready(closed.clone()),
            None => {
                state.wait_for_room(cx);
                Poll::Pending
            }
        }
    }

    /// So many more messages may be taken. From the first call on the credit is a limit.
    pub fn add_credit(&self, messages: u32) {
        let mut state = self.state.lock();
        let credit = state.credit.unwrap_or(0).saturating_add(i64::from(messages));
        state.credit = Some(credit);
        let waker = state.waker();
        drop(state);
        wake(waker);
    }

    /// What is in it can still be taken. The first reason stands.
    pub fn close(&self, why: Closed) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(why);
        state.held_from = None;
        let writer = state.writer.take();
        let room = std::mem::take(&mut state.room);
        drop(state);
        wake(writer);
        room.into_iter().for_each(Waker::wake);
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    /// Why it is closed; None: it isn't.
    pub fn closed(&self) -> Option<Closed> {
        self.state.lock().closed.clone()
    }

    /// Closes it when messages have waited for `limit` and none was taken; or, where there is a soft limit, when it is over that for too
    /// long.
    pub fn close_if_stalled(&self, now: Time, limit: Duration) {
        let mut state = self.state.lock();
        let bytes = state.bytes;
        if let Some(strict) = &mut state.strict {
            if strict.is_over(bytes, now) {
                state.overflow();
                drop(state);
                self.close(Closed::Overflow);
            }
            return;
        }
        let waiting = state.bytes > 0 && state.credit.is_none_or(|credit| credit > 0);
        let idle = state.progress(now);
        if !waiting {
            state.seen.1 = now;
        } else if idle >= limit && state.closed.is_none() {
            drop(state);
            self.close(Closed::Stalled);
        }
    }

    /// Gives up what has waited while nothing was taken for `age`: it becomes a gap in its place.
    pub fn expire(&self, now: Time, age: Duration) {
        let mut state = self.state.lock();
        let idle = state.progress(now);
        if state.queue.is_empty() {
            state.seen.1 = now;
        } else if idle >= age {
            state.give_up();
            state.seen.1 = now;
        }
        let waker = state.waker();
        drop(state);
        wake(waker);
    }

    pub fn report(&self) -> MailboxReport {
        let state = self.state.lock();
        MailboxReport {
            bytes: state.bytes,
            limit: state.limit,
            delivered: state.delivered,
            dropped: state.dropped,
            overflows: state.overflows,
        }
    }
}

/// While it lives, the writer gets nothing from the held run on.
#[derive(Debug)]
pub struct Hold {
    mailbox: Arc<Mailbox>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.mailbox.state.lock();
        state.held_from = None;
        let waker = state.waker();
        drop(state);
        wake(waker);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn run_of(entry: &Entry) -> Bytes {
    match entry {
        Entry::Batch(batch) => batch.grpc().clone(),
        Entry::Match(run) => run.batch().grpc().clone(),
        Entry::Gap(gap) => encode::gap(gap),
        Entry::Event(run) => run.clone(),
    }
}

impl State {
    fn append(&mut self, entry: Entry) {
        self.bytes += entry.cost();
        self.queue.push_back(entry);
    }

    fn push(
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
        if self.dropping.is_some() || self.bytes + cost > self.limit {
            let messages = u64::from(batch.count());
            self.dropped += messages;
            self.dropping.get_or_insert_default().count(batch.topic(), batch.origin(), messages);
            self.end_dropping();
            return Pushed::Dropped;
        }
        self.bytes += cost;
        self.queue.push_back(entry());
        if self.bytes > self.half() && self.progress(now) < PACE_PATIENCE {
            Pushed::Slow
        } else {
            Pushed::Queued
        }
    }

    /// Above this a receiver asks to be spared.
    fn half(&self) -> usize {
        self.strict.as_ref().map_or(self.limit, |strict| strict.soft.min(self.limit)) / 2
    }

    /// What waits is given up at once: nobody will take it.
    fn overflow(&mut self) {
        self.closed.get_or_insert(Closed::Overflow);
        self.held_from = None;
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    fn push_gap(&mut self, gap: Gap) {
        if self.closed.is_some() {
            return;
        }
        match &mut self.dropping {
            Some(dropped) if dropped.gaps.contains(&gap) => {}
            Some(dropped) => dropped.gaps.push(gap),
            None if matches!(self.queue.back(), Some(Entry::Gap(last)) if *last == gap && !gap.certain) =>
                {}
            None => self.append(Entry::Gap(gap)),
        }
    }

    /// Every batch that waits is dropped and counted; gaps and replies stay.
    fn give_up(&mut self) {
        let mut dropped = self.dropping.take().unwrap_or_default();
        let held = std::mem::take(&mut dropped.gaps);
        for entry in std::mem::take(&mut self.queue) {
            let Some(batch) = entry.batch() else {
                self.queue.push_back(entry);
                continue;
            };
            self.bytes -= entry.cost();
            self.dropped += u64::from(batch.count());
            dropped.count(batch.topic(), batch.origin(), batch.count().into());
        }
        dropped.gaps = held;
        self.dropping = Some(dropped);
        self.end_dropping();
    }

    /// Half empty: the gap takes its place, and messages are taken again.
    fn end_dropping(&mut self) {
        if self.bytes > self.limit / 2 {
            return;
        }
        if let Some(dropped) = self.dropping.take() {
            for gap in dropped.into_gaps(self.reason) {
                self.overflows += 1;
                self.append(Entry::Gap(gap));
            }
        }
    }

    /// How long nothing was taken, as far as has been seen.
    fn progress(&mut self, now: Time) -> Duration {
        if self.takes != self.seen.0 || self.seen.1 == Time::ZERO {
            self.seen = (self.takes, now);
        }
        now - self.seen.1
    }

    /// The writer's waker, when it sleeps and there is something for it.
    fn waker(&mut self) -> Option<Waker> {
        if self.writer.is_some() && (self.next().is_some() || self.closed.is_some()) {
            self.writer.take()
        } else {
            None
        }
    }

    /// The position of the next entry that may be taken.
    fn next(&self) -> Option<usize> {
        let end = self.held_from.unwrap_or(self.queue.len()).min(self.queue.len());
        if end == 0 {
            return None;
        }
        if self.credit.is_none_or(|credit| credit > 0) {
            return Some(0);
        }
        // Without credit messages wait, but what answers a request may pass them: else a client that waits for the answer before it
        // gives credit would wait for ever.
        self.queue.iter().take(end).position(|entry| matches!(entry, Entry::Event(_)))
    }

    fn take(&mut self, bytes_max: usize, large_alone: bool, take: &mut dyn FnMut(Entry)) -> bool {
        let mut bytes = 0;
        let mut any = false;
        while let Some(at) = self.next() {
            let cost = self.queue[at].cost();
            let alone = large_alone && cost >= ALONE_BYTES;
            if any && (alone || bytes + cost > bytes_max) {
                break;
            }
            let Some(entry) = self.queue.remove(at) else { break };
            if let Some(held) = &mut self.held_from {
                *held -= 1;
            }
            bytes += cost;
            self.bytes -= cost;
            any = true;
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
        if self.queue.is_empty() && self.queue.capacity() > 8 {
            // An idle connection owns no buffers.
            self.queue = VecDeque::new();
        }
        any
    }

    fn sleep(&mut self, cx: &Context<'_>) {
        if !self.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.writer = Some(cx.waker().clone());
        }
    }

    fn wait_for_room(&mut self, cx: &Context<'_>) {
        self.room.retain(|waker| !waker.will_wake(cx.waker()));
        self.room.push(cx.waker().clone());
    }

    fn room_wakers(&mut self) -> Vec<Waker> {
        if self.room.is_empty() || self.bytes > self.half() {
            Vec::new()
        } else {
            std::mem::take(&mut self.room)
        }
    }
}

#[cfg(test)]
mod tests;
