//! Sessions as far as they concern this shard: attached here, moved away, or held for somebody until a time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::types::{SessionId, Time};

use super::{Asked, Owner};

/// How many presences that a session untracked without having them are remembered.
const UNTRACKED_MAX: usize = 1_024;

/// As many are remembered of sessions that are not known here: they may come, and what they gave up may be told only then.
const STRANGERS_MAX: usize = 1_024;

/// A session that has nothing in this shard is remembered for so long after its attachment: what it has elsewhere may still be
/// on its way.
pub(super) const IDLE_KEPT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum State {
    Attached {
        since: Time,
    },
    /// Attached elsewhere: what it holds here goes within its linger.
    Moved {
        since: Time,
    },
    /// Held for it, after a drain, without an attachment.
    Held,
    /// Over: what it holds here is on its way out.
    Ended,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Session {
    pub(super) epoch: u64,
    pub(super) linger: Duration,
    pub(super) state: State,
    /// How many claims of this node it owns here.
    pub(super) holds: usize,
    pub(super) expires: Option<Time>,
    /// Hashes of presences that were untracked, and when: what was asked for later stands.
    untracked: VecDeque<(u64, Asked)>,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Sessions {
    known: HashMap<SessionId, Session, RandomState>,
    /// What sessions have untracked that are not known here, the latest last.
    strangers: VecDeque<(SessionId, u64, Asked)>,
}

impl Session {
    /// Since it was asked for.
    pub(super) fn has_untracked(&self, presence: u64, asked: Asked) -> bool {
        self.untracked.iter().any(|(other, at)| *other == presence && asked <= *at)
    }

    #[cfg(test)]
    fn fingerprint(&self, hash: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        (self.epoch, self.linger, self.state, self.expires, self.holds).hash(hash);
        self.untracked.hash(hash);
    }

    fn remember_untracked(&mut self, presence: u64, at: Asked) {
        let all = &mut self.untracked;
        match all.iter_mut().find(|(other, _)| *other == presence) {
            Some((_, before)) => *before = at.max(*before),
            None => all.push_back((presence, at)),
        }
        if all.len() > UNTRACKED_MAX {
            all.pop_front();
        }
    }

    /// Whether it had been untracked.
    pub(super) fn track_again(&mut self, presence: u64) -> bool {
        let before = self.untracked.len();
        self.untracked.retain(|(other, _)| *other != presence);
        self.untracked.len() < before
    }
}

impl Sessions {
    pub(super) fn get(&self, session: SessionId) -> Option<&Session> {
        self.known.get(&session)
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Session> {
        self.known.get_mut(&session)
    }

    pub(super) fn sorted(&self) -> BTreeMap<SessionId, &Session> {
        self.known.iter().map(|(id, session)| (*id, session)).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    #[cfg(test)]
    pub(super) fn fingerprint(&self, hash: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        for (id, session) in self.sorted() {
            id.hash(hash);
            session.fingerprint(hash);
        }
        let mut strangers: BTreeMap<(SessionId, u64), Asked> = BTreeMap::new();
        for (session, presence, at) in &self.strangers {
            let latest = strangers.entry((*session, *presence)).or_insert(*at);
            *latest = (*at).max(*latest);
        }
        strangers.hash(hash);
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        let Some(known) = self.known.remove(&session) else { return };
        for (presence, at) in known.untracked {
            self.remember_stranger(session, presence, at);
        }
    }

    /// The session has untracked it, here or elsewhere.
    pub(super) fn remember_untracked(&mut self, session: SessionId, presence: u64, at: Asked) {
        match self.known.get_mut(&session) {
            Some(known) => known.remember_untracked(presence, at),
            None => self.remember_stranger(session, presence, at),
        }
    }

    fn remember_stranger(&mut self, session: SessionId, presence: u64, at: Asked) {
        if self.strangers.len() == STRANGERS_MAX {
            self.strangers.pop_front();
        }
        self.strangers.push_back((session, presence, at));
    }

    /// Whether it is known or not; what it has untracked as a stranger goes with it.
    fn know(&mut self, id: SessionId, new: impl FnOnce() -> Session) -> &mut Session {
        let strangers = &mut self.strangers;
        self.known.entry(id).or_insert_with(|| {
            let mut session = new();
            strangers.retain(|(stranger, presence, at)| {
                if *stranger == id {
                    session.remember_untracked(*presence, *at);
                }
                *stranger != id
            });
            session
        })
    }

    /// The epoch of its attachment here.
    pub(super) fn attached(&self, session: SessionId) -> Option<u64> {
        let session = self.known.get(&session)?;
        matches!(session.state, State::Attached { .. }).then_some(session.epoch)
    }

    /// `None`: it is known to be attached elsewhere, or here with a later attachment.
    pub(super) fn admit(&mut self, owner: &Owner, now: Time) -> Option<&mut Session> {
        let state = State::Attached { since: now };
        let session = self.know(owner.session, || Session {
            epoch: owner.epoch,
            linger: owner.linger,
            state,
            holds: 0,
            expires: None,
            untracked: VecDeque::new(),
        });
        if owner.epoch < session.epoch {
            return None;
        }
        let is_new = owner.epoch > session.epoch;
        match session.state {
            State::Attached { .. } if !is_new => (),
            // The attachment that was told of is the one elsewhere.
            State::Moved { .. } if !is_new => return None,
            _ => {
                session.state = state;
                session.epoch = owner.epoch;
                session.expires = None;
            }
        }
        session.linger = owner.linger;
        Some(session)
    }

    /// For entries that were handed over: known as held, unless it is known better already.
    pub(super) fn hold(&mut self, session: SessionId, epoch: u64, linger: Duration, until: Time) {
        let held = self.know(session, || Session {
            epoch,
            linger,
            state: State::Held,
            holds: 0,
            expires: None,
            untracked: VecDeque::new(),
        });
        let later = match held.state {
            // What is handed over was claimed under a later attachment than the one that is known here.
            State::Attached { .. } => epoch > held.epoch,
            State::Moved { .. } => epoch >= held.epoch,
            State::Held | State::Ended => true,
        };
        if later {
            held.state = State::Held;
            held.epoch = held.epoch.max(epoch);
            held.expires = Some(until.max(held.expires.unwrap_or_default()));
        }
    }
}
