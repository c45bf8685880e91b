//! An attachment's (or a link's) bounded outgoing queue.
//!
//! - Over its limit the newest are dropped until it is half empty; then gaps with exact counts stand in their place.
//! - A writer that is awake is not woken again: the waker is kept only while the writer sleeps.
//! - One of a protocol that can't tell of loss is closed instead, over a hard limit at once and over a soft one after a time.
//! - Replies and other ready-made runs are never dropped; `room` keeps a session from asking for more of them than fit.
//!
//! Everything is one value under one mutex, so each call is atomic: the tests over sequences of calls cover every interleaving.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::gap::GapCounts;
use super::{Batch, Gap, GapReason, PatternRun, encode};
use crate::types::{SessionId, Time};
use queue::{Awaited, State, Strict};

mod queue;
mod turns;

const GAP_COST: usize = 256;
const PLACE_COST: usize = 128;
/// What a reply costs besides its bytes: many small ones pin more than they say.
const EVENT_OVERHEAD: usize = 128;

/// Writes what waits from the thread that has put it there, so that the writer's task need not be woken for it.
pub trait DirectWriter: fmt::Debug + Send + Sync {
    /// Takes and writes what can be written without waiting. False: the task must go on.
    fn write(&self, mailbox: &Mailbox) -> bool;
}

/// See the module.
#[derive(Debug)]
pub struct Mailbox {
    id: u64,
    session: SessionId,
    each_match: bool,
    direct: OnceLock<Weak<dyn DirectWriter>>,
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
    /// Of an outbox: from here on the peer's interest of this version counts.
    InterestPlace(u64),
}

impl Entry {
    /// What it pins, near enough.
    pub fn cost(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.cost(),
            Self::Match(run) => run.cost(),
            Self::Gap(_) => GAP_COST,
            Self::Event(run) => run.len() + EVENT_OVERHEAD,
            Self::InterestPlace(_) => PLACE_COST,
        }
    }

    fn batch(&self) -> Option<&Arc<Batch>> {
        match self {
            Self::Batch(batch) => Some(batch),
            Self::Match(run) => Some(run.batch()),
            Self::Gap(_) | Self::Event(_) | Self::InterestPlace(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct MailboxReport {
    pub bytes: usize,
    /// Taken, and not yet settled.
    pub unsettled: usize,
    pub limit: usize,
    /// Messages taken by the writer.
    pub delivered: u64,
    pub dropped: u64,
    pub gaps: GapCounts,
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

    /// For the links to a peer. What is taken counts until it is settled. Tenants that share it take turns, and what one of them has too
    /// much of is not the others' loss.
    pub fn outbox(id: u64, limit: usize) -> Self {
        let mut mailbox = Self::with_reason(id, SessionId([0; 16]), limit, GapReason::Link);
        mailbox.state.get_mut().shared = Some(Box::default());
        mailbox
    }

    fn with_reason(id: u64, session: SessionId, limit: usize, reason: GapReason) -> Self {
        let state = Mutex::new(State::new(limit, reason));
        Self { id, session, each_match: false, direct: OnceLock::new(), state }
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

    /// From now on who publishes may write for it. Said once, before it is subscribed to anything.
    pub fn set_direct(&self, writer: Weak<dyn DirectWriter>) {
        let _ = self.direct.set(writer);
    }

    pub(super) fn is_direct(&self) -> bool {
        self.direct.get().is_some()
    }

    /// `now` tells whether the writer makes progress.
    pub fn push(&self, batch: &Arc<Batch>, now: Time) -> Pushed {
        let (pushed, waker) = self.push_asleep(batch, now);
        wake(waker);
        pushed
    }

    /// As `push`; a writer that sleeps is not woken, but left to the caller, who owes it `write_or_wake`.
    pub(super) fn push_asleep(&self, batch: &Arc<Batch>, now: Time) -> (Pushed, Option<Waker>) {
        self.push_entry(|| Entry::Batch(batch.clone()), batch, batch.cost(), now)
    }

    /// One copy more, by pattern. As `push_asleep`.
    pub(super) fn push_match_asleep(
        &self,
        run: &Arc<PatternRun>,
        now: Time,
    ) -> (Pushed, Option<Waker>) {
        self.push_entry(|| Entry::Match(run.clone()), run.batch(), run.cost(), now)
    }

    /// What `push_asleep` left is written here and now, or by its task. Outside all locks.
    pub(super) fn write_or_wake(&self, waker: Waker) {
        let direct = self.direct.get().and_then(Weak::upgrade);
        if direct.is_some_and(|direct| direct.write(self)) {
            let mut state = self.state.lock();
            if state.closed.is_none() && state.next().is_none() {
                // It sleeps on.
                state.rest();
                state.writer.get_or_insert(waker);
                return;
            }
        }
        waker.wake();
    }

    /// The writer is awake, and looks at the mailbox before it sleeps: nothing need wake it until then.
    pub fn note_awake(&self) {
        self.state.lock().writer = None;
    }

    fn push_entry(
        &self,
        entry: impl FnOnce() -> Entry,
        batch: &Batch,
        cost: usize,
        now: Time,
    ) -> (Pushed, Option<Waker>) {
        let mut state = self.state.lock();
        let pushed = state.push(entry, batch, cost, now);
        let waker = state.waker();
        let room = if state.closed.is_some() { state.waited() } else { Vec::new() };
        drop(state);
        room.into_iter().for_each(Waker::wake);
        (pushed, waker)
    }

    /// Puts a report of loss in its place. Never dropped; an equal one that would follow it at once is left out.
    pub fn push_gap(&self, gap: Gap) {
        let mut state = self.state.lock();
        state.push_gap(gap);
        let waker = state.waker();
        drop(state);
        wake(waker);
    }

    /// Counts a gap that is part of a ready-made run.
    pub fn count_gap(&self, reason: GapReason) {
        self.state.lock().count_gap(reason);
    }

    /// Puts a ready-made run (a reply, a go-away) behind all that is there; never dropped. False: the mailbox is full; ask `room`.
    pub fn push_event(&self, run: Bytes) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.append(Entry::Event(run));
        }
        let roomy = state.has_room();
        let waker = state.waker();
        drop(state);
        wake(waker);
        roomy
    }

    /// Marks where the peer's interest of this version began to count. One that follows another with nothing in between takes its place,
    /// so there are never more of them than batches.
    pub fn push_interest_place(&self, version: u64) {
        let mut state = self.state.lock();
        state.push_interest_place(version);
        let waker = state.waker();
        drop(state);
        wake(waker);
    }

    /// As `push_event`, but the writer gets neither it nor anything behind it before the hold is dropped. So a subscription's answer
    /// comes before its first message, and no message is missed in between.
    pub fn push_held(self: &Arc<Self>, run: Bytes) -> Hold {
        let mut state = self.state.lock();
        let at = u32::try_from(state.queue.len()).unwrap_or(u32::MAX);
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
                    return Poll::Ready(Err((**closed).clone()));
                }
                state.sleep(cx);
                return Poll::Pending;
            }
            let room = state.waited();
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
            let room = state.waited();
            drop(state);
            room.into_iter().for_each(Waker::wake);
        }
    }

    /// Entries of an outbox that cost so much, or so much of what they cost, are pinned no more.
    pub fn settle(&self, cost: usize) {
        let mut state = self.state.lock();
        state.settle(cost);
        let waker = state.waker();
        let room = state.waited();
        drop(state);
        wake(waker);
        room.into_iter().for_each(Waker::wake);
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
                return Poll::Ready(Err((**closed).clone()));
            }
            state.sleep(cx);
            return Poll::Pending;
        }
        let room = state.waited();
        drop(state);
        room.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    /// Keeps the waker for the next push, unless something is taken before.
    pub fn register(&self, cx: &Context<'_>) {
        self.state.lock().sleep(cx);
    }

    /// May one more reply be caused?
    pub fn has_room(&self) -> bool {
        self.state.lock().has_room()
    }

    /// Ends when it has room, or is closed. A session awaits this before it reads on, so that replies can't pile up.
    pub async fn room(&self) {
        self.wait(Awaited::Room).await;
    }

    /// Ends when the mailbox is at most half full, or closed. Half of the soft limit, where there is one.
    pub async fn half_empty(&self) {
        self.wait(Awaited::HalfEmpty).await;
    }

    async fn wait(&self, awaited: Awaited) {
        std::future::poll_fn(|cx| match self.state.lock().wait(awaited, cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// For a writer that can't take anything now: its end alone wakes it.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<Closed> {
        let mut state = self.state.lock();
        if !state.wait(Awaited::End, cx) {
            return Poll::Pending;
        }
        state.closed.as_deref().cloned().map_or(Poll::Pending, Poll::Ready)
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
        state.close(why);
        state.held_from = None;
        let writer = state.writer.take();
        let room = state.waited();
        drop(state);
        wake(writer);
        room.into_iter().for_each(Waker::wake);
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    /// Why it is closed; None: it isn't.
    pub fn closed(&self) -> Option<Closed> {
        self.state.lock().closed.as_deref().cloned()
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
        if state.is_empty() {
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
            unsettled: state.unsettled,
            limit: state.limit,
            delivered: state.delivered,
            dropped: state.dropped,
            gaps: state.gaps(),
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
        // For links, which take entries as they are.
        Entry::InterestPlace(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
