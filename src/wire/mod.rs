//! Generated protobuf code, and the framing that carries it. Generated types appear here and in files named `codec.rs` or
//! `convert.rs`, nowhere else.

pub mod frames;
mod shown;

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("waxwing.v1");
    /// For gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/waxwing_v1.bin"));
}

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated code"
)]
pub mod peer {
    tonic::include_proto!("waxwing.peer.v1");
}
