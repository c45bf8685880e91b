//! ○ Agreeing on the order of commands, and keeping them: openraft behind our own words.
//!
//! `types` says what openraft is given, `store` keeps log, vote, snapshots and the member's copy of the facts, `calls` and `network` are
//! what members ask each other, `group` is a member's part in it all, `founding` ● says
//! when a group begins and ends, `seats` ● who votes, `tend` does what whoever leads has to do.

pub mod calls;
pub mod carrier;
pub mod founding;
pub mod group;
mod network;
pub mod seats;
pub mod store;
pub mod tend;
#[cfg(test)]
mod tests;
pub mod types;

pub use group::{Group, GroupReport};
