//! Following what changes of the copy's leases.

use std::collections::BTreeSet;

use super::super::model::LeaseKey;
use super::super::raft::types::RaftId;
use super::ControlHandle;

/// How far somebody has followed the leases of this member's copies.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeasesSeen(Option<(RaftId, u64)>);

impl ControlHandle {
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
