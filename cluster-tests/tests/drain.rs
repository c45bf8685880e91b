//! A node that is asked to go hands over its clients; nobody loses anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_tests::check;
use cluster_tests::client::PATIENCE;
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::history::{Kind, Op};
use cluster_tests::roaming::{RoamingPublisher, RoamingSubscriber};
use futures_util::future::join_all;
use nix::sys::signal::Signal;

#[derive(Debug, Clone, Copy)]
enum Asked {
    ByCommand,
    BySignal,
}

/// Six subscribers and three publishers at work while node a, where most of them are, goes.
async fn drain_under_load(asked: Asked) {
    const DRAINED: usize = 0;
    let cluster = Cluster::start(3, Options::default()).await;
    let mut subscribers = Vec::new();
    for (number, node) in [DRAINED, DRAINED, DRAINED, 1, 2].into_iter().enumerate() {
        let client = cluster.client(node, &format!("subscriber-{number}")).await;
        let patterns: &[&str] = if number % 2 == 0 { &[] } else { &["lo*"] };
        let roaming = RoamingSubscriber::start(client, cluster.recorder(), &["load"], patterns);
        subscribers.push(roaming.await.unwrap());
    }
    let mut publishers = Vec::new();
    for (number, node) in [DRAINED, DRAINED, 1].into_iter().enumerate() {
        let client = cluster.client(node, &format!("publisher-{number}")).await;
        publishers.push(RoamingPublisher::new(client, cluster.recorder()));
    }

    let stop_publishing = AtomicBool::new(false);
    let stop_reading = AtomicBool::new(false);
    let publishing = join_all(publishers.iter_mut().map(async |publisher| {
        while !stop_publishing.load(Ordering::Relaxed) {
            publisher.publish("load").await.expect("publishers see no error");
            tokio::task::yield_now().await;
        }
        publisher.moves
    }));
    let reading = join_all(subscribers.iter_mut().map(async |subscriber| {
        while !stop_reading.load(Ordering::Relaxed) {
            subscriber.turn().await.expect("subscribers see no error");
        }
        subscriber.moves
    }));
    let draining = async {
        match asked {
            Asked::ByCommand => {
                let output = cluster.cli(DRAINED, &["drain", "--self", "--wait"]).await;
                let _ = output.expect_code(0);
            }
            Asked::BySignal => cluster.node(DRAINED).signal(Signal::SIGTERM),
        }
        let (status, took) = cluster.node(DRAINED).exit(Duration::from_secs(40)).await.unwrap();
        assert_eq!(status.code(), Some(0), "the process ended with {status}");
        cluster_tests::figures::tell_time("drain.exit", took);
        // The rest goes on without it.
        let rest = ["b", "c"];
        cluster.eventually_all_see("two go on", Duration::from_secs(10), &rest).await;
        stop_publishing.store(true, Ordering::Relaxed);
    };
    let quiet = async {
        let (moves, ()) = tokio::join!(publishing, draining);
        // Everything that was published has arrived when a moment passes in which nobody gets anything more.
        let mut seen = (0, cluster.clock().now());
        let still = async || {
            let count = cluster.recorder().history().len();
            if count != seen.0 {
                seen = (count, cluster.clock().now());
            }
            let silence = cluster.clock().now().since(seen.1);
            (silence > Duration::from_millis(500)).then_some(()).ok_or_else(|| "busy".to_owned())
        };
        cluster.eventually("all has arrived", PATIENCE, still).await;
        stop_reading.store(true, Ordering::Relaxed);
        moves
    };
    let (subscriber_moves, publisher_moves) = tokio::join!(reading, quiet);
    assert_eq!(subscriber_moves, [1, 1, 1, 0, 0], "moves of subscribers");
    assert_eq!(publisher_moves, [1, 1, 0], "moves of publishers");

    let history = cluster.recorder().history();
    let gaps: Vec<_> =
        history.iter().filter(|record| matches!(record.op, Op::Gap { .. })).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
    let failed =
        |record: &&_| matches!(record, cluster_tests::history::Record { kind: Kind::Fail, .. });
    assert_eq!(history.iter().filter(failed).count(), 0);
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_costs_nobody_anything() {
    drain_under_load(Asked::ByCommand).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains_as_the_command_does() {
    drain_under_load(Asked::BySignal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_says_so_and_takes_nobody_new() {
    let cluster = Cluster::start(2, Options::default()).await;
    // It stays although it is asked to go.
    let mut stays = cluster.client(0, "stays").await;
    cluster.node(0).signal(Signal::SIGTERM);
    let away = stays.go_away().await.unwrap();
    let other = cluster.node(1).ports.grpc.to_string();
    assert_eq!(away.endpoints, [other.as_str()], "{away:?}");
    assert!(away.grace.is_some_and(|grace| grace.seconds > 0), "{away:?}");

    let ready = cluster_tests::http::get(cluster.node(0).ports.http, "/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    let lives = cluster_tests::http::get(cluster.node(0).ports.http, "/healthz").await.unwrap();
    assert_eq!(lives.status, 200, "{lives:?}");
    cluster
        .eventually("b shows that a drains", PATIENCE, async || {
            let row = cluster.status(1).await.member("a");
            let drains = row.as_ref().is_some_and(|row| row.state == "draining");
            drains.then_some(()).ok_or_else(|| format!("{row:?}"))
        })
        .await;
    let error = cluster.try_client(0, "new").await.unwrap_err();
    let refused =
        error.code() == Some("draining") || error.status() == Some(tonic::Code::Unavailable);
    assert!(refused, "{error}");

    // What is attached is still served; a second signal ends it all.
    stays.publish_once("t", "still here").await.unwrap();
    cluster.node(0).signal(Signal::SIGTERM);
    let (_, took) = cluster.node(0).exit(Duration::from_secs(5)).await.unwrap();
    cluster_tests::figures::tell_time("drain.second_signal", took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grace_is_an_end() {
    let cluster = Cluster::start(2, Options::default()).await;
    let _stays = cluster.client(0, "stays").await;
    let output = cluster.cli(1, &["drain", "a", "--grace", "1s", "--wait"]).await;
    let _ = output.expect_code(0);
    let (status, _) = cluster.node(0).exit(Duration::from_secs(10)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}
