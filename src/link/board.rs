//! How each directed link is doing, for status, metrics and the log.
//!
//! Rows exist for members only: nothing that a stranger says adds one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::LinkError;
use super::windows::{WindowReport, Windows};
use super::{Direction, LinkInfo, LinkReport, LinkState};
use crate::metrics::names;
use crate::types::{Incarnation, LinkEpoch, NodeName, Time};

/// The same problem of one link is logged again after so long.
const LOG_AGAIN: Duration = Duration::from_secs(30);

/// While a link is up, what somebody else tried in its peer's name is shown for so long.
const PROBLEM_SHOWN: Duration = Duration::from_secs(60);

/// What may pass by itself is no warning before it has gone on for so long.
const PASSES_WITHIN: Duration = Duration::from_secs(5);

/// One peer's problems, or those of all strangers together, are logged once in so long.
const LOG_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Board {
    peers: Mutex<BTreeMap<NodeName, PeerRows>>,
    strangers: Mutex<Strangers>,
}

#[derive(Debug, Default)]
struct PeerRows {
    outgoing: Row,
    incoming: Row,
}

#[derive(Debug, Default)]
struct Row {
    state: State,
    ups: u64,
    problem: Option<(Time, String)>,
    logged: Option<Time>,
    passing: Passing,
}

#[derive(Debug, Default)]
struct Strangers {
    throttle: Throttle,
    passing: Passing,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Connecting,
    Up(Vitals),
    Down,
    Refused,
}

/// Of one link in one life.
#[derive(Debug, Clone)]
struct Vitals {
    incarnation: Incarnation,
    epoch: LinkEpoch,
    rtt: Rtt,
}

/// Microseconds plus one; 0: not measured yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Rtt(Arc<AtomicU64>);

impl Rtt {
    pub(super) fn set(&self, rtt: Duration) {
        let us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        self.0.store(us.saturating_add(1), Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        self.0.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }
}

impl PeerRows {
    const fn row(&mut self, direction: Direction) -> &mut Row {
        match direction {
            Direction::Out => &mut self.outgoing,
            Direction::In => &mut self.incoming,
        }
    }
}

impl Board {
    pub(super) fn add(&self, peer: &NodeName) {
        self.peers.lock().entry(peer.clone()).or_default();
    }

    pub(super) fn retain(&self, member: impl Fn(&NodeName) -> bool) {
        self.peers.lock().retain(|peer, _| member(peer));
    }

    pub(super) fn up(&self, link: &LinkInfo, rtt: Rtt) {
        let vitals = Vitals { incarnation: link.incarnation, epoch: link.epoch, rtt };
        let mut peers = self.peers.lock();
        // It was a member when it greeted; the watcher of members may be a moment behind, and takes the row away if it is none.
        let rows = peers.entry(link.peer.clone()).or_default();
        let row = rows.row(link.direction);
        row.state = State::Up(vitals);
        row.problem = None;
        row.logged = None;
        row.passing = Passing::default();
        row.ups += 1;
        if row.ups > 1 && link.direction == Direction::Out {
            metrics::counter!(names::LINK_RECONNECTS, "peer" => link.peer.as_str().to_owned())
                .increment(1);
        }
    }

    pub(super) fn down(&self, link: &LinkInfo) {
        let mut peers = self.peers.lock();
        let Some(rows) = peers.get_mut(&link.peer) else { return };
        let row = rows.row(link.direction);
        if matches!(&row.state, State::Up(vitals) if vitals.epoch == link.epoch) {
            row.state = State::Down;
        }
    }

    /// Counts, shows and logs why a link did not come up or ended. What an authenticated or dialed peer did is shown in its row
    /// even while an older link of it is up.
    pub(super) fn problem(
        &self,
        peer: Option<&NodeName>,
        direction: Direction,
        error: &LinkError,
        now: Time,
    ) {
        if let Some(reason) = error.reason() {
            metrics::counter!(names::LINK_REFUSED, "reason" => reason).increment(1);
        }
        let text = error.to_string();
        let direction_word = direction_word(direction);
        let mut peers = self.peers.lock();
        let Some((peer, rows)) = peer.and_then(|peer| Some((peer, peers.get_mut(peer)?))) else {
            drop(peers);
            let mut strangers = self.strangers.lock();
            if error.may_pass() && strangers.passing.still(now) {
                tracing::debug!(claims = ?peer, problem = text, "a caller of the peer port was turned away");
                return;
            }
            // Who says so has proved nothing: what it says is quoted, and it cannot fill the log.
            if let Some(suppressed) = strangers.throttle.admit(now, LOG_EVERY) {
                tracing::warn!(claims = ?peer, problem = text, suppressed, "a caller of the peer port was turned away");
            }
            return;
        };
        let row = rows.row(direction);
        if !matches!(row.state, State::Up(_)) {
            row.state = if error.is_refusal() { State::Refused } else { State::Down };
        }
        // The text may have words of a stranger in it, so that even a new one waits a little.
        let same = row.problem.as_ref().is_some_and(|(_, before)| *before == text);
        let wait = if same { LOG_AGAIN } else { LOG_EVERY };
        if error.may_pass() && row.passing.still(now) {
            tracing::debug!(%peer, direction = direction_word, problem = text, "link refused");
        } else if row.logged.is_none_or(|logged| now.since(logged) >= wait) {
            row.logged = Some(now);
            if error.reason().is_some() {
                tracing::warn!(%peer, direction = direction_word, problem = text, "link refused");
            } else {
                tracing::info!(%peer, direction = direction_word, problem = text, "link down");
            }
        }
        row.problem = Some((now, text));
    }

    /// The dialer tries again.
    pub(super) fn connecting(&self, peer: &NodeName) {
        let mut peers = self.peers.lock();
        if let Some(rows) = peers.get_mut(peer) {
            let row = rows.row(Direction::Out);
            // A link that keeps failing is shown by how it failed, not as if it were new.
            if row.problem.is_none() && !matches!(row.state, State::Up(_)) {
                row.state = State::Connecting;
            }
        }
    }

    pub(super) fn report(&self, windows: &Windows, now: Time) -> Vec<LinkReport> {
        let peers = self.peers.lock();
        let rows = peers.iter().flat_map(|(peer, rows)| {
            let (out, inward) = (windows.report(peer, now), WindowReport::default());
            [
                (peer, Direction::Out, &rows.outgoing, out),
                (peer, Direction::In, &rows.incoming, inward),
            ]
        });
        let report = |(peer, direction, row, window): (&NodeName, _, &Row, _)| {
            row.report(peer.clone(), direction, window, now)
        };
        rows.map(report).collect()
    }

    pub(super) fn connected(&self, peer: &NodeName, incarnation: Incarnation) -> bool {
        let up = |row: &Row| matches!(&row.state, State::Up(v) if v.incarnation == incarnation);
        self.peers.lock().get(peer).is_some_and(|rows| up(&rows.outgoing) && up(&rows.incoming))
    }
}

impl Row {
    fn problem(&self, now: Time) -> Option<&str> {
        let (at, text) = self.problem.as_ref()?;
        let shown = !matches!(self.state, State::Up(_)) || now.since(*at) < PROBLEM_SHOWN;
        shown.then_some(text)
    }

    fn report(
        &self,
        peer: NodeName,
        direction: Direction,
        window: WindowReport,
        now: Time,
    ) -> LinkReport {
        let (state, vitals) = match &self.state {
            State::Connecting => (LinkState::Connecting, None),
            State::Up(vitals) => (LinkState::Up, Some(vitals)),
            State::Down => (LinkState::Down, None),
            State::Refused => (LinkState::Refused, None),
        };
        let WindowReport { unacked_bytes, lag, retransmitted } = window;
        LinkReport {
            peer,
            direction,
            state,
            rtt: vitals.and_then(|vitals| vitals.rtt.get()),
            unacked_bytes,
            lag,
            retransmitted,
            reconnects: self.ups.saturating_sub(1),
            problem: self.problem(now).map(str::to_owned),
        }
    }
}

/// Bytes of all links with that peer.
pub(super) fn bytes_counter(peer: &NodeName, direction: Direction) -> metrics::Counter {
    metrics::counter!(
        names::LINK_BYTES,
        "peer" => peer.as_str().to_owned(),
        "direction" => direction_word(direction),
    )
}

pub(super) const fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
    }
}

/// How long something has gone on that should pass by itself.
#[derive(Debug, Default)]
struct Passing {
    began: Option<Time>,
    last: Option<Time>,
}

impl Passing {
    /// It has happened again: may it still pass?
    fn still(&mut self, now: Time) -> bool {
        if self.last.replace(now).is_some_and(|last| now.since(last) >= PASSES_WITHIN) {
            self.began = None;
        }
        now.since(*self.began.get_or_insert(now)) < PASSES_WITHIN
    }
}

/// Lets one through in so long, and counts the others.
#[derive(Debug, Default)]
struct Throttle {
    last: Option<Time>,
    suppressed: u64,
}

impl Throttle {
    /// How many were held back since the last one; `None`: hold this one back too.
    fn admit(&mut self, now: Time, every: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| now.since(last) < every) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_soon_is_no_warning() {
        let mut passing = Passing::default();
        // Seconds, and whether it may still pass: it goes on; then, after a pause, it begins anew.
        for (at, expected) in [
            (10, true),
            (12, true),
            (14, true),
            (16, false),
            (20, false),
            (25, true),
            (27, true),
            (29, true),
            (31, false),
        ] {
            assert_eq!(passing.still(Time::from_millis(at * 1_000)), expected, "at {at} s");
        }
    }
}
