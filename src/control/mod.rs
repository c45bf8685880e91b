//! The agreed facts: namespaces, keys, quotas and leases, the same on every member, and never awaited by the data path.
//!
//! `model` ● is the replicated machine: what a command does. `raft` ○ agrees on the order of commands and keeps them. `codec` is how
//! either becomes bytes.

pub mod codec;
pub mod model;
pub mod part;
pub mod raft;
