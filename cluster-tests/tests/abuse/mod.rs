//! Bad input: each gets a clear error, costs only the sender, and is counted.

mod bad_nodes;
mod bad_requests;
mod junk;
