//! Departing: this node's presences go to a peer, and everybody has heard its last word.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Replicator, ReplicatorHandle};
use crate::membership::MemberState;
use crate::presence::{Handed, SHARDS};
use crate::types::{NodeName, SessionId, Time};

/// When every peer's link has failed once.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Entries that a peer is to answer for, by ticket.
#[derive(Debug, Default)]
pub(super) struct Handings(Mutex<HashMap<u64, Handing>>);

#[derive(Debug)]
struct Handing {
    peer: NodeName,
    done: oneshot::Sender<u64>,
}

impl Handings {
    /// What was on its way to that peer may be lost.
    pub(super) fn gone(&self, peer: &NodeName) {
        self.0.lock().retain(|_, handing| handing.peer != *peer);
    }

    pub(super) fn answered(&self, ticket: u64, peer: &NodeName, entries: u64) {
        let mut all = self.0.lock();
        if all.get(&ticket).is_some_and(|handing| handing.peer == *peer)
            && let Some(handing) = all.remove(&ticket)
        {
            // Nobody waits any more: the time was over.
            let _ = handing.done.send(entries);
        }
    }
}

/// What became of this node's presences.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandedOver {
    /// Those that were still here.
    pub entries: usize,
    /// Who has said that it owns them now.
    pub to: Option<NodeName>,
}

impl ReplicatorHandle {
    /// Gives what this node's sessions still hold to a ready peer, and ends with its answer, or after `within`. From then on nobody may
    /// track here. `lingering`: sessions without an attachment, and when they end.
    pub async fn hand_over(
        &self,
        lingering: HashMap<SessionId, Time>,
        within: Duration,
    ) -> HandedOver {
        let replicator = &self.0;
        let since = replicator.now();
        let give_up = since + within;
        let mut handed: Vec<Handed> = Vec::new();
        replicator.change_all(|tracker, _, now| {
            handed.append(&mut tracker.hand_over(&lingering, now));
        });
        let entries = handed.len();
        if entries == 0 {
            return HandedOver::default();
        }
        let mut tried: Vec<NodeName> = Vec::new();
        loop {
            let now = replicator.now();
            let left = give_up.since(now);
            match replicator.heir(&tried) {
                Some(peer)
                    if replicator.hand_to(&peer, after(&handed, now.since(since)), left).await =>
                {
                    return HandedOver { entries, to: Some(peer) };
                }
                // Its link has changed: others first.
                Some(peer) => tried.push(peer),
                None if replicator.no_heir() => return HandedOver { entries, to: None },
                None => {
                    tried.clear();
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
            if replicator.now() >= give_up {
                return HandedOver { entries, to: None };
            }
        }
    }

    /// How many live, linked peers have not said that they have all of this node's operations. They are asked, so that the next look
    /// knows more.
    pub fn behind(&self) -> usize {
        let replicator = &self.0;
        let own: [u64; SHARDS] = std::array::from_fn(|shard| replicator.shards.own_counter(shard));
        let view = replicator.members();
        let mut behind = 0;
        for lane in replicator.lanes().iter() {
            let live = view.get(&lane.name).is_some_and(|member| member.state.is_live());
            let mut state = lane.state.lock();
            if !live || !state.is_up() || state.has == own {
                continue;
            }
            behind += 1;
            state.rows_wanted_due = true;
            drop(state);
            lane.wake();
        }
        behind
    }
}

/// The same, some time later.
fn after(handed: &[Handed], time: Duration) -> Vec<Handed> {
    let later =
        |one: &Handed| Handed { remaining: one.remaining.saturating_sub(time), ..one.clone() };
    handed.iter().map(later).collect()
}

impl Replicator {
    /// Ready and linked; the one with the fewest presences, as far as is known.
    fn heir(&self, tried: &[NodeName]) -> Option<NodeName> {
        let view = self.members();
        let ready = view.live_peers().filter(|member| {
            member.state == MemberState::Ready
                && !tried.contains(&member.name)
                && self.lane(&member.name).state.lock().is_up()
        });
        ready.min_by_key(|member| member.load.presences).map(|member| member.name.clone())
    }

    /// Nobody is there to take anything, linked or not.
    fn no_heir(&self) -> bool {
        !self.members().live_peers().any(|member| member.state == MemberState::Ready)
    }

    async fn hand_to(&self, peer: &NodeName, handed: Vec<Handed>, within: Duration) -> bool {
        let ticket = self.tickets.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (done, answer) = oneshot::channel();
        self.handings.0.lock().insert(ticket, Handing { peer: peer.clone(), done });
        let lane = self.lane(peer);
        lane.state.lock().hand(ticket, handed);
        lane.wake();
        let answered = tokio::time::timeout(within, answer).await;
        self.handings.0.lock().remove(&ticket);
        matches!(answered, Ok(Ok(_)))
    }
}
