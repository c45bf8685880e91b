//! What one link in one life sends: control that waits, this node's interest, the outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use super::codec::{self, Control};
use super::lane::Forwarded;
use crate::link::{ContentItem, LinkSource};
use crate::metrics::names;
use crate::pubsub::Mailbox;
use crate::pubsub::interest::LocalInterest;
use crate::pubsub::mailbox::Entry;

/// Questions and answers that wait for one link. Pings find a link dead long before so many have gathered.
const WAITING_MAX: usize = 1 << 16;
/// Changes in one control frame.
const CHANGES_A_FRAME: usize = 4_096;

/// See the module.
pub(super) struct Source {
    state: Mutex<State>,
    interest: Option<Arc<Mutex<LocalInterest>>>,
    outbox: Option<Arc<Mailbox>>,
    forwarded: Option<Forwarded>,
    all_lost: bool,
}

/// Why the whole interest is sent.
#[derive(Debug, Clone, Copy)]
enum SnapshotReason {
    LinkUp,
    /// What the peer has does not fit what it was told.
    Asked,
    /// The link has fallen further behind than changes are kept.
    Behind,
}

impl SnapshotReason {
    /// For metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::LinkUp => "link_up",
            Self::Asked => "asked",
            Self::Behind => "behind",
        }
    }
}

struct State {
    waiting: VecDeque<Bytes>,
    /// The newest acknowledgement of the peer's interest; an older one need not be sent.
    applied: Option<u64>,
    /// How far the peer has been told this node's interest, or why a snapshot is due.
    told: Result<u64, SnapshotReason>,
    parts: VecDeque<Bytes>,
    waker: Option<Waker>,
    /// The link is over; the outbox is another's.
    retired: bool,
}

impl Source {
    /// For a link that this node dialed: content from `outbox`.
    pub(super) fn outgoing(outbox: Arc<Mailbox>, forwarded: Forwarded) -> Self {
        Self::new(None, Some(outbox), Some(forwarded), false)
    }

    /// For a link that the peer dialed: this node's interest goes back. `all_lost`: what the peer has kept is declared lost.
    pub(super) fn incoming(interest: Arc<Mutex<LocalInterest>>, all_lost: bool) -> Self {
        Self::new(Some(interest), None, None, all_lost)
    }

    fn new(
        interest: Option<Arc<Mutex<LocalInterest>>>,
        outbox: Option<Arc<Mailbox>>,
        forwarded: Option<Forwarded>,
        all_lost: bool,
    ) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            applied: None,
            told: Err(SnapshotReason::LinkUp),
            parts: VecDeque::new(),
            waker: None,
            retired: false,
        };
        Self { state: Mutex::new(state), interest, outbox, forwarded, all_lost }
    }

    /// False: the link is so far behind that the frame was not taken.
    pub(super) fn send(&self, control: &Control) -> bool {
        let mut state = self.state.lock();
        let taken = state.waiting.len() < WAITING_MAX;
        if taken {
            state.waiting.push_back(codec::control(control));
        }
        state.wake();
        taken
    }

    pub(super) fn send_applied(&self, version: u64) {
        let mut state = self.state.lock();
        state.applied = Some(version);
        state.wake();
    }

    /// Another link takes from the outbox; this one doesn't ask to be woken by it any more.
    pub(super) fn retire(&self) {
        self.state.lock().retired = true;
    }

    /// The interest has changed.
    pub(super) fn announce(&self) {
        self.state.lock().wake();
    }

    /// The peer can't go on from what it has.
    pub(super) fn start_over(&self) {
        let mut state = self.state.lock();
        state.told = Err(SnapshotReason::Asked);
        state.parts.clear();
        state.wake();
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What of the interest comes next, if anything.
    fn next_interest(&mut self, interest: &Mutex<LocalInterest>) -> Option<Bytes> {
        if let Some(part) = self.parts.pop_front() {
            return Some(part);
        }
        let interest = interest.lock();
        let changes = self.told.and_then(|told| {
            let changes = interest.changes_since(told, CHANGES_A_FRAME);
            changes.map(|changes| (told, changes)).ok_or(SnapshotReason::Behind)
        });
        match changes {
            Ok((_, changes)) if changes.is_empty() => None,
            Ok((from, changes)) => {
                self.told = Ok(from + changes.len() as u64);
                Some(codec::control(&Control::Changes { from, changes }))
            }
            Err(why) => {
                let (version, digest, all) =
                    (interest.version(), interest.digest(), interest.snapshot());
                drop(interest);
                metrics::counter!(names::INTEREST_SNAPSHOTS, "reason" => why.as_str()).increment(1);
                let chunks = all.len().div_ceil(CHANGES_A_FRAME).max(1);
                for at in 0..chunks {
                    let end = all.len().min((at + 1) * CHANGES_A_FRAME);
                    self.parts.push_back(codec::control(&Control::SnapshotPart {
                        version,
                        first: at == 0,
                        last: (at + 1 == chunks).then_some(digest),
                        changes: all[at * CHANGES_A_FRAME..end].to_vec(),
                    }));
                }
                self.told = Ok(version);
                self.parts.pop_front()
            }
        }
    }
}

impl LinkSource for Source {
    fn take_control(&self, out: &mut Vec<Bytes>, bytes_max: usize) {
        let mut state = self.state.lock();
        let mut bytes = 0;
        let mut put = |frame: Bytes| {
            bytes += frame.len();
            out.push(frame);
            bytes < bytes_max
        };
        if let Some(version) = state.applied.take() {
            put(codec::control(&Control::Applied { version }));
        }
        while let Some(frame) = state.waiting.pop_front() {
            if !put(frame) {
                return;
            }
        }
        if let Some(interest) = &self.interest {
            while let Some(frame) = state.next_interest(interest) {
                if !put(frame) {
                    return;
                }
            }
        }
    }

    fn take_content(&self, out: &mut Vec<ContentItem>, bytes_max: usize) {
        let Some(outbox) = &self.outbox else { return };
        let mut entries = smallvec::SmallVec::<[Entry; 32]>::new();
        outbox.take_entries(bytes_max, &mut |entry| entries.push(entry));
        let mut messages = 0;
        for entry in &entries {
            if let Entry::Batch(batch) = entry {
                messages += u64::from(batch.count());
            }
            out.push(ContentItem { bytes: codec::item(entry), cost: entry.cost() });
        }
        if let Some(forwarded) = self.forwarded.as_ref().filter(|_| messages > 0) {
            forwarded.peer.increment(messages);
            forwarded.all.fetch_add(messages, Ordering::Relaxed);
        }
    }

    fn released(&self, cost: usize) {
        if let Some(outbox) = &self.outbox {
            outbox.settle(cost);
        }
    }

    fn summary(&self, item: &Bytes) -> Bytes {
        codec::summary(item)
    }

    fn all_lost(&self) -> bool {
        self.all_lost
    }

    fn ping(&self) -> Bytes {
        self.interest.as_ref().map_or_else(Bytes::new, |interest| {
            let interest = interest.lock();
            codec::ping(interest.version(), interest.digest())
        })
    }

    fn register(&self, cx: &mut Context<'_>) {
        let mut state = self.state.lock();
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        // Under the lock, or one that is just being retired could take the place of its successor.
        if let Some(outbox) = self.outbox.as_ref().filter(|_| !state.retired) {
            outbox.register(cx);
        }
    }
}
