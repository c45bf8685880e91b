//! What a session's core is told, and what it tells.

use std::sync::Arc;
use std::time::Duration;

use super::presences::{PresenceAnswers, PresenceAsk};
use crate::client::message::{Event, Published, ServerError, TopicResult};
use crate::client::presence::{Track, Untrack};
use crate::types::TokenBytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttachmentId(pub(crate) u32);

/// What the user asked and awaits.
pub(crate) type Ticket = u64;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) addresses: Vec<String>,
    pub(crate) client: String,
    pub(crate) linger: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) token: TokenBytes,
    pub(crate) resumed: bool,
    pub(crate) epoch: u64,
    pub(crate) node: String,
    pub(crate) session_id: String,
    pub(crate) endpoints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    pub(crate) error: Option<ServerError>,
    pub(crate) topics: Vec<TopicResult>,
    pub(crate) publish: Option<Published>,
    /// Of a presence.
    pub(crate) reference: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GoAway {
    pub(crate) reason: String,
    pub(crate) endpoints: Vec<String>,
}

/// Everything but publishes, which go another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Hello {
        id: u64,
        token: TokenBytes,
        client: String,
        linger: Option<Duration>,
        epoch: u64,
        overlap: bool,
    },
    Subscribe {
        id: u64,
        topics: Vec<String>,
        patterns: Vec<String>,
    },
    Unsubscribe {
        id: u64,
        topics: Vec<String>,
        patterns: Vec<String>,
    },
    Track {
        id: u64,
        update: bool,
        track: Arc<Track>,
        revision: u64,
    },
    Untrack {
        id: u64,
        untrack: Untrack,
    },
    Watch {
        id: u64,
        topic: String,
        counts_only: bool,
    },
    Unwatch {
        id: u64,
        topic: String,
    },
    Bye {
        keep_session: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Input {
    Start,
    /// The address took the connection.
    Connected(AttachmentId),
    Welcomed(AttachmentId, Welcome),
    /// To a request of this core; the answers to publishes don't come here.
    Replied(AttachmentId, Reply),
    AskedAway(AttachmentId, GoAway),
    /// The attachment, or the attempt at one, is over. `Ok`: the node has said all that it had to say.
    Ended(AttachmentId, Result<(), String>),
    Ask {
        ticket: Ticket,
        unsubscribe: bool,
        topics: Vec<String>,
        patterns: Vec<String>,
    },
    AskPresence {
        ticket: Ticket,
        ask: PresenceAsk,
    },
    /// Something of this watched topic was lost on the way to the user.
    WatchLost(String),
    /// No publish that went through this attachment awaits its answer.
    AllAnswered(AttachmentId),
    /// As much is held of this attachment as may be.
    HeldFull(AttachmentId),
    Close,
    Tick,
}

#[derive(Debug, Clone)]
pub(crate) enum Output {
    Connect {
        attachment: AttachmentId,
        address: String,
    },
    Send {
        attachment: AttachmentId,
        request: Request,
    },
    /// Who takes publishes from now on. Comes before any request that must stand behind the publishes taken so far.
    Publishes(Option<AttachmentId>),
    /// What this attachment is sent goes to the user from now on, first what was held.
    Deliver(AttachmentId),
    /// Close it; publishes without an answer are of unknown outcome.
    Drop(AttachmentId),
    Event(Event),
    Answer {
        ticket: Ticket,
        result: Result<Vec<TopicResult>, ServerError>,
    },
    AnswerPresence {
        ticket: Ticket,
        answers: PresenceAnswers,
    },
    /// What this attachment says of the topic from here on begins with a snapshot.
    Watching {
        attachment: AttachmentId,
        topic: String,
    },
    /// The first attachment.
    Started,
    /// No address answered, the first time round.
    GaveUp(Vec<(String, String)>),
    /// `clean`: the node has taken all that was published, and the session has ended.
    Closed {
        clean: bool,
    },
}
