//! One report assembled from every part; `/status`, the admin service and the command line all show this one. SKELETON.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The document of `GET /status`; the command line reads it back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusReport {
    pub node: NodeStatus,
    pub cluster: ClusterStatus,
    pub members: Vec<MemberStatus>,
    pub sessions: SessionsStatus,
    pub pubsub: PubsubStatus,
    pub limits: Vec<LimitStatus>,
    pub tasks: Vec<TaskStatus>,
    pub problems: Vec<ProblemStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub name: String,
    pub incarnation: u64,
    pub version: String,
    pub state: String,
    pub uptime_s: f64,
    pub insecure: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    pub name: String,
    /// Live members, this node among them.
    pub members: usize,
    pub ready: usize,
    /// Every live member is ready and linked both ways with this node.
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

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    pub out: String,
    #[serde(rename = "in")]
    pub inward: String,
    pub rtt_ms: Option<f64>,
    pub unacked_bytes: u64,
    pub lag_ms: Option<f64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionsStatus {
    pub grpc: u64,
    pub lingering: u64,
}

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

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitStatus {
    pub name: String,
    pub used: u64,
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
    pub since_s: f64,
    pub severity: String,
    pub code: String,
    pub message: String,
    pub hint: String,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusHandle {
    _skeleton: Arc<()>,
}

#[allow(clippy::todo, reason = "skeleton")]
impl StatusHandle {
    pub fn report(&self) -> StatusReport {
        todo!()
    }

    /// May this node take clients? The reason, when not.
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }
}
