//! A fault proxy on each ordered pair of nodes: what node `from` sends to node `to` goes through one of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use waxwing::proxy::{Proxy, ProxyHandle};
use waxwing::supervise::{Clock, Supervisor};

#[derive(Debug)]
pub struct ProxyMesh {
    pairs: BTreeMap<(usize, usize), ProxyHandle>,
}

impl ProxyMesh {
    /// `targets`: each node's peer address, by index.
    pub fn start(supervisor: &Supervisor, clock: Clock, targets: &[SocketAddr]) -> Self {
        let mut pairs = BTreeMap::new();
        for from in 0..targets.len() {
            for (to, target) in targets.iter().enumerate().filter(|(to, _)| *to != from) {
                let proxy = Proxy::start(supervisor, clock, *target).expect("start a proxy");
                pairs.insert((from, to), proxy);
            }
        }
        Self { pairs }
    }

    /// What `from` dials, and where it gossips, to reach `to`.
    pub fn pair(&self, from: usize, to: usize) -> &ProxyHandle {
        &self.pairs[&(from, to)]
    }

    /// Both directions between `a` and `b`.
    pub fn between(&self, a: usize, b: usize) -> [&ProxyHandle; 2] {
        [self.pair(a, b), self.pair(b, a)]
    }

    /// Everything between `node` and the others.
    pub fn around(&self, node: usize) -> impl Iterator<Item = &ProxyHandle> {
        let touches = move |(from, to): &(usize, usize)| *from == node || *to == node;
        self.pairs.iter().filter(move |(pair, _)| touches(pair)).map(|(_, proxy)| proxy)
    }

    pub fn all(&self) -> impl Iterator<Item = &ProxyHandle> {
        self.pairs.values()
    }
}
