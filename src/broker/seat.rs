//! One attachment as everybody sees it: its reading side, its writing side, the table, the reaper. Whoever ends it first says why.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::open::Welcome;
use super::sessions::{AttachmentId, CloseReason};
use super::tenant::WatchPlace;
use super::{BrokerError, GoAway, Pass};
use crate::config::limits::LimitsHandle;
use crate::presence::Owner;
use crate::pubsub::DirectWriter;
use crate::pubsub::mailbox::{Closed, Entry, Mailbox};
use crate::replicator::{Update, WatchId};
use crate::supervise::Shutdown;
use crate::types::few::FewSet;
use crate::types::{Pattern, SessionId, Time, Topic};

/// How a front says what the broker has to say by itself.
pub trait Voice: Sync {
    /// `None`: this front welcomes nobody.
    fn welcome(&self, welcome: &Welcome) -> Option<Bytes>;
    /// `None`: this front's clients can't be told; they are closed instead.
    fn go_away(&self, away: &GoAway) -> Option<Bytes>;
    /// What happened to a watched topic. `None`: this front's clients watch nothing.
    fn presence(&self, _update: &Update) -> Option<Bytes> {
        None
    }
}

/// Why an attachment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The client said bye.
    Bye,
    /// The client's stream ended without a bye.
    Lost,
    /// A newer attachment of its session is here, or elsewhere.
    Superseded,
    /// Its time beside its successor is over.
    OverlapOver,
    /// Its session was ended by a bye of another attachment.
    SessionEnded,
    Killed,
    /// The key that it came by is another, or none, since the keys were read again.
    Revoked,
    /// The time of the key that it came by is over.
    Expired,
    /// It took nothing for so long while messages waited.
    Stalled(Duration),
    /// More waited for it than its front allows.
    OutputLimit,
    /// Something for it may have been lost, and its protocol can't say so.
    Gap,
    /// Said by the node: it stops, it has drained.
    NodeCloses(String),
    /// What the client sent can't be understood, so that nothing after it can.
    Malformed(String),
    /// One message from the client was over this limit.
    FrameTooLarge {
        size: usize,
        max: usize,
    },
    /// A fault of ours, which took this session only.
    Failed,
}

impl Ending {
    /// For metrics, and for programs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Bye => "bye",
            Self::Lost => "lost",
            Self::Superseded => "superseded",
            Self::OverlapOver => "overlap_over",
            Self::SessionEnded => "session_ended",
            Self::Killed => "killed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Stalled(_) => "stalled",
            Self::OutputLimit => "output_limit",
            Self::Gap => "gap",
            Self::NodeCloses(_) => "node_closes",
            Self::Malformed(_) => "malformed",
            Self::FrameTooLarge { .. } => "frame_too_large",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bye => f.write_str("bye"),
            Self::Lost => f.write_str("the stream ended without a bye"),
            Self::Superseded => f.write_str("the session has a newer attachment"),
            Self::OverlapOver => f.write_str("the time beside the newer attachment is over"),
            Self::SessionEnded => f.write_str("the session was ended by another attachment"),
            Self::Killed => f.write_str("the session was killed"),
            Self::Revoked => f.write_str("the key that let it in was taken back, or changed"),
            Self::Expired => f.write_str("the key that let it in has expired"),
            Self::Stalled(after) => {
                write!(f, "nothing was taken for {} s while messages waited", after.as_secs())
            }
            Self::OutputLimit => {
                f.write_str("more waited for it than redis.output_hard or output_soft allows")
            }
            Self::Gap => {
                f.write_str("something may have been lost, and redis.on_gap is disconnect")
            }
            Self::NodeCloses(reason) | Self::Malformed(reason) => f.write_str(reason),
            Self::FrameTooLarge { size, max } => {
                write!(f, "a message of {size} bytes is larger than limits.frame, {max}")
            }
            Self::Failed => f.write_str("this session failed; the node goes on"),
        }
    }
}

impl From<CloseReason> for Ending {
    fn from(why: CloseReason) -> Self {
        match why {
            CloseReason::Superseded => Self::Superseded,
            CloseReason::OverlapOver => Self::OverlapOver,
            CloseReason::SessionEnded => Self::SessionEnded,
            CloseReason::Killed => Self::Killed,
        }
    }
}

/// What people see of a session.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) pass: Pass,
    pub(super) front: &'static str,
    pub(super) client: Mutex<String>,
    pub(super) address: String,
    pub(super) since_ms: u64,
}

pub(super) struct Seat {
    pub(super) id: AttachmentId,
    pub(super) session: SessionId,
    pub(super) card: Arc<Card>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) voice: &'static dyn Voice,
    /// When its pass is over.
    pub(super) ends: Option<Time>,
    pub(super) subscriptions: Mutex<Subscriptions>,
    /// Presence of topics that it watches.
    pub(super) watches: Mutex<HashMap<Topic, Watch>>,
    /// Set by the welcome.
    attached: OnceLock<Attached>,
    /// The replicator knows of it.
    pub(super) owns: AtomicBool,
    /// Cancelled when it ends. Made when somebody first asks for it: fronts that poll the mailbox never do.
    closed: OnceLock<Shutdown>,
    welcomed: AtomicBool,
    receive_only: AtomicBool,
    ending: OnceLock<Ending>,
}

/// As what a session is attached.
#[derive(Debug, Clone, Copy)]
struct Attached {
    epoch: u64,
    linger: Duration,
}

#[derive(Debug)]
pub(super) struct Watch {
    pub(super) id: WatchId,
    pub(super) counts_only: bool,
    /// Among its namespace's subscriptions, where that is counted.
    pub(super) place: Option<WatchPlace>,
}

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub(super) topics: FewSet<Topic>,
    pub(super) patterns: FewSet<Pattern>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.topics.len() + self.patterns.len()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("id", &self.id)
            .field("session", &self.session)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

impl Seat {
    pub(super) fn new(
        id: AttachmentId,
        session: SessionId,
        card: Arc<Card>,
        mailbox: Arc<Mailbox>,
        voice: &'static dyn Voice,
        ends: Option<Time>,
    ) -> Self {
        Self {
            id,
            session,
            card,
            mailbox,
            voice,
            ends,
            subscriptions: Mutex::default(),
            watches: Mutex::default(),
            attached: OnceLock::new(),
            owns: AtomicBool::new(false),
            closed: OnceLock::new(),
            welcomed: AtomicBool::new(false),
            receive_only: AtomicBool::new(false),
            ending: OnceLock::new(),
        }
    }

    /// Both its sides end; what is in the mailbox can still be taken. The first reason stands.
    pub(super) fn end(&self, ending: Ending) {
        let closed = match &ending {
            Ending::Stalled(_) => Closed::Stalled,
            Ending::OutputLimit => Closed::Overflow,
            other => Closed::Reason(other.label().to_owned()),
        };
        if self.ending.set(ending).is_ok() {
            self.mailbox.close(closed);
            fence(Ordering::SeqCst);
            if let Some(closed) = self.closed.get() {
                closed.cancel();
            }
        }
    }

    pub(super) fn closed(&self) -> &Shutdown {
        let closed = self.closed.get_or_init(Shutdown::new);
        // Whoever ends it meanwhile sees this one, or is seen here.
        fence(Ordering::SeqCst);
        if self.ending.get().is_some() {
            closed.cancel();
        }
        closed
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    pub(super) fn set_attached(&self, epoch: u64, linger: Duration) {
        let _ = self.attached.set(Attached { epoch, linger });
    }

    /// The session as an owner of presences. Whoever asks has been welcomed.
    pub(super) fn owner(&self) -> Owner {
        let attached = self.attached.get().copied();
        let Attached { epoch, linger } =
            attached.unwrap_or(Attached { epoch: 0, linger: Duration::ZERO });
        Owner { session: self.session, epoch, linger }
    }

    pub(super) fn set_welcomed(&self) {
        self.welcomed.store(true, Ordering::Release);
    }

    pub(super) fn is_welcomed(&self) -> bool {
        self.welcomed.load(Ordering::Acquire)
    }

    pub(super) fn set_receive_only(&self) {
        self.receive_only.store(true, Ordering::Release);
    }

    pub(super) fn may_ask(&self) -> Result<(), BrokerError> {
        if self.receive_only.load(Ordering::Acquire) {
            return Err(BrokerError::Superseded);
        }
        Ok(())
    }
}

/// An attachment's writing side: what a front's connection takes and writes. The attachment ends when this is dropped, since nobody
/// can receive any longer.
#[derive(Debug)]
pub struct Outlet {
    pub(super) seat: Arc<Seat>,
    pub(super) limits: LimitsHandle,
}

impl Outlet {
    /// One or more whole messages in the front's wire form. `Err`: all that came before the end has been taken.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
    ) -> Poll<Result<Bytes, Ending>> {
        match ready!(self.seat.mailbox.poll_take(cx, bytes_max)) {
            Ok(bytes) => Poll::Ready(Ok(bytes)),
            Err(closed) => Poll::Ready(Err(self.ended(closed))),
        }
    }

    /// As `poll_take`, with the entries as they are, for a front that has a form of its own for each. `take` must not take long: the
    /// mailbox is locked meanwhile.
    pub fn poll_entries(
        &mut self,
        cx: &Context<'_>,
        bytes_max: usize,
        take: &mut dyn FnMut(Entry),
    ) -> Poll<Result<(), Ending>> {
        let taken = ready!(self.seat.mailbox.poll_entries(cx, bytes_max, take));
        Poll::Ready(taken.map_err(|closed| self.ended(closed)))
    }

    /// The reader works: the mailbox is looked at before it sleeps again.
    pub fn note_awake(&self) {
        self.seat.mailbox.note_awake();
    }

    /// From now on who publishes may write what waits, without waking this side.
    pub fn write_directly(&self, writer: Weak<dyn DirectWriter>) {
        self.seat.mailbox.set_direct(writer);
    }

    /// While nothing can be written: only the end is waited for, whatever is still in the mailbox.
    pub fn poll_ended(&self, cx: &Context<'_>) -> Poll<Ending> {
        self.seat.mailbox.poll_closed(cx).map(|closed| self.ended(closed))
    }

    fn ended(&self, closed: Closed) -> Ending {
        // The mailbox may have found by itself that it stalls, or holds too much.
        self.seat.end(match closed {
            Closed::Stalled => Ending::Stalled(self.limits.get().mailbox_stall),
            Closed::Overflow => Ending::OutputLimit,
            Closed::Reason(reason) => Ending::NodeCloses(reason),
        });
        self.seat.ending().cloned().unwrap_or(Ending::Failed)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.seat.end(Ending::Lost);
    }
}
