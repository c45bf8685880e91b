//! Links with TLS: a node is the name in its certificate.

use std::sync::Arc;

use super::world::{Plan, connected, start};
use crate::link::Direction;
use crate::supervise::Clock;
use crate::tls::issue::{Authority, Issued, Validity, authority};
use crate::tls::{Material, Pems, Tls};
use crate::types::NodeName;

fn valid() -> Validity {
    let unix_s = Clock::new().unix_ms() / 1_000;
    Validity { unix_s: i64::try_from(unix_s).unwrap(), days: 30 }
}

/// A node of this name, whose certificate is of that one.
fn plan(ca: &Issued, name: &str, certified: &str) -> Plan {
    let mut plan = Plan::new(name);
    let certified = NodeName::parse(certified).unwrap();
    let signer = Authority::read(&ca.cert, &ca.key).unwrap();
    let own = signer.node(&plan.config.cluster, &certified, &[], valid()).unwrap();
    let peer_ca = Some(ca.cert.as_str());
    let pems = Pems { cert: &own.cert, key: &own.key, client_ca: None, peer_ca };
    let material = Material::judge(pems, &plan.config.cluster, &certified).unwrap();
    plan.config.tls = Some(Tls::new(Arc::new(material)));
    plan
}

#[tokio::test]
async fn links_come_up_over_tls() {
    let ca = authority("test", valid()).unwrap();
    let nodes = start([plan(&ca, "a", "a"), plan(&ca, "b", "b")]).await;
    connected(&nodes).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_calls_itself_otherwise_than_its_certificate_is_refused() {
    let ca = authority("test", valid()).unwrap();
    let [a, b] = start([plan(&ca, "a", "x"), plan(&ca, "b", "b")]).await;
    let problem = a.refused("b", Direction::Out).await;
    assert!(problem.contains("the certificate is not this node's"), "{problem}");
    assert!(!a.connected(&b) && !b.connected(&a));
    for node in [a, b] {
        node.stop().await;
    }
}
