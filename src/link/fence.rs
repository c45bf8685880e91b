//! At most one reader for each peer's link to this node: a new epoch waits until the older one's reader has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::epochs::{Epochs, Known};
use super::frame::Refusal;
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
        Ok(Claim { had_epoch, end, ended, older })
    }

    /// Ends every reader whose epoch is not current, and forgets peers that are no members.
    pub(super) fn retain(
        &self,
        current: impl Fn(&NodeName, LinkEpoch) -> bool,
        member: impl Fn(&NodeName) -> bool,
    ) {
        let mut state = self.state.lock();
        state.epochs.retain(&member);
        state.newest.retain(|peer, held| {
            if !current(peer, held.epoch) {
                held.end.cancel();
            }
            member(peer) || held.ended.iter().any(|ended| !ended.is_cancelled())
        });
    }
}

impl Claim {
    pub(super) async fn older_ended(&self) {
        for ended in &self.older {
            ended.cancelled().await;
        }
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
