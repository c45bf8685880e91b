//! What one link sends of presence, made at the moment when it can write.

use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use super::lane::Lane;
use super::{Replicator, codec};
use crate::link::{Direction, StateSource};
use crate::presence::SHARDS;
use crate::types::LinkEpoch;

/// Of one link in one life.
pub(super) struct Source {
    pub(super) replicator: Arc<Replicator>,
    pub(super) lane: Arc<Lane>,
    pub(super) link: (Direction, LinkEpoch),
}

impl StateSource for Source {
    fn take_state(&self, out: &mut Vec<Bytes>, bytes_max: usize) {
        let replicator = &self.replicator;
        let now = replicator.now();
        let again = self.lane.state.lock().fill(self.link, &replicator.shards, now, bytes_max, out);
        if again {
            self.lane.wake();
        }
    }

    fn ping(&self) -> Bytes {
        codec::encode_hash(self.replicator.row_hash())
    }

    fn register(&self, cx: &mut Context<'_>) {
        self.lane.register(self.link.0, cx.waker());
    }
}

impl Replicator {
    /// Over all rows: equal where two nodes have the same.
    pub(super) fn row_hash(&self) -> u64 {
        (0..SHARDS).fold(0, |all, shard| {
            let hash = self.shards.lock(shard).tracker.row_hash();
            all ^ hash.rotate_left(u32::try_from(shard * 4).unwrap_or(0))
        })
    }
}
