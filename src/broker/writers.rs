//! Who keeps presences here without a session (over HTTP), and by which pass: they end with it, as sessions do.
//!
//! Only where there are keys. One is forgotten with the end of what it put. Where that was taken over, by a session or on another node,
//! nobody says so: each that is put looks at a few others, so that there are never many more of them than presences that were put and live
//! here, and nobody pays for a look at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::Pass;
use crate::types::{SessionId, Time};

/// So many are looked at for each that is put: those that keep nothing are a third of the rest at the most, and what was taken over since.
const LOOKS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Writers {
    by_session: BTreeMap<SessionId, Writer>,
    due: BTreeSet<(Time, SessionId)>,
    /// Who was looked at last.
    looked: Option<SessionId>,
}

#[derive(Debug)]
struct Writer {
    pass: Pass,
    due: Time,
    shard: u8,
    /// Then its pass is over; else only what it has put, of which the replicator knows.
    is_pass_over: bool,
}

/// What was put, in that shard, and lives `until` then unless its pass ends before.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) shard: usize,
    pub(super) pass: Pass,
    pub(super) until: Time,
    pub(super) pass_ends: Option<Time>,
}

impl Writers {
    pub(super) fn put(&mut self, session: SessionId, put: Put) {
        self.forget(session);
        let Put { shard, pass, until, pass_ends } = put;
        let pass_ends = pass_ends.filter(|ends| *ends < until);
        let (due, is_pass_over) = (pass_ends.unwrap_or(until), pass_ends.is_some());
        self.due.insert((due, session));
        let writer = Writer { pass, due, shard: shard as u8, is_pass_over };
        self.by_session.insert(session, writer);
    }

    /// Forgets those of the next few that keep nothing any more.
    pub(super) fn look(&mut self, keeps: impl Fn(SessionId, usize) -> bool) {
        let from = self.looked.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.by_session.range((from, Bound::Unbounded)).take(LOOKS);
        let some: Vec<_> = behind.map(|(id, writer)| (*id, usize::from(writer.shard))).collect();
        // Behind the last one comes the first.
        self.looked = some.last().map(|(id, _)| *id).filter(|_| some.len() == LOOKS);
        for (session, shard) in some {
            if !keeps(session, shard) {
                self.forget(session);
            }
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        if let Some(writer) = self.by_session.remove(&session) {
            self.due.remove(&(writer.due, session));
        }
    }

    /// Those whose pass is over. Whoever has let what it put go is forgotten.
    pub(super) fn take_over(&mut self, now: Time) -> Vec<SessionId> {
        let mut over = Vec::new();
        while let Some((due, session)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            let writer = self.by_session.remove(&session);
            over.extend(writer.filter(|writer| writer.is_pass_over).map(|_| session));
        }
        over
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (SessionId, &Pass)> {
        self.by_session.iter().map(|(session, writer)| (*session, &writer.pass))
    }

    /// By which pass it was put last.
    pub(super) fn pass_of(&self, session: SessionId) -> Option<&Pass> {
        self.by_session.get(&session).map(|writer| &writer.pass)
    }
}

#[cfg(test)]
mod tests {
    use super::{Put, Writers};
    use crate::broker::Pass;
    use crate::types::{Namespace, SessionId, Time};

    fn session(n: u32) -> SessionId {
        let mut id = [0; 16];
        // As ids are: in no order.
        id[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b1).to_be_bytes());
        SessionId(id)
    }

    fn put(until_ms: u64, pass_ends_ms: Option<u64>) -> Put {
        let pass = Pass::open(Namespace::default());
        let (until, pass_ends) = (Time::from_millis(until_ms), pass_ends_ms.map(Time::from_millis));
        Put { shard: 3, pass, until, pass_ends }
    }

    #[test]
    fn what_was_put_again_lives_by_the_later_pass() {
        let (mut writers, at) = (Writers::default(), Time::from_millis);
        writers.put(session(1), put(50, Some(20)));
        writers.put(session(2), put(30, Some(40)));
        writers.put(session(3), put(50, Some(20)));
        writers.put(session(4), put(50, Some(20)));
        writers.put(session(1), put(50, Some(60)));
        writers.forget(session(4));
        assert_eq!(writers.take_over(at(19)), []);
        assert_eq!(writers.take_over(at(20)), [session(3)]);
        assert_eq!(writers.all().count(), 2);
        assert_eq!(writers.take_over(at(100)), []);
        assert_eq!((writers.all().count(), writers.due.len()), (0, 0));
    }

    #[test]
    fn whoever_keeps_nothing_is_forgotten_as_others_put() {
        let mut writers = Writers::default();
        let (mut most, kept) = (0, 50);
        for n in 0..2_000 {
            writers.put(session(n), put(3_600_000, None));
            // The first ones live; what all others put is taken over at once.
            writers.look(|id, shard| {
                assert_eq!(shard, 3);
                (0..kept).any(|n| session(n) == id) || session(n) == id
            });
            most = most.max(writers.all().count());
        }
        assert!(most <= kept as usize * 4 / 3 + 4, "{most}");
        assert!((0..kept).all(|n| writers.pass_of(session(n)).is_some()));
        assert_eq!(writers.due.len(), writers.by_session.len());
    }
}
