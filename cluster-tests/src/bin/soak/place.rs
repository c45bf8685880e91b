//! The five nodes, and what lies between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cluster_tests::cluster::{Cluster, Lab, Options};
use cluster_tests::ports;
use waxwing::proxy::{Proxy, ProxyHandle};
use waxwing::supervise::{Clock, Shutdown, Supervisor};

pub(crate) const NODES: usize = 5;
/// Small, so that a hold of some seconds outruns it.
const FLAGS: &[&str] = &["--limits-payload", "64KiB", "--limits-link-window", "256KiB"];

pub(crate) struct Place {
    cluster: Cluster,
    lab: Option<Arc<Lab>>,
    why_no_lab: String,
    /// Both ways between two nodes, the smaller first.
    proxies: BTreeMap<(usize, usize), [ProxyHandle; 2]>,
    redis: Vec<SocketAddr>,
    _supervisor: Supervisor,
}

impl Place {
    pub(crate) async fn start(clock: Clock) -> Self {
        let (lab, why_no_lab) = match Lab::build(5) {
            Ok(lab) => (Some(Arc::new(lab)), String::new()),
            Err(error) => (None, format!("{error:#}")),
        };
        let supervisor = Supervisor::new(Shutdown::new());
        let given: Vec<ports::Ports> = match &lab {
            Some(lab) => (0..NODES).map(|node| lab.ports(node)).collect(),
            None => std::iter::repeat_with(ports::Ports::reserve).take(NODES).collect(),
        };
        let at = lab.as_ref().map_or(Ipv4Addr::LOCALHOST, |lab| lab.outside());
        let redis: Vec<SocketAddr> = given
            .iter()
            .map(|ports| match &lab {
                Some(_) => SocketAddr::new(ports.grpc.ip(), 7403),
                None => ports::reserve_tcp(),
            })
            .collect();
        let mut proxies = BTreeMap::new();
        let mut options = Options {
            flags: FLAGS.iter().map(|flag| (*flag).to_owned()).collect(),
            flags_of: redis
                .iter()
                .map(|redis| vec!["--listen-redis".to_owned(), redis.to_string()])
                .collect(),
            all_ports: given.clone(),
            lab: lab.clone(),
            ..Options::default()
        };
        if lab.is_some() {
            options.secret = Some("the secret of the soak".to_owned());
            options.flags.push("--insecure".to_owned());
        }
        for a in 0..NODES {
            for b in a + 1..NODES {
                if lab.is_some() && is_direct(a, b) {
                    continue;
                }
                let start = |target: usize| {
                    Proxy::start_at(at, &supervisor, clock, given[target].peer).expect("a proxy")
                };
                let pair = [start(b), start(a)];
                options.dialed_over.insert((a, b), pair[0].addr());
                options.dialed_over.insert((b, a), pair[1].addr());
                proxies.insert((a, b), pair);
            }
        }
        let cluster = Cluster::start(NODES, options).await;
        Self { cluster, lab, why_no_lab, proxies, redis, _supervisor: supervisor }
    }

    pub(crate) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn lab(&self) -> Option<&Lab> {
        self.lab.as_deref()
    }

    pub(crate) fn redis(&self, node: usize) -> SocketAddr {
        self.redis[node]
    }

    /// None: the two are connected directly.
    pub(crate) fn proxies(&self, a: usize, b: usize) -> Option<&[ProxyHandle; 2]> {
        self.proxies.get(&(a.min(b), a.max(b)))
    }

    pub(crate) fn heal_all(&self) {
        self.proxies.values().flatten().for_each(ProxyHandle::heal);
        if let Some(lab) = self.lab() {
            for from in 0..NODES {
                for to in (0..NODES).filter(|to| *to != from) {
                    lab.heal_one_way(from, to).expect("ip healed nothing");
                }
            }
        }
    }

    /// Every node sees every node ready and is connected with it.
    pub(crate) async fn converged(&self) -> Result<(), String> {
        for node in self.cluster.nodes() {
            let seen = node.status().await.map_err(|error| format!("{}: {error:#}", node.name))?;
            if seen.ready() != self.cluster.names() || !seen.converged() {
                return Err(format!("{} sees {:?}", node.name, seen.members()));
            }
        }
        Ok(())
    }

    pub(crate) fn not_run(&self) -> Vec<String> {
        match self.lab {
            Some(_) => Vec::new(),
            None => vec![format!("one-way cuts: no network namespaces here ({})", self.why_no_lab)],
        }
    }
}

/// Every node has two neighbours of each kind.
const fn is_direct(a: usize, b: usize) -> bool {
    b - a == 1 || b - a == 4
}
