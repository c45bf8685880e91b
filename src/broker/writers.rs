//! Who keeps presences here without a session (over HTTP), and by which pass: they end with it, as sessions do.
//!
//! Only where there are keys. There are no more of them than presences that live.

use std::collections::{BTreeSet, HashMap};

use super::Pass;
use crate::types::{SessionId, Time};

#[derive(Debug, Default)]
pub(super) struct Writers {
    by_session: HashMap<SessionId, Writer>,
    due: BTreeSet<(Time, SessionId)>,
}

#[derive(Debug)]
struct Writer {
    pass: Pass,
    due: Time,
    /// Then its pass is over; else only what it has put, of which the replicator knows.
    is_pass_over: bool,
}

impl Writers {
    /// What was put lives `until` then, by a pass that is over at `ends`.
    pub(super) fn put(&mut self, session: SessionId, pass: Pass, until: Time, ends: Option<Time>) {
        self.forget(session);
        let ends = ends.filter(|ends| *ends < until);
        let due = ends.unwrap_or(until);
        self.due.insert((due, session));
        self.by_session.insert(session, Writer { pass, due, is_pass_over: ends.is_some() });
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
    use super::Writers;
    use crate::broker::Pass;
    use crate::types::{Namespace, SessionId, Time};

    #[test]
    fn what_was_put_again_lives_by_the_later_pass() {
        let mut writers = Writers::default();
        let (at, pass) = (Time::from_millis, Pass::open(Namespace::default()));
        let session = |n| SessionId([n; 16]);
        writers.put(session(1), pass.clone(), at(50), Some(at(20)));
        writers.put(session(2), pass.clone(), at(30), Some(at(40)));
        writers.put(session(3), pass.clone(), at(50), Some(at(20)));
        writers.put(session(4), pass.clone(), at(50), Some(at(20)));
        writers.put(session(1), pass, at(50), Some(at(60)));
        writers.forget(session(4));
        assert_eq!(writers.take_over(at(19)), []);
        assert_eq!(writers.take_over(at(20)), [session(3)]);
        assert_eq!(writers.all().count(), 2);
        assert_eq!(writers.take_over(at(100)), []);
        assert_eq!((writers.all().count(), writers.due.len()), (0, 0));
    }
}
