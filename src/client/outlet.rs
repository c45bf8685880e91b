//! What one attachment writes: requests at once, then publishes as far as it is their owner, then a bye behind them.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tonic::Status;

use super::codec::put_request;
use super::outbox::Outbox;
use super::session::{AttachmentId, Request};
use crate::wire::frames::FrameSource;

/// The driver's end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    requests: BytesMut,
    bye: Option<Bytes>,
    /// The bye has been written, or the attachment is given up: nothing follows.
    done: bool,
    waker: Option<Waker>,
}

impl Outlet {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    pub(crate) fn send(&self, request: Request) {
        let mut state = self.shared.lock();
        if matches!(request, Request::Bye { .. }) {
            let mut bye = BytesMut::new();
            put_request(&mut bye, request);
            state.bye = Some(bye.freeze());
        } else {
            put_request(&mut state.requests, request);
        }
        wake(&mut state);
    }

    /// Looks again for publishes: it may own them now.
    pub(crate) fn wake(&self) {
        wake(&mut self.shared.lock());
    }

    pub(crate) fn stop(&self) {
        let mut state = self.shared.lock();
        state.done = true;
        wake(&mut state);
    }

    pub(crate) fn source(&self, id: AttachmentId, outbox: Arc<Outbox>) -> Source {
        Source { id, shared: Arc::clone(&self.shared), outbox }
    }
}

fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

/// HTTP/2's end.
#[derive(Debug)]
pub(crate) struct Source {
    id: AttachmentId,
    shared: Arc<Mutex<State>>,
    outbox: Arc<Outbox>,
}

impl FrameSource for Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        {
            let mut state = self.shared.lock();
            if state.done {
                return Poll::Ready(None);
            }
            if !state.requests.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut state.requests).freeze())));
            }
            if state.bye.is_some() && self.outbox.is_empty_for(self.id) {
                state.done = true;
                return Poll::Ready(state.bye.take().map(Ok));
            }
            // Before the publishes are looked at, so that neither kind of news is missed.
            state.waker = Some(cx.waker().clone());
        }
        self.outbox.poll_take(self.id, cx).map(|frame| Some(Ok(frame)))
    }
}
