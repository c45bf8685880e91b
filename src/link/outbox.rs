//! What one link writes, in its order: greeting, ping, pong, acknowledgement, control; state; then content, as far as there is room.
//!
//! `Outbox` is what the reader tells the writer; every field is bounded, since only the newest of a kind counts. `Outgoing` is the
//! HTTP body that HTTP/2 pulls: it registers for wake-ups first and looks second, so that nothing is missed in between, and content
//! is taken from its source only when HTTP/2 asks. What HTTP/2 has not taken waits at the source, where limits apply.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use metrics::Counter;
use parking_lot::Mutex;
use tokio::time::{Interval, MissedTickBehavior, Sleep};
use tonic::Status;

use super::codec::Pieces;
use super::frame::{Accepted, Frame};
use super::sequence::AckPacer;
use super::window::BadAck;
use super::windows::PeerWindow;
use super::{ContentItem, LinkLimits, LinkSource, StateSource};
use crate::supervise::Clock;
use crate::wire::frames::FrameSource;

/// Greeting frames waiting at most: each side sends one and waits for the other.
const GREETINGS_MAX: usize = 4;

/// Shared by a link's reader and its writer.
pub(super) struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

struct State {
    greetings: Vec<Frame>,
    pong: Option<u64>,
    acks: AckPacer,
    up: Option<UpState>,
    closed: bool,
}

/// What the writer needs once the link is up.
#[derive(Clone)]
pub(super) struct UpState {
    pub source: Arc<dyn LinkSource>,
    pub state: Arc<dyn StateSource>,
    /// `Direction::Out`
    pub writing: Option<Writing>,
    pub sent_bytes: Counter,
}

/// Where content comes from, and for which link.
#[derive(Clone)]
pub(super) struct Writing {
    pub window: Arc<PeerWindow>,
    pub attempt: u64,
}

impl Outbox {
    pub(super) fn new(limits: &LinkLimits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                greetings: Vec::new(),
                pong: None,
                acks: AckPacer::new(limits.ack_every, limits.ack_bytes),
                up: None,
                closed: false,
            }),
            waker: AtomicWaker::new(),
        })
    }

    pub(super) fn greet(&self, frame: Frame) {
        {
            let mut state = self.state.lock();
            assert!(state.greetings.len() < GREETINGS_MAX, "a greeting takes turns");
            state.greetings.push(frame);
        }
        self.waker.wake();
    }

    /// From now on the source is asked. `said` goes before all it has.
    pub(super) fn up(&self, up: UpState, said: Option<Accepted>) {
        {
            let mut state = self.state.lock();
            if let Some(said) = said {
                state.acks.starting_at(said.position);
                state.greetings.push(Frame::Accepted(said));
            }
            state.up = Some(up);
        }
        self.waker.wake();
    }

    pub(super) fn pong(&self, sent_us: u64) {
        self.state.lock().pong = Some(sent_us);
        self.waker.wake();
    }

    /// Items below `upto` have been handed on.
    pub(super) fn handed_on(&self, upto: u64, bytes: usize) {
        let wake = self.state.lock().acks.handed_on(upto, bytes);
        if wake {
            self.waker.wake();
        }
    }

    pub(super) fn acknowledged(&self, upto: u64) -> Result<(), BadAck> {
        let writing = self.state.lock().up.as_ref().and_then(|up| up.writing.clone());
        let Some(Writing { window, attempt }) = writing else { return Ok(()) };
        if window.acknowledged(attempt, upto)? {
            self.waker.wake();
        }
        Ok(())
    }

    /// Ends the body after `last`. What the source still has stays there.
    pub(super) fn close(&self, last: Option<Frame>) {
        {
            let mut state = self.state.lock();
            if !state.closed {
                state.greetings.extend(last);
                state.closed = true;
                state.up = None;
            }
        }
        self.waker.wake();
    }
}

/// The body of one link's request or response.
pub(super) struct Outgoing {
    outbox: Arc<Outbox>,
    clock: Clock,
    limits: LinkLimits,
    pieces: Pieces,
    up: Option<UpState>,
    ping: Option<Interval>,
    ack_timer: Option<Pin<Box<Sleep>>>,
    /// Control or state, on its way from a source into `pieces`.
    control: Vec<Bytes>,
    content: Vec<ContentItem>,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

impl Outgoing {
    pub(super) fn new(outbox: Arc<Outbox>, clock: Clock, limits: LinkLimits) -> Self {
        Self {
            outbox,
            clock,
            limits,
            pieces: Pieces::default(),
            up: None,
            ping: None,
            ack_timer: None,
            control: Vec::new(),
            content: Vec::new(),
        }
    }

    /// Fills `pieces`. Returns whether the body has come to its end.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        self.outbox.waker.register(cx.waker());
        let (greetings, pong, closed) = {
            let mut state = self.outbox.state.lock();
            if state.up.is_some() != self.up.is_some() {
                self.up = state.up.clone();
            }
            (std::mem::take(&mut state.greetings), state.pong.take(), state.closed)
        };
        for frame in greetings {
            self.pieces.put_frame(frame);
        }
        if let Some(up) = self.up.take() {
            up.source.register(cx);
            up.state.register(cx);
            self.put_ping(&up, cx);
            if let Some(sent_us) = pong {
                self.pieces.put_frame(Frame::Pong { sent_us });
            }
            self.put_ack(cx);
            up.source.take_control(&mut self.control, self.limits.chunk_bytes);
            for payload in self.control.drain(..) {
                self.pieces.put_control(&payload);
            }
            up.state.take_state(&mut self.control, self.limits.chunk_bytes);
            for payload in self.control.drain(..) {
                self.pieces.put_state(&payload);
            }
            if let Some(Writing { window, attempt }) = &up.writing {
                let (limits, now) = (&self.limits, self.clock.now());
                let pieces = &mut self.pieces;
                window.write(*attempt, &*up.source, limits, now, &mut self.content, pieces);
            }
            self.up = Some(up);
        }
        self.pieces.cut();
        closed
    }

    fn put_ping(&mut self, up: &UpState, cx: &mut Context<'_>) {
        let ping = self.ping.get_or_insert_with(|| {
            let mut every = tokio::time::interval(self.limits.ping_every);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        });
        let mut due = false;
        while ping.poll_tick(cx).is_ready() {
            due = true;
        }
        if due {
            let sent_us = self.clock.now().as_micros();
            let (control, state) = (up.source.ping(), up.state.ping());
            self.pieces.put_frame(Frame::Ping { sent_us, control, state });
        }
    }

    fn put_ack(&mut self, cx: &mut Context<'_>) {
        let upto = {
            let mut state = self.outbox.state.lock();
            let now = self.clock.now();
            match state.acks.due_in(now) {
                None => {
                    self.ack_timer = None;
                    return;
                }
                Some(Duration::ZERO) => state.acks.tell(now),
                Some(wait) => {
                    drop(state);
                    let timer =
                        self.ack_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
                    if timer.as_mut().poll(cx).is_pending() {
                        return;
                    }
                    // Timers are coarse: where it rang, that is near enough.
                    self.outbox.state.lock().acks.tell(now)
                }
            }
        };
        self.ack_timer = None;
        self.pieces.put_frame(Frame::Ack { upto });
    }
}

impl FrameSource for Outgoing {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop() {
                if let Some(up) = &self.up {
                    up.sent_bytes.increment(piece.len() as u64);
                }
                return Poll::Ready(Some(Ok(piece)));
            }
            let ended = self.gather(cx);
            if self.pieces.is_empty() {
                if ended {
                    return Poll::Ready(None);
                }
                self.pieces.release();
                return Poll::Pending;
            }
        }
    }
}
