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
mod presences;
mod steps;
mod subscriptions;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use super::message::{Event, Gap};
use crate::types::{Time, TokenBytes};
pub(crate) use dial::CONNECT_MAX;
use dial::{Attempt, Dial, Stage};
use presences::Presences;
pub(crate) use presences::{PresenceAnswers, PresenceAsk};
use subscriptions::Subscriptions;
pub(crate) use words::{
    AttachmentId, GoAway, Input, Output, Reply, Request, Settings, Ticket, Welcome,
};

/// How long a move waits for the old node's answers before it says hello to the new one.
const FENCE_MAX: Duration = Duration::from_millis(1_500);
/// How long a move waits for the new node's answers to the subscriptions. Below the 10 s that the old attachment goes on receiving.
const OVERLAP_MAX: Duration = Duration::from_secs(5);
/// From a bye to the end of the stream.
const BYE_MAX: Duration = Duration::from_secs(2);
/// The same when the client closes, with publishes still to be written.
const CLOSE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Attachment {
    id: AttachmentId,
    address: String,
    node: String,
}

#[derive(Debug)]
pub(crate) struct Session {
    settings: Settings,
    token: TokenBytes,
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
    presences: Presences,
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
            token: TokenBytes::default(),
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
            presences: Presences::default(),
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
            Input::AskPresence { ticket, ask } => {
                self.presences.ask(ticket, ask);
                self.send_asks();
            }
            Input::WatchLost(topic) => self.watch_again(&topic),
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
            || self.presences.is_busy()
    }

    pub(crate) fn session_id(&self) -> &str {
        &self.session_id
    }

    /// The node of the attachment that delivers.
    pub(crate) fn node(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.node.as_str())
    }

    /// The address of the node that has the session. While the client moves, that is the new one.
    pub(crate) fn attached_at(&self) -> Option<&str> {
        Some(&self.next.as_ref().or(self.current.as_ref())?.address)
    }

    pub(crate) const fn token(&self) -> &TokenBytes {
        &self.token
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
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
                    let answered = !self.awaits(next);
                    if answered || self.overlap_until <= now {
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
                let open = fence.is_some() || *unanswered || self.awaits(current.id);
                !open || *until <= now
            }
            _ => false,
        }
    }

    fn awaits(&self, attachment: AttachmentId) -> bool {
        self.subscriptions.awaits(attachment) || self.presences.awaits(attachment)
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
        let ids = &mut self.ids;
        let requests = self.subscriptions.unsent(attachment, ids);
        for request in requests.into_iter().chain(self.presences.unsent(attachment, ids)) {
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
