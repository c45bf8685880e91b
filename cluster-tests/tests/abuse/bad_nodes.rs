//! Nodes that should not be let in, or can't start.

use std::net::TcpListener;
use std::time::Duration;

use cluster_tests::cli;
use cluster_tests::client::PATIENCE;
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::documents::Metrics;
use cluster_tests::ports::Ports;
use cluster_tests::witness::Witness;
use waxwing::metrics::names;

fn refusals(metrics: &Metrics) -> f64 {
    metrics.sum(names::GOSSIP_REJECTED, &[])
        + metrics.sum(names::LINK_REFUSED, &[])
        + metrics.sum(names::AUTH_FAILURES, &[])
}

/// The stranger c knocks at a and b, who stay two; somebody counts it, and c is not a part of them.
async fn is_kept_out(members: Options, stranger: Options) {
    let mut cluster = Cluster::start(2, members).await;
    let before = refusals(&cluster.metrics(0).await);
    let c = cluster.add(&stranger);
    let mut witness = Witness::start(&cluster, 1, 0).await;
    cluster
        .eventually("a counts a refusal", Duration::from_secs(15), async || {
            let count = refusals(&cluster.metrics(0).await) - before;
            (count > 0.0).then_some(()).ok_or_else(|| "none yet".to_owned())
        })
        .await;
    // c has started and answers; it sees only itself as ready.
    cluster
        .eventually("c answers", Duration::from_secs(15), async || {
            cluster.node(c).status().await.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await;
    for i in 0..2 {
        let seen = cluster.status(i).await;
        assert_eq!(seen.ready(), ["a", "b"], "{:?}", seen.members());
    }
    let ready = cluster.status(c).await.ready();
    assert!(!ready.iter().any(|name| name == "a" || name == "b"), "c sees {ready:?}");
    witness.sees_nothing(&cluster, "a stranger").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_kept_out() {
    let stranger = Options { cluster_name: Some("another".to_owned()), ..Options::default() };
    is_kept_out(Options::default(), stranger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_secret_is_kept_out() {
    let with = |secret: &str| Options { secret: Some(secret.to_owned()), ..Options::default() };
    let ours = with("the secret of this very cluster");
    is_kept_out(ours, with("the secret of some other cluster")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_secret_is_kept_out() {
    let secret = Some("the secret of this very cluster".to_owned());
    is_kept_out(Options { secret, ..Options::default() }, Options::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_use_is_refused() {
    let mut cluster = Cluster::start(2, Options::default()).await;
    let mut witness = Witness::start(&cluster, 1, 0).await;
    // Another b, elsewhere, while b lives.
    let before = cluster.status(0).await.member("b").unwrap();
    let other = Options { node_name: Some("b".to_owned()), ..Options::default() };
    let second = cluster.add(&other);
    cluster
        .eventually("the second b is told", Duration::from_secs(15), async || {
            let log = cluster.node(second).log_text();
            log.contains("in use").then_some(()).ok_or_else(|| "not in its log".to_owned())
        })
        .await;
    witness.sees_nothing(&cluster, "a second b").await;
    let after = cluster.status(0).await.member("b").unwrap();
    assert_eq!((after.state.as_str(), &after.peer), ("ready", &before.peer));
    assert_eq!(after.incarnation, before.incarnation, "the first b is still the one that counts");
    assert!(cluster.node(1).exited().is_none(), "the first b ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_an_error_that_names_it() {
    for flag in ["--listen-grpc", "--listen-peer", "--listen-http"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let free = Ports::reserve();
        let (grpc, peer, http) =
            (free.grpc.to_string(), free.peer.to_string(), free.http.to_string());
        let mut args = vec!["start", "--name", "a"];
        for (name, own) in
            [("--listen-grpc", &grpc), ("--listen-peer", &peer), ("--listen-http", &http)]
        {
            args.extend([name, if name == flag { &address } else { own }]);
        }
        let output = cli::run(&args).await.expect_code(1);
        assert!(output.stderr.contains(&address), "{flag}: {output:?}");
        assert!(!output.stderr.contains("panicked"), "{flag}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_is_oneself_is_skipped() {
    let mut cluster = Cluster::start(2, Options::default()).await;
    let with_itself = |ports: Ports| Options {
        ports: Some(ports),
        seeds: vec![ports.peer.to_string()],
        ..Options::default()
    };
    let c = cluster.add(&with_itself(Ports::reserve()));
    cluster
        .eventually("c is a member of three", Duration::from_secs(20), async || {
            let seen = cluster.node(c).status().await.map_err(|error| format!("{error:#}"))?;
            let all = seen.ready() == ["a", "b", "c"];
            all.then_some(()).ok_or_else(|| format!("{:?}", seen.members()))
        })
        .await;

    // Alone with itself it is a cluster of one.
    let lone = Cluster::start(1, with_itself(Ports::reserve())).await;
    lone.eventually_all_see("a lone node is ready", PATIENCE, &["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_is_not_there_is_tried_until_it_is() {
    let seeds = vec![Ports::reserve().peer.to_string(), "no-such-host.invalid:7401".to_owned()];
    let cluster = Cluster::start(2, Options { seeds, ..Options::default() }).await;
    let status = cluster.status(0).await;
    assert_eq!(status.node_state(), "ready", "{}", status.problems());
}
