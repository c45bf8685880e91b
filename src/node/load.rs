//! How many sessions and presences this node has, told to the members: coarsely and seldom, which the membership sees to.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::membership::Load;

const INTERVAL: Duration = Duration::from_secs(1);

/// Until the node stops.
pub(super) async fn report(parts: Arc<Parts>) {
    loop {
        let sessions = parts.broker.session_counts().attached;
        let presences = parts.replicator.own_presences();
        parts.membership.set_load(Load { sessions, presences });
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = parts.supervisor.shutdown().cancelled() => return,
        }
    }
}
