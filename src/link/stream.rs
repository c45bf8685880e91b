//! One link that is up: hands what arrives to the handler, tells the writer what to answer.
//!
//! A `Life` begins with the handlers' `up` and ends, however it ends, with their `down`; in between frames come one after
//! another from one task. It claims its epoch until then, so the next epoch's `up` comes after this one's `down`.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use tokio::time::MissedTickBehavior;

use super::board::{Rtt, bytes_counter};
use super::codec;
use super::deframer::Deframer;
use super::error::LinkError;
use super::fence::Claim;
use super::frame::Frame;
use super::outbox::{Outbox, UpState};
use super::sequence::Silence;
use super::session::{Input, Output, Session, Up, Violation};
use super::{Direction, LinkInfo, Pace, Pause, Shared};
use crate::membership::LinkEvidence;
use crate::types::Time;

pub(super) struct Life {
    shared: Arc<Shared>,
    link: LinkInfo,
    outbox: Arc<Outbox>,
    rtt: Rtt,
    /// Given back last.
    _claim: Option<Claim>,
}

impl Life {
    pub(super) fn begin(
        shared: Arc<Shared>,
        direction: Direction,
        up: Up,
        outbox: Arc<Outbox>,
        claim: Option<Claim>,
    ) -> Self {
        let Up { peer, incarnation, epoch, had_epoch, position, answer } = up;
        let link = LinkInfo { peer, incarnation, direction, epoch, had_epoch };
        let rtt = Rtt::default();
        tracing::info!(
            peer = %link.peer, %incarnation, attempt = epoch.attempt,
            direction = super::board::direction_word(direction), "link up"
        );
        shared.board.up(&link, rtt.clone(), outbox.clone());
        let this = Self { shared, link, outbox, rtt, _claim: claim };
        let source = this.shared.handler.up(&this.link);
        let state = this.shared.state.up(&this.link);
        let up = UpState {
            source,
            state,
            direction,
            sent_bytes: bytes_counter(&this.link.peer, Direction::Out),
        };
        this.outbox.up(up, position, answer);
        this.evidence(LinkEvidence::Up);
        this
    }

    pub(super) const fn link(&self) -> &LinkInfo {
        &self.link
    }

    /// Reads until the link ends. The future may be dropped at any time.
    pub(super) async fn read<B>(&self, session: &mut Session, frames: &mut Deframer<B>) -> LinkError
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let most = self.shared.config.limits.silence;
        let mut silence = Silence::new(most, self.shared.clock.now());
        let mut look = tokio::time::interval(most / 6);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased;
                message = frames.next() => message,
                _ = look.tick() => {
                    if silence.look(self.shared.clock.now()) {
                        return LinkError::Silent(most);
                    }
                    continue;
                }
            };
            let now = self.shared.clock.now();
            silence.heard(now);
            let pause = match message.and_then(|message| self.handle(session, message, now)) {
                Ok(pause) => pause,
                Err(error) => return error,
            };
            match pause {
                Some(pause) => pause.await,
                // A peer that always has more must not keep this task from being told to end.
                None => tokio::task::coop::consume_budget().await,
            }
        }
    }

    fn handle(
        &self,
        session: &mut Session,
        message: Bytes,
        now: Time,
    ) -> Result<Option<Pause>, LinkError> {
        let len = message.len();
        let frame = decode(message)?;
        let handler = &self.shared.handler;
        match session.handle(Input::Frame(frame))? {
            Output::Content { items, jumped } => {
                if jumped {
                    handler.jump(&self.link);
                }
                if !items.is_empty() {
                    let pace = handler.content(&self.link, items).map_err(LinkError::Malformed)?;
                    let (upto, outbox) = (session.expected(), self.outbox.clone());
                    match pace {
                        Pace::ReadOn => outbox.handed_on(upto, len),
                        Pace::Wait(pause) => {
                            return Ok(Some(Box::pin(async move {
                                pause.await;
                                outbox.handed_on(upto, len);
                            })));
                        }
                    }
                }
            }
            Output::Control(payload) => {
                handler.control(&self.link, payload).map_err(LinkError::Malformed)?;
            }
            Output::State(payload) => {
                let pace = self.shared.state.state(&self.link, payload);
                if let Pace::Wait(pause) = pace.map_err(LinkError::Malformed)? {
                    return Ok(Some(pause));
                }
            }
            Output::Ping { sent_us, control, state } => {
                self.outbox.pong(sent_us);
                handler.ping(&self.link, control).map_err(LinkError::Malformed)?;
                self.shared.state.ping(&self.link, state).map_err(LinkError::Malformed)?;
            }
            Output::Pong { sent_us } => {
                self.rtt.set(now.since(Time::from_micros(sent_us)));
            }
            Output::Acknowledged { upto } => {
                self.outbox.acknowledged(upto).map_err(|bad| {
                    let why = format!("{} is acknowledged, {} would be next", bad.upto, bad.next);
                    LinkError::Malformed(why)
                })?;
            }
            Output::Refused(refusal) => return Err(LinkError::PeerRefused(refusal)),
            output @ (Output::Send(_)
            | Output::Claim { .. }
            | Output::Up(_)
            | Output::Refuse { .. }) => {
                unreachable!("{output:?} belongs to the greeting, which is over")
            }
        }
        Ok(None)
    }

    /// Only the link *to* a peer is evidence of it: it is the one that was dialed at the peer's address.
    fn evidence(&self, evidence: LinkEvidence) {
        if self.link.direction == Direction::Out {
            self.shared.roster.evidence(&self.link.peer, self.link.incarnation, evidence);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.outbox.close(None);
        self.shared.board.down(&self.link);
        self.shared.state.down(&self.link);
        self.shared.handler.down(&self.link);
        self.evidence(LinkEvidence::Ended);
    }
}

pub(super) fn decode(message: Bytes) -> Result<Frame, LinkError> {
    codec::decode(message).map_err(|bad| LinkError::Malformed(bad.to_string()))
}

impl From<Violation> for LinkError {
    fn from(violation: Violation) -> Self {
        Self::Malformed(violation.to_string())
    }
}
