//! The task that keeps chitchat running and the view current.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::config::IncarnationStore;
use super::envelope::Control;
use super::gossip::{Gossip, GossipTiming};
use super::shared::{Next, Shared};
use crate::supervise::Shutdown;
use crate::supervise::backoff::Backoff;
use crate::types::Incarnation;

/// How often every known member hears from this node directly, down ones too.
const LIVENESS_EVERY: Duration = Duration::from_secs(1);
const SEEK_FIRST: Duration = Duration::from_millis(500);
const SEEK_MOST: Duration = Duration::from_secs(5);

enum End {
    Stop,
    /// chitchat ended by itself.
    Died(String),
    Left,
    Reincarnate(Incarnation),
}

/// Runs chitchat, and runs it again when it ends; everything that must outlive it is in `shared`. Returns only at shutdown.
pub(super) async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let timing = GossipTiming {
        interval: shared.config.gossip_interval,
        forget_after: shared.config.forget_after,
    };
    loop {
        let (me, saved, left) = {
            let core = shared.core.lock();
            (core.me.clone(), core.saved.clone(), core.left)
        };
        if left || shutdown.is_cancelled() {
            break;
        }
        let cluster = shared.config.cluster.as_str();
        let gossip = Gossip::start(&shared.wire, &shared.inbox, cluster, &me, timing, saved).await;
        let gossip = match gossip {
            Ok(gossip) => gossip,
            Err(error) => {
                tracing::error!(%error, "gossip could not be started; it is tried again");
                tokio::time::sleep(timing.interval).await;
                continue;
            }
        };
        let end = tokio::select! {
            () = shutdown.cancelled() => End::Stop,
            why = gossip.ended() => End::Died(why),
            end = drive(&shared, &gossip) => end,
            end = seek(&shared, &gossip) => end,
        };
        gossip.stop();
        match end {
            End::Stop | End::Left => break,
            End::Died(why) => {
                tracing::error!(why, "gossip ended; it is started again");
                tokio::time::sleep(timing.interval).await;
            }
            End::Reincarnate(above) => reincarnate(&shared, above).await,
        }
    }
    shutdown.cancelled().await;
}

async fn drive(shared: &Shared, gossip: &Gossip) -> End {
    let (period, known) = {
        let core = shared.core.lock();
        let known: Vec<_> = core.view.addresses().map(|(_, address)| address).collect();
        (core.view.timing().tick, known)
    };
    // A new run knows nobody.
    known.into_iter().for_each(|address| gossip.with(address));
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.wake.notified() => {}
        }
        let (rows, saved) = gossip.exchange(&shared.own_facts()).await;
        match shared.fold(&rows, saved) {
            Next::GoOn => {}
            Next::Left => return End::Left,
            Next::Reincarnate(above) => return End::Reincarnate(above),
        }
        let now = shared.clock.now();
        if told.is_none_or(|at| now.since(at) >= LIVENESS_EVERY) {
            told = Some(now);
            tell_all(shared, &Control::Liveness).await;
        }
    }
}

/// Sends this to every known member.
pub(super) async fn tell_all(shared: &Shared, control: &Control) {
    let addresses: Vec<_> =
        shared.core.lock().view.addresses().map(|(_, address)| address).collect();
    for address in addresses {
        shared.wire.send_control(address, control).await;
    }
}

/// Gossips to the seeds that are no live members: often while alone, else now and then, so that the halves of a partition that forgot
/// each other meet again.
async fn seek(shared: &Shared, gossip: &Gossip) -> End {
    let mut backoff = Backoff::new(SEEK_FIRST, SEEK_MOST);
    loop {
        let (seeds, live) = {
            let core = shared.core.lock();
            let now = shared.clock.now();
            let live = core.view.sights(now).filter(|sight| sight.live);
            (core.seeds.clone(), live.map(|sight| sight.address).collect::<Vec<_>>())
        };
        let found = shared.look_up_seeds(&seeds).await;
        found.into_iter().filter(|seed| !live.contains(seed)).for_each(|seed| gossip.with(seed));
        let random = shared.clock.now().as_micros().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        tokio::select! {
            () = tokio::time::sleep(backoff.next(random >> 32)) => {}
            () = shared.seek.notified() => backoff.reset(),
        }
    }
}

/// The next incarnation is above everything heard of, and on disk before it is used.
pub(super) fn next_incarnation(
    heard: Incarnation,
    store: Option<&Arc<dyn IncarnationStore>>,
    unix_ms: u64,
) -> Incarnation {
    let disk = store.map(|store| store.highest()).unwrap_or_default();
    Incarnation(heard.0.max(disk.0).max(unix_ms).saturating_add(1))
}

pub(super) async fn store_incarnation(
    store: Option<&Arc<dyn IncarnationStore>>,
    incarnation: Incarnation,
) -> std::io::Result<()> {
    let Some(store) = store.cloned() else { return Ok(()) };
    match tokio::task::spawn_blocking(move || store.store(incarnation)).await {
        Ok(stored) => stored,
        Err(failed) => Err(std::io::Error::other(failed)),
    }
}

async fn reincarnate(shared: &Shared, above: Incarnation) {
    let store = shared.config.incarnations.as_ref();
    let mine = shared.core.lock().me.replica.incarnation;
    let next = next_incarnation(above.max(mine), store, shared.clock.unix_ms());
    let stored = store_incarnation(store, next).await;
    if let Err(error) = &stored {
        tracing::error!(%error, "the incarnation could not be kept on disk");
    }
    tracing::warn!(from = %mine, to = %next, "a higher incarnation of this node is known; it takes a new one");
    let mut core = shared.core.lock();
    core.me.replica.incarnation = next;
    core.me.since = shared.clock.now();
    core.not_stored = stored.err().map(|error| error.to_string());
    shared.wire.set_incarnation(next);
}
