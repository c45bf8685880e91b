//! ○ Agreeing on the order of commands, and keeping them: openraft behind our own words.
//!
//! `types` says what openraft is given, `store` keeps log, vote, snapshots and the member's copy of the facts, `seats` ● says who votes.

pub mod seats;
pub mod store;
pub mod types;
