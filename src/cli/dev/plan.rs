//! Who listens where, and with which flags each node is started.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::bail;

use crate::node::bind_reason;
use crate::types::NodeName;

pub(super) const NODES_MAX: u16 = 16;
const PORTS_A_NODE: u16 = 10;

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) nodes: Vec<PlannedNode>,
}

#[derive(Debug, Clone)]
pub(super) struct PlannedNode {
    pub(super) name: NodeName,
    pub(super) grpc: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) redis: SocketAddr,
}

impl Plan {
    pub(super) fn new(nodes: usize, base_port: u16) -> anyhow::Result<Self> {
        let last = usize::from(base_port) + nodes.saturating_sub(1) * usize::from(PORTS_A_NODE) + 3;
        if last > usize::from(u16::MAX) {
            bail!(
                "{nodes} nodes from port {base_port} on would need port {last}; choose a lower --base-port"
            );
        }
        let nodes = (b'a'..=b'z').zip((base_port..).step_by(usize::from(PORTS_A_NODE))).take(nodes);
        let nodes = nodes
            .map(|(letter, port)| {
                let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let name = NodeName::parse(&char::from(letter).to_string())?;
                Ok(PlannedNode {
                    name,
                    grpc: at(port),
                    peer: at(port + 1),
                    http: at(port + 2),
                    redis: at(port + 3),
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { nodes })
    }

    /// All ports that are in use, told at once.
    pub(super) fn check_ports_free(&self) -> anyhow::Result<()> {
        let mut taken = String::new();
        let mut check = |addr: SocketAddr, what: &str, name: &NodeName, udp: bool| {
            let result = TcpListener::bind(addr).map(drop);
            let result = if udp { result.and(UdpSocket::bind(addr).map(drop)) } else { result };
            if let Err(error) = result {
                let _ =
                    write!(taken, "\n  {addr} ({what} of node {name}): {}", bind_reason(&error));
            }
        };
        for node in &self.nodes {
            check(node.grpc, "gRPC", &node.name, false);
            check(node.peer, "links and gossip", &node.name, true);
            check(node.http, "HTTP", &node.name, false);
            check(node.redis, "Redis", &node.name, false);
        }
        if taken.is_empty() {
            return Ok(());
        }
        bail!(
            "these ports can't be used:{taken}\nhint: does another `waxwing dev` run? choose other ports with --base-port"
        );
    }

    /// The flags of `start`. `dial[j]`: the proxy that stands before node j, as seen from node `i`. All that `i` says to others, its first
    /// words too, goes through proxies, so that a cut is one.
    pub(super) fn flags(
        &self,
        i: usize,
        dial: &[Option<SocketAddr>],
        first_start: bool,
    ) -> Vec<String> {
        let node = &self.nodes[i];
        let mut flags = vec!["start".to_owned(), "--name".to_owned(), node.name.to_string()];
        for (flag, addr) in [
            ("--listen-grpc", node.grpc),
            ("--listen-peer", node.peer),
            ("--listen-http", node.http),
            ("--listen-redis", node.redis),
        ] {
            flags.extend([flag.to_owned(), addr.to_string()]);
        }
        for (peer, proxy) in self.nodes.iter().zip(dial) {
            if let Some(proxy) = proxy {
                flags.extend(["--join".to_owned(), proxy.to_string()]);
                flags.extend(["--dial".to_owned(), format!("{}={proxy}", peer.name)]);
            }
        }
        if first_start {
            // One that is started again must not wait for others that have been killed meanwhile.
            flags.extend(["--expect".to_owned(), self.nodes.len().to_string()]);
        }
        flags.push("--exit-with-parent".to_owned());
        flags
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    use super::Plan;

    #[test]
    fn names_and_ports_follow_the_numbers() {
        let plan = Plan::new(3, 7400).unwrap();
        let shown: Vec<String> = plan
            .nodes
            .iter()
            .map(|node| {
                format!("{} {} {} {} {}", node.name, node.grpc, node.peer, node.http, node.redis)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a 127.0.0.1:7400 127.0.0.1:7401 127.0.0.1:7402 127.0.0.1:7403",
                "b 127.0.0.1:7410 127.0.0.1:7411 127.0.0.1:7412 127.0.0.1:7413",
                "c 127.0.0.1:7420 127.0.0.1:7421 127.0.0.1:7422 127.0.0.1:7423",
            ]
        );
    }

    #[test]
    fn ports_end_at_the_last_one() {
        assert_eq!(Plan::new(2, 65_522).unwrap().nodes[1].redis.port(), 65_535);
        let told = Plan::new(2, 65_523).unwrap_err().to_string();
        assert!(told.contains("would need port 65536"), "{told}");
    }

    #[test]
    fn a_node_meets_others_through_its_proxies_only() {
        let plan = Plan::new(3, 7400).unwrap();
        let proxy = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let flags = plan.flags(1, &[proxy(9_001), None, proxy(9_003)], true).join(" ");
        assert_eq!(
            flags,
            "start --name b --listen-grpc 127.0.0.1:7410 --listen-peer 127.0.0.1:7411 --listen-http 127.0.0.1:7412 \
             --listen-redis 127.0.0.1:7413 \
             --join 127.0.0.1:9001 --dial a=127.0.0.1:9001 --join 127.0.0.1:9003 --dial c=127.0.0.1:9003 \
             --expect 3 --exit-with-parent"
        );
        let again = plan.flags(1, &[proxy(9_001), None, proxy(9_003)], false).join(" ");
        assert!(!again.contains("--expect"), "{again}");
    }

    #[test]
    fn every_port_in_use_is_told() {
        // Numbers of the kernel's choice: they stay ours while the sockets live.
        let (tcp, plan) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = tcp.local_addr().unwrap().port();
            if let Ok(plan) = Plan::new(1, port) {
                break (tcp, plan);
            }
        };
        let udp = UdpSocket::bind(plan.nodes[0].peer);
        let told = plan.check_ports_free().unwrap_err().to_string();
        assert!(
            told.contains(&format!("{} (gRPC of node a)", tcp.local_addr().unwrap())),
            "{told}"
        );
        if udp.is_ok() {
            assert!(told.contains("(links and gossip of node a)"), "{told}");
        }
    }
}
