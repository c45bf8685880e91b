//! TLS: what a certificate says, what a node makes of its own, and the streams that come of it.
//!
//! `certificate` ● reads one, `issue` makes them, `material` judges a node's files whole and makes what handshakes need of them, `peer`
//! says which certificate is a node's, `accepted` is a stream whose handshake happens while it is first read, `client` dials. Who has
//! no TLS configured touches none of this.
//!
//! Invariants: a node is its name in the one URI of its certificate, compared byte by byte; a handshake uses the files as they were
//! last judged lawful; of a stranger no more is held than a handshake takes.

mod accepted;
pub mod certificate;
mod client;
pub mod issue;
mod material;
mod peer;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::net::Stream;
use crate::types::NodeName;
use accepted::Accepted;
pub use accepted::{HANDSHAKE_BYTES_MAX, count_failure};
pub use client::ClientTls;
pub use material::{Material, Part, Pems, Wrong};

/// A client port. Each has its own protocol, and says so in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    Grpc,
    Http,
    Redis,
}

impl Front {
    const ALL: [Self; 3] = [Self::Grpc, Self::Http, Self::Redis];

    /// As metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Redis => "redis",
        }
    }

    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Grpc => vec![b"h2".to_vec()],
            Self::Http => vec![b"http/1.1".to_vec()],
            // It has no registered name, and clients say none.
            Self::Redis => Vec::new(),
        }
    }
}

/// What a node shows and trusts, replaced when its files are read again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls(Arc<RwLock<Arc<Material>>>);

/// The name in the certificate of whoever called; empty until the handshake is over.
pub type CallerName = Arc<OnceLock<NodeName>>;

impl Tls {
    pub fn new(material: Arc<Material>) -> Self {
        Self(Arc::new(RwLock::new(material)))
    }

    /// From the next handshake on. Connections that are there stay.
    pub fn set(&self, material: Arc<Material>) {
        *self.0.write() = material;
    }

    pub fn material(&self) -> Arc<Material> {
        self.0.read().clone()
    }

    /// For the front that reads and writes records by itself.
    pub fn server(&self, front: Front) -> Arc<ServerConfig> {
        self.material().front(front)
    }

    /// The handshake happens when the stream is first read or written.
    pub fn accept(&self, front: Front, stream: Stream) -> Stream {
        Stream::Other(Box::new(Accepted::client(self.server(front), stream, front.as_str())))
    }

    /// As `accept`, for the peer port. `None`: peers speak without TLS.
    pub fn accept_peer(&self, stream: Stream) -> Result<(Stream, CallerName), Stream> {
        let Some(config) = self.material().peer_acceptor() else { return Err(stream) };
        let name = CallerName::default();
        let accepted = Accepted::peer(config, stream, name.clone());
        Ok((Stream::Other(Box::new(accepted)), name))
    }

    /// Ends when both have proved who they are. Without TLS between nodes the stream is given back as it was.
    pub async fn connect_peer(&self, peer: &NodeName, stream: Stream) -> io::Result<Stream> {
        let Some(config) = self.material().peer_dialer(peer) else { return Ok(stream) };
        // Who it is stands in the URI, which the verifier compares; this is only what the protocol needs a name for.
        let name = ServerName::try_from("waxwing.invalid").map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Stream::Other(Box::new(stream)))
    }
}
