//! What links bring: interest, content, answers. Called from the links' own tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::codec::{self, Control, Item};
use super::lane::{Lane, Late, Owed, Up};
use super::source::Source;
use super::{Router, SessionKnown};
use crate::link::{Direction, LinkHandler, LinkInfo, LinkSource, Pace, Past};
use crate::metrics::names;
use crate::pubsub::interest::{InterestMismatch, PeerInterest};
use crate::pubsub::{Batch, Gap, GapReason, Mailbox};
use crate::types::Topic;

impl LinkHandler for Router {
    fn up(&self, link: &LinkInfo) -> Arc<dyn LinkSource> {
        match link.direction {
            Direction::Out => self.with_lane(&link.peer, |lane| self.up_outgoing(lane, link)),
            Direction::In => {
                let (source, lost) =
                    self.with_lane(&link.peer, |lane| self.up_incoming(lane, link));
                if let Some(lost) = lost {
                    self.tell_everybody(&lost);
                }
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
                // What is kept for the peer stays, and its interest: the next link goes on from there.
                if let Some(up) = state.out.take() {
                    up.source.retire();
                }
                lane.linked.store(false, Ordering::Release);
                state.out_gone_since = Some(self.clock.now());
                drop(state);
                self.deliveries.gone(&link.peer);
                self.whereabouts.gone(&link.peer);
                self.names.gone(&link.peer);
            }
            Direction::In if is_this(&state.inward) => {
                state.inward = None;
                state.applied = None;
                state.gone_since = Some(self.clock.now());
                drop(state);
                self.syncs.gone(&link.peer);
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
                self.bring_forward(&lane, |interest| {
                    interest.snapshot_part(version, first, last, &changes)
                });
            }
            (Direction::Out, Control::Changes { from, changes }) => {
                self.bring_forward(&lane, |interest| {
                    interest.changes(from, &changes).map(|()| true)
                });
            }
            (Direction::Out, Control::Delivered { ticket, subscriptions }) => {
                self.deliveries.answer(ticket, &link.peer, subscriptions, self.clock.now());
            }
            (Direction::Out, Control::SessionKnown { ticket, known }) => {
                self.whereabouts.answer(ticket, &link.peer, known, self.clock.now());
            }
            (Direction::Out, Control::Sync { ticket }) => {
                if let Some(outbox) = &lane.state.lock().outbox {
                    outbox.push_event(codec::marker(ticket));
                }
            }
            (Direction::Out, Control::Names { ticket, names }) => {
                self.names.answer(ticket, &link.peer, names, self.clock.now());
            }
            (Direction::In, Control::NamesWanted(wanted)) => {
                self.tell_names(&lane, wanted);
            }
            (Direction::In, Control::Applied { version }) => {
                self.confirmed_by(&lane, link, version);
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
                | Control::Sync { .. }
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
                Item::Marker { ticket } => self.synced(&lane, ticket),
                Item::InterestPlace { version } => self.counts_from_here(&lane, version),
                Item::Gap { topic, missing, certain } => {
                    self.gap_from(&lane, topic, missing, certain);
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
        tracing::warn!(peer = %link.peer, "content was skipped, or cut off while it was handed on");
        metrics::counter!(names::LINK_JUMPS, "peer" => link.peer.as_str().to_owned()).increment(1);
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
    fn up_outgoing(&self, lane: &Lane, link: &LinkInfo) -> Arc<dyn LinkSource> {
        let pair = Some((link.epoch.sender, link.epoch.receiver));
        let mut state = lane.state.lock();
        if let Some(before) = state.out.take() {
            before.source.retire();
        }
        if link.past != Past::Kept || state.pair != pair {
            lane.give_up(&mut state, self.clock.now());
            state.pair = pair;
            // Also to a peer that has declared all lost, whoever of its subscribers has been told: that can't have been of what is
            // published until this node has their interest again.
            state.owed = if link.past == Past::Kept { Owed::Gap } else { Owed::IfPublished };
        }
        let outbox = state.outbox.get_or_insert_with(|| {
            Arc::new(Mailbox::outbox(self.next_mailbox(), self.limits.get().link_window))
        });
        let source = Arc::new(Source::outgoing(outbox.clone(), lane.forwarded.clone()));
        state.out = Some(Up { link: link.clone(), source: source.clone() });
        state.out_gone_since = None;
        lane.linked.store(true, Ordering::Release);
        source
    }

    /// Also what is to be told to everybody: a new incarnation may be linked before the old one's death was noticed.
    fn up_incoming(&self, lane: &Lane, link: &LinkInfo) -> (Arc<dyn LinkSource>, Option<Gap>) {
        let mut state = lane.state.lock();
        let replaced = state.heard.is_some_and(|heard| heard != link.incarnation);
        let lost = replaced && !state.lost_told && !state.leaving;
        // A gap is final: what it covers must not come any more. One who was forgotten here was told as lost.
        let told = state.lost_told && !replaced || state.heard != Some(link.incarnation);
        // What it has kept for so long is no longer whole. Nobody has been told: it is owed a gap, and sends it where the loss ends.
        let (now, age) = (self.clock.now(), self.limits.get().link_window_age);
        let too_late = state.gone_since.is_some_and(|since| now - since >= age);
        let all_lost = link.had_epoch && (told || too_late);
        let source = Arc::new(Source::incoming(self.interest.clone(), all_lost));
        state.applied = None;
        state.counting = None;
        if link.past == Past::Unknown || all_lost {
            // It begins with a gap for everybody if any of this node's subscriptions may have missed something.
            state.unconfirmed.clear();
            state.unconfirmed_beyond = None;
        }
        state.heard = Some(link.incarnation);
        state.gone_since = None;
        state.lost_told = false;
        state.leaving = false;
        state.inward = Some(Up { link: link.clone(), source: source.clone() });
        (source, lost.then(|| lane.lost(GapReason::MemberLost)))
    }

    /// Applies more of the peer's interest; `apply` says whether there is a new one.
    fn bring_forward(
        &self,
        lane: &Lane,
        apply: impl FnOnce(&mut PeerInterest) -> Result<bool, InterestMismatch>,
    ) {
        let mut state = lane.state.lock();
        let mut interest = lane.interest.write();
        let version = match apply(&mut interest) {
            Ok(true) => interest.version(),
            Ok(false) => None,
            Err(error) => {
                drop((interest, state));
                self.want_snapshot(lane, &error.to_string());
                return;
            }
        };
        let Some(version) = version else { return };
        if let Some(outbox) = &state.outbox {
            // Before any publish finds the new interest.
            outbox.push_interest_place(version);
        }
        drop(interest);
        lane.open_outbox(&mut state, || self.took_publish());
        if let Some(up) = &state.out {
            up.source.send_applied(version);
        }
        drop(state);
        self.progress.notify_waiters();
    }

    fn want_snapshot(&self, lane: &Lane, why: &str) {
        tracing::warn!(peer = %lane.name, why, "the peer's interest is asked for anew");
        if let Some(up) = &lane.state.lock().out {
            up.source.send(&Control::SnapshotWanted);
        }
    }

    /// The peer has applied this node's interest up to `version`. What it published before may still be on its way.
    fn confirmed_by(&self, lane: &Lane, link: &LinkInfo, version: u64) {
        let mut state = lane.state.lock();
        if state.inward.as_ref().is_none_or(|up| up.link.epoch != link.epoch) {
            return;
        }
        state.caught_up(version);
        drop(state);
        self.progress.notify_waiters();
    }

    /// All that the peer published before it had applied this node's interest up to `version` has come, or won't. So here, and not before,
    /// stands the gap of those whom it confirms late.
    fn counts_from_here(&self, lane: &Lane, version: u64) {
        let late = lane.state.lock().counts_from_here(version);
        match late {
            Late::All => self.tell_everybody(&lane.possible_gap(&[])),
            Late::These(late) => {
                for (mailbox, topics) in late {
                    if let Some(mailbox) = mailbox.upgrade() {
                        mailbox.push_gap(lane.possible_gap(&topics));
                    }
                }
            }
        }
    }

    fn gap_from(&self, lane: &Lane, topic: Option<Topic>, missing: u64, certain: bool) {
        let gap = codec::gap_of(topic.clone(), missing, certain, &lane.origin);
        match topic {
            Some(topic) => self.registry.push_gap(&topic, &gap),
            // Which topics is not known any more: possible for everybody, certain for nobody.
            None => self.tell_everybody(&Gap { certain: false, missing: None, ..gap }),
        }
    }

    fn synced(&self, lane: &Lane, ticket: u64) {
        self.syncs.answer(ticket, &lane.name, (), self.clock.now());
    }

    fn delivered(&self, lane: &Lane, batch: &Batch, subscriptions: u64) {
        if batch.head().ticket != 0 {
            self.answer(lane, &Control::Delivered { ticket: batch.head().ticket, subscriptions });
        }
    }

    pub(super) fn answer(&self, lane: &Lane, answer: &Control) {
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
                Ok(Item::Marker { ticket }) => self.synced(lane, ticket),
                Ok(Item::InterestPlace { version }) => self.counts_from_here(lane, version),
                Ok(Item::Gap { topic, missing, certain }) => {
                    self.gap_from(lane, topic, missing, certain);
                }
                Err(error) => {
                    tracing::warn!(peer = %lane.name, %error, "a content item can't be read");
                    self.tell_everybody(&lane.possible_gap(&[]));
                }
            }
        }
    }
}
