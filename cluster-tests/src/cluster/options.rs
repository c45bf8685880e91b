//! How a cluster is to be started.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Lab, node};
use crate::ports::Ports;
use crate::proxy_mesh::ProxyMesh;

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A fault proxy on each ordered pair.
    pub proxied: bool,
    pub order: Order,
    /// What the secret file holds; none: a cluster on loopback needs no secret.
    pub secret: Option<String>,
    /// None: a name that no other cluster of this run has.
    pub cluster_name: Option<String>,
    /// Instead of the letter of the index.
    pub node_name: Option<String>,
    /// Joined too, by every node.
    pub seeds: Vec<String>,
    /// Of the first node started with these options; the others, and by default all, get free ones.
    pub ports: Option<Ports>,
    /// Of every node; empty: as `ports` says.
    pub all_ports: Vec<Ports>,
    /// Added to every node's command line.
    pub flags: Vec<String>,
    /// By node: added to its command line too.
    pub flags_of: Vec<Vec<String>>,
    /// How many files a node may have open.
    pub descriptors: Option<u64>,
    /// Each node in a host of it; the nodes reach each other directly, except over what `dialed_over` says.
    pub lab: Option<Arc<Lab>>,
    /// What a node (the first) dials to reach another (the second), where that isn't its address.
    pub dialed_over: BTreeMap<(usize, usize), SocketAddr>,
}

/// In which order the processes are started.
#[derive(Debug, Clone, Copy, Default)]
pub enum Order {
    #[default]
    Given,
    Reversed,
    /// From the middle outwards: neither the seeds first nor last.
    MiddleFirst,
}

impl Order {
    pub fn of(self, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        match self {
            Self::Given => {}
            Self::Reversed => all.reverse(),
            Self::MiddleFirst => all.sort_by_key(|i| i.abs_diff(n / 2)),
        }
        all
    }
}

impl Options {
    #[must_use]
    pub fn proxied() -> Self {
        Self { proxied: true, ..Self::default() }
    }

    #[must_use]
    pub fn with_flags(flags: &[&str]) -> Self {
        Self { flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..Self::default() }
    }

    pub(super) fn cluster_name(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.cluster_name.clone().unwrap_or_else(|| {
            format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
        })
    }

    /// The command line of node `i`. Node 0 is everybody's seed and has node 1 as its own, so that any order of starting works.
    pub(super) fn args(
        &self,
        i: usize,
        cluster_name: &str,
        ports: &[Ports],
        mesh: Option<&ProxyMesh>,
        dir: &Path,
    ) -> Vec<String> {
        let mut args = vec!["start".to_owned(), "--exit-with-parent".to_owned()];
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        flag("--name", self.node_name.clone().unwrap_or_else(|| node::name(i)));
        flag("--listen-grpc", ports[i].grpc.to_string());
        flag("--listen-peer", ports[i].peer.to_string());
        flag("--listen-http", ports[i].http.to_string());
        flag("--cluster-name", cluster_name.to_owned());
        flag("--log-level", "info".to_owned());
        let seed = if i == 0 { 1 } else { 0 };
        let mut seeds = self.seeds.clone();
        if seed < ports.len() {
            // A seed is gossiped to by address: through the proxy too, or a cut would leave a hole.
            let direct = self.dialed_over.get(&(i, seed)).copied().unwrap_or(ports[seed].peer);
            let address = mesh.map_or(direct, |mesh| mesh.pair(i, seed).addr());
            seeds.push(address.to_string());
        }
        if !seeds.is_empty() {
            flag("--join", seeds.join(","));
        }
        if let Some(mesh) = mesh {
            for to in (0..ports.len()).filter(|to| *to != i) {
                flag("--dial", format!("{}={}", node::name(to), mesh.pair(i, to).addr()));
            }
        }
        for ((_, to), over) in self.dialed_over.iter().filter(|((from, _), _)| *from == i) {
            flag("--dial", format!("{}={over}", node::name(*to)));
        }
        if let Some(secret) = &self.secret {
            let file = dir.join(format!("secret-{i}"));
            write_secret(&file, secret);
            flag("--secret-file", file.display().to_string());
        }
        args.extend(self.flags.iter().chain(self.flags_of.get(i).into_iter().flatten()).cloned());
        args
    }
}

/// Readable by its owner alone, as the program may insist.
fn write_secret(file: &Path, secret: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let opened = options.create(true).write(true).truncate(true).mode(0o600).open(file);
    opened.and_then(|mut file| writeln!(file, "{secret}")).expect("write a secret");
}
