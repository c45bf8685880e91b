//! ● The session table: who is attached, who may come back, and until when.
//!
//! A session has an epoch that rises with every attachment anywhere in the cluster. Invariants, at every moment and on this node:
//! - at most one attachment of a session is *current*, the one with the highest epoch known here; at most one older one goes on
//!   receiving beside it, for `OVERLAP` at most;
//! - only this table ends a session: by a bye, a kill, the end of its linger, or word that it lives elsewhere now.
//!
//! A hello under a token that the client brought asks the peers before it is welcomed. The attachment is current from the first
//! moment on, so that word from elsewhere meets it; when two nodes welcome one session at the same time, the rounds of questions end
//! with different epochs, and the lower one is ended.

mod lingers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::router::{SessionKnown, SessionMoved};
use crate::types::{Namespace, SessionId, Time};
use lingers::Lingers;

/// How long an older attachment goes on receiving beside its successor.
pub(crate) const OVERLAP: Duration = Duration::from_secs(10);

/// How often peers are asked before a hello is welcomed whatever they say.
const ROUNDS_MAX: u8 = 4;

/// One attachment of this node, named by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttachmentId(pub(crate) u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Hello(Hello),
    /// What the peers know, after `Output::Ask`. `random` keeps two nodes that ask at once from choosing one epoch for ever.
    Answered {
        attachment: AttachmentId,
        known: SessionKnown,
        random: u64,
    },
    /// The connection ended without a bye.
    Lost {
        attachment: AttachmentId,
    },
    Bye {
        attachment: AttachmentId,
        keep_session: bool,
    },
    /// A peer says where the session is now.
    Moved(SessionMoved),
    Kill {
        session: SessionId,
    },
    /// Time has passed. More lingering sessions than `lingering_max` are ended: of the namespace that has most of them, those first that
    /// would end first.
    Tick {
        lingering_max: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) session: SessionId,
    pub(crate) namespace: Namespace,
    pub(crate) attachment: AttachmentId,
    /// The last epoch that the client was welcomed with.
    pub(crate) epoch: u64,
    pub(crate) linger: Duration,
    pub(crate) overlap: bool,
    /// The token was made here and now: nobody can know the session.
    pub(crate) fresh: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Tell the peers, wait for what they know, and come back with `Input::Answered`.
    Ask {
        attachment: AttachmentId,
        moved: SessionMoved,
    },
    /// Tell the peers.
    Announce(SessionMoved),
    Welcome {
        attachment: AttachmentId,
        epoch: u64,
        resumed: bool,
        overlapping: bool,
    },
    /// It goes on receiving, and may do nothing else but say bye.
    ReceiveOnly(AttachmentId),
    Close {
        attachment: AttachmentId,
        why: CloseReason,
    },
    /// Nothing of the session is left on this node.
    Gone(SessionId),
    /// The session is over, wherever it was: what it owns is nobody's.
    Ended {
        session: SessionId,
        /// Its last that is known here.
        epoch: u64,
        /// By its client or an operator; else it did not come back in time.
        said: bool,
    },
    /// The session is attached on another node: what it owns is for that one to take over.
    Elsewhere {
        session: SessionId,
        epoch: u64,
    },
    /// The answer to `Input::Moved`.
    Known(SessionKnown),
}

/// Why the table ends an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// A newer attachment of its session is here, or elsewhere.
    Superseded,
    /// Its time beside its successor is over.
    OverlapOver,
    /// Its session was ended by a bye of another attachment.
    SessionEnded,
    Killed,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_id: HashMap<SessionId, Entry>,
    attachments: HashMap<AttachmentId, SessionId>,
    lingers: Lingers,
    /// When older attachments end.
    overlaps: BTreeSet<(Time, SessionId)>,
}

#[derive(Debug)]
struct Entry {
    namespace: Namespace,
    epoch: u64,
    linger: Duration,
    current: Option<Current>,
    older: Option<Older>,
    /// Some exactly while it has no current attachment and lives here.
    expires: Option<Time>,
    /// It lives on another node, and only an older attachment is still here.
    elsewhere: bool,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    attachment: AttachmentId,
    /// The session was known before this hello, here or at a peer.
    known: bool,
    overlap: bool,
    /// The attachment before it was still there, and goes on receiving beside it.
    beside: bool,
    rounds: u8,
    welcomed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Older {
    attachment: AttachmentId,
    until: Time,
}

/// What the table says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionView {
    pub(crate) epoch: u64,
    pub(crate) attachment: Option<AttachmentId>,
    pub(crate) older: Option<AttachmentId>,
    pub(crate) lingering: bool,
}

impl Sessions {
    #[cfg(test)]
    pub(crate) fn attached(&self) -> usize {
        self.attachments.len()
    }

    pub(crate) fn lingering(&self) -> usize {
        self.lingers.len()
    }

    /// Sessions without a current attachment, and when they end.
    pub(crate) fn lingers(&self) -> impl Iterator<Item = (SessionId, Time)> {
        self.lingers.iter().map(|(until, session)| (session, until))
    }

    pub(crate) fn view(&self, session: SessionId) -> Option<SessionView> {
        self.by_id.get(&session).map(|entry| SessionView {
            epoch: entry.epoch,
            attachment: entry.current.map(|current| current.attachment),
            older: entry.older.map(|older| older.attachment),
            lingering: entry.expires.is_some(),
        })
    }

    /// Whom it is about. None: any number of sessions.
    pub(crate) fn session_of(&self, input: &Input) -> Option<SessionId> {
        match input {
            Input::Hello(hello) => Some(hello.session),
            Input::Answered { attachment, .. }
            | Input::Lost { attachment }
            | Input::Bye { attachment, .. } => self.attachments.get(attachment).copied(),
            Input::Moved(moved) => Some(moved.session),
            Input::Kill { session } => Some(*session),
            Input::Tick { .. } => None,
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.by_id.keys().copied()
    }

    #[must_use]
    pub(crate) fn handle(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Hello(hello) => self.hello(hello, now, &mut out),
            Input::Answered { attachment, known, random } => {
                self.answered(attachment, known, random, &mut out);
            }
            Input::Lost { attachment } => self.lost(attachment, now, &mut out),
            Input::Bye { attachment, keep_session } => {
                self.bye(attachment, keep_session, now, &mut out);
            }
            Input::Moved(moved) => self.moved(moved, now, &mut out),
            Input::Kill { session } => {
                if let Some(epoch) = self.end(session, CloseReason::Killed, true, &mut out) {
                    out.push(Output::Announce(ended(session, epoch)));
                }
            }
            Input::Tick { lingering_max } => self.tick(lingering_max, now, &mut out),
        }
        out
    }

    fn hello(&mut self, hello: Hello, now: Time, out: &mut Vec<Output>) {
        let Hello { session, namespace, attachment, linger, overlap, fresh, .. } = hello;
        let before = self.take(session);
        let known = before.as_ref().is_some_and(|entry| !entry.elsewhere);
        let mut epoch = hello.epoch;
        let mut older = None;
        let mut beside = false;
        if let Some(entry) = before {
            epoch = epoch.max(entry.epoch);
            beside = overlap && entry.current.is_some();
            older = self.step_back(&entry, overlap, now, out);
        }
        let epoch = epoch.saturating_add(1);
        let current = Current { attachment, known, overlap, beside, rounds: 0, welcomed: fresh };
        self.attachments.insert(attachment, session);
        let current = Some(current);
        let entry =
            Entry { namespace, epoch, linger, current, older, expires: None, elsewhere: false };
        out.push(if fresh {
            Output::Welcome { attachment, epoch, resumed: known, overlapping: beside }
        } else {
            let moved = SessionMoved { session, epoch, overlap, ended: false };
            Output::Ask { attachment, moved }
        });
        self.put(session, entry);
    }

    fn answered(
        &mut self,
        attachment: AttachmentId,
        peers: SessionKnown,
        random: u64,
        out: &mut Vec<Output>,
    ) {
        // It may have been superseded while the peers were asked.
        let Some((session, entry)) = self.entry_of(attachment) else { return };
        let Some(current) = entry.current.as_mut() else { return };
        if current.attachment != attachment || current.welcomed {
            return;
        }
        current.known |= peers.known;
        let overlap = current.overlap;
        if peers.epoch >= entry.epoch {
            // The second time round it isn't an old epoch that the client had forgotten, but somebody who asks at the same time.
            let apart = if current.rounds == 0 { 0 } else { random % 1024 };
            entry.epoch = peers.epoch.saturating_add(1).saturating_add(apart);
            current.rounds += 1;
            let moved = SessionMoved { session, epoch: entry.epoch, overlap, ended: false };
            if current.rounds < ROUNDS_MAX {
                out.push(Output::Ask { attachment, moved });
                return;
            }
            out.push(Output::Announce(moved));
        }
        current.welcomed = true;
        // Whether a peer has an older attachment or only lingering state it doesn't say; the client asked for an overlap since it has
        // one.
        let overlapping = current.beside || (overlap && peers.known);
        let resumed = current.known;
        out.push(Output::Welcome { attachment, epoch: entry.epoch, resumed, overlapping });
    }

    fn lost(&mut self, attachment: AttachmentId, now: Time, out: &mut Vec<Output>) {
        let Some(session) = self.attachments.get(&attachment).copied() else { return };
        let Some(mut entry) = self.take(session) else { return };
        self.attachments.remove(&attachment);
        if entry.older.is_some_and(|older| older.attachment == attachment) {
            entry.older = None;
        } else {
            entry.current = None;
            entry.expires = Some(now + entry.linger);
            if entry.linger.is_zero() {
                entry.expires = None;
                self.close_all(&entry, CloseReason::SessionEnded, out);
                out.push(Output::Gone(session));
                out.push(Output::Ended { session, epoch: entry.epoch, said: false });
                return;
            }
        }
        self.put_if_here(session, entry, out);
    }

    fn bye(&mut self, attachment: AttachmentId, keep: bool, now: Time, out: &mut Vec<Output>) {
        let Some((session, entry)) = self.entry_of(attachment) else { return };
        let is_current = entry.current.is_some_and(|current| current.attachment == attachment);
        if keep || !is_current {
            // The bye of an attachment that has a successor ends nothing but itself.
            self.lost(attachment, now, out);
            return;
        }
        entry.current = None;
        self.attachments.remove(&attachment);
        if let Some(epoch) = self.end(session, CloseReason::SessionEnded, true, out) {
            out.push(Output::Announce(ended(session, epoch)));
        }
    }

    fn moved(&mut self, moved: SessionMoved, now: Time, out: &mut Vec<Output>) {
        let session = moved.session;
        let Some(entry) = self.by_id.get(&session) else {
            // Presences of it may be here all the same: those of a drained node, or of one that this table has seen move.
            out.push(if moved.ended {
                Output::Ended { session, epoch: moved.epoch, said: true }
            } else {
                Output::Elsewhere { session, epoch: moved.epoch }
            });
            out.push(Output::Known(SessionKnown::default()));
            return;
        };
        let known = SessionKnown { known: !entry.elsewhere, epoch: entry.epoch };
        if moved.ended {
            if moved.epoch >= entry.epoch {
                self.end(session, CloseReason::SessionEnded, true, out);
            }
        } else if moved.epoch > entry.epoch
            && let Some(entry) = self.take(session)
        {
            let older = self.step_back(&entry, moved.overlap, now, out);
            out.push(Output::Elsewhere { session, epoch: moved.epoch });
            let entry = Entry {
                epoch: moved.epoch,
                older,
                current: None,
                expires: None,
                elsewhere: true,
                ..entry
            };
            self.put_if_here(session, entry, out);
        }
        out.push(Output::Known(known));
    }

    fn tick(&mut self, lingering_max: usize, now: Time, out: &mut Vec<Output>) {
        while let Some(&(until, session)) = self.overlaps.first()
            && until <= now
        {
            let Some(mut entry) = self.take(session) else {
                self.overlaps.remove(&(until, session));
                continue;
            };
            if let Some(older) = entry.older.take() {
                self.close(older.attachment, CloseReason::OverlapOver, out);
            }
            self.put_if_here(session, entry, out);
        }
        while let Some(session) = self.lingers.over(now)
            && self.end(session, CloseReason::SessionEnded, false, out).is_some()
        {}
        for session in self.lingers.excess(lingering_max) {
            self.end(session, CloseReason::SessionEnded, false, out);
        }
    }

    /// The attachments of `entry` make room for a newer one; returns the one that goes on receiving.
    fn step_back(
        &mut self,
        entry: &Entry,
        overlap: bool,
        now: Time,
        out: &mut Vec<Output>,
    ) -> Option<Older> {
        if !overlap {
            self.close_all(entry, CloseReason::Superseded, out);
            return None;
        }
        let Some(current) = entry.current else { return entry.older };
        if let Some(older) = entry.older {
            self.close(older.attachment, CloseReason::Superseded, out);
        }
        out.push(Output::ReceiveOnly(current.attachment));
        Some(Older { attachment: current.attachment, until: now + OVERLAP })
    }

    /// Its epoch, if there was such a session.
    fn end(
        &mut self,
        session: SessionId,
        why: CloseReason,
        said: bool,
        out: &mut Vec<Output>,
    ) -> Option<u64> {
        let entry = self.take(session)?;
        self.close_all(&entry, why, out);
        out.push(Output::Gone(session));
        out.push(Output::Ended { session, epoch: entry.epoch, said });
        Some(entry.epoch)
    }

    fn close_all(&mut self, entry: &Entry, why: CloseReason, out: &mut Vec<Output>) {
        let current = entry.current.map(|current| current.attachment);
        let older = entry.older.map(|older| older.attachment);
        for attachment in current.into_iter().chain(older) {
            self.close(attachment, why, out);
        }
    }

    fn close(&mut self, attachment: AttachmentId, why: CloseReason, out: &mut Vec<Output>) {
        self.attachments.remove(&attachment);
        out.push(Output::Close { attachment, why });
    }

    fn entry_of(&mut self, attachment: AttachmentId) -> Option<(SessionId, &mut Entry)> {
        let session = *self.attachments.get(&attachment)?;
        self.by_id.get_mut(&session).map(|entry| (session, entry))
    }

    /// Out of the map and of both indices; `put` it back.
    fn take(&mut self, session: SessionId) -> Option<Entry> {
        let entry = self.by_id.remove(&session)?;
        if let Some(expires) = entry.expires {
            self.lingers.remove(&entry.namespace, expires, session);
        }
        if let Some(older) = entry.older {
            self.overlaps.remove(&(older.until, session));
        }
        Some(entry)
    }

    fn put(&mut self, session: SessionId, entry: Entry) {
        if let Some(expires) = entry.expires {
            self.lingers.insert(&entry.namespace, expires, session);
        }
        if let Some(older) = entry.older {
            self.overlaps.insert((older.until, session));
        }
        self.by_id.insert(session, entry);
    }

    /// A session that lives elsewhere is forgotten with its last attachment here.
    fn put_if_here(&mut self, session: SessionId, entry: Entry, out: &mut Vec<Output>) {
        if entry.elsewhere && entry.older.is_none() {
            out.push(Output::Gone(session));
        } else {
            self.put(session, entry);
        }
    }
}

const fn ended(session: SessionId, epoch: u64) -> SessionMoved {
    SessionMoved { session, epoch, overlap: false, ended: true }
}
