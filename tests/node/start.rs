//! Starting, becoming ready, being found.

use tokio::net::TcpListener;
use waxwing::config::Config;
use waxwing::membership::MemberState;
use waxwing::node::Node;
use waxwing::telemetry::LogLevel;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_seeds_is_ready_by_itself() {
    let cluster = Cluster::start(&["a"]).await;
    assert_eq!(cluster.node("a").membership().me().state, MemberState::Ready);
    let report = cluster.node("a").status().report();
    assert_eq!((report.cluster.members, report.cluster.ready), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_find_each_other() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    for name in ["a", "b", "c"] {
        let report = cluster.node(name).status().report();
        assert_eq!((report.cluster.members, report.cluster.ready), (3, 3), "{name}");
        assert!(report.cluster.converged, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_later_is_found_by_all() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    cluster.add("c").await;
    cluster.converged(&["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_down_and_comes_back_with_a_new_incarnation() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    let before = cluster.node("c").membership().me().incarnation;
    cluster.kill("c").await;
    cluster
        .eventually("c is down", |node| {
            let members = node.membership().members();
            members.iter().any(|m| m.name.as_str() == "c" && m.state == MemberState::Down)
        })
        .await;
    cluster.add("c").await;
    cluster.converged(&["a", "b", "c"]).await;
    assert!(cluster.node("c").membership().me().incarnation > before);
}

#[tokio::test]
async fn every_port_in_use_is_named_by_its_flag() {
    let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::for_test("a");
    config.listen.grpc = grpc.local_addr().unwrap();
    config.listen.peer = peer.local_addr().unwrap();
    let told = Node::start(config, LogLevel::detached()).await.unwrap_err().to_string();
    assert!(told.contains(&format!("--listen-grpc {}", grpc.local_addr().unwrap())), "{told}");
    assert!(told.contains(&format!("--listen-peer {}", peer.local_addr().unwrap())), "{told}");
}
