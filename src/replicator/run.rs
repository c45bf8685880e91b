//! The replicator's one task: ticks of watched topics, members as they come and go, whatever is due in the shards.

use std::sync::Arc;
use std::time::Duration;

use super::Replicator;
use super::watch::Ticker;
use crate::presence::SHARDS;
use crate::supervise::Shutdown;

/// A deadline in a shard is seen so late at most; linger and orphans need no more.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SWEEP_EVERY_LOOKS: u32 = 20;

impl Replicator {
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut members = self.roster.watch();
        self.follow_members();
        let mut ticker = Ticker::new(self.config.diff_interval);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = 0_u32;
        loop {
            let now = self.now();
            let next = ticker.run(&self.shards, &self.watches, now);
            let due = async {
                match next {
                    // A timer would round that up.
                    Some(at) if at <= now => tokio::task::yield_now().await,
                    Some(at) => tokio::time::sleep(at.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.shards.news.notified() => {}
                () = due => {}
                changed = members.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow_members();
                }
                _ = looks.tick() => {
                    look = look.wrapping_add(1);
                    if look.is_multiple_of(SWEEP_EVERY_LOOKS) {
                        self.sweep_lives();
                        self.sweep_asked();
                        self.sweep_staged();
                    }
                }
            }
            self.tick_shards().await;
        }
    }

    /// Works on what is due in the shards, a bounded piece for each lock, others getting their turn in between.
    async fn tick_shards(&self) {
        for shard in 0..SHARDS {
            loop {
                let now = self.now();
                let due = self.shards.lock(shard).tracker.next_deadline();
                if due.is_none_or(|due| due > now) {
                    break;
                }
                self.change(shard, |tracker, diff, now| tracker.tick(now, diff));
                tokio::task::yield_now().await;
            }
        }
    }

    /// What nobody answered may be asked again, and is no repair that is under way.
    fn sweep_asked(&self) {
        let now = self.now();
        self.asked.lock().retain(|_, asked| now.since(asked.at) < super::links::ASK_AGAIN);
    }
}
