//! Looking at the copy without keeping it, and following what changes of its leases.

use std::collections::BTreeSet;

use super::super::model::{LeaseKey, State};
use super::super::raft::types::RaftId;
use super::ControlHandle;

/// How far somebody has followed the leases of this member's copies.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeasesSeen(Option<(RaftId, u64)>);

impl ControlHandle {
    /// A short look at this member's copy; applying waits for its end.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        match self.shared.group() {
            Some(group) => group.copy().look(look),
            None => look(&self.shared.nothing),
        }
    }

    /// The index of the last entry that is in the copy; 0 before any.
    pub fn applied(&self) -> u64 {
        self.shared.group().map_or(0, |group| group.copy().applied())
    }

    /// Which leases that `concerns` have changed since. None: look at everything. Whoever looks afterwards sees what is told, or what came
    /// after it.
    pub fn leases_since(
        &self,
        seen: &mut LeasesSeen,
        concerns: impl Fn(&LeaseKey) -> bool,
    ) -> Option<BTreeSet<LeaseKey>> {
        let now = self.shared.now.read().clone();
        // Copies count from 1.
        let from = seen.0.filter(|(id, _)| *id == now.id).map_or(0, |(_, from)| from);
        let (changed, next) = match &now.group {
            Some(group) => group.copy().leases_since(from, concerns),
            None => (None, 0),
        };
        seen.0 = Some((now.id, next));
        changed
    }
}
