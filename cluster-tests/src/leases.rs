//! Many clients that want the same few leases, with and without sessions, and something that remembers the highest token it saw. What they did
//! and were answered goes into the history, for the judge.

mod caller;
mod holder;
mod nemesis;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::chance::Chance;
use crate::cluster::{Cluster, Options};
use crate::eventually;
use crate::history::Recorder;
pub use nemesis::{Faults, Tally};

/// How long a lease may still be held when everybody has gone, and to ask for it.
const FREE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Plan {
    /// Calls about leases; writes are not counted.
    pub operations: u64,
    pub clients: usize,
    pub names: usize,
    pub seed: u64,
}

/// What the clients of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    addresses: Arc<Vec<String>>,
    names_of_nodes: Arc<Vec<String>>,
    recorder: Recorder,
    names: usize,
    left: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    /// By lease: the highest token that was shown.
    resource: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Shared {
    /// One operation less to be done; false: enough.
    fn take(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn call_id(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Does the checked resource take it?
    fn write(&self, lease: &str, token: u64) -> bool {
        let mut resource = self.resource.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = resource.entry(lease.to_owned()).or_default();
        let takes = *highest <= token;
        *highest = token.max(*highest);
        takes
    }
}

/// Nodes that agree. With `durable` each has a directory of its own, in the cluster's; else all is in memory.
pub fn options(nodes: usize, durable: Option<&std::path::Path>) -> Options {
    let mut options = Options { proxied: true, ..Options::default() };
    options.flags = vec!["--expect".to_owned(), nodes.to_string()];
    if let Some(dir) = durable {
        options.flags_of = (0..nodes)
            .map(|node| {
                let dir = dir.join(format!("data-{node}"));
                vec!["--data-dir".to_owned(), dir.display().to_string()]
            })
            .collect();
    }
    options
}

/// Until that many operations are done, under these faults; then everything heals, and every lease must be to be had. The history is the
/// cluster's recorder's.
pub async fn run(cluster: &Cluster, plan: &Plan, faults: Faults) -> Result<Tally, String> {
    let addresses: Vec<String> =
        cluster.nodes().iter().map(|node| node.ports.grpc.to_string()).collect();
    let shared = Shared {
        addresses: Arc::new(addresses),
        names_of_nodes: Arc::new(cluster.names().into_iter().map(str::to_owned).collect()),
        recorder: cluster.recorder().clone(),
        names: plan.names,
        left: Arc::new(AtomicU64::new(plan.operations)),
        calls: Arc::default(),
        resource: Arc::default(),
    };
    all_can_be_had(cluster, &shared, "first").await?;
    let mut chance = Chance::new(plan.seed);
    let mut holders = JoinSet::new();
    for number in 0..plan.clients {
        holders.spawn(holder::run(shared.clone(), number, chance.fork()));
    }
    let tally = nemesis::run(cluster, &mut chance, faults, || shared.is_over()).await?;
    while let Some(ended) = holders.join_next().await {
        ended.map_err(|error| format!("a client: {error}"))?;
    }
    all_can_be_had(cluster, &shared, "last").await?;
    Ok(tally)
}

/// By somebody new, over every node.
async fn all_can_be_had(cluster: &Cluster, shared: &Shared, who: &str) -> Result<(), String> {
    let clock = cluster.clock();
    for node in 0..cluster.len() {
        for name in 0..shared.names {
            let had = async || holder::have_once(shared, node, name, who).await;
            let had = eventually::poll(clock, FREE_WITHIN, had).await;
            had.map_err(|why| format!("{who}: over node {node}: {why}"))?;
        }
    }
    Ok(())
}
