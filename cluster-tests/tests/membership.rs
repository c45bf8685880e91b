//! Nodes find each other, and notice who is gone.
//!
//! The design's figures (3 s to form, 2 s for a kill and a restart, 1 s to leave) are told as measured; what is asserted leaves room for
//! a debug build that shares two cores with other tests.

use std::time::Duration;

use cluster_tests::cluster::{Cluster, FORM_PATIENCE, Options, Order};
use cluster_tests::{figures, gate};
use waxwing::proxy::{Lane, ProxyHandle};

const LOST_MAX: Duration = Duration::from_secs(3);
const LEFT_MAX: Duration = Duration::from_secs(3);
const BACK_MAX: Duration = Duration::from_secs(5);
const FORMED_MAX: Duration = Duration::from_secs(10);

/// Every node but `but` shows the member in a state that `is` accepts; `None` when there is no row.
async fn all_but_show(
    cluster: &Cluster,
    but: usize,
    what: &str,
    within: Duration,
    is: impl Fn(Option<&str>) -> bool,
) -> Duration {
    let name = cluster.node(but).name.clone();
    let shown = async || {
        for node in cluster.nodes().iter().filter(|node| node.name != name) {
            let status = node.status().await.map_err(|error| format!("{error:#}"))?;
            let row = status.member(&name);
            if !is(row.as_ref().map(|row| row.state.as_str())) {
                return Err(format!("{} shows {row:?}", node.name));
            }
        }
        Ok(())
    };
    cluster.eventually(what, within, shown).await.1
}

async fn five_form(order: Order, figure: &str) -> Cluster {
    let options = Options { order, ..Options::default() };
    let cluster = Cluster::launch(5, options).await;
    cluster.eventually_all_see("five ready", FORM_PATIENCE, &["a", "b", "c", "d", "e"]).await;
    let took = cluster.age();
    figures::tell_time(figure, took);
    assert!(took < FORMED_MAX, "five nodes took {took:?}");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_form_and_notice_a_kill_a_restart_and_a_leave() {
    let _quiet = gate::measuring().await;
    let cluster = five_form(Order::Given, "membership.form.given_order").await;
    let all = ["a", "b", "c", "d", "e"];

    // Not the seed, and then the seed.
    for victim in [3, 0] {
        let before = cluster.status(1).await.member(all[victim]).unwrap().incarnation;
        cluster.kill9(victim);
        let lost = |state: Option<&str>| state == Some("down");
        let took = all_but_show(&cluster, victim, "a kill -9 shows", LOST_MAX, lost).await;
        figures::tell_time("membership.kill9_seen", took);

        cluster.restart(victim);
        let took = cluster.eventually_all_see("it is back", BACK_MAX, &all).await;
        figures::tell_time("membership.restart_seen", took);
        let after = cluster.status(1).await.member(all[victim]).unwrap().incarnation;
        assert!(after > before, "incarnation {after} after {before}");
    }

    let started = cluster.clock().now();
    let left = cluster.cli(2, &["leave", "--self"]);
    let gone = |state: Option<&str>| matches!(state, None | Some("leaving"));
    let seen = all_but_show(&cluster, 2, "the leave shows", LEFT_MAX, gone);
    let (left, _) = tokio::join!(left, seen);
    figures::tell_time("membership.leave_seen", cluster.clock().now().since(started));
    let _ = left.expect_code(0);
    let (status, _) = cluster.node(2).exit(Duration::from_secs(5)).await.unwrap();
    assert!(status.success(), "after a leave: {status}");
    // Its silence is no failure.
    let rest = ["a", "b", "d", "e"];
    cluster.eventually_all_see("four go on", Duration::from_secs(5), &rest).await;
    for node in cluster.nodes().iter().filter(|node| node.name != "c") {
        let row = node.status().await.unwrap().member("c");
        assert!(row.as_ref().is_none_or(|row| row.state != "down"), "{}: {row:?}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_form_with_the_seed_last() {
    let _quiet = gate::measuring().await;
    five_form(Order::Reversed, "membership.form.seed_last").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_form_from_the_middle() {
    let _quiet = gate::measuring().await;
    five_form(Order::MiddleFirst, "membership.form.middle_first").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_slept_declares_nobody_dead() {
    const SLEEP: Duration = Duration::from_secs(10);
    const WATCHED: Duration = Duration::from_secs(5);
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::default()).await;

    cluster.sigstop(2);
    let asleep = cluster.clock().now();
    let down = |state: Option<&str>| state == Some("down");
    let took = all_but_show(&cluster, 2, "silence shows", Duration::from_secs(8), down).await;
    figures::tell_time("membership.sigstop_seen", took);
    // The sleep itself is the fault.
    tokio::time::sleep(SLEEP.saturating_sub(cluster.clock().now().since(asleep))).await;
    cluster.sigcont(2);

    let awake = cluster.clock().now();
    let all_ready = async || {
        let seen = cluster.status(2).await;
        for name in ["a", "b"] {
            let row = seen.member(name);
            let state = row.as_ref().map(|row| row.state.as_str());
            assert_eq!(state, Some("ready"), "c woke up and shows {name} as {row:?}");
        }
        // Until it has had every chance to be wrong.
        if cluster.clock().now().since(awake) < WATCHED {
            Err("watching".to_owned())
        } else {
            Ok(())
        }
    };
    cluster.eventually("c is watched", WATCHED * 2, all_ready).await;
    cluster.eventually_all_see("c is back", BACK_MAX, &["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_secret_forms() {
    let secret = Some("a secret that is long enough to be one".to_owned());
    let options = Options { secret, ..Options::default() };
    let cluster = Cluster::start(3, options).await;
    for node in cluster.nodes() {
        assert!(!node.log_text().contains("long enough to be one"), "{} logs it", node.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_doubled_and_late_datagrams_disturb_nobody() {
    let cluster = Cluster::start(3, Options::proxied()).await;
    for (seed, proxy) in cluster.mesh().all().enumerate() {
        let seed = seed as u64;
        proxy.datagram_loss(0.2, seed);
        proxy.datagram_duplication(0.2, seed);
        proxy.datagram_reordering(0.2, seed);
    }
    let start = cluster.clock().now();
    let undisturbed = async || {
        for i in 0..3 {
            let seen = cluster.status(i).await;
            assert_eq!(seen.ready(), ["a", "b", "c"], "node {i} shows {:?}", seen.members());
        }
        let watched = cluster.clock().now().since(start) > Duration::from_secs(5);
        watched.then_some(()).ok_or_else(|| "watching".to_owned())
    };
    cluster.eventually("all stay ready", Duration::from_secs(10), undisturbed).await;
}

/// Nothing that c sends arrives anywhere, and all that is sent to it does: it finds out, says so, and all is as before when that ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_others_cannot_hear_says_so() {
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::proxied()).await;
    let mesh = cluster.mesh();
    let from_c: Vec<_> = (0..2)
        .flat_map(|other| {
            let there = mesh.pair(2, other).only(&[Lane::There, Lane::Datagrams]);
            [there, mesh.pair(other, 2).only(&[Lane::Back])]
        })
        .collect();
    from_c.iter().for_each(ProxyHandle::half_open);
    let (_, took) = cluster
        .eventually("c is not ready and says why", Duration::from_secs(15), async || {
            let status = cluster.status(2).await;
            let told = status.problems().contains("don't hear this node");
            (status.node_state() != "ready" && told)
                .then_some(())
                .ok_or_else(|| format!("{} {}", status.node_state(), status.problems()))
        })
        .await;
    figures::tell_time("a node that isn't heard knows it after", took);
    for i in 0..2 {
        assert_eq!(cluster.status(i).await.node_state(), "ready", "node {i} is well");
    }
    from_c.iter().for_each(ProxyHandle::heal);
    cluster.eventually_all_see("all is as before", FORM_PATIENCE, &["a", "b", "c"]).await;
    cluster
        .eventually("nobody has a problem left", FORM_PATIENCE, async || {
            for i in 0..3 {
                let status = cluster.status(i).await;
                if status.node_state() != "ready" || status.problems().contains("hear this node") {
                    return Err(format!("node {i}: {}", status.problems()));
                }
            }
            Ok(())
        })
        .await;
}
