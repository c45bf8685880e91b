//! What links bring: interest, content, answers. Called from the links' own tasks.

use std::sync::Arc;

use bytes::Bytes;

use super::codec::{self, Control, Item};
use super::lane::{Lane, Up};
use super::source::Source;
use super::{Router, SessionKnown};
use crate::link::{Direction, LinkHandler, LinkInfo, LinkSource, Pace};
use crate::metrics::names;
use crate::pubsub::interest::PeerInterest;
use crate::pubsub::mailbox::Closed;
use crate::pubsub::{Batch, Gap, GapReason, Mailbox};
use crate::types::Topic;

impl LinkHandler for Router {
    fn up(&self, link: &LinkInfo) -> Arc<dyn LinkSource> {
        let lane = self.lane(&link.peer);
        let mut state = lane.state.lock();
        match link.direction {
            Direction::Out => {
                let limit = self.limits.get().link_window;
                let outbox = Arc::new(Mailbox::outbox(self.next_mailbox(), limit));
                let source = Arc::new(Source::outgoing(outbox.clone(), lane.forwarded.clone()));
                if state.interest_of != link.incarnation {
                    state.interest_of = link.incarnation;
                    state.introduced = false;
                    *lane.interest.write() = PeerInterest::default();
                }
                if let Some(before) = lane.outbox.write().replace(outbox) {
                    before.close(Closed::Reason("the link was renewed".to_owned()));
                }
                state.out = Some(Up { link: link.clone(), source: source.clone() });
                source
            }
            Direction::In => {
                let snapshots = metrics::counter!(names::INTEREST_SNAPSHOTS, "peer" => lane.name.as_str().to_owned());
                let source = Arc::new(Source::incoming(self.interest.clone(), snapshots));
                state.applied = None;
                state.gap_due |= link.had_epoch;
                state.heard = Some(link.incarnation);
                state.leaving = false;
                state.inward = Some(Up { link: link.clone(), source: source.clone() });
                source
            }
        }
    }

    fn down(&self, link: &LinkInfo) {
        let lane = self.lane(&link.peer);
        let mut state = lane.state.lock();
        let is_this = |up: &Option<Up>| up.as_ref().is_some_and(|up| up.link.epoch == link.epoch);
        match link.direction {
            Direction::Out if is_this(&state.out) => {
                state.out = None;
                if let Some(outbox) = lane.outbox.write().take() {
                    outbox.close(Closed::Reason("the link is down".to_owned()));
                }
                drop(state);
                self.deliveries.gone(&link.peer);
                self.whereabouts.gone(&link.peer);
                self.names.gone(&link.peer);
            }
            Direction::In if is_this(&state.inward) => {
                state.inward = None;
                state.applied = None;
                drop(state);
                self.tell_if_lost(&lane);
            }
            Direction::Out | Direction::In => {}
        }
        self.progress.notify_waiters();
    }

    fn control(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        let lane = self.lane(&link.peer);
        let control =
            codec::parse_control(payload).map_err(|error| format!("control frame: {error}"))?;
        match (link.direction, control) {
            (Direction::Out, Control::SnapshotPart { version, first, last, changes }) => {
                let applied = lane.interest.write().snapshot_part(version, first, last, &changes);
                self.interest_applied(
                    &lane,
                    applied.map_err(|error| error.to_string()),
                    last.is_some(),
                );
            }
            (Direction::Out, Control::Changes { from, changes }) => {
                let applied = lane.interest.write().changes(from, &changes);
                self.interest_applied(
                    &lane,
                    applied.map(|()| true).map_err(|error| error.to_string()),
                    true,
                );
            }
            (Direction::Out, Control::Delivered { ticket, subscriptions }) => {
                self.deliveries.answer(ticket, &link.peer, subscriptions, self.clock.now());
            }
            (Direction::Out, Control::SessionKnown { ticket, known }) => {
                self.whereabouts.answer(ticket, &link.peer, known, self.clock.now());
            }
            (Direction::Out, Control::Names { ticket, names }) => {
                self.names.answer(ticket, &link.peer, names, self.clock.now());
            }
            (Direction::In, Control::NamesWanted(wanted)) => {
                self.answer(&lane, &self.names_for(&wanted));
            }
            (Direction::In, Control::Applied { version, published_before }) => {
                self.confirmed_by(&lane, link, version, published_before);
            }
            (Direction::In, Control::SnapshotWanted) => {
                if let Some(up) = &lane.state.lock().inward {
                    up.source.start_over();
                }
            }
            (Direction::In, Control::SessionMoved { ticket, moved }) => {
                let known = self
                    .directory
                    .get()
                    .map_or_else(SessionKnown::default, |directory| directory.moved(moved));
                if ticket != 0 {
                    self.answer(&lane, &Control::SessionKnown { ticket, known });
                }
            }
            (
                Direction::Out,
                Control::Applied { .. }
                | Control::SnapshotWanted
                | Control::SessionMoved { .. }
                | Control::NamesWanted(_),
            )
            | (
                Direction::In,
                Control::SnapshotPart { .. }
                | Control::Changes { .. }
                | Control::Delivered { .. }
                | Control::SessionKnown { .. }
                | Control::Names { .. },
            ) => return Err("a control frame that belongs to the other direction".to_owned()),
        }
        Ok(())
    }

    fn content(&self, link: &LinkInfo, items: Vec<Bytes>) -> Result<Pace, String> {
        let lane = self.lane(&link.peer);
        let mut items = items.into_iter();
        let mut slow = None;
        while let Some(item) = items.next() {
            let item = codec::parse_item(item, &lane.origin, &self.hasher)
                .map_err(|error| format!("content: {error}"))?;
            match item {
                Item::Gap { topic, missing, certain } => {
                    self.gap_from(&lane, topic, missing, certain)
                }
                Item::Batch(batch) => match self.registry.try_deliver(&batch, self.clock.now()) {
                    Ok(delivery) => {
                        self.delivered(&lane, &batch, delivery.mailboxes);
                        slow = delivery.slow.or(slow);
                    }
                    Err(_) => {
                        // A topic with very many subscribers: the rest of this frame waits behind it, in order.
                        let router = self.me();
                        return Ok(Pace::Wait(Box::pin(async move {
                            router.deliver_rest(&lane, batch, items).await
                        })));
                    }
                },
            }
        }
        Ok(match slow {
            Some(slow) => Pace::Wait(Box::pin(super::pace(slow))),
            None => Pace::ReadOn,
        })
    }

    fn jump(&self, link: &LinkInfo) {
        tracing::warn!(peer = %link.peer, "content numbers were skipped");
        let lane = self.lane(&link.peer);
        self.tell_everybody(&Gap::possible(Some(lane.origin.clone()), GapReason::Link));
    }

    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        if link.direction == Direction::In || payload.is_empty() {
            return Ok(());
        }
        let (version, digest) =
            codec::parse_ping(payload).map_err(|error| format!("ping: {error}"))?;
        let lane = self.lane(&link.peer);
        let checked = lane.interest.read().check(version, digest);
        if let Err(error) = checked {
            self.want_snapshot(&lane, &error.to_string());
        }
        Ok(())
    }
}

impl Router {
    /// A peer's interest was brought forward (`Ok(true)`), or a part of it is there, or it did not fit.
    fn interest_applied(&self, lane: &Lane, applied: Result<bool, String>, whole: bool) {
        match applied {
            Err(error) => self.want_snapshot(lane, &error),
            Ok(_) if !whole => {}
            Ok(_) => {
                let Some(version) = lane.interest.read().version() else { return };
                let mut state = lane.state.lock();
                let published_before =
                    !std::mem::replace(&mut state.introduced, true) && self.took_publish();
                if let Some(up) = &state.out {
                    up.source.send_applied(version, published_before);
                }
                drop(state);
                self.progress.notify_waiters();
            }
        }
    }

    fn want_snapshot(&self, lane: &Lane, why: &str) {
        tracing::warn!(peer = %lane.name, why, "the peer's interest is asked for anew");
        if let Some(up) = &lane.state.lock().out {
            up.source.send(&Control::SnapshotWanted);
        }
    }

    /// The peer has applied this node's interest up to `version`.
    fn confirmed_by(&self, lane: &Lane, link: &LinkInfo, version: u64, published_before: bool) {
        let mut state = lane.state.lock();
        if state.inward.as_ref().is_none_or(|up| up.link.epoch != link.epoch) {
            return;
        }
        state.applied = Some(version);
        if version >= self.interest.lock().version() {
            state.missed = false;
        }
        let gap = std::mem::take(&mut state.gap_due) || published_before;
        let confirmed = state.confirmed_now(version);
        let all = state.unconfirmed.is_empty() && std::mem::take(&mut state.unconfirmed_all);
        drop(state);
        if gap || all {
            self.tell_everybody(&lane.possible_gap(&[]));
        } else {
            for one in confirmed {
                if let Some(mailbox) = one.mailbox.upgrade() {
                    self.count_gap();
                    mailbox.push_gap(lane.possible_gap(&one.topics));
                }
            }
        }
        self.progress.notify_waiters();
    }

    fn gap_from(&self, lane: &Lane, topic: Option<Topic>, missing: u64, certain: bool) {
        let gap = codec::gap_of(topic.clone(), missing, certain, &lane.origin);
        match topic {
            Some(topic) => {
                self.count_gap();
                self.registry.push_gap(&topic, &gap);
            }
            // Which topics is not known any more: possible for everybody, certain for nobody.
            None => self.tell_everybody(&Gap { certain: false, missing: None, ..gap }),
        }
    }

    fn delivered(&self, lane: &Lane, batch: &Batch, subscriptions: u64) {
        if batch.head().ticket != 0 {
            self.answer(lane, &Control::Delivered { ticket: batch.head().ticket, subscriptions });
        }
    }

    fn answer(&self, lane: &Lane, answer: &Control) {
        if let Some(up) = &lane.state.lock().inward
            && !up.source.send(answer)
        {
            tracing::warn!(peer = %lane.name, "the link is too far behind for an answer");
        }
    }

    async fn deliver_rest(&self, lane: &Lane, batch: Arc<Batch>, rest: std::vec::IntoIter<Bytes>) {
        let delivery = self.registry.deliver(&batch, self.clock.now()).await;
        self.delivered(lane, &batch, delivery.mailboxes);
        for item in rest {
            match codec::parse_item(item, &lane.origin, &self.hasher) {
                Ok(Item::Batch(batch)) => {
                    let delivery = self.registry.deliver(&batch, self.clock.now()).await;
                    self.delivered(lane, &batch, delivery.mailboxes);
                }
                Ok(Item::Gap { topic, missing, certain }) => {
                    self.gap_from(lane, topic, missing, certain)
                }
                Err(error) => {
                    tracing::warn!(peer = %lane.name, %error, "a content item can't be read");
                    self.tell_everybody(&lane.possible_gap(&[]));
                }
            }
        }
    }
}
