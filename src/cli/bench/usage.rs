//! What a run costs: this process's CPU, and the nodes' as they report it.

use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike as _;

use super::codec::Node;
use crate::supervise::Clock;
use crate::types::Time;

/// As many sockets as the system lets this process have.
pub(super) fn raise_file_limit() {
    // Where it can't be raised, connecting will say so.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// CPU seconds of this process.
fn own_cpu() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
    })
}

/// The nodes of a run.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    clock: Clock,
}

/// Counters at one moment. Of a node that doesn't tell, nothing is known of all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    at: Time,
    own_cpu_s: f64,
    nodes_cpu_s: Option<f64>,
    pub(super) nodes_rss: Option<f64>,
}

/// Between two readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    pub(super) own_cpu_s: f64,
    pub(super) nodes_cpu_s: Option<f64>,
}

impl Nodes {
    pub(super) fn new(nodes: Vec<Node>, clock: Clock) -> Self {
        Self { nodes, clock }
    }

    pub(super) async fn read(&self) -> Reading {
        let (mut cpu, mut rss) = (Some(0.0), Some(0.0));
        for node in &self.nodes {
            let status = node.status().await;
            let field = |name: &str| status.as_ref().and_then(|s| s.pointer(name)?.as_f64());
            cpu = cpu.zip(field("/node/cpu_s")).map(|(sum, one)| sum + one);
            rss = rss.zip(field("/node/rss_bytes")).map(|(sum, one)| sum + one);
        }
        Reading { at: self.clock.now(), own_cpu_s: own_cpu(), nodes_cpu_s: cpu, nodes_rss: rss }
    }
}

impl Reading {
    pub(super) fn since(&self, earlier: &Self) -> Cost {
        Cost {
            wall: self.at - earlier.at,
            own_cpu_s: self.own_cpu_s - earlier.own_cpu_s,
            nodes_cpu_s: self.nodes_cpu_s.zip(earlier.nodes_cpu_s).map(|(now, then)| now - then),
        }
    }
}

impl Cost {
    pub(super) fn own_cores(&self) -> f64 {
        self.own_cpu_s / self.wall.as_secs_f64().max(1e-9)
    }

    pub(super) fn nodes_cores(&self) -> Option<f64> {
        self.nodes_cpu_s.map(|cpu| cpu / self.wall.as_secs_f64().max(1e-9))
    }

    /// CPU microseconds of the nodes for each of `count`.
    pub(super) fn nodes_us_each(&self, count: u64) -> Option<f64> {
        self.nodes_cpu_s.filter(|_| count > 0).map(|cpu| cpu * 1e6 / count as f64)
    }
}
