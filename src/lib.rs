//! Waxwing: a clustered pub/sub and presence node.
//!
//! In reading order: the vocabulary, the cores that decide, the shells that do, the door, the fronts, the whole.

pub mod plants;
pub mod types;

pub mod presence;
pub mod pubsub;
pub mod rights;

pub mod wire;

pub mod config;
pub mod metrics;
pub mod net;
pub mod supervise;
pub mod telemetry;
pub mod tls;

pub mod membership;

pub mod link;

pub mod control;

pub mod replicator;
pub mod router;

pub mod broker;

pub mod status;

pub mod client;

pub mod front;

pub mod proxy;

pub mod node;

pub mod cli;

#[cfg(any(test, fuzzing))]
pub mod parsers;
