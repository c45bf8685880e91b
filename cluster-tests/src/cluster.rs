//! Some nodes on loopback that know each other, with whatever a test wants to do to them.
//!
//! When a test fails, the end of every node's log is printed and the directory with the whole of them stays. A node that panicked
//! fails its test, whatever else the test found.

mod lab;
mod node;
mod options;

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::sync::RwLockReadGuard;
use waxwing::supervise::{Clock, Shutdown, Supervisor};
use waxwing::types::Time;

use crate::cli;
use crate::client::{Client, ClientError};
use crate::documents::{Metrics, Status};
use crate::eventually;
use crate::gate;
use crate::history::Recorder;
use crate::ports::Ports;
use crate::process;
use crate::proxy_mesh::ProxyMesh;

pub use lab::Lab;
pub use node::Node;
pub use options::{Options, Order};

/// Time for a cluster to form when nobody measures it: debug builds, two cores, other tests beside.
pub const FORM_PATIENCE: Duration = Duration::from_secs(30);
const STARTS_MAX: usize = 4;
const TAIL_LINES: usize = 40;

#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    mesh: Option<ProxyMesh>,
    recorder: Recorder,
    supervisor: Supervisor,
    clock: Clock,
    started: Time,
    name: String,
    /// So that it goes after the processes that write to it.
    dir: Option<TempDir>,
    /// Last: a flood may begin when all of it has gone.
    beside: Option<RwLockReadGuard<'static, ()>>,
}

impl Cluster {
    /// `n` nodes called a, b, c ... that all see each other ready.
    pub async fn start(n: usize, options: Options) -> Self {
        let cluster = Self::launch(n, options).await;
        let names = cluster.names();
        cluster.eventually_all_see("the cluster forms", FORM_PATIENCE, &names).await;
        cluster
    }

    /// As `start`, but only until every node answers over HTTP.
    pub async fn launch(n: usize, options: Options) -> Self {
        let beside = gate::beside().await;
        for _ in 0..STARTS_MAX {
            let mut cluster = Self::spawn(n, &options);
            match cluster.answer().await {
                Ok(()) => {
                    cluster.beside = beside;
                    return cluster;
                }
                Err(NoAnswer::PortTaken) => drop(cluster),
                Err(NoAnswer::Other(reason)) => {
                    cluster.tell_tails();
                    panic!("start {n} nodes: {reason}");
                }
            }
        }
        panic!("every start of {n} nodes found a port taken");
    }

    fn spawn(n: usize, options: &Options) -> Self {
        let dir =
            tempfile::Builder::new().prefix("waxwing-cluster-").tempdir().expect("a directory");
        let clock = Clock::new();
        let supervisor = Supervisor::new(Shutdown::new());
        let given = options.ports.into_iter();
        let given = options.all_ports.iter().copied().chain(given);
        let ports: Vec<Ports> =
            given.chain(std::iter::repeat_with(Ports::reserve)).take(n).collect();
        let peers: Vec<_> = ports.iter().map(|ports| ports.peer).collect();
        let mesh = options.proxied.then(|| ProxyMesh::start(&supervisor, clock, &peers));
        let cluster_name = options.cluster_name();
        let nodes: Vec<Node> = (0..n)
            .map(|i| {
                let args = options.args(i, &cluster_name, &ports, mesh.as_ref(), dir.path());
                let prefix = options.lab.as_ref().map(|lab| lab.prefix(i)).unwrap_or_default();
                Node::new(i, ports[i], args, dir.path(), options.descriptors).after(prefix)
            })
            .collect();
        let started = clock.now();
        for i in options.order.of(n) {
            nodes[i].start();
        }
        let recorder = Recorder::new(clock);
        Self {
            nodes,
            mesh,
            recorder,
            supervisor,
            clock,
            started,
            name: cluster_name,
            dir: Some(dir),
            beside: None,
        }
    }

    async fn answer(&self) -> Result<(), NoAnswer> {
        let answered = eventually::poll(self.clock, FORM_PATIENCE, async || {
            for node in &self.nodes {
                if let Some(status) = node.exited() {
                    let taken =
                        process::tail(&node.log, 20).to_lowercase().contains("port is in use");
                    let why = format!("{} ended with {status}", node.name);
                    return Ok(Err(if taken { NoAnswer::PortTaken } else { NoAnswer::Other(why) }));
                }
                node.status().await.map_err(|error| format!("{}: {error:#}", node.name))?;
            }
            Ok(Ok(()))
        });
        match answered.await {
            Ok((answer, _)) => answer,
            Err(reason) => Err(NoAnswer::Other(reason)),
        }
    }

    /// Starts one more node, which is not waited for. It joins through node 0, this cluster unless the options name another.
    pub fn add(&mut self, options: &Options) -> usize {
        assert!(self.mesh.is_none(), "proxies are made for the nodes of the start");
        let i = self.nodes.len();
        let mut ports: Vec<Ports> = self.nodes.iter().map(|node| node.ports).collect();
        ports.push(options.ports.unwrap_or_else(Ports::reserve));
        let dir = self.dir.as_ref().expect("still there").path();
        let cluster_name = options.cluster_name.as_ref().unwrap_or(&self.name);
        let args = options.args(i, cluster_name, &ports, None, dir);
        let node = Node::new(i, ports[i], args, dir, options.descriptors);
        node.start();
        self.nodes.push(node);
        i
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn names(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    /// Panics when the cluster was started without proxies.
    pub fn mesh(&self) -> &ProxyMesh {
        self.mesh.as_ref().expect("Options::proxied")
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Since the first process was started.
    pub fn age(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.as_ref().expect("still there").path().to_path_buf()
    }

    pub fn kill9(&self, i: usize) {
        self.nodes[i].kill9();
    }

    pub fn sigstop(&self, i: usize) {
        self.nodes[i].stop();
    }

    pub fn sigcont(&self, i: usize) {
        self.nodes[i].signal(Signal::SIGCONT);
    }

    /// The same node again: name, ports, flags. Kills what still runs.
    pub fn restart(&self, i: usize) {
        self.nodes[i].kill9();
        self.nodes[i].start();
    }

    pub async fn status(&self, i: usize) -> Status {
        self.nodes[i].status().await.unwrap_or_else(|error| panic!("status of node {i}: {error:#}"))
    }

    pub async fn metrics(&self, i: usize) -> Metrics {
        self.nodes[i]
            .metrics()
            .await
            .unwrap_or_else(|error| panic!("metrics of node {i}: {error:#}"))
    }

    /// `waxwing --node ADDRESS-OF-I ARGS`.
    pub async fn cli(&self, i: usize, args: &[&str]) -> cli::Output {
        let address = self.nodes[i].ports.grpc.to_string();
        let mut all = vec!["--node", address.as_str()];
        all.extend_from_slice(args);
        cli::run(&all).await
    }

    /// A new session on node `i`, whose history is kept.
    pub async fn client(&self, i: usize, name: &str) -> Client {
        self.try_client(i, name)
            .await
            .unwrap_or_else(|error| panic!("client {name} of {i}: {error}"))
    }

    pub async fn try_client(&self, i: usize, name: &str) -> Result<Client, ClientError> {
        Client::open(&self.nodes[i].ports.grpc.to_string(), name, &self.recorder).await
    }

    /// Waits until the condition is `Ok`, and tells how long that took. On timeout it shows every node's status and log.
    pub async fn eventually<T>(
        &self,
        what: &str,
        within: Duration,
        condition: impl AsyncFnMut() -> Result<T, String>,
    ) -> (T, Duration) {
        match eventually::poll(self.clock, within, condition).await {
            Ok(found) => found,
            Err(reason) => {
                self.tell_statuses().await;
                panic!("not within {within:?}: {what}: {reason}");
            }
        }
    }

    /// Until the nodes called so list exactly each other as ready.
    pub async fn eventually_all_see(
        &self,
        what: &str,
        within: Duration,
        ready: &[&str],
    ) -> Duration {
        let all = async || {
            for node in self.nodes.iter().filter(|node| ready.contains(&node.name.as_str())) {
                let seen =
                    node.status().await.map_err(|error| format!("{}: {error:#}", node.name))?;
                if seen.ready() != ready || !seen.converged() {
                    return Err(format!("{} sees {:?}", node.name, seen.members()));
                }
            }
            Ok(())
        };
        self.eventually(what, within, all).await.1
    }

    #[expect(clippy::print_stderr, reason = "why a test failed is for whoever runs it")]
    async fn tell_statuses(&self) {
        for node in &self.nodes {
            match node.status().await {
                Ok(status) => eprintln!("--- status of {}: {}", node.name, status.0),
                Err(error) => eprintln!("--- status of {}: {error:#}", node.name),
            }
        }
    }

    #[expect(clippy::print_stderr, reason = "why a test failed is for whoever runs it")]
    fn tell_tails(&self) {
        for node in &self.nodes {
            let ended = node.exited().map_or_else(String::new, |how| format!(" (ended: {how})"));
            let tail = process::tail(&node.log, TAIL_LINES);
            eprintln!("--- end of {}{ended}\n{tail}", node.log.display());
        }
    }
}

enum NoAnswer {
    PortTaken,
    Other(String),
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let panicked = self.nodes.iter().find(|node| node.panicked());
        if !std::thread::panicking() && panicked.is_none() {
            return;
        }
        self.tell_tails();
        if let Some(dir) = self.dir.take() {
            // Kept, for whoever wants to see the whole.
            let _ = dir.keep();
        }
        if let (Some(node), false) = (panicked, std::thread::panicking()) {
            panic!("node {} panicked: see {}", node.name, node.log.display());
        }
    }
}
