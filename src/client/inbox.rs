//! Events on their way to the user.
//!
//! Full, it stops the client from reading on, and HTTP/2 stops the node: the node's mailbox is the queue then, with its own gaps. Only
//! while the user awaits an answer that stands behind unread messages does the client read on; what then exceeds the hard limit is
//! dropped, the newest first, until it is half empty, with one gap in its place. Nothing is ever dropped in silence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::message::{Event, Gap, GapReason};

/// The hard limit, as a multiple of the one that stops the reading.
const HARD_FACTOR: usize = 4;
/// Roughly what an event costs beside its messages.
const EVENT_BYTES: usize = 160;
/// Topics named by a gap of our own; of more, it names none.
const GAP_TOPICS_MAX: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    events: VecDeque<(Event, usize)>,
    bytes: usize,
    bytes_max: usize,
    dropping: Option<Dropped>,
    /// Watched topics of which an event was dropped: nothing of them is taken until they begin anew. True: that has been asked for.
    lost_watches: BTreeMap<String, bool>,
    /// No more will come.
    closed: bool,
    /// Nobody will ask for more.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug, Default)]
struct Dropped {
    topics: BTreeSet<String>,
    any_topic: bool,
    origin: Option<String>,
    any_origin: bool,
    missing: u64,
    /// Only messages were dropped, whose number is known.
    counted: bool,
}

impl Inbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = State {
            events: VecDeque::new(),
            bytes: 0,
            bytes_max,
            dropping: None,
            lost_watches: BTreeMap::new(),
            closed: false,
            deaf: false,
            reader: None,
            writer: None,
        };
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn push(&self, event: Event) {
        let mut state = self.state.lock();
        if state.deaf {
            return;
        }
        state.push(event);
        if let Some(reader) = state.reader.take() {
            drop(state);
            reader.wake();
        }
    }

    /// A topic that must be watched anew, once there is room for its snapshot. Whoever takes it asks for that.
    pub(crate) fn take_lost_watch(&self, cx: &Context<'_>) -> Option<String> {
        let mut state = self.state.lock();
        if state.lost_watches.values().all(|asked| *asked) {
            return None;
        }
        if state.bytes > state.bytes_max / 2 {
            state.writer = Some(cx.waker().clone());
            return None;
        }
        let (topic, asked) = state.lost_watches.iter_mut().find(|(_, asked)| !**asked)?;
        *asked = true;
        Some(topic.clone())
    }

    /// What comes of this topic from now on begins with a snapshot.
    pub(crate) fn watching(&self, topic: &str) {
        self.state.lock().lost_watches.remove(topic);
    }

    /// Pending: full, and `cx` is woken when it is half empty.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.deaf || state.bytes < state.bytes_max {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.state.lock();
        let Some((event, size)) = state.events.pop_front() else {
            return if let Some(dropped) = state.dropping.take() {
                Poll::Ready(Some(Event::Gap(dropped.gap())))
            } else if state.closed {
                Poll::Ready(None)
            } else {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            };
        };
        state.bytes -= size;
        let writer = if state.bytes <= state.bytes_max / 2 { state.writer.take() } else { None };
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Some(event))
    }

    /// What is in it can still be taken.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The user has dropped the receiving end.
    pub(crate) fn deafen(&self) {
        let mut state = self.state.lock();
        state.deaf = true;
        state.events.clear();
        state.bytes = 0;
        state.dropping = None;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

impl State {
    fn push(&mut self, event: Event) {
        if let Event::Presence(event) = &event
            && self.lost_watches.contains_key(&event.topic)
        {
            return;
        }
        let size = EVENT_BYTES
            + match &event {
                Event::Presence(event) => event.bytes(),
                Event::Messages(batch) => batch.encoded_len(),
                Event::Gap(gap) => gap.topics.iter().map(String::len).sum(),
                _ => 0,
            };
        if let Some(dropped) = &mut self.dropping {
            if self.bytes > self.bytes_max / 2 {
                // The list can't be followed past a hole: it begins anew.
                if let Event::Presence(event) = event {
                    self.lost_watches.insert(event.topic, false);
                } else {
                    dropped.add(&event);
                }
                return;
            }
            let gap = Event::Gap(std::mem::take(dropped).gap());
            self.dropping = None;
            self.events.push_back((gap, EVENT_BYTES));
            self.bytes += EVENT_BYTES;
        } else if self.bytes + size > HARD_FACTOR * self.bytes_max && self.bytes > 0 {
            if let Event::Presence(event) = event {
                self.lost_watches.insert(event.topic, false);
                return;
            }
            let mut dropped = Dropped { counted: true, ..Dropped::default() };
            dropped.add(&event);
            self.dropping = Some(dropped);
            return;
        }
        self.events.push_back((event, size));
        self.bytes += size;
    }
}

impl Dropped {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Messages(batch) => {
                self.missing += batch.len() as u64;
                self.topic(batch.topic());
                self.origin(Some(batch.origin()));
            }
            Event::Gap(gap) => {
                match gap.missing {
                    Some(missing) if gap.certain => self.missing += missing,
                    _ => self.counted = false,
                }
                if gap.topics.is_empty() {
                    self.any_topic = true;
                }
                gap.topics.iter().for_each(|topic| self.topic(topic));
                self.origin(gap.origin.as_deref());
            }
            // No messages are lost with these, but what they would have said is.
            Event::Presence(_)
            | Event::Disconnected { .. }
            | Event::Reconnected { .. }
            | Event::Moved { .. }
            | Event::Refused { .. } => {
                self.counted = false;
                self.any_topic = true;
                self.any_origin = true;
            }
        }
    }

    fn topic(&mut self, topic: &str) {
        if self.topics.contains(topic) {
            return;
        }
        if self.topics.len() == GAP_TOPICS_MAX {
            self.any_topic = true;
        } else {
            self.topics.insert(topic.to_owned());
        }
    }

    fn origin(&mut self, origin: Option<&str>) {
        match (&self.origin, origin) {
            (None, Some(origin)) => self.origin = Some(origin.to_owned()),
            (Some(known), Some(origin)) if known == origin => {}
            _ => self.any_origin = true,
        }
    }

    fn gap(self) -> Gap {
        Gap {
            topics: if self.any_topic { Vec::new() } else { self.topics.into_iter().collect() },
            origin: self.origin.filter(|_| !self.any_origin),
            missing: self.counted.then_some(self.missing),
            reason: GapReason::SlowSubscriber,
            certain: self.counted,
        }
    }
}
