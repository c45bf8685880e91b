//! ● The replicated machine: what a command does to the agreed facts.
//!
//! Invariant: `State::apply` is a function of its arguments. No clock, no chance, nothing that depends on a hash map's order or on the
//! member it runs at; so members that applied the same entries have the same bytes. Reading order: `command` (what is asked and
//! answered), `state`, then `namespaces`, `keys` and `leases` (what each ask does); `deadlines` (which leases are over, by the clock of
//! whoever leads) and `reports` (what members have to say) look at a copy from outside, and are not replicated.

pub mod bounds;
pub mod command;
pub mod deadlines;
pub mod facts;
mod keys;
mod leases;
mod namespaces;
pub mod reports;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Acquire, Answer, Answers, Batch, Change, Command, Refusal};
pub use facts::{GroupId, Held, Lease, LeaseKey, MemberAt, Owner};
pub use leases::{lawful_lease, lawful_ttl};
pub use state::{Applied, State};
