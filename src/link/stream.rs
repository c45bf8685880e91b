//! One link that is up: hands what arrives to the handler, tells the writer what to answer.
//!
//! A `Life` begins with the handlers' `up` and ends, however it ends, with their `down`; in between frames come one after
//! another from one task. It claims its epoch until then, so the next epoch's `up` comes after this one's `down`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body::Body;
use tokio::time::MissedTickBehavior;

use super::board::{Rtt, bytes_counter};
use super::codec;
use super::deframer::Deframer;
use super::error::LinkError;
use super::fence::Claim;
use super::frame::{Accepted, Frame};
use super::outbox::{Outbox, UpState, Writing};
use super::sequence::Silence;
use super::session::{Input, Output, Session, Up, Violation};
use super::window::{BadAck, Resumed};
use super::{Direction, LinkInfo, LinkSource, Pace, Past, Pause, Shared};
use crate::membership::LinkEvidence;
use crate::supervise::{Shutdown, Turn};
use crate::types::Time;

pub(super) struct Life {
    shared: Arc<Shared>,
    link: LinkInfo,
    outbox: Arc<Outbox>,
    rtt: Rtt,
    /// Content is being handed on; if that never ends, some of it is lost.
    handing_on: AtomicBool,
    /// `Direction::In`. Given back last.
    claim: Option<Claim>,
}

impl Life {
    /// A link that this node dialed; `said` is where the peer is.
    pub(super) fn dialed(
        shared: Arc<Shared>,
        up: Up,
        said: Accepted,
        outbox: Arc<Outbox>,
    ) -> Result<Self, LinkError> {
        let (window, resumed) = shared.windows.resume(&up.peer, up.epoch, said)?;
        if let Resumed::Again(items @ 1..) = resumed {
            tracing::info!(peer = %up.peer, items, "a link goes on where its peer is");
        }
        let past = match resumed {
            Resumed::Clean | Resumed::Again(_) => Past::Kept,
            Resumed::Declared(_) => Past::Declared,
            Resumed::Unknown(_) => Past::Unknown,
        };
        let attempt = up.epoch.attempt;
        let (this, source) = Self::begin(shared, Direction::Out, up, past, outbox, None);
        window.attach(attempt, source.clone());
        this.up(source, Some(Writing { window, attempt }), None);
        Ok(this)
    }

    /// A link that the peer dialed. The reader of its older epoch has ended.
    pub(super) fn accepted(
        shared: Arc<Shared>,
        up: Up,
        outbox: Arc<Outbox>,
        claim: Claim,
        session: &mut Session,
    ) -> Self {
        let past = if up.had_epoch { Past::Kept } else { Past::Unknown };
        let (this, source) = Self::begin(shared, Direction::In, up, past, outbox, Some(claim));
        let resumed = this.claim.as_ref().map(|claim| claim.resume(source.all_lost()));
        let said = resumed.map(|(received, said)| {
            session.resume(received);
            said
        });
        this.up(source, None, said);
        this
    }

    fn begin(
        shared: Arc<Shared>,
        direction: Direction,
        up: Up,
        past: Past,
        outbox: Arc<Outbox>,
        claim: Option<Claim>,
    ) -> (Self, Arc<dyn LinkSource>) {
        let Up { peer, incarnation, epoch, had_epoch, said: _ } = up;
        let link = LinkInfo { peer, incarnation, direction, epoch, had_epoch, past };
        let rtt = Rtt::default();
        tracing::info!(
            peer = %link.peer, %incarnation, attempt = epoch.attempt,
            direction = super::board::direction_word(direction), "link up"
        );
        shared.board.up(&link, rtt.clone());
        let handing_on = AtomicBool::new(false);
        let this = Self { shared, link, outbox, rtt, handing_on, claim };
        let source = this.shared.handler.up(&this.link);
        (this, source)
    }

    /// The router has been told; now the replicator, the writer, and with `said` the peer.
    fn up(&self, source: Arc<dyn LinkSource>, writing: Option<Writing>, said: Option<Accepted>) {
        let state = self.shared.state.up(&self.link);
        let sent_bytes = bytes_counter(&self.link.peer, Direction::Out);
        self.outbox.up(UpState { source, state, writing, sent_bytes }, said);
        self.evidence(LinkEvidence::Up);
    }

    pub(super) const fn link(&self) -> &LinkInfo {
        &self.link
    }

    /// Reads until the link ends, or `end` says so: what has come by then is handed on before. The future may be dropped at any time;
    /// where that cuts off content that was being handed on, it counts as lost.
    pub(super) async fn read<B>(
        &self,
        session: &mut Session,
        frames: &mut Deframer<B>,
        end: Shutdown,
    ) -> LinkError
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let most = self.shared.config.limits.silence;
        let mut silence = Silence::new(most, self.shared.clock.now());
        let mut look = tokio::time::interval(most / 6);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = end.cancelled();
        tokio::pin!(end);
        let mut turn = Turn::new(self.shared.clock);
        loop {
            let message = tokio::select! {
                biased;
                () = &mut end => return LinkError::Outdated,
                message = turn.next(frames.next()) => message,
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
                Some(pause) => {
                    pause.await;
                    self.handing_on.store(false, Ordering::Relaxed);
                }
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
                    let received = session.received();
                    // From here on these items don't come again: they are handed on, or lost and told.
                    self.handing_on.store(true, Ordering::Relaxed);
                    if let Some(claim) = &self.claim {
                        claim.keep(received);
                    }
                    let pace = handler.content(&self.link, items).map_err(LinkError::Malformed)?;
                    let (upto, outbox) = (received.expected(), self.outbox.clone());
                    match pace {
                        Pace::ReadOn => {
                            self.handing_on.store(false, Ordering::Relaxed);
                            outbox.handed_on(upto, len);
                        }
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
                self.outbox.acknowledged(upto)?;
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
        if self.handing_on.load(Ordering::Relaxed) {
            self.shared.handler.jump(&self.link);
        }
        self.shared.board.down(&self.link);
        self.shared.state.down(&self.link);
        self.shared.handler.down(&self.link);
        self.evidence(LinkEvidence::Ended);
    }
}

pub(super) fn decode(message: Bytes) -> Result<Frame, LinkError> {
    codec::decode(message).map_err(|bad| LinkError::Malformed(bad.to_string()))
}

impl From<BadAck> for LinkError {
    fn from(BadAck { upto, next }: BadAck) -> Self {
        Self::Malformed(format!(
            "everything before {upto} is said to have arrived, {next} would be next"
        ))
    }
}

impl From<Violation> for LinkError {
    fn from(violation: Violation) -> Self {
        Self::Malformed(violation.to_string())
    }
}
