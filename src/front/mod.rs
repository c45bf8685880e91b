//! How clients speak. Each front is a folder of its own and imports no other.

pub mod grpc;
pub mod http;
pub mod resp;
