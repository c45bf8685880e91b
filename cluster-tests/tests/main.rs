//! Real waxwing processes on loopback, real faults, and what their clients saw of it.

#![allow(clippy::unwrap_used, reason = "tests; clippy sees only #[test] functions as such")]

mod abuse;
mod broadcast;
mod command_line;
mod confirm;
mod control;
mod drain;
mod interest;
mod leases;
mod limits;
mod links;
mod membership;
mod order;
mod presence;
mod window;
