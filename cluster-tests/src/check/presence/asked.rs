//! What clients asked for: when each session was attached where, and when each presence certainly showed, or may have.
//!
//! A client of a history is one session. Times are microseconds of the history.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Kind, Op, Presence, Record};

/// For ever.
pub(super) const OPEN: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) stays: Vec<Stay>,
    asks: BTreeMap<Presence, Vec<Ask>>,
    /// It said that it leaves for good.
    ended: Option<u64>,
}

/// One attachment.
#[derive(Debug, Clone)]
pub(super) struct Stay {
    attachment: u32,
    pub(super) node: String,
    pub(super) from: u64,
    pub(super) until: u64,
    linger: u64,
    pub(super) resumed: bool,
    /// Its node died.
    pub(super) killed: bool,
}

#[derive(Debug)]
struct Ask {
    invoked: u64,
    track: bool,
    /// Of an untrack: how long it may stay all the same.
    linger: u64,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Ok(u64, String),
    Fail,
    Unknown,
}

/// A time in which a presence shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// Why a presence went in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was let go of, or its session ended itself.
    Asked,
    /// Its client did not come back in time.
    Lingered,
    /// The same, and its node had died.
    Orphaned,
}

impl Session {
    /// Where the session was from this moment on, without ever being away for longer than `patience` of its linger; and when that ended.
    fn lasts(&self, from: u64, patience: impl Fn(u64) -> u64) -> Option<(&Stay, u64)> {
        let mut at = self.stays.iter().position(|stay| stay.from <= from && from <= stay.until)?;
        loop {
            let stay = &self.stays[at];
            if stay.until == OPEN {
                return Some((stay, OPEN));
            }
            let latest = stay.until.saturating_add(patience(stay.linger));
            match self.stays.get(at + 1) {
                Some(next) if next.from <= latest => at += 1,
                _ => return Some((stay, latest)),
            }
        }
    }

    /// When this session certainly had it: asked for and answered, not let go of, and never away for more than half its linger.
    fn held(&self, presence: &Presence) -> Vec<Span> {
        let asks = self.asks.get(presence).map(Vec::as_slice).unwrap_or_default();
        let mut spans = Vec::new();
        for (n, ask) in asks.iter().enumerate().filter(|(_, ask)| ask.track) {
            let Outcome::Ok(from, _) = ask.outcome else { continue };
            let gives_up = |ask: &&Ask| !ask.track && ask.outcome != Outcome::Fail;
            let given_up = asks[n..].iter().find(gives_up).map_or(OPEN, |ask| ask.invoked);
            let Some((_, away)) = self.lasts(from, |linger| linger / 2) else { continue };
            let until = given_up.min(away).min(self.ended.unwrap_or(OPEN));
            if until > from {
                spans.push(Span { from, until });
            }
        }
        spans
    }

    /// When it may have shown for this session at the most, and why it then went. What was not answered may have happened.
    pub(super) fn may(&self, presence: &Presence) -> Vec<(Span, End)> {
        let asks = self.asks.get(presence).map(Vec::as_slice).unwrap_or_default();
        let mut spans = Vec::new();
        for (n, ask) in asks.iter().enumerate() {
            if !ask.track || ask.outcome == Outcome::Fail {
                continue;
            }
            let given_up = asks[n..].iter().find_map(|ask| match ask.outcome {
                Outcome::Ok(at, _) if !ask.track => Some(at.saturating_add(ask.linger)),
                _ => None,
            });
            // Asked of a node that was dead by then.
            let Some((stay, away)) = self.lasts(ask.invoked, |linger| linger) else { continue };
            let until = given_up.unwrap_or(OPEN).min(away);
            let end = match stay {
                _ if until < away || self.ended.is_some() => End::Asked,
                _ if stay.killed => End::Orphaned,
                _ => End::Lingered,
            };
            spans.push((Span { from: ask.invoked, until }, end));
        }
        spans
    }
}

/// All that was asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) presences: BTreeSet<Presence>,
}

impl Asked {
    pub(super) fn of(history: &[Record]) -> Self {
        let mut asked = Self::default();
        history.iter().for_each(|record| asked.add(record));
        asked.presences =
            asked.sessions.values().flat_map(|session| session.asks.keys().cloned()).collect();
        asked
    }

    fn add(&mut self, record: &Record) {
        let at = record.t_us;
        match &record.op {
            Op::Fault { begin: true, death: true, nodes, .. } => {
                let stays = self.sessions.values_mut().flat_map(|session| &mut session.stays);
                for stay in stays.filter(|stay| nodes.contains(&stay.node) && stay.until == OPEN) {
                    (stay.until, stay.killed) = (at, true);
                }
                return;
            }
            Op::Attached { .. }
            | Op::Bye { .. }
            | Op::Ended { .. }
            | Op::Track { .. }
            | Op::Untrack { .. } => {}
            _ => return,
        }
        let session = self.sessions.entry(record.proc.clone()).or_default();
        match &record.op {
            Op::Attached { linger_ms, resumed, .. } => {
                if let Some(last) = session.stays.last_mut() {
                    last.until = last.until.min(at);
                }
                session.stays.push(Stay {
                    attachment: record.attachment,
                    node: record.node.clone(),
                    from: at,
                    until: OPEN,
                    linger: linger_ms.saturating_mul(1_000),
                    resumed: *resumed,
                    killed: false,
                });
            }
            Op::Ended { .. } => session.leaves(record),
            Op::Bye { keep_session } => {
                session.leaves(record);
                if !keep_session {
                    session.ended.get_or_insert(at);
                }
            }
            Op::Track { of, reference, .. } => session.ask(record, of, true, 0, reference),
            Op::Untrack { of, linger_ms } => {
                session.ask(record, of, false, linger_ms.saturating_mul(1_000), "");
            }
            _ => {}
        }
    }

    /// When somebody certainly had it, joined where one time ends as another begins.
    pub(super) fn held(&self, presence: &Presence) -> Vec<Span> {
        let mut all: Vec<Span> =
            self.sessions.values().flat_map(|session| session.held(presence)).collect();
        all.sort_by_key(|span| span.from);
        let mut joined: Vec<Span> = Vec::new();
        for span in all {
            match joined.last_mut() {
                Some(last) if span.from <= last.until => last.until = last.until.max(span.until),
                _ => joined.push(span),
            }
        }
        joined
    }

    pub(super) fn may(&self, presence: &Presence) -> Vec<(Span, End)> {
        self.sessions.values().flat_map(|session| session.may(presence)).collect()
    }

    /// Several sessions wanted it at a time, or it isn't known what one had got: who has it in the end is for the nodes to decide.
    pub(super) fn is_contested(&self, presence: &Presence) -> bool {
        let mut wanting: Vec<(u64, u64, bool)> = Vec::new();
        for session in self.sessions.values() {
            let Some(asks) = session.asks.get(presence) else { continue };
            let first = asks.iter().map(|ask| ask.invoked).min().unwrap_or(0);
            let last = session.stays.last().map_or(OPEN, |stay| stay.until);
            let unknown = asks.iter().any(|ask| ask.outcome == Outcome::Unknown);
            wanting.push((first, last, unknown));
        }
        wanting.sort_unstable();
        wanting.windows(2).any(|pair| pair[1].0 <= pair[0].1 || pair[0].2)
    }

    /// What must be listed of a presence that somebody certainly has, where that is known.
    pub(super) fn reference(&self, presence: &Presence) -> Option<&str> {
        let asks = self.sessions.values().filter_map(|session| session.asks.get(presence));
        let tracks = asks.flatten().filter(|ask| ask.track && ask.outcome != Outcome::Fail);
        match &tracks.max_by_key(|ask| ask.invoked)?.outcome {
            Outcome::Ok(_, reference) => Some(reference),
            Outcome::Fail | Outcome::Unknown => None,
        }
    }

    /// Nobody was ever told this reference, and everybody was told one.
    pub(super) fn is_unheard_of(&self, presence: &Presence, reference: &str) -> bool {
        let asks = self.sessions.values().filter_map(|session| session.asks.get(presence));
        asks.flatten().filter(|ask| ask.track).all(|ask| match &ask.outcome {
            Outcome::Ok(_, told) => told != reference,
            Outcome::Fail => true,
            Outcome::Unknown => false,
        })
    }

    /// The nodes on which those who wanted it were attached in that time, and since when.
    pub(super) fn nodes_of(&self, presence: &Presence, in_time: Span) -> Vec<(&str, u64)> {
        let wanting = self.sessions.values().filter(|session| session.asks.contains_key(presence));
        let stays = wanting.flat_map(|session| &session.stays);
        let then = stays.filter(|stay| stay.from <= in_time.until && stay.until >= in_time.from);
        then.map(|stay| (stay.node.as_str(), stay.from)).collect()
    }
}

impl Session {
    pub(super) fn has_asked(&self) -> bool {
        !self.asks.is_empty()
    }

    fn leaves(&mut self, record: &Record) {
        let of_it = |stay: &&mut Stay| stay.attachment == record.attachment;
        if let Some(stay) = self.stays.iter_mut().rfind(of_it) {
            stay.until = stay.until.min(record.t_us);
        }
    }

    fn ask(&mut self, record: &Record, of: &Presence, track: bool, linger: u64, reference: &str) {
        let asks = self.asks.entry(of.clone()).or_default();
        let open =
            asks.iter_mut().rfind(|ask| ask.track == track && ask.outcome == Outcome::Unknown);
        match (record.kind, open) {
            (Kind::Invoke, _) => {
                asks.push(Ask { invoked: record.t_us, track, linger, outcome: Outcome::Unknown })
            }
            (Kind::Ok, Some(ask)) => ask.outcome = Outcome::Ok(record.t_us, reference.to_owned()),
            (Kind::Fail, Some(ask)) => ask.outcome = Outcome::Fail,
            _ => {}
        }
    }
}
