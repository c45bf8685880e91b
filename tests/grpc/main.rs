//! The gRPC front of a real node, by clients that we don't help: what they send, and what they must get.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod admin;
mod bad_input;
mod calls;
mod limits;
mod node;
mod presence;
mod publish;
mod sessions;
