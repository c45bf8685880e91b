//! A node's files, judged whole, and what handshakes need of them.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use super::Front;
use super::certificate::{self, Certificate, node_uri};
use super::peer::{self, Nodes};
use crate::types::{ClusterName, NodeName};

/// Links greet in this protocol, so that nothing else is taken for one.
const PEER_PROTOCOL: &[u8] = b"waxwing.peer.v1";

/// The texts of the files.
#[derive(Clone, Copy)]
pub struct Pems<'a> {
    pub cert: &'a str,
    pub key: &'a str,
    pub client_ca: Option<&'a str>,
    pub peer_ca: Option<&'a str>,
}

impl fmt::Debug for Pems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pems").finish_non_exhaustive()
    }
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Cert,
    Key,
    ClientCa,
    PeerCa,
}

/// What is wrong with one of the files, without any of what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub part: Part,
    pub what: String,
}

/// Lawful when it was made.
pub struct Material {
    fronts: [Arc<ServerConfig>; Front::ALL.len()],
    peers: Option<Peers>,
    asks_clients: bool,
    not_after: i64,
    digest: [u8; 32],
}

struct Peers {
    acceptor: Arc<ServerConfig>,
    nodes: Arc<Nodes>,
    own: Arc<SingleCertAndKey>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Material {
    pub fn judge(
        pems: Pems<'_>,
        cluster: &ClusterName,
        node: &NodeName,
    ) -> Result<Self, Vec<Wrong>> {
        Judging { wrong: Vec::new() }.judge(pems, cluster, node)
    }

    pub(super) fn front(&self, front: Front) -> Arc<ServerConfig> {
        self.fronts[front as usize].clone()
    }

    /// Clients must show certificates.
    pub const fn asks_clients(&self) -> bool {
        self.asks_clients
    }

    /// Nodes speak TLS with each other.
    pub const fn is_for_peers(&self) -> bool {
        self.peers.is_some()
    }

    /// When the first of the node's own chain expires, in seconds since 1970.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Two of the same files have the same.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(super) fn peer_acceptor(&self) -> Option<Arc<ServerConfig>> {
        self.peers.as_ref().map(|peers| peers.acceptor.clone())
    }

    pub(super) fn peer_dialer(&self, peer: &NodeName) -> Option<ClientConfig> {
        let Peers { nodes, own, provider, .. } = self.peers.as_ref()?;
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nodes.expecting(peer.clone())))
            .with_client_cert_resolver(own.clone());
        config.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
        config.enable_sni = false;
        // Each link proves anew who is at its ends.
        config.resumption = Resumption::disabled();
        Some(config)
    }
}

struct Judging {
    wrong: Vec<Wrong>,
}

impl Judging {
    fn add(&mut self, part: Part, what: impl Into<String>) {
        self.wrong.push(Wrong { part, what: what.into() });
    }

    fn keep<T>(&mut self, part: Part, result: Result<T, impl fmt::Display>) -> Option<T> {
        result.map_err(|what| self.add(part, what.to_string())).ok()
    }

    fn judge(
        mut self,
        pems: Pems<'_>,
        cluster: &ClusterName,
        node: &NodeName,
    ) -> Result<Material, Vec<Wrong>> {
        let provider = Arc::new(ring::default_provider());
        let chain = self.keep(Part::Cert, certificate::ders(pems.cert));
        let read = self.keep(Part::Cert, Certificate::read_pem(pems.cert));
        let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes());
        let key = self.keep(Part::Key, key.map_err(|_| "holds no private key in PEM"));
        let clients = pems.client_ca.and_then(|pem| self.roots(Part::ClientCa, pem));
        let nodes = pems.peer_ca.and_then(|pem| self.roots(Part::PeerCa, pem)).and_then(|roots| {
            self.keep(Part::PeerCa, Nodes::new(cluster.clone(), roots, provider.clone()))
        });
        let (Some(chain), Some(read), Some(key)) = (chain, read, key) else {
            return Err(self.wrong);
        };
        self.own(&read, pems.peer_ca.is_some(), cluster, node);
        let nodes = nodes.map(Arc::new);
        if let (Some(nodes), true) = (&nodes, self.wrong.is_empty()) {
            let taken = nodes.would_take(node, &chain, UnixTime::now());
            self.keep(Part::Cert, taken.map_err(|error| peer::reason(&error)));
        }
        let own = self.certified(chain, key, &provider);
        let fronts = own.as_ref().and_then(|own| {
            let fronts =
                Front::ALL.map(|front| front_config(front, own, clients.as_ref(), &provider));
            let [grpc, http, redis] = fronts.map(|made| self.keep(Part::ClientCa, made));
            Some([grpc?, http?, redis?])
        });
        let peers = match (&own, nodes) {
            (Some(own), Some(nodes)) => {
                let acceptor = acceptor(own, &nodes, &provider);
                self.keep(Part::PeerCa, acceptor).map(|acceptor| Peers {
                    acceptor,
                    nodes,
                    own: own.clone(),
                    provider: provider.clone(),
                })
            }
            _ => None,
        };
        let not_after = read.iter().map(|one| one.not_after).min().unwrap_or_default();
        match fronts {
            Some(fronts) if self.wrong.is_empty() => {
                let asks_clients = clients.is_some();
                Ok(Material { fronts, peers, asks_clients, not_after, digest: digest(pems) })
            }
            _ => Err(self.wrong),
        }
    }

    /// What the node's own certificate must be.
    fn own(
        &mut self,
        chain: &[Certificate],
        for_peers: bool,
        cluster: &ClusterName,
        node: &NodeName,
    ) {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        for untimely in chain.iter().filter_map(|one| one.untimely(now)) {
            self.add(Part::Cert, format!("{untimely}; make another: {}", recipe(node)));
        }
        let Some(leaf) = chain.first() else { return };
        if !leaf.for_servers {
            let recipe = recipe(node);
            self.add(Part::Cert, format!("is not made for answering clients; make one: {recipe}"));
        } else if for_peers && !leaf.is_node(cluster, node) {
            let wanted = node_uri(cluster, node);
            let what = match leaf.node() {
                Some((its, name)) => format!("is that of node {name} of cluster {its}"),
                None => "names no node".to_owned(),
            };
            let recipe = recipe(node);
            self.add(
                Part::Cert,
                format!("{what}; other nodes want {wanted} as its only URI: {recipe}"),
            );
        }
    }

    fn roots(&mut self, part: Part, pem: &str) -> Option<Arc<RootCertStore>> {
        let ders = self.keep(part, certificate::ders(pem))?;
        let mut roots = RootCertStore::empty();
        for der in ders {
            let added =
                roots.add(der).map_err(|_| "holds a certificate that can't be an authority's");
            self.keep(part, added)?;
        }
        Some(Arc::new(roots))
    }

    fn certified(
        &mut self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Option<Arc<SingleCertAndKey>> {
        let key = provider.key_provider.load_private_key(key);
        let key = self.keep(Part::Key, key.map_err(|_| "is of a kind that TLS does not use"))?;
        let certified = CertifiedKey::new(chain, key);
        let matching = certified.keys_match();
        self.keep(
            Part::Key,
            matching.map_err(|_| "is not the key of tls.cert; name the two that belong together"),
        )?;
        Some(Arc::new(certified.into()))
    }
}

fn digest(pems: Pems<'_>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in [pems.cert, pems.key, pems.client_ca.unwrap_or(""), pems.peer_ca.unwrap_or("")] {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

fn recipe(node: &NodeName) -> String {
    format!("waxwing certs node {node}")
}

fn front_config(
    front: Front,
    own: &Arc<SingleCertAndKey>,
    clients: Option<&Arc<RootCertStore>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let roots = roots.clone();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder.with_cert_resolver(own.clone());
    config.alpn_protocols = front.protocols();
    Ok(Arc::new(config))
}

fn acceptor(
    own: &Arc<SingleCertAndKey>,
    nodes: &Arc<Nodes>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(nodes.clone())
        .with_cert_resolver(own.clone());
    config.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
