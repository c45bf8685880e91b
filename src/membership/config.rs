//! What membership needs to know, and how starting can fail.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::member::Addresses;
use super::row;
use crate::config::{Config, Secret};
use crate::types::{ClusterName, Incarnation, NodeName};

/// Keeps the highest incarnation that this node has used.
pub trait IncarnationStore: Send + Sync + fmt::Debug {
    fn highest(&self) -> Incarnation;
    /// Durable when this returns; a lower number than the one kept is ignored. Blocks on the disk.
    fn store(&self, incarnation: Incarnation) -> io::Result<()>;
}

#[derive(Debug, Clone)]
pub struct MembershipConfig {
    pub name: NodeName,
    pub cluster: ClusterName,
    /// `host:port` of peer listeners.
    pub seeds: Vec<String>,
    /// The first seals, any opens. Empty: a key from the cluster's name.
    pub secrets: Vec<Secret>,
    /// Where to send what is for a member, instead of to its advertised address.
    pub dial: BTreeMap<NodeName, SocketAddr>,
    pub gossip_interval: Duration,
    pub forget_after: Duration,
    /// What others are told. `peer` must name an address that they can reach, never `0.0.0.0`.
    pub advertised: Addresses,
    /// The program's version.
    pub version: String,
    /// Members of the cluster, this one and down ones included.
    pub members_max: usize,
    /// Bytes of one gossip message as sent; inflated it may be sixteen times as long.
    pub message_max: usize,
    /// None: the incarnation is known to the other nodes alone.
    pub incarnations: Option<Arc<dyn IncarnationStore>>,
}

impl MembershipConfig {
    pub fn new(
        config: &Config,
        advertised: Addresses,
        incarnations: Option<Arc<dyn IncarnationStore>>,
    ) -> Self {
        Self {
            name: config.node.name.clone(),
            cluster: config.cluster.name.clone(),
            seeds: config.cluster.seeds.clone(),
            secrets: config.cluster.secrets.clone(),
            dial: config.cluster.dial.iter().cloned().collect(),
            gossip_interval: config.cluster.gossip_interval,
            forget_after: config.cluster.forget_after,
            advertised,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            members_max: config.limits.members,
            message_max: config.limits.gossip_message,
            incarnations,
        }
    }

    pub(super) fn check(&self) -> Result<(), MembershipError> {
        let Addresses { grpc, peer, http } = &self.advertised;
        for (what, text) in [("grpc", grpc), ("peer", peer), ("http", http)] {
            if !row::lawful(what, text) {
                return Err(MembershipError::Advertised { what, text: text.clone() });
            }
        }
        if self.gossip_interval.is_zero() {
            return Err(MembershipError::GossipInterval);
        }
        Ok(())
    }
}

/// Nothing runs after any of these.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("the advertised {what} address {text:?} must be at most 1,024 ASCII characters")]
    Advertised { what: &'static str, text: String },
    #[error("the gossip interval must be above zero")]
    GossipInterval,
    #[error("resolve the advertised peer address {address}")]
    Resolve { address: String, source: io::Error },
    #[error(
        "the advertised peer address {address} is one that no other node can reach; set \
         advertise.peer"
    )]
    Unreachable { address: SocketAddr },
    #[error(
        "name `{name}` is in use by {holder}, seen {:.1} s ago; choose another --name, or stop that \
         node first (one that died is let go of within seconds)",
        seen.as_secs_f64()
    )]
    NameInUse { name: NodeName, holder: SocketAddr, seen: Duration },
    #[error("keep incarnation {incarnation}")]
    Store { incarnation: Incarnation, source: io::Error },
    #[error("get random bytes: {0}")]
    Random(String),
    #[error("read the gossip socket's address")]
    Socket { source: io::Error },
}
