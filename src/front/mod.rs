//! Client protocols. Each front holds broker sessions and nothing else; no front imports another.

pub mod grpc;
