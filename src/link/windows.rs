//! The window to each peer, shared by the links that follow one another and by who looks after them.
//!
//! A window outlives its links: down discards nothing. Only the newest link writes from it: taking from the source and numbering are one
//! step under its lock, so an older writer that has not noticed its end can't come between.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use parking_lot::Mutex;

use super::codec::Pieces;
use super::frame::Accepted;
use super::window::{BadAck, Resumed, Window};
use super::{ContentItem, LinkLimits, LinkSource};
use crate::metrics::names;
use crate::plants::{self, Plant};
use crate::types::{Incarnation, LinkEpoch, NodeName, Time};

#[derive(Debug, Default)]
pub(super) struct Windows {
    peers: Mutex<BTreeMap<NodeName, Arc<PeerWindow>>>,
}

/// Lock order: this, then whatever the source locks.
pub(super) struct PeerWindow {
    state: Mutex<State>,
    counters: Counters,
}

struct State {
    pair: (Incarnation, Incarnation),
    /// Of the link that may write.
    attempt: u64,
    window: Window,
    /// Of the newest link; kept while there is none, for what it is owed.
    source: Option<Arc<dyn LinkSource>>,
    /// Content had to wait for acknowledgements.
    starved: bool,
    retransmitted: u64,
}

struct Counters {
    retransmitted: Counter,
    expired: Counter,
    dropped: Counter,
    stale: Counter,
}

impl fmt::Debug for PeerWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerWindow").finish_non_exhaustive()
    }
}

/// How a window is doing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WindowReport {
    pub unacked_bytes: u64,
    pub lag: Option<Duration>,
    pub retransmitted: u64,
}

impl Windows {
    /// A link of `epoch` begins, and `said` is where the peer is. Older links write no more.
    pub(super) fn resume(
        &self,
        peer: &NodeName,
        epoch: LinkEpoch,
        said: Accepted,
    ) -> Result<(Arc<PeerWindow>, Resumed), BadAck> {
        let window =
            self.peers.lock().entry(peer.clone()).or_insert_with(|| PeerWindow::new(peer)).clone();
        let resumed = window.resume(epoch, said)?;
        let found = match resumed {
            Resumed::Clean => "nothing",
            Resumed::Again(_) => "unacknowledged",
            Resumed::Declared(_) => "lost",
            Resumed::Unknown(_) => "new",
        };
        metrics::counter!(names::LINK_RESUMES, "kind" => found).increment(1);
        Ok((window, resumed))
    }

    pub(super) fn report(&self, peer: &NodeName, now: Time) -> WindowReport {
        let window = self.peers.lock().get(peer).cloned();
        window.map_or_else(WindowReport::default, |window| window.report(now))
    }

    /// Gives up what is older than `age`, whether its link is up or not.
    pub(super) fn expire(&self, now: Time, age: Duration) {
        let windows: Vec<_> = self.peers.lock().values().cloned().collect();
        windows.iter().for_each(|window| window.expire(now, age));
    }

    /// Forgets peers that are no longer members.
    pub(super) fn retain(&self, member: impl Fn(&NodeName) -> bool) {
        self.peers.lock().retain(|peer, _| member(peer));
    }
}

impl PeerWindow {
    fn new(peer: &NodeName) -> Arc<Self> {
        let peer = || peer.as_str().to_owned();
        let evicted = |reason| metrics::counter!(names::LINK_WINDOW_EVICTIONS, "peer" => peer(), "reason" => reason);
        Arc::new(Self {
            state: Mutex::new(State {
                pair: (Incarnation(0), Incarnation(0)),
                attempt: 0,
                window: Window::default(),
                source: None,
                starved: false,
                retransmitted: 0,
            }),
            counters: Counters {
                retransmitted: metrics::counter!(names::LINK_RETRANSMITTED, "peer" => peer()),
                expired: evicted("age"),
                dropped: evicted("lost"),
                stale: metrics::counter!(names::LINK_STALE, "peer" => peer()),
            },
        })
    }

    fn resume(&self, epoch: LinkEpoch, said: Accepted) -> Result<Resumed, BadAck> {
        let mut state = self.state.lock();
        let pair = (epoch.sender, epoch.receiver);
        if state.pair != pair {
            self.counters.dropped.increment(state.window.items());
            let retransmitted = state.retransmitted;
            *state = State {
                pair,
                attempt: 0,
                window: Window::default(),
                source: None,
                starved: false,
                retransmitted,
            };
        }
        if plants::is(Plant::WindowDroppedAtDown) {
            state.window.drop_unacknowledged();
        }
        let resumed = state.window.resume(said)?;
        state.attempt = epoch.attempt;
        state.starved = false;
        if let Resumed::Declared(items) | Resumed::Unknown(items) = resumed {
            self.counters.dropped.increment(items as u64);
        }
        state.settle();
        Ok(resumed)
    }

    /// The link of this attempt sends from `source`.
    pub(super) fn attach(&self, attempt: u64, source: Arc<dyn LinkSource>) {
        let mut state = self.state.lock();
        if state.attempt == attempt {
            state.source = Some(source);
        }
    }

    /// Puts what comes next into `pieces`: what was written on an older link and has not arrived, then new content as far as there is
    /// room. `scratch` is empty before and after.
    pub(super) fn write(
        &self,
        attempt: u64,
        source: &dyn LinkSource,
        limits: &LinkLimits,
        now: Time,
        scratch: &mut Vec<ContentItem>,
        pieces: &mut Pieces,
    ) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.attempt != attempt {
            return;
        }
        if let Some((first, items)) = state.window.again(limits.chunk_bytes) {
            let count = items.len() as u64;
            pieces.put_content(first, items);
            state.retransmitted += count;
            self.counters.retransmitted.increment(count);
            return;
        }
        state.starved = !state.window.has_room(limits.window_bytes);
        if state.starved {
            return;
        }
        source.take_content(scratch, limits.chunk_bytes);
        if !scratch.is_empty() {
            pieces.put_content(state.window.next(), scratch.iter().map(|item| &item.bytes));
            state.window.push(scratch.drain(..), now);
        }
    }

    /// Whether content waited for this.
    pub(super) fn acknowledged(&self, attempt: u64, upto: u64) -> Result<bool, BadAck> {
        let mut state = self.state.lock();
        if state.attempt != attempt {
            self.counters.stale.increment(1);
            return Ok(false);
        }
        state.window.acknowledge(upto)?;
        state.settle();
        Ok(std::mem::take(&mut state.starved))
    }

    fn expire(&self, now: Time, age: Duration) {
        let mut state = self.state.lock();
        let Some(source) = state.source.clone() else { return };
        let expired = state.window.expire(now, age, |item| source.summary(item));
        self.counters.expired.increment(expired as u64);
        state.settle();
    }

    fn report(&self, now: Time) -> WindowReport {
        let state = self.state.lock();
        WindowReport {
            unacked_bytes: state.window.cost() as u64,
            lag: state.window.lag(now),
            retransmitted: state.retransmitted,
        }
    }
}

impl State {
    /// Tells the source what its content no longer pins.
    fn settle(&mut self) {
        let freed = self.window.take_freed();
        if let Some(source) = self.source.as_ref().filter(|_| freed > 0) {
            source.released(freed);
        }
    }
}
