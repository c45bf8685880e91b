//! Everything that can be set, as one documented struct that has been judged whole.
//!
//! Default < file < environment < flag. `cluster` settings marked *must agree* are compared when two nodes greet each other; the rest
//! is this node's own.

pub(crate) mod address;
mod document;
mod fault;
pub mod keys;
pub(crate) mod level;
pub mod limits;
mod load;
#[cfg(any(test, fuzzing))]
pub(crate) mod rules;
pub(crate) mod secrets;
mod table;
pub(crate) mod unknown;
mod validate;
pub(crate) mod value;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::rights::Access;
use crate::tls::Material;
use crate::types::{ClusterName, NodeName};
pub use fault::{Fault, Faults, Origin};
pub use limits::Limits;
pub use load::{Host, Loaded, Origins, Reloaded, Sources};

#[derive(Debug, Clone)]
pub struct Config {
    pub node: NodeConfig,
    pub cluster: ClusterConfig,
    pub listen: ListenConfig,
    pub advertise: AdvertiseConfig,
    pub tls: TlsConfig,
    pub redis: RedisConfig,
    pub presence: PresenceConfig,
    pub limits: Limits,
    pub log: LogConfig,
    pub security: SecurityConfig,
    /// Where all this came from, for a reload.
    pub sources: Sources,
}

impl Config {
    /// What holds where nobody says anything.
    pub fn defaults(name: NodeName) -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            node: NodeConfig { name, data_dir: None },
            cluster: ClusterConfig {
                name: lawful(ClusterName::parse("waxwing")),
                seeds: Vec::new(),
                expect: 0,
                secrets: Vec::new(),
                secret_file: None,
                dial: Vec::new(),
                gossip_interval: Duration::from_millis(200),
                forget_after: Duration::from_secs(600),
            },
            listen: ListenConfig {
                grpc: loopback(7400),
                peer: loopback(7401),
                http: Some(loopback(7402)),
                redis: None,
            },
            advertise: AdvertiseConfig::default(),
            tls: TlsConfig::default(),
            redis: RedisConfig::default(),
            presence: PresenceConfig::default(),
            limits: Limits::default(),
            log: LogConfig { format: LogFormat::Text, level: "info".to_owned() },
            security: SecurityConfig::default(),
            sources: Sources::default(),
        }
    }

    /// A node on loopback and free ports, for tests in one process.
    pub fn for_test(name: &str) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Self::defaults(lawful(NodeName::parse(name)));
        config.listen =
            ListenConfig { grpc: free, peer: free, http: Some(free), redis: Some(free) };
        config
    }

    fn fallback_name() -> NodeName {
        lawful(NodeName::parse("node"))
    }
}

/// For names written in this program.
fn lawful<T>(parsed: Result<T, crate::types::node::BadName>) -> T {
    match parsed {
        Ok(name) => name,
        Err(bad) => panic!("{bad}"),
    }
}

#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub name: NodeName,
    /// Holds the highest incarnation used, so that it rises even if the clock steps back. None: memory only.
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Must agree.
    pub name: ClusterName,
    /// `host:port` of peer listeners. Every address of a name is tried, oneself skipped.
    pub seeds: Vec<String>,
    /// How many nodes there will be; a node waits for so many before it calls itself ready, 5 s at most. 0: not told.
    pub expect: usize,
    /// Keys that seal gossip and prove membership on links; the first seals, all open. Empty: loopback only.
    pub secrets: Vec<Secret>,
    pub secret_file: Option<PathBuf>,
    /// Where to dial and gossip to a member instead of at its advertised peer address. For fault proxies.
    pub dial: Vec<(NodeName, SocketAddr)>,
    pub gossip_interval: Duration,
    /// A down member is forgotten after so long.
    pub forget_after: Duration,
}

#[derive(Debug, Clone)]
pub struct ListenConfig {
    pub grpc: SocketAddr,
    /// TCP links and UDP gossip, on one port number.
    pub peer: SocketAddr,
    /// None: off.
    pub http: Option<SocketAddr>,
    /// None: off.
    pub redis: Option<SocketAddr>,
}

/// What holds for Redis clients alone.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    pub on_gap: OnGap,
    /// Bytes that may wait for a client; over it, it is closed.
    pub output_hard: usize,
    /// Over it for longer than `output_soft_for`, it is closed.
    pub output_soft: usize,
    pub output_soft_for: Duration,
    pub password_file: Option<PathBuf>,
    /// None: nobody is asked for one.
    pub password: Option<Secret>,
}

/// What to do where something for a Redis client may have been lost, which its protocol can't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    Ignore,
    Disconnect,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            on_gap: OnGap::Ignore,
            output_hard: 32 << 20,
            output_soft: 8 << 20,
            output_soft_for: Duration::from_secs(60),
            password_file: None,
            password: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct PresenceConfig {
    /// How often watchers are told. The linger that sessions have by default is `limits.linger`.
    pub diff_interval: Duration,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { diff_interval: Duration::from_millis(50) }
    }
}

/// `host:port` that others are told; where absent, the bound address.
#[derive(Debug, Clone, Default)]
pub struct AdvertiseConfig {
    pub grpc: Option<String>,
    pub peer: Option<String>,
    pub http: Option<String>,
}

/// Files in PEM. Without a certificate nothing is encrypted but gossip.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// The node's chain: every client port speaks TLS with it.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Who signs for clients. None: clients show no certificate.
    pub client_ca: Option<PathBuf>,
    /// Who signs for nodes. None: links are in the clear.
    pub peer_ca: Option<PathBuf>,
    /// What all of them together came to.
    pub material: Option<Arc<Material>>,
}

#[derive(Debug, Clone)]
pub struct LogConfig {
    pub format: LogFormat,
    /// A level, or a filter as of RUST_LOG.
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Default)]
pub struct SecurityConfig {
    /// Ports may leave loopback without TLS.
    pub allow_plaintext: bool,
    /// Client ports may leave loopback without keys.
    pub allow_anonymous: bool,
    /// Who is let in. None: nobody is asked for a key.
    pub access_file: Option<PathBuf>,
    /// What it came to.
    pub access: Option<Arc<Access>>,
    /// Clients show keys that the cluster agrees on, also where there is no file.
    pub control_keys: bool,
    pub stale_keys: StaleKeys,
}

/// What a member that is out of touch with control's leader does with keys that are agreed on: they may have been revoked since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StaleKeys {
    #[default]
    Allow,
    Refuse,
}

impl SecurityConfig {
    /// Everybody is asked for a key.
    pub const fn asks_for_keys(&self) -> bool {
        self.access_file.is_some() || self.control_keys
    }
}

/// Shown as `Secret(..)`, never as itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
