//! The router's own rhythm: counts of interest every 100 ms, stalled mailboxes every second, members as they come and go.

use std::sync::Arc;
use std::time::Duration;

use super::Router;
use super::lane::Lane;
use crate::membership::{MemberState, Members};
use crate::pubsub::{GapReason, Origin};
use crate::supervise::Shutdown;
use crate::types::Replica;

const COUNTS_EVERY: Duration = Duration::from_millis(100);
const STALLED_EVERY_TICKS: u32 = 10;
/// What a sender has kept for one age is lost, and told once it is linked again, where the loss ends. Whoever waits for that link is told
/// without it after so many ages.
const AGES_UNTOLD_MAX: u32 = 2;
/// Whoever leaves closes its links at the end of it. One whose link has been gone for longer had no way to send what it had.
const LEAVING_MAX: Duration = Duration::from_secs(3);

impl Router {
    pub(super) async fn watch(self: Arc<Self>, shutdown: Shutdown) {
        let mut members = self.membership.watch();
        let mut ticks = tokio::time::interval(COUNTS_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick = 0_u32;
        // By a statement of its own: what is borrowed must have been given back when the members are looked at again.
        let view = members.borrow_and_update().clone();
        self.members_changed(&view);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = members.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let view = members.borrow_and_update().clone();
                    self.members_changed(&view);
                }
                _ = ticks.tick() => {
                    let changed = self.interest.lock().announce_counts();
                    if changed {
                        self.announce();
                    }
                    tick = tick.wrapping_add(1);
                    if tick.is_multiple_of(STALLED_EVERY_TICKS) {
                        let limits = self.limits.get();
                        self.close_stalled(limits.mailbox_stall);
                        self.expire_outboxes(limits.link_window_age);
                        self.give_up_unlinked(limits.link_window_age);
                        for lane in self.lanes().iter() {
                            self.tell_if_lost(lane);
                        }
                    }
                }
            }
        }
    }

    fn members_changed(&self, view: &Members) {
        if let Some(me) = view.me() {
            let mut origin = self.origin.write();
            if origin.incarnation != me.incarnation {
                *origin = Arc::new(Origin::new(&self.config.name, me.incarnation));
            }
        }
        for member in view.live_peers() {
            self.lane(&member.name);
        }
        for lane in self.lanes().iter() {
            if let Some(member) = view.get(&lane.name) {
                let mut state = lane.state.lock();
                let now = self.clock.now();
                let is_heard = state.inward.is_some()
                    || state.gone_since.is_some_and(|since| now - since < LEAVING_MAX);
                state.leaving |= member.state == MemberState::Leaving && is_heard;
                if state.pair.is_some_and(|(_, peer)| peer < member.incarnation) {
                    // Nobody will ask for it any more.
                    lane.give_up(&mut state, self.clock.now());
                }
            }
            self.tell_if_lost(lane);
        }
        let unlinked = |lane: &Lane| {
            let state = lane.state.lock();
            state.out.is_none() && state.inward.is_none()
        };
        let mut lanes = self.lanes.write();
        if lanes.iter().any(|lane| view.get(&lane.name).is_none() && unlinked(lane)) {
            *lanes = lanes
                .iter()
                .filter(|lane| view.get(&lane.name).is_some() || !unlinked(lane))
                .cloned()
                .collect();
        }
        drop(lanes);
        self.progress.notify_waiters();
    }

    /// What is kept for a peer to which there has been no link for `age` is not kept any longer. A gap is the first that it gets when it
    /// is linked again.
    fn give_up_unlinked(&self, age: Duration) {
        let now = self.clock.now();
        for lane in self.lanes().iter() {
            let mut state = lane.state.lock();
            let gone = state.out_gone_since.is_some_and(|since| now - since >= age);
            if gone && state.out.is_none() && state.pair.is_some() {
                tracing::info!(peer = %lane.name, "what was kept for the peer is given up");
                lane.give_up(&mut state, now);
            }
        }
    }

    /// A member whose death is confirmed, or from which there has been no link for long after it has stopped to keep anything, may have
    /// taken messages with it that were not sent yet: everybody who could have got some is told, once after each of its links. One that
    /// left by a link that was there had sent what it had; one that is merely silent may come back, and then its next link goes on where this one ended. What one
    /// that comes back has published since is told when it does.
    pub(super) fn tell_if_lost(&self, lane: &Lane) {
        let Some(heard) = lane.state.lock().heard else { return };
        let view = self.membership.members();
        let replica = Replica { name: lane.name.clone(), incarnation: heard };
        let dead = view.get(&lane.name).is_none_or(|member| member.incarnation > heard)
            || self.membership.confirmed_dead(&replica);
        let (now, age) = (self.clock.now(), self.limits.get().link_window_age);
        let mut state = lane.state.lock();
        let gone = state.gone_since.is_some_and(|since| now - since >= age * AGES_UNTOLD_MAX);
        let told = state.lost_told || state.leaving || state.heard != Some(heard);
        if state.inward.is_some() || told || !(dead || gone) {
            return;
        }
        state.lost_told = true;
        state.unconfirmed.clear();
        state.unconfirmed_beyond = None;
        drop(state);
        let reason = if dead { GapReason::MemberLost } else { GapReason::Link };
        self.tell_everybody(&lane.lost(reason));
    }
}
