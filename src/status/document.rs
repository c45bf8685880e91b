//! The document of `GET /status`, as it is written and read back. Whatever is absent when read has its default, so that a newer
//! command line can look at an older node.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusReport {
    pub node: NodeStatus,
    pub cluster: ClusterStatus,
    pub members: Vec<MemberStatus>,
    pub sessions: SessionsStatus,
    pub pubsub: PubsubStatus,
    pub presence: PresenceStatus,
    pub control: ControlStatus,
    pub limits: Vec<LimitStatus>,
    pub tasks: Vec<TaskStatus>,
    pub problems: Vec<ProblemStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub name: String,
    /// Name and incarnation: no two starts of any node share it.
    pub id: String,
    pub incarnation: u64,
    pub version: String,
    /// As in `members`, or `isolated`.
    pub state: String,
    pub uptime_s: f64,
    pub insecure: bool,
    /// When the certificate that its ports show expires; empty: no TLS.
    pub certificate_expires: String,
    /// User and system CPU time of the process.
    pub cpu_s: f64,
    pub rss_bytes: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    pub name: String,
    /// Live members, this node among them.
    pub members: usize,
    pub ready: usize,
    /// Every live member is ready and linked both ways with this node, and each has the other's whole interest. Never so
    /// while seeds are given and nobody was found.
    pub converged: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberStatus {
    pub name: String,
    pub state: String,
    pub me: bool,
    pub incarnation: u64,
    pub version: String,
    pub addresses: AddressesStatus,
    /// Since this node first saw this incarnation; 0 while it is down.
    pub up_s: f64,
    pub link: LinkStatus,
    pub sessions: u64,
    pub presences: u64,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AddressesStatus {
    pub grpc: String,
    pub peer: String,
    pub http: String,
}

/// Both links with a peer: `connecting`, `up`, `down`, `refused`, or `silent`, where one is still open to a member that is down; empty for the node itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    pub out: String,
    #[serde(rename = "in")]
    pub inward: String,
    pub rtt_ms: Option<f64>,
    pub unacked_bytes: u64,
    pub lag_ms: Option<f64>,
    /// Batches written again, since a link broke before they had arrived.
    pub retransmitted: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionsStatus {
    pub grpc: u64,
    pub redis: u64,
    pub lingering: u64,
}

/// What clients did; the node's own probes are left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PubsubStatus {
    pub topics: u64,
    pub subscriptions: u64,
    pub patterns: u64,
    pub published_total: u64,
    pub delivered_total: u64,
    pub forwarded_total: u64,
    pub dropped_total: u64,
    pub gaps_total: u64,
}

/// As this node sees it, whoever owns them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceStatus {
    pub presences: u64,
    pub keys: u64,
    /// Of nodes that are down: they leave when their linger is over.
    pub orphaned: u64,
    /// What this node knows that it lacks, and has asked for.
    pub pending_repairs: u64,
    pub watches: u64,
}

/// The agreed facts, as this node's copy has them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlStatus {
    /// `leader`, `voter`, `learner`, or `none`: this node is in no group yet.
    pub role: String,
    /// Name of the node that leads; empty: none is known.
    pub leader: String,
    pub term: u64,
    /// Can namespaces, keys and leases be changed now, as far as this node knows?
    pub quorum: bool,
    /// Does this node keep them on disk?
    pub durable: bool,
    /// Empty: none yet.
    pub group: String,
    /// Of the last entry that this node has applied.
    pub applied: u64,
    pub namespaces: u64,
    pub keys: u64,
    pub leases: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitStatus {
    pub name: String,
    /// Absent where nothing of the node as a whole is counted against the limit (the length of a topic).
    pub used: Option<u64>,
    pub max: u64,
    pub unit: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskStatus {
    /// Of a kind of which there are many (sessions), one row stands for all, with `count`.
    pub name: String,
    pub state: String,
    pub restarts: u64,
    pub count: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProblemStatus {
    /// For how many seconds it has been so.
    pub since_s: f64,
    /// `error`, `warning` or `info`.
    pub severity: String,
    /// Stable, for programs.
    pub code: String,
    pub message: String,
    pub hint: String,
}
