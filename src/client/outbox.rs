//! The publishes that no attachment has taken yet, and those whose answers are awaited.
//!
//! A publish is encoded once, into the frame that carries it. Everything queued when a writer asks goes out as one frame, so that
//! batches grow by themselves under load. Only the owner takes: a publish taken by one attachment is never given to another.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::codec::{begin_frame, publish_len, put_publish, seal};
use super::message::{ClientError, Confirm, Outcome, Publish, ServerError};
use super::session::{AttachmentId, Reply};

/// A frame is closed before it grows beyond this, unless one publish alone is larger.
const FRAME_BYTES: usize = 256 << 10;
/// What a node takes as one frame, less a little.
pub(crate) const PUBLISH_BYTES_MAX: usize = (4 << 20) - 1024;

type Answer = oneshot::Sender<Result<Outcome, ClientError>>;

#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    bytes_max: usize,
    owner: Option<AttachmentId>,
    /// The owner's writer, if it waits.
    waker: Option<Waker>,
    waiting: HashMap<u64, Waiting>,
    /// Whoever reads on only while answers are awaited.
    reader: Option<Waker>,
    /// Publishes taken and not answered, by who took them.
    unanswered: BTreeMap<AttachmentId, usize>,
    ids: u64,
    closed: bool,
    /// So that a new frame's buffer needs not grow from nothing.
    size_hint: usize,
}

#[derive(Debug, Default)]
struct Frame {
    bytes: BytesMut,
    /// Ids of the publishes in it that await an answer.
    ids: Vec<u64>,
}

#[derive(Debug)]
struct Waiting {
    answer: Answer,
    taken_by: Option<AttachmentId>,
}

/// A publish's place in the queue.
#[derive(Debug)]
pub(crate) enum Queued {
    Sent,
    Awaits(oneshot::Receiver<Result<Outcome, ClientError>>),
    Full,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = State {
            frames: VecDeque::new(),
            bytes: 0,
            bytes_max,
            owner: None,
            waker: None,
            waiting: HashMap::new(),
            reader: None,
            unanswered: BTreeMap::new(),
            ids: 1,
            closed: false,
            size_hint: 0,
        };
        Self { state: Mutex::new(state), room: Notify::new() }
    }

    /// `Full` leaves nothing behind.
    pub(crate) fn try_push(&self, publish: &Publish<'_>) -> Result<Queued, ClientError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(ClientError::Closed);
        }
        let id = if publish.confirm == Confirm::None { 0 } else { state.ids };
        let len = publish_len(publish, id);
        if len.total > PUBLISH_BYTES_MAX {
            return Err(ClientError::TooLarge { size: len.total, max: PUBLISH_BYTES_MAX });
        }
        // One publish always fits an empty queue, however small that is.
        if state.bytes > 0 && state.bytes + len.total > state.bytes_max {
            return Ok(Queued::Full);
        }
        let frame = state.frame_for(len.total);
        put_publish(&mut frame.bytes, publish, id, len);
        let queued = if id == 0 {
            Queued::Sent
        } else {
            frame.ids.push(id);
            state.ids += 2;
            let (answer, awaited) = oneshot::channel();
            state.waiting.insert(id, Waiting { answer, taken_by: None });
            Queued::Awaits(awaited)
        };
        state.bytes += len.total;
        let reader = if id == 0 { None } else { state.reader.take() };
        let wakers = [state.waker.take(), reader];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        Ok(queued)
    }

    /// Waits until there is room.
    pub(crate) async fn push(&self, publish: &Publish<'_>) -> Result<Queued, ClientError> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Before looking: room that is made in between must not be missed.
            room.as_mut().enable();
            match self.try_push(publish)? {
                Queued::Full => room.await,
                queued => return Ok(queued),
            }
        }
    }

    /// The next whole gRPC message, for the owner. Others are told nothing, and not woken either.
    pub(crate) fn poll_take(&self, by: AttachmentId, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut state = self.state.lock();
        if state.owner != Some(by) {
            return Poll::Pending;
        }
        let Some(frame) = state.frames.pop_front() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        for id in &frame.ids {
            if let Some(waiting) = state.waiting.get_mut(id) {
                waiting.taken_by = Some(by);
                *state.unanswered.entry(by).or_default() += 1;
            }
        }
        state.size_hint = frame.bytes.len();
        state.bytes =
            if state.frames.is_empty() { 0 } else { state.bytes.saturating_sub(frame.bytes.len()) };
        drop(state);
        self.room.notify_waiters();
        Poll::Ready(seal(frame.bytes))
    }

    /// True when nothing is queued for `by`, who may be no owner.
    pub(crate) fn is_empty_for(&self, by: AttachmentId) -> bool {
        let state = self.state.lock();
        state.owner != Some(by) || state.frames.is_empty()
    }

    /// The former owner is not woken; the new one must be.
    pub(crate) fn set_owner(&self, owner: Option<AttachmentId>) {
        let mut state = self.state.lock();
        state.owner = owner;
        state.waker = None;
    }

    /// Gives the answer to whoever awaits it. False: it is no publish's, or nobody's any more.
    pub(crate) fn answered(&self, reply: &Reply) -> bool {
        let mut state = self.state.lock();
        let Some(Waiting { answer, taken_by }) = state.waiting.remove(&reply.id) else {
            return false;
        };
        if let Some(by) = taken_by
            && let Some(count) = state.unanswered.get_mut(&by)
        {
            *count -= 1;
        }
        drop(state);
        let result = match (&reply.error, &reply.publish) {
            (Some(error), _) => Err(ClientError::Refused(ServerError::clone(error))),
            (None, Some(published)) => Ok(Outcome::Confirmed(published.clone())),
            (None, None) => Ok(Outcome::Confirmed(super::message::Published::default())),
        };
        // Nobody may listen any more.
        let _ = answer.send(result);
        true
    }

    pub(crate) fn unanswered(&self, by: AttachmentId) -> usize {
        self.state.lock().unanswered.get(&by).copied().unwrap_or(0)
    }

    /// Ready: some publish awaits its answer. Pending: `cx` is woken when one does.
    pub(crate) fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.waiting.is_empty() {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The attachment is gone: what it took and did not answer may have been published or not.
    pub(crate) fn lost(&self, by: AttachmentId) {
        let mut state = self.state.lock();
        if state.unanswered.remove(&by).is_none_or(|count| count == 0) {
            return;
        }
        for (_, waiting) in state.waiting.extract_if(|_, waiting| waiting.taken_by == Some(by)) {
            let _ = waiting.answer.send(Ok(Outcome::Unknown));
        }
    }

    /// Nothing is taken in any more. What has been taken out is of unknown outcome, the rest has not been sent.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.frames.clear();
        state.bytes = 0;
        for (_, waiting) in state.waiting.drain() {
            let result = match waiting.taken_by {
                Some(_) => Ok(Outcome::Unknown),
                None => Err(ClientError::Closed),
            };
            let _ = waiting.answer.send(result);
        }
        drop(state);
        self.room.notify_waiters();
    }

    /// Takes nothing in any more, and lets what is queued go out.
    pub(crate) fn refuse_more(&self) {
        self.state.lock().closed = true;
        self.room.notify_waiters();
    }

    /// Publishes that no attachment has taken are there.
    pub(crate) fn has_queued(&self) -> bool {
        !self.state.lock().frames.is_empty()
    }
}

impl State {
    /// The frame that is being filled, or a new one where that would grow too large.
    fn frame_for(&mut self, len: usize) -> &mut Frame {
        let fits = self.frames.back().is_some_and(|last| last.bytes.len() + len <= FRAME_BYTES);
        if !fits {
            let capacity = self.size_hint.clamp(512, FRAME_BYTES).max(len + 16);
            let mut frame = Frame { bytes: BytesMut::with_capacity(capacity), ids: Vec::new() };
            begin_frame(&mut frame.bytes);
            self.frames.push_back(frame);
        }
        self.frames.back_mut().expect("one has just been put there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: AttachmentId = AttachmentId(1);
    const B: AttachmentId = AttachmentId(2);

    fn push(outbox: &Outbox, payload: &[u8], confirm: Confirm) -> Queued {
        outbox.try_push(&Publish::new("t", payload).confirm(confirm)).unwrap()
    }

    fn awaited(queued: Queued) -> oneshot::Receiver<Result<Outcome, ClientError>> {
        match queued {
            Queued::Awaits(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn take(outbox: &Outbox, by: AttachmentId) -> Option<Bytes> {
        match outbox.poll_take(by, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        }
    }

    #[test]
    fn all_that_is_queued_goes_out_as_one_frame_to_the_owner_alone() {
        let outbox = Outbox::new(1 << 20);
        outbox.set_owner(Some(A));
        for _ in 0..100 {
            push(&outbox, b"x", Confirm::None);
        }
        assert_eq!(take(&outbox, B), None);
        assert!(take(&outbox, A).is_some());
        assert_eq!(take(&outbox, A), None);
    }

    #[test]
    fn a_frame_stays_below_its_size_unless_one_publish_is_larger() {
        let outbox = Outbox::new(8 << 20);
        outbox.set_owner(Some(A));
        let (small, large) = (vec![0; 100_000], vec![0; 1 << 20]);
        for payload in [&small, &small, &small, &large, &small] {
            push(&outbox, payload, Confirm::None);
        }
        let frames: Vec<_> =
            std::iter::from_fn(|| take(&outbox, A)).map(|frame| frame.len() / 100_000).collect();
        assert_eq!(frames, [2, 1, 10, 1]);
    }

    #[test]
    fn a_full_queue_takes_nothing_and_room_comes_with_the_taking() {
        let outbox = Outbox::new(1_000);
        outbox.set_owner(Some(A));
        // One always fits.
        assert!(matches!(push(&outbox, &[0; 5_000], Confirm::None), Queued::Sent));
        assert!(matches!(push(&outbox, b"x", Confirm::None), Queued::Full));
        take(&outbox, A);
        assert!(matches!(push(&outbox, b"x", Confirm::None), Queued::Sent));
    }

    #[test]
    fn only_what_was_taken_is_of_unknown_outcome() {
        let outbox = Outbox::new(1 << 20);
        outbox.set_owner(Some(A));
        let mut taken = awaited(push(&outbox, b"1", Confirm::Node));
        take(&outbox, A);
        let mut queued = awaited(push(&outbox, b"2", Confirm::Cluster));
        assert_eq!(outbox.unanswered(A), 1);
        outbox.lost(A);
        assert_eq!(taken.try_recv().unwrap(), Ok(Outcome::Unknown));
        assert!(queued.try_recv().is_err());
        assert_eq!(outbox.unanswered(A), 0);

        outbox.set_owner(Some(B));
        take(&outbox, B);
        assert!(outbox.answered(&Reply { id: 3, ..Reply::default() }));
        assert!(!outbox.answered(&Reply { id: 3, ..Reply::default() }));
        assert!(matches!(queued.try_recv().unwrap(), Ok(Outcome::Confirmed(_))));
        assert_eq!(outbox.unanswered(B), 0);
    }

    #[test]
    fn closed_with_something_queued() {
        let outbox = Outbox::new(1 << 20);
        outbox.set_owner(Some(A));
        let mut taken = awaited(push(&outbox, b"1", Confirm::Node));
        take(&outbox, A);
        let mut queued = awaited(push(&outbox, b"2", Confirm::Node));
        outbox.close();
        assert_eq!(taken.try_recv().unwrap(), Ok(Outcome::Unknown));
        assert_eq!(queued.try_recv().unwrap(), Err(ClientError::Closed));
        assert!(matches!(outbox.try_push(&Publish::new("t", b"")), Err(ClientError::Closed)));
    }
}
