//! ● What each input changes. What has become possible by it is `advance`'s to see.

use std::collections::VecDeque;

use super::dial::{Attempt, Dial, Stage};
use super::presences::PresenceAnswered;
use super::subscriptions::Answered;
use super::{
    Attachment, AttachmentId, CLOSE_MAX, FENCE_MAX, GoAway, OVERLAP_MAX, Output, Reply, Request,
    Session, Welcome, dial,
};
use crate::client::message::Event;
use crate::types::Time;

impl Session {
    pub(super) fn connected(&mut self, id: AttachmentId, now: Time) {
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

    pub(super) fn greet(&mut self, now: Time) {
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

    pub(super) fn welcomed(&mut self, id: AttachmentId, welcome: Welcome, now: Time) {
        let Some(Stage::Greeting { overlap, .. }) = self.attempt_mut(id).map(|a| a.stage.clone())
        else {
            return;
        };
        let Some(Attempt { address, .. }) = self.dial.take().and_then(|dial| dial.attempt) else {
            return;
        };
        if !welcome.token.0.is_empty() {
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
        let subscribes = self.subscriptions.again(id, &mut self.ids);
        let tracks = self.presences.again(id, welcome.resumed, &mut self.ids);
        for request in subscribes.into_iter().chain(tracks) {
            self.outputs.push_back(Output::Send { attachment: id, request });
        }
        self.send_asks();
    }

    pub(super) fn replied(&mut self, id: AttachmentId, reply: Reply, now: Time) {
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
        let reply = match self.presences.answered(reply, &mut self.ids) {
            PresenceAnswered::NotMine(reply) => reply,
            PresenceAnswered::Nothing => return,
            PresenceAnswered::Ask { ticket, answers } => {
                return self.outputs.push_back(Output::AnswerPresence { ticket, answers });
            }
            PresenceAnswered::Refused { topic, error } => {
                let event = Event::Refused { topic: Some(topic), error };
                return self.outputs.push_back(Output::Event(event));
            }
            PresenceAnswered::Then(request) => {
                return self.outputs.push_back(Output::Send { attachment: id, request });
            }
            PresenceAnswered::Watching { topic, then } => {
                self.outputs.push_back(Output::Watching { attachment: id, topic });
                let then = then.map(|(ticket, answers)| Output::AnswerPresence { ticket, answers });
                return self.outputs.extend(then);
            }
        };
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

    /// Only the attachment that delivers could have lost it; one that comes after it begins with a snapshot anyway.
    pub(super) fn watch_again(&mut self, topic: &str) {
        let Some(current) = self.current.as_ref().map(|current| current.id) else { return };
        for request in self.presences.watch_again(current, topic, &mut self.ids) {
            self.outputs.push_back(Output::Send { attachment: current, request });
        }
    }

    pub(super) fn asked_away(&mut self, id: AttachmentId, away: GoAway) {
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

    pub(super) fn ended(&mut self, id: AttachmentId, end: Result<(), String>, now: Time) {
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
                self.presences.lost(id);
                self.outputs.push_back(Output::Publishes(None));
                self.outputs.push_back(Output::Drop(id));
                self.dial = Some(Dial::new(self.elsewhere()));
            }
        } else if self.current.as_ref().is_some_and(|current| current.id == id) {
            self.current_ended(end, now);
        }
    }

    /// `current` is gone, by a break or as it was told.
    pub(super) fn current_ended(&mut self, end: Result<(), String>, now: Time) {
        let Some(old) = self.current.take() else { return };
        let left = self.leaving.take().is_some() && end.is_ok();
        self.outputs.push_back(Output::Drop(old.id));
        self.subscriptions.lost(old.id);
        self.presences.lost(old.id);
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

    pub(super) fn attempt_failed(&mut self, reason: String, now: Time) {
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

    pub(super) fn dial_left(&mut self, left: VecDeque<String>) {
        if let Some(dial) = &mut self.dial {
            dial.left = left;
        }
    }

    pub(super) fn close(&mut self, now: Time) {
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

    pub(super) fn finish(&mut self, clean: bool) {
        if let Some(current) = self.current.take() {
            self.outputs.push_back(Output::Drop(current.id));
        }
        self.closed = true;
        self.outputs.push_back(Output::Closed { clean });
    }
}

fn reason(end: Result<(), String>) -> String {
    end.err().unwrap_or_else(|| "the node ended the stream".to_owned())
}
