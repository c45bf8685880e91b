//! The side of whoever dials a node's client port: which authority it trusts, and the certificate that it shows, if it has one.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate;

/// Cheap to clone.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ClientTls {
    /// All in PEM. `ca`: who signs for the nodes. `own`: certificate and key, for nodes that ask for them. `Err`: what is wrong, in words.
    pub fn new(ca: &str, own: Option<(&str, &str)>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for der in certificate::ders(ca)? {
            roots.add(der).map_err(|_| "holds a certificate that can't be an authority's")?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|_| "the client's key is no private key in PEM")?;
                builder
                    .with_client_auth_cert(certificate::ders(cert)?, key)
                    .map_err(|_| "the client's certificate and key do not belong together")?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// `host`: a name or an address, which must stand in the node's certificate.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TlsStream<TcpStream>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let tcp = TcpStream::connect((bare, port)).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(self.0.clone()).connect(name, tcp).await
    }
}
