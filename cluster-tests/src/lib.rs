//! The harness: starts real nodes, breaks what lies between them, speaks to them over the wire, and judges what clients saw.
//!
//! In reading order: a node as a process, the cluster of them, the faults, the client, the history, the judges.

pub mod binary;
pub mod chance;
pub mod ports;
pub mod process;

pub mod cli;
pub mod documents;
pub mod eventually;
pub mod figures;
pub mod http;

pub mod cluster;
pub mod gate;
pub mod proxy_mesh;

pub mod client;
pub mod leases;
pub mod raw;
pub mod roaming;
pub mod rooms;
pub mod watching;
pub mod witness;

pub mod check;
pub mod history;
