//! What links bring of presence. Called from the links' own tasks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::codec::{self, CodecError, Frame};
use super::lane::{Lane, LaneState, Log};
use super::source::Source;
use super::staged::Verdict;
use super::{Asked, Replicator};
use crate::link::{LinkInfo, Pace, StateHandler, StateSource};
use crate::metrics::names;
use crate::presence::{Delta, Handed, Kind, MergeError, Row, SHARDS, Want, shard_of};
use crate::types::{NodeName, Time};

/// Rows go to a peer again after so long at the earliest.
const ROWS_EVERY: Duration = Duration::from_millis(600);
/// What was asked for is not asked for again within this time, of anybody.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Questions for one peer at once.
const WANTS_MAX: usize = 8_192;
/// Handed entries taken over while one lock is held.
const ADOPT_BATCH: usize = 500;

impl StateHandler for Replicator {
    fn up(&self, link: &LinkInfo) -> Arc<dyn StateSource> {
        // Before it speaks: what a stranger says is refused.
        self.follow_members();
        let lane = self.lane(&link.peer);
        if lane.up(link) {
            self.handings.gone(&link.peer);
            self.give_up(&link.peer);
        }
        let link = (link.direction, link.epoch);
        Arc::new(Source { replicator: self.me(), lane, link })
    }

    fn down(&self, link: &LinkInfo) {
        let lane = self.lane(&link.peer);
        if lane.down(link) {
            self.handings.gone(&link.peer);
            self.give_up(&link.peer);
        }
        if !lane.state.lock().is_up() {
            self.asked.lock().retain(|_, asked| asked.peer != link.peer);
        }
    }

    fn state(&self, link: &LinkInfo, payload: Bytes) -> Result<Pace, String> {
        let frame = match codec::decode(payload, &self.hasher) {
            Ok(frame) => frame,
            Err(CodecError::Bad(what)) => {
                refused("malformed");
                tracing::debug!(peer = %link.peer, what, "refused of a peer's presence");
                return Ok(Pace::ReadOn);
            }
            Err(error @ CodecError::Protobuf(_)) => return Err(format!("state frame: {error}")),
        };
        let lane = self.lane(&link.peer);
        match frame {
            Frame::Rows { rows, last } => self.compare(&lane, rows, last),
            Frame::RowsWanted => {
                lane.state.lock().rows_due = true;
                lane.wake();
            }
            Frame::Delta { shard, delta } => self.merge(&lane, shard, delta),
            Frame::Wanted { shard, want } => self.asked_for(&lane, shard, want),
            Frame::Adopt { ticket, entries, last } => self.take_over(&lane, ticket, entries, last),
            Frame::Adopted { ticket, entries } => {
                self.handings.answered(ticket, &link.peer, entries);
            }
            Frame::Mark { ticket } => {
                lane.state.lock().put_ready(Frame::Applied { ticket });
                lane.wake();
            }
            Frame::Applied { ticket } => {
                let mark = lane.state.lock().mark.take_if(|(sent, _)| *sent == ticket);
                if let Some((_, since)) = mark {
                    let took = self.now().since(since);
                    metrics::histogram!(names::PRESENCE_PROPAGATION).record(took);
                }
            }
        }
        Ok(Pace::ReadOn)
    }

    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        let Some(theirs) = codec::decode_hash(&payload).map_err(|error| error.to_string())? else {
            return Ok(());
        };
        if theirs == self.row_hash() {
            return Ok(());
        }
        let lane = self.lane(&link.peer);
        let mut state = lane.state.lock();
        let now = self.now();
        if state.rows_sent.is_none_or(|at| now.since(at) >= ROWS_EVERY) {
            state.rows_due = true;
            drop(state);
            lane.wake();
        }
        Ok(())
    }
}

impl Replicator {
    /// What the peer has and this node lacks is asked for; where it stands with this node's own log is where that goes on.
    fn compare(&self, lane: &Arc<Lane>, rows: Vec<(usize, Row)>, last: bool) {
        let now = self.now();
        let me = self.shards.me();
        let mut of_shards: [Vec<Row>; SHARDS] = std::array::from_fn(|_| Vec::new());
        for (shard, row) in rows {
            of_shards[shard].push(row);
        }
        let mut state = lane.state.lock();
        for (shard, rows) in of_shards.iter().enumerate() {
            if let Some(row) = rows.iter().find(|row| row.replica == me) {
                state.peer_has(shard, row.counter, self.shards.own_counter(shard));
            }
        }
        if last {
            state.peer_said_all();
        }
        if state.begins_comparison(last, now) {
            for (shard, rows) in of_shards.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
                let wants = self.shards.lock(shard).tracker.wants(rows, &lane.name, now);
                for want in wants {
                    self.ask(&lane.name, &mut state, (want.replica.clone(), shard), want, now);
                }
            }
        }
        drop(state);
        lane.wake();
    }

    fn ask(&self, peer: &NodeName, state: &mut LaneState, log: Log, want: Want, now: Time) {
        let mut asked = self.asked.lock();
        let recently = asked.get(&log).is_some_and(|asked| now.since(asked.at) < ASK_AGAIN);
        if recently || state.wants.len() >= WANTS_MAX {
            return;
        }
        asked.insert(log.clone(), Asked { peer: peer.clone(), at: now });
        state.wants.insert(log, want);
    }

    fn merge(&self, lane: &Arc<Lane>, shard: usize, delta: Delta) {
        let log = (delta.replica.clone(), shard);
        let (kind, relayed) = (delta.kind, delta.replica.name != lane.name);
        if !self.has_room_for(&lane.name, &log, &delta) {
            return;
        }
        let merged =
            self.change(shard, |tracker, diff, now| tracker.merge(&lane.name, delta, now, diff));
        match merged {
            Ok(merged) => {
                if merged.more {
                    self.shards.news.notify_one();
                }
                self.answered(&log, kind, relayed);
            }
            Err(error) => {
                refused(error.reason());
                tracing::debug!(peer = %lane.name, replica = %log.0, shard, %error, "refused of a peer's presence");
                if let MergeError::Gap { have, .. } = error {
                    let want = Want { replica: log.0.clone(), from: have, whole: false };
                    self.ask(&lane.name, &mut lane.state.lock(), log, want, self.now());
                    lane.wake();
                }
            }
        }
    }

    /// Of a part of a whole: whether it may be held until the last is here.
    fn has_room_for(&self, peer: &NodeName, log: &Log, delta: &Delta) -> bool {
        let most = self.config.transfer_max;
        let verdict = self.staged.lock().part(peer, log, delta, most, self.now());
        match verdict {
            Verdict::Take { instead_of } => {
                if let Some(before) = instead_of {
                    self.drop_stage(peer, &before);
                }
                true
            }
            Verdict::Refuse => {
                refused("transfer_too_large");
                tracing::warn!(%peer, replica = %log.0, shard = log.1, limit = most, "refused a whole presence state: too much is held already");
                self.drop_stage(peer, log);
                false
            }
        }
    }

    /// The rest of what that peer was sending will not come.
    fn give_up(&self, peer: &NodeName) {
        let held = self.staged.lock().give_up(peer);
        if let Some(log) = held {
            self.drop_stage(peer, &log);
        }
    }

    fn drop_stage(&self, peer: &NodeName, (replica, shard): &Log) {
        self.change(*shard, |tracker, _, _| tracker.abandon(replica, peer));
    }

    /// Lets go of wholes that don't go on.
    pub(super) fn sweep_staged(&self) {
        let stale = self.staged.lock().sweep(self.now());
        for (peer, log) in stale {
            self.drop_stage(&peer, &log);
        }
    }

    /// Part of what was asked for is here, or all of it.
    fn answered(&self, log: &Log, kind: Kind, relayed: bool) {
        let mut asked = self.asked.lock();
        let was_asked = asked.contains_key(log);
        match kind {
            Kind::Whole { last: false, .. } => {
                if let Some(asked) = asked.get_mut(log) {
                    asked.at = self.clock.now();
                }
            }
            Kind::Whole { last: true, .. } => {
                asked.remove(log);
                repaired("whole");
            }
            Kind::Interval => {
                asked.remove(log);
                if was_asked || relayed {
                    repaired("interval");
                }
            }
        }
    }

    fn asked_for(&self, lane: &Arc<Lane>, shard: usize, want: Want) {
        // So that a peer can't make this node keep what nobody knows.
        if self.shards.lock(shard).tracker.counter_of(&want.replica).is_none() {
            refused("unknown_want");
            return;
        }
        let log = (want.replica.clone(), shard);
        lane.state.lock().answer(log, want, &self.shards.me());
        lane.wake();
    }

    /// A departing node's entries are this node's from now on.
    fn take_over(&self, lane: &Arc<Lane>, ticket: u64, entries: Vec<Handed>, last: bool) {
        let count = entries.len() as u64;
        let mut of_shards: [Vec<Handed>; SHARDS] = std::array::from_fn(|_| Vec::new());
        for handed in entries {
            of_shards[shard_of(&handed.topic)].push(handed);
        }
        for (shard, mut entries) in of_shards.into_iter().enumerate() {
            while !entries.is_empty() {
                let rest = entries.split_off(entries.len().min(ADOPT_BATCH));
                let some = std::mem::replace(&mut entries, rest);
                self.change(shard, |tracker, diff, now| tracker.adopt(some, now, diff));
            }
        }
        let mut state = lane.state.lock();
        let total = state.taken_over(ticket, count);
        if last {
            state.put_ready(Frame::Adopted { ticket, entries: total });
            drop(state);
            tracing::info!(peer = %lane.name, entries = total, "took over the presences of a departing node");
            lane.wake();
        }
    }
}

fn refused(reason: &'static str) {
    metrics::counter!(names::PRESENCE_REFUSED, "reason" => reason).increment(1);
}

fn repaired(kind: &'static str) {
    metrics::counter!(names::PRESENCE_REPAIRS, "kind" => kind).increment(1);
}
