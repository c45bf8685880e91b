//! Presence, decided: who is here, under which claim, and what a delta from another node changes. Plain data in, plain data out.
//!
//! One [`Tracker`] is one shard. Each replica (a node in one incarnation) writes only its own *claims*; each of its operations takes the
//! next counter, so a replica's part of a shard is a numbered log and a context is one contiguous counter for each replica.
//! A claim says: this session has this presence, with this metadata, under this claim number. Several claims of one presence
//! show as one (`order`); the nodes whose claims lost withdraw them, naming the successor, and a withdrawal is applied only
//! once the successor is known. That is why a presence that changes hands causes no event anywhere.

mod claim;
mod delta;
mod diff;
mod log;
mod name;
mod names;
mod order;
mod owners;
mod plant;
mod replica;
mod requests;
mod sessions;
mod set;
mod shown;
mod slab;
mod sorted;
mod timers;
mod tracker;
mod waiting;

pub use claim::{Asked, BadName, Claim, Fields};
pub use delta::{
    Answer, Delta, Dot, Entry, GivenUp, Kind, MergeError, Merged, Parts, Removal, Row, Want,
};
pub use diff::{Change, Diff};
#[doc(hidden)]
pub use plant::Plant;
pub use requests::{
    Handed, NOBODY, Outcome, Owner, Track, TrackError, Tracked, Untrack, Untracked,
};
pub use shown::{Count, Reference, Report, Shown};
pub use tracker::{Read, Reading, Tracker};

use crate::types::Topic;

/// How many shards the presences are spread over. Part of the links' settings: all nodes must agree.
pub const SHARDS: usize = 16;

/// The longest key and the longest id, in bytes.
pub const KEY_LEN_MAX: usize = 256;

/// Which shard a topic is in.
pub fn shard_of(topic: &Topic) -> usize {
    (topic.hash64() % SHARDS as u64) as usize
}

#[cfg(test)]
mod tests;
