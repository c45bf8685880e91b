//! At most one reader for each peer's link to this node: a new epoch waits until the older one's reader has ended, and goes on from
//! where that was.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::epochs::{Epochs, Known};
use super::frame::{Accepted, Refusal};
use super::sequence::Received;
use crate::supervise::Shutdown;
use crate::types::{LinkEpoch, NodeName};

/// Cheap to clone; clones share the claims.
#[derive(Debug, Clone, Default)]
pub(super) struct Fence {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    epochs: Epochs,
    newest: BTreeMap<NodeName, Held>,
    /// Of the two incarnations that the newest epoch is between.
    memories: BTreeMap<NodeName, Arc<Mutex<Memory>>>,
}

/// What is known of a peer's content, over all epochs of two incarnations.
#[derive(Debug, Default)]
struct Memory {
    received: Received,
    /// How often everything was declared lost.
    lost: u64,
}

#[derive(Debug)]
struct Held {
    epoch: LinkEpoch,
    /// Told to end.
    end: Shutdown,
    /// Cancelled when it, or an older one, has ended.
    ended: Vec<Shutdown>,
}

/// The right to be the one reader of a peer's link. Given back by dropping it.
#[derive(Debug)]
pub(super) struct Claim {
    pub had_epoch: bool,
    memory: Arc<Mutex<Memory>>,
    end: Shutdown,
    ended: Shutdown,
    /// Of older epochs that may not have ended yet.
    older: Vec<Shutdown>,
}

impl Fence {
    /// Begins `epoch` and tells the older one to end. Wait for `Claim::older_ended` before anything else.
    pub(super) fn claim(
        &self,
        peer: &NodeName,
        epoch: LinkEpoch,
        known: Known,
        shutdown: &Shutdown,
    ) -> Result<Claim, Refusal> {
        let mut state = self.state.lock();
        let had_epoch = state.epochs.claim(peer, epoch, known)?;
        let mut older = match state.newest.remove(peer) {
            Some(held) => {
                held.end.cancel();
                held.ended
            }
            None => Vec::new(),
        };
        older.retain(|ended| !ended.is_cancelled());
        let (end, ended) = (shutdown.child_token(), Shutdown::new());
        // One that waits in vain for an older one is itself waited for: so whoever comes third waits for both.
        let all = older.iter().chain([&ended]).cloned().collect();
        state.newest.insert(peer.clone(), Held { epoch, end: end.clone(), ended: all });
        if !had_epoch {
            // Whoever still reads in the name of another incarnation keeps its own.
            state.memories.insert(peer.clone(), Arc::default());
        }
        let memory = state.memories.entry(peer.clone()).or_default().clone();
        Ok(Claim { had_epoch, memory, end, ended, older })
    }

    /// Ends every reader whose epoch is not current, and forgets peers that are no members.
    pub(super) fn retain(
        &self,
        current: impl Fn(&NodeName, LinkEpoch) -> bool,
        member: impl Fn(&NodeName) -> bool,
    ) {
        let mut state = self.state.lock();
        state.epochs.retain(&member);
        state.memories.retain(|peer, _| member(peer));
        state.newest.retain(|peer, held| {
            if !current(peer, held.epoch) {
                held.end.cancel();
            }
            member(peer) || held.ended.iter().any(|ended| !ended.is_cancelled())
        });
    }
}

impl Claim {
    /// Somebody still reads for an older epoch.
    pub(super) fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    pub(super) async fn older_ended(&self) {
        for ended in &self.older {
            ended.cancelled().await;
        }
    }

    /// Where this epoch goes on, and the words that tell the dialer. `all_lost`: since the last epoch, whatever the peer might still
    /// send was declared lost. Only once older epochs have ended.
    pub(super) fn resume(&self, all_lost: bool) -> (Received, Accepted) {
        debug_assert!(self.older.iter().all(Shutdown::is_cancelled), "an older epoch still reads");
        let mut memory = self.memory.lock();
        if all_lost {
            memory.lost += 1;
            memory.received.declare_lost();
        }
        let Memory { received, lost } = *memory;
        (received, Accepted { position: received.expected(), had_epoch: self.had_epoch, lost })
    }

    /// What the next epoch goes on from.
    pub(super) fn keep(&self, received: Received) {
        self.memory.lock().received = received;
    }

    /// Cancelled when a newer epoch wants to begin, this one is outdated, or the node stops.
    pub(super) fn end(&self) -> Shutdown {
        self.end.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.is_cancelled()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
