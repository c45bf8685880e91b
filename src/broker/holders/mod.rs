//! ● Sessions that hold leases: what of the table control has to hear.
//!
//! Other sessions cost nothing here but a look. Which ones hold leases is what this member's copy of the agreed facts says (`reports` ○
//! brings it), and those that are asking for one. What is noted is bounded by them: who is touched twice is noted once.

pub(super) mod reports;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio::sync::Notify;

use super::error::NotHere;
use super::open::parse_token;
use super::sessions::Output;
use super::{Broker, BrokerError, Pass, Shared, Table};
use crate::control::model::reports::Known;
use crate::types::SessionId;

#[derive(Debug, Default)]
pub(super) struct Holders {
    held: HashSet<SessionId, RandomState>,
    asking: HashMap<SessionId, Asking, RandomState>,
    news: News,
    wake: Arc<Notify>,
}

/// What happened since somebody last took it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) touched: HashSet<SessionId, RandomState>,
    /// And at which epoch.
    pub(super) ended: HashMap<SessionId, u64, RandomState>,
}

/// A session for which a lease is being asked.
#[derive(Debug, Default)]
struct Asking {
    calls: usize,
    /// Its end, if it came meanwhile: what it is granted then is to be given back.
    ended: Option<u64>,
}

impl Holders {
    /// Nobody holds anything.
    pub(super) fn are_none(&self) -> bool {
        self.held.is_empty() && self.asking.is_empty()
    }

    fn concerns(&self, session: SessionId) -> bool {
        self.held.contains(&session) || self.asking.contains_key(&session)
    }

    /// The table has changed: this session, and those that `outputs` name.
    pub(super) fn note(&mut self, session: Option<SessionId>, outputs: &[Output]) {
        let mut is_news = false;
        if let Some(session) = session
            && self.concerns(session)
        {
            is_news |= self.news.touched.insert(session);
        }
        for output in outputs {
            let Output::Ended { session, epoch, said } = *output else { continue };
            if !self.concerns(session) {
                continue;
            }
            is_news = true;
            if !said {
                // Its client may not know yet, and counts on the TTL: what it holds runs, as when its connection was lost.
                self.news.touched.insert(session);
                continue;
            }
            self.news.ended.insert(session, epoch);
            if let Some(asking) = self.asking.get_mut(&session) {
                asking.ended = Some(epoch);
            }
        }
        if is_news {
            self.wake.notify_one();
        }
    }

    fn ask(&mut self, session: SessionId) {
        self.asking.entry(session).or_default().calls += 1;
    }

    /// Whether it was granted or not.
    fn asked(&mut self, session: SessionId) {
        let Some(asking) = self.asking.get_mut(&session) else { return };
        asking.calls -= 1;
        let ended = asking.ended;
        if asking.calls == 0 {
            self.asking.remove(&session);
        }
        self.held.insert(session);
        self.news.touched.insert(session);
        if let Some(epoch) = ended {
            self.news.ended.insert(session, epoch);
        }
        self.wake.notify_one();
    }

    fn take(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// What could not be told is told later; what came meanwhile is newer.
    fn put_back(&mut self, news: News) {
        self.news.touched.extend(news.touched);
        for (session, epoch) in news.ended {
            self.news.ended.entry(session).or_insert(epoch);
        }
    }

    fn add_held(&mut self, sessions: impl IntoIterator<Item = SessionId>) {
        self.held.extend(sessions);
    }

    /// These and no others.
    fn set_held(&mut self, sessions: HashSet<SessionId, RandomState>) {
        self.held = sessions;
    }
}

/// A session that is attached here, while a lease is asked for it: what becomes of it meanwhile is not missed.
#[derive(Debug)]
pub struct Holding {
    shared: Arc<Shared>,
    session: SessionId,
    epoch: u64,
}

impl Holding {
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Of its attachment here.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.shared.table.lock().holders.asked(self.session);
    }
}

impl Broker {
    /// The session of this resume token, of the namespace of whoever asks, if it is attached to this node.
    pub fn hold(&self, pass: &Pass, token: &[u8]) -> Result<Holding, BrokerError> {
        let session = self.session_by(pass, token)?;
        let mut table = self.shared.table.lock();
        let view = table.sessions.view(session).ok_or(BrokerError::NotHere(NotHere::Unknown))?;
        if view.attachment.is_none() {
            let why = if view.lingering { NotHere::Lost } else { NotHere::Elsewhere };
            return Err(BrokerError::NotHere(why));
        }
        table.holders.ask(session);
        drop(table);
        Ok(Holding { shared: self.shared.clone(), session, epoch: view.epoch })
    }

    /// Which session this resume token is of, wherever that is.
    pub fn session_by(&self, pass: &Pass, token: &[u8]) -> Result<SessionId, BrokerError> {
        Ok(parse_token(token)?.session_id(pass.namespace()))
    }
}

impl Table {
    /// As control is told of it.
    fn known(&self, session: SessionId) -> Known {
        match self.sessions.view(session) {
            Some(view) if view.attachment.is_some() => Known::Attached { epoch: view.epoch },
            Some(view) if view.lingering => Known::Lingering { epoch: view.epoch },
            _ => Known::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Holders, News};
    use crate::broker::sessions::Output;
    use crate::types::SessionId;

    fn session(n: u8) -> SessionId {
        SessionId([n; 16])
    }

    fn ended(n: u8, epoch: u64) -> Output {
        Output::Ended { session: session(n), epoch, said: true }
    }

    fn news(touched: &[u8], ended: &[(u8, u64)]) -> News {
        News {
            touched: touched.iter().copied().map(session).collect(),
            ended: ended.iter().map(|(n, epoch)| (session(*n), *epoch)).collect(),
        }
    }

    #[test]
    fn only_of_those_who_hold_leases_anything_is_noted() {
        let mut holders = Holders::default();
        holders.note(Some(session(1)), &[ended(1, 1), ended(2, 1)]);
        assert!(holders.are_none() && holders.take() == News::default());
        holders.add_held([session(1)]);
        holders.note(Some(session(2)), &[ended(2, 1)]);
        assert_eq!(holders.take(), News::default());
        holders.note(Some(session(1)), &[]);
        // Time ends sessions that no input names.
        holders.note(None, &[ended(1, 7), ended(2, 7)]);
        assert_eq!(holders.take(), news(&[1], &[(1, 7)]));
        holders.set_held([session(2)].into_iter().collect());
        holders.note(Some(session(1)), &[]);
        assert_eq!(holders.take(), News::default());
    }

    #[test]
    fn an_end_while_a_lease_is_asked_for_is_told_again_after_the_answer() {
        let mut holders = Holders::default();
        holders.ask(session(1));
        holders.ask(session(1));
        holders.note(Some(session(1)), &[ended(1, 3)]);
        assert_eq!(holders.take(), news(&[1], &[(1, 3)]));
        holders.asked(session(1));
        assert_eq!(holders.take(), news(&[1], &[(1, 3)]));
        holders.asked(session(1));
        assert_eq!(holders.take(), news(&[1], &[(1, 3)]));
        assert!(holders.asking.is_empty());
    }

    #[test]
    fn what_could_not_be_told_waits_behind_what_is_newer() {
        let mut holders = Holders::default();
        holders.add_held([session(1), session(2)]);
        holders.note(Some(session(1)), &[ended(1, 3), ended(2, 1)]);
        let lost = holders.take();
        holders.note(None, &[ended(1, 5)]);
        holders.put_back(lost);
        assert_eq!(holders.take(), news(&[1], &[(1, 5), (2, 1)]));
    }
}
