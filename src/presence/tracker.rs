//! One shard: the door to everything in this module.

#![allow(
    clippy::todo,
    clippy::unused_self,
    clippy::needless_pass_by_value,
    dead_code,
    unused_variables,
    reason = "signatures first: the shells build against them; bodies follow at once"
)]

use crate::types::{NodeName, Replica, SessionId, Time, Topic};

use super::{
    Answer, Count, Delta, Diff, Handed, MergeError, Merged, Owner, Report, Row, Shown, Track,
    TrackError, Tracked, Untrack, Untracked, Want,
};

/// All presences of one shard as this node knows them. Plain data: no lock, no clock. Calls that change something append what
/// they changed to a [`Diff`]. No call works on much more than 1,000 claims (copies of whole lists aside): what is left over is
/// done by [`Tracker::tick`], and [`Tracker::next_deadline`] is not later than now meanwhile.
#[derive(Debug)]
pub struct Tracker {
    me: Replica,
}

/// What sessions of this node ask for.
impl Tracker {
    pub fn new(me: Replica) -> Self {
        Self { me }
    }

    pub fn me(&self) -> &Replica {
        &self.me
    }

    /// `unix_ms` is for people only: since when.
    pub fn track(
        &mut self,
        owner: &Owner,
        track: &Track,
        now: Time,
        unix_ms: u64,
        diff: &mut Diff,
    ) -> Result<Tracked, TrackError> {
        todo!()
    }

    /// As `track`, of something that this session tracks already.
    pub fn update(
        &mut self,
        owner: &Owner,
        track: &Track,
        now: Time,
        diff: &mut Diff,
    ) -> Result<Tracked, TrackError> {
        todo!()
    }

    pub fn untrack(
        &mut self,
        session: SessionId,
        untrack: &Untrack,
        now: Time,
        diff: &mut Diff,
    ) -> Untracked {
        todo!()
    }

    /// After every welcome: what the session has anywhere is adopted, what arrives later too.
    pub fn attached(&mut self, owner: &Owner, now: Time, diff: &mut Diff) {
        todo!()
    }

    /// The session is attached elsewhere, at this epoch: what isn't taken over there within its linger goes.
    pub fn moved(&mut self, session: SessionId, epoch: u64, now: Time) {
        todo!()
    }

    pub fn ended(&mut self, session: SessionId, now: Time, diff: &mut Diff) {
        todo!()
    }

    /// The session ends then, unless it is attached, moved or given another time before.
    pub fn expire(&mut self, session: SessionId, at: Time) {
        todo!()
    }

    /// How many presences of this shard the session holds here.
    pub fn tracked_by(&self, session: SessionId) -> usize {
        todo!()
    }

    /// Everything that this node's sessions hold, for another node to adopt. From now on they count as moved.
    /// `remaining` of each is its linger: the shell subtracts what has run already.
    pub fn hand_over(&mut self, now: Time) -> Vec<Handed> {
        todo!()
    }

    /// What another node hands over.
    pub fn adopt(&mut self, handed: Vec<Handed>, now: Time, diff: &mut Diff) {
        todo!()
    }

    /// This node goes on under a new incarnation: everything it holds is minted again, and nothing that shows changes.
    pub fn reincarnate(&mut self, me: Replica, now: Time, diff: &mut Diff) {
        todo!()
    }
}

/// Replicas come and go.
impl Tracker {
    /// Known and alive. False: it was forgotten, or its name has a newer incarnation; nothing changed.
    pub fn replica_up(&mut self, replica: &Replica, now: Time, diff: &mut Diff) -> bool {
        todo!()
    }

    /// Silent `since` then; it may come back. Known from now on, if it wasn't.
    pub fn replica_down(&mut self, replica: &Replica, since: Time, now: Time, diff: &mut Diff) {
        todo!()
    }

    /// It can't return: it left, or a newer incarnation of its name is there. As down, then forgotten by itself once nothing
    /// of it shows.
    pub fn replica_gone(&mut self, replica: &Replica, since: Time, now: Time, diff: &mut Diff) {
        todo!()
    }

    /// Nothing of this incarnation, or of older ones of its name, is ever accepted again.
    pub fn forget(&mut self, replica: &Replica, now: Time, diff: &mut Diff) {
        todo!()
    }
}

/// Between nodes.
impl Tracker {
    /// How far this node is with each replica that isn't forgotten, itself included; in the order of replicas.
    pub fn rows(&self) -> Vec<Row> {
        todo!()
    }

    /// One hash over all rows, for pings.
    pub fn row_hash(&self) -> u64 {
        todo!()
    }

    /// The number of this node's last operation.
    pub fn own_counter(&self) -> u64 {
        todo!()
    }

    /// `None`: not known, or forgotten.
    pub fn counter_of(&self, replica: &Replica) -> Option<u64> {
        todo!()
    }

    /// What somebody who has `from` of that replica lacks. At most about `entries_max` entries and as many removals, except in a
    /// whole.
    pub fn interval(&self, replica: &Replica, from: u64, entries_max: usize, now: Time) -> Answer {
        todo!()
    }

    /// Everything of that replica, whatever the log could serve: for a want with `whole`.
    pub fn whole(&self, replica: &Replica, now: Time) -> Answer {
        todo!()
    }

    /// What to ask that peer for, given its rows.
    pub fn wants(&mut self, rows: &[Row], peer: &NodeName, now: Time) -> Vec<Want> {
        todo!()
    }

    /// `source` is the peer that sent it: parts of one whole must come from one peer.
    pub fn merge(
        &mut self,
        source: &NodeName,
        delta: Delta,
        now: Time,
        diff: &mut Diff,
    ) -> Result<Merged, MergeError> {
        todo!()
    }

    /// Whatever is due. Call it when `next_deadline` has passed, and again while it has.
    pub fn tick(&mut self, now: Time, diff: &mut Diff) {
        todo!()
    }

    pub fn next_deadline(&self) -> Option<Time> {
        todo!()
    }
}

/// Reading.
impl Tracker {
    pub fn count(&self, topic: &Topic) -> Count {
        todo!()
    }

    /// Presences of one key that show.
    pub fn count_of_key(&self, topic: &Topic, key: &str) -> usize {
        todo!()
    }

    /// In the order of (key, id), those after `after`; of one key where it is given.
    pub fn page(
        &self,
        topic: &Topic,
        key: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Vec<Shown> {
        todo!()
    }

    /// Everything of a topic, in the order of (key, id).
    pub fn snapshot(&self, topic: &Topic) -> Vec<Shown> {
        todo!()
    }

    /// Topics where something shows, in no order.
    pub fn topics(&self) -> impl Iterator<Item = (&Topic, Count)> {
        std::iter::empty()
    }

    /// Rises with every change that shows.
    pub fn version(&self) -> u64 {
        todo!()
    }

    pub fn report(&self) -> Report {
        todo!()
    }
}
