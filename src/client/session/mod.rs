//! ● Decides what a client does: where it connects, when it moves, what it asks again, what it reports.
//!
//! At most two attachments live at once. `current` delivers; `next` exists only while the client moves from a node that asked it to
//! leave: it is welcomed and subscribes while `current` goes on receiving, and what it is sent is *held* until `current` has ended.
//! Thus no message of the old attachment can come after a newer one of the same origin, and dropping ids at or below the last one
//! delivered drops duplicates and nothing else.
//!
//! Publishes go through one attachment at a time, and change over only at a point where the old node has answered for all it was
//! given: a session's older attachment may not publish once the newer one is welcomed.

mod dial;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::message::{Event, Gap, Published, ServerError, TopicResult};
use crate::types::Time;
pub(crate) use dial::CONNECT_MAX;
use dial::{Attempt, Dial, Stage};
use subscriptions::{Answered, Subscriptions};

/// How long a move waits for the old node's answers before it says hello to the new one.
const FENCE_MAX: Duration = Duration::from_millis(1_500);
/// How long a move waits for the new node's answers to the subscriptions. Below the 10 s that the old attachment goes on receiving.
const OVERLAP_MAX: Duration = Duration::from_secs(5);
/// From a bye to the end of the stream.
const BYE_MAX: Duration = Duration::from_secs(2);
/// The same when the client closes, with publishes still to be written.
const CLOSE_MAX: Duration = Duration::from_secs(10);

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
    pub(crate) token: Bytes,
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
        token: Bytes,
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
    /// The first attachment.
    Started,
    /// No address answered, the first time round.
    GaveUp(Vec<(String, String)>),
    /// `clean`: the node has taken all that was published, and the session has ended.
    Closed {
        clean: bool,
    },
}

#[derive(Debug)]
struct Attachment {
    id: AttachmentId,
    address: String,
    node: String,
}

#[derive(Debug)]
pub(crate) struct Session {
    settings: Settings,
    token: Bytes,
    epoch: u64,
    session_id: String,
    endpoints: Vec<String>,
    /// No attachment has been welcomed yet.
    fresh: bool,
    current: Option<Attachment>,
    next: Option<Attachment>,
    /// Until when `next` may wait for its subscriptions.
    overlap_until: Time,
    /// `current` has been told goodbye, and ends by then.
    leaving: Option<Time>,
    /// Why the client moves, while it does.
    away: Option<GoAway>,
    /// `next` is asked away too, or has ended, before it became `current`.
    next_away: Option<GoAway>,
    next_ended: Option<Result<(), String>>,
    dial: Option<Dial>,
    closing: Option<Time>,
    closed: bool,
    subscriptions: Subscriptions,
    ids: u64,
    attachments: u32,
    random: u64,
    outputs: VecDeque<Output>,
}

impl Session {
    /// `seed`: any number, different for different clients.
    pub(crate) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            token: Bytes::new(),
            epoch: 0,
            session_id: String::new(),
            endpoints: Vec::new(),
            fresh: true,
            current: None,
            next: None,
            overlap_until: Time::ZERO,
            leaving: None,
            away: None,
            next_away: None,
            next_ended: None,
            dial: None,
            closing: None,
            closed: false,
            subscriptions: Subscriptions::default(),
            ids: 0,
            attachments: 0,
            random: seed,
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn handle(&mut self, input: Input, now: Time) {
        if self.closed {
            return;
        }
        match input {
            Input::Start => {
                self.dial = Some(Dial::new(self.settings.addresses.clone()));
            }
            Input::Connected(id) => self.connected(id, now),
            Input::Welcomed(id, welcome) => self.welcomed(id, welcome, now),
            Input::Replied(id, reply) => self.replied(id, reply, now),
            Input::AskedAway(id, away) => self.asked_away(id, away),
            Input::Ended(id, end) => self.ended(id, end, now),
            Input::Ask { ticket, unsubscribe, topics, patterns } => {
                self.subscriptions.ask(ticket, unsubscribe, topics, patterns);
                self.send_asks();
            }
            Input::AllAnswered(id) => {
                let is_current = self.current.as_ref().is_some_and(|current| current.id == id);
                if let Some(Stage::Fencing { unanswered, .. }) = self.stage_mut()
                    && is_current
                {
                    *unanswered = false;
                }
            }
            Input::HeldFull(id) => {
                if self.next.as_ref().is_some_and(|next| next.id == id) {
                    self.overlap_until = now;
                }
            }
            Input::Close => self.close(now),
            Input::Tick => {}
        }
        self.advance(now);
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `Tick` is due at the latest.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let overlap = (self.next.is_some() && self.leaving.is_none()).then_some(self.overlap_until);
        let dial = self.dial.as_ref().and_then(Dial::deadline);
        [overlap, self.leaving, self.closing, dial].into_iter().flatten().min()
    }

    /// Tell `AllAnswered` of this attachment once it holds.
    pub(crate) fn awaits_answers(&self) -> Option<AttachmentId> {
        match self.dial.as_ref()?.attempt.as_ref()?.stage {
            Stage::Fencing { unanswered: true, .. } => Some(self.current.as_ref()?.id),
            _ => None,
        }
    }

    /// Something is under way that only reading on can finish.
    pub(crate) fn is_busy(&self) -> bool {
        self.dial.is_some()
            || self.next.is_some()
            || self.leaving.is_some()
            || self.closing.is_some()
            || self.subscriptions.is_busy()
    }

    pub(crate) fn session_id(&self) -> &str {
        &self.session_id
    }

    /// The node of the attachment that delivers.
    pub(crate) fn node(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.node.as_str())
    }

    fn connected(&mut self, id: AttachmentId, now: Time) {
        let Some(attempt) = self.attempt_mut(id) else { return };
        if !matches!(attempt.stage, Stage::Connecting { .. }) {
            return;
        }
        let Some(current) = &self.current else { return self.greet(now) };
        let current = current.id;
        let fence = self.request_id();
        let until = now + FENCE_MAX;
        if let Some(stage) = self.stage_mut() {
            *stage = Stage::Fencing { until, fence: Some(fence), unanswered: true };
        }
        self.outputs.push_back(Output::Publishes(None));
        // Names nothing, so it changes nothing; its answer stands behind whatever came before it.
        let request = Request::Unsubscribe { id: fence, topics: Vec::new(), patterns: Vec::new() };
        self.outputs.push_back(Output::Send { attachment: current, request });
    }

    fn greet(&mut self, now: Time) {
        let hello = self.request_id();
        let overlap = self.current.is_some();
        let Some(attempt) = self.dial.as_mut().and_then(|dial| dial.attempt.as_mut()) else {
            return;
        };
        attempt.stage = Stage::Greeting { until: now + dial::GREETING_MAX, hello, overlap };
        let request = Request::Hello {
            id: hello,
            token: self.token.clone(),
            client: self.settings.client.clone(),
            linger: self.settings.linger,
            epoch: self.epoch,
            overlap,
        };
        self.outputs.push_back(Output::Send { attachment: attempt.id, request });
    }

    fn welcomed(&mut self, id: AttachmentId, welcome: Welcome, now: Time) {
        let Some(Stage::Greeting { overlap, .. }) = self.attempt_mut(id).map(|a| a.stage.clone())
        else {
            return;
        };
        let Some(Attempt { address, .. }) = self.dial.take().and_then(|dial| dial.attempt) else {
            return;
        };
        if !welcome.token.is_empty() {
            self.token = welcome.token;
        }
        self.epoch = welcome.epoch;
        self.session_id = welcome.session_id;
        self.endpoints = welcome.endpoints;
        let attachment = Attachment { id, address, node: welcome.node };
        let first = std::mem::replace(&mut self.fresh, false);
        if self.current.is_some() {
            self.next = Some(attachment);
            self.overlap_until = now + OVERLAP_MAX;
        } else {
            let node = attachment.node.clone();
            self.current = Some(attachment);
            self.away = None;
            self.outputs.push_back(Output::Deliver(id));
            if first {
                self.outputs.push_back(Output::Started);
            } else {
                let resumed = welcome.resumed;
                self.outputs.push_back(Output::Event(Event::Reconnected { node, resumed }));
                // The node reports the gap of a plain return itself. It can't know of one when it was asked for an overlap with an
                // attachment that broke meanwhile.
                if overlap && !self.subscriptions.is_empty() {
                    self.gap(Vec::new());
                }
            }
        }
        self.outputs.push_back(Output::Publishes(Some(id)));
        for request in self.subscriptions.again(id, &mut self.ids) {
            self.outputs.push_back(Output::Send { attachment: id, request });
        }
        self.send_asks();
    }

    fn replied(&mut self, id: AttachmentId, reply: Reply, now: Time) {
        if let Some(attempt) = self.attempt_mut(id) {
            if let (Stage::Greeting { hello, .. }, Some(error)) = (&attempt.stage, &reply.error)
                && *hello == reply.id
            {
                let reason = error.to_string();
                self.attempt_failed(reason, now);
            }
            return;
        }
        if let Some(Stage::Fencing { fence, .. }) = self.stage_mut()
            && *fence == Some(reply.id)
        {
            *fence = None;
            return;
        }
        match self.subscriptions.answered(reply) {
            Answered::Ask { ticket, result } => {
                self.outputs.push_back(Output::Answer { ticket, result });
            }
            Answered::Again { refused } => {
                for (topic, error) in refused {
                    self.outputs.push_back(Output::Event(Event::Refused { topic, error }));
                }
            }
            Answered::Unasked(Some(error)) => {
                self.outputs.push_back(Output::Event(Event::Refused { topic: None, error }));
            }
            Answered::Unasked(None) => {}
        }
    }

    fn asked_away(&mut self, id: AttachmentId, away: GoAway) {
        if self.closing.is_some() {
            return;
        }
        if self.next.as_ref().is_some_and(|next| next.id == id) {
            self.next_away = Some(away);
        } else if let Some(current) = &self.current
            && current.id == id
            && self.next.is_none()
            && self.away.is_none()
        {
            if !away.endpoints.is_empty() {
                self.endpoints.clone_from(&away.endpoints);
            }
            self.away = Some(away);
            self.dial = Some(Dial::new(self.elsewhere()));
        }
    }

    fn ended(&mut self, id: AttachmentId, end: Result<(), String>, now: Time) {
        if self.attempt_mut(id).is_some() {
            self.attempt_failed(reason(end), now);
        } else if self.next.as_ref().is_some_and(|next| next.id == id) {
            if self.leaving.is_some() {
                // What it has held is still wanted, once `current` has ended.
                self.next_ended = Some(end);
            } else {
                self.next = None;
                self.next_away = None;
                self.subscriptions.lost(id);
                self.outputs.push_back(Output::Publishes(None));
                self.outputs.push_back(Output::Drop(id));
                self.dial = Some(Dial::new(self.elsewhere()));
            }
        } else if self.current.as_ref().is_some_and(|current| current.id == id) {
            self.current_ended(end, now);
        }
    }

    /// `current` is gone, by a break or as it was told.
    fn current_ended(&mut self, end: Result<(), String>, now: Time) {
        let Some(old) = self.current.take() else { return };
        let left = self.leaving.take().is_some() && end.is_ok();
        self.outputs.push_back(Output::Drop(old.id));
        self.subscriptions.lost(old.id);
        if self.closing.is_some() {
            return self.finish(end.is_ok());
        }
        let Some(next) = self.next.take() else {
            self.away = None;
            // A hello that is under way may have asked for an overlap; `welcomed` sees to the gap.
            if self.dial.is_none() {
                self.outputs.push_back(Output::Publishes(None));
                self.dial = Some(Dial::new(self.anywhere(&old.address)));
            } else if let Some(Stage::Fencing { .. }) = self.stage_mut() {
                self.greet(now);
            } else {
                self.outputs.push_back(Output::Publishes(None));
            }
            self.outputs.push_back(Output::Event(Event::Disconnected { reason: reason(end) }));
            return;
        };
        let (id, to) = (next.id, next.node.clone());
        let away = self.away.take().unwrap_or_default();
        self.current = Some(next);
        let moved = Event::Moved { from: old.node, to, reason: away.reason };
        self.outputs.push_back(Output::Event(moved));
        if !left {
            // It broke with messages in its mailbox, perhaps.
            self.gap(Vec::new());
        }
        self.outputs.push_back(Output::Deliver(id));
        if let Some(end) = self.next_ended.take() {
            self.next_away = None;
            self.current_ended(end, now);
        } else if let Some(away) = self.next_away.take() {
            self.asked_away(id, away);
        }
    }

    fn attempt_failed(&mut self, reason: String, now: Time) {
        let random = self.random();
        let Some(dial) = &mut self.dial else { return };
        let Some(attempt) = dial.attempt.take() else { return };
        self.outputs.push_back(Output::Drop(attempt.id));
        dial.tried.push((attempt.address, reason));
        if !dial.left.is_empty() {
            return;
        }
        let tried = std::mem::take(&mut dial.tried);
        dial.wait(now, random);
        if self.fresh {
            self.outputs.push_back(Output::GaveUp(tried));
            return self.finish(false);
        }
        // Nobody took the client in. As long as the old node is there it may take publishes: if it refuses them, it says so.
        if let Some(current) = &self.current {
            self.outputs.push_back(Output::Publishes(Some(current.id)));
            let left = self.elsewhere();
            self.dial_left(left);
            self.send_asks();
        } else {
            let left = self.anywhere("");
            self.dial_left(left);
        }
    }

    fn dial_left(&mut self, left: VecDeque<String>) {
        if let Some(dial) = &mut self.dial {
            dial.left = left;
        }
    }

    fn close(&mut self, now: Time) {
        if self.closing.is_some() {
            return;
        }
        if let Some(attempt) = self.dial.take().and_then(|dial| dial.attempt) {
            self.outputs.push_back(Output::Drop(attempt.id));
        }
        // The newest attachment speaks for the session.
        if let Some(next) = self.next.take()
            && let Some(old) = self.current.replace(next)
        {
            self.outputs.push_back(Output::Drop(old.id));
        }
        self.leaving = None;
        let Some(current) = &self.current else { return self.finish(true) };
        let attachment = current.id;
        self.closing = Some(now + CLOSE_MAX);
        self.outputs.push_back(Output::Publishes(Some(attachment)));
        let request = Request::Bye { keep_session: false };
        self.outputs.push_back(Output::Send { attachment, request });
    }

    fn finish(&mut self, clean: bool) {
        if let Some(current) = self.current.take() {
            self.outputs.push_back(Output::Drop(current.id));
        }
        self.closed = true;
        self.outputs.push_back(Output::Closed { clean });
    }

    /// Whatever has become due, or possible.
    fn advance(&mut self, now: Time) {
        if self.closed {
            return;
        }
        if self.closing.is_some_and(|until| until <= now) {
            return self.finish(false);
        }
        if let Some(attempt) = self.dial.as_ref().and_then(|dial| dial.attempt.as_ref())
            && attempt.is_late(now)
        {
            self.attempt_failed("timed out".to_owned(), now);
            return self.advance(now);
        }
        if self.is_fenced(now) {
            self.greet(now);
        }
        if let Some(current) = &self.current
            && let Some(next) = &self.next
        {
            match self.leaving {
                Some(until) if until <= now => {
                    return self.current_ended(Err("no answer to a bye".to_owned()), now);
                }
                Some(_) => {}
                None => {
                    let next = next.id;
                    if !self.subscriptions.awaits(next) || self.overlap_until <= now {
                        let unconfirmed = self.subscriptions.unconfirmed(next);
                        self.leaving = Some(now + BYE_MAX);
                        let request = Request::Bye { keep_session: true };
                        self.outputs.push_back(Output::Send { attachment: current.id, request });
                        if !unconfirmed.is_empty() {
                            self.gap(unconfirmed);
                        }
                    }
                }
            }
        }
        if let Some(dial) = &mut self.dial
            && dial.is_due(now)
            && let Some(address) = dial.left.pop_front()
        {
            self.attachments += 1;
            let id = AttachmentId(self.attachments);
            dial.begin(id, address.clone(), now);
            self.outputs.push_back(Output::Connect { attachment: id, address });
        } else if let Some(dial) = &mut self.dial
            && dial.is_due(now)
        {
            // There is nowhere to go. Later there may be.
            let random = next_random(&mut self.random);
            dial.wait(now, random);
            let left = if self.current.is_some() { self.elsewhere() } else { self.anywhere("") };
            self.dial_left(left);
        }
    }

    fn is_fenced(&self, now: Time) -> bool {
        let Some(current) = &self.current else { return false };
        match self.dial.as_ref().and_then(|dial| dial.attempt.as_ref()).map(|a| &a.stage) {
            Some(Stage::Fencing { until, fence, unanswered }) => {
                let open = fence.is_some() || *unanswered || self.subscriptions.awaits(current.id);
                !open || *until <= now
            }
            _ => false,
        }
    }

    /// Sends what the user asked and no attachment has been asked yet.
    fn send_asks(&mut self) {
        // While a move is under way the old node is asked nothing new, and the new one only once it has said welcome.
        if matches!(self.stage_mut(), Some(Stage::Fencing { .. } | Stage::Greeting { .. })) {
            return;
        }
        let Some(attachment) = self.next.as_ref().or(self.current.as_ref()).map(|a| a.id) else {
            return;
        };
        for request in self.subscriptions.unsent(attachment, &mut self.ids) {
            self.outputs.push_back(Output::Send { attachment, request });
        }
    }

    fn gap(&mut self, topics: Vec<String>) {
        self.outputs.push_back(Output::Event(Event::Gap(Gap::reconnected(topics))));
    }

    /// All known addresses, in an order of chance, so that the clients of a dead node don't all go to one; the one just lost last.
    fn anywhere(&mut self, last: &str) -> VecDeque<String> {
        let random = self.random();
        let configured = self.settings.addresses.iter();
        dial::candidates(self.endpoints.iter(), configured, random, |address| address == last)
    }

    /// All known addresses but that of the node which asked the client away.
    fn elsewhere(&mut self) -> VecDeque<String> {
        let here = self.current.as_ref().map(|current| current.address.clone());
        let mut all = self.anywhere("");
        all.retain(|address| Some(address) != here.as_ref());
        all
    }

    fn attempt_mut(&mut self, id: AttachmentId) -> Option<&mut Attempt> {
        self.dial.as_mut()?.attempt.as_mut().filter(|attempt| attempt.id == id)
    }

    fn stage_mut(&mut self) -> Option<&mut Stage> {
        Some(&mut self.dial.as_mut()?.attempt.as_mut()?.stage)
    }

    fn request_id(&mut self) -> u64 {
        next_id(&mut self.ids)
    }

    fn random(&mut self) -> u64 {
        next_random(&mut self.random)
    }
}

fn reason(end: Result<(), String>) -> String {
    end.err().unwrap_or_else(|| "the node ended the stream".to_owned())
}

/// Even and never 0; the ids of publishes are odd.
fn next_id(ids: &mut u64) -> u64 {
    *ids += 2;
    *ids
}

/// SplitMix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
