//! What is agreed on: one group, whatever order nodes come in; nothing acknowledged is lost; without a quorum changes say so and
//! everything else goes on. The long forms are `scripts/control.py`'s.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster_tests::cluster::{Cluster, Options, Order};
use futures_util::future::join_all;

const PATIENCE: Duration = Duration::from_secs(30);

/// Three nodes that are told of each other, with a disk each or without.
fn three(order: Order, durable: bool) -> (Options, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let data = |name: &str| vec![format!("--data-dir={}", dir.path().join(name).display())];
    let flags_of = if durable { ["a", "b", "c"].map(data).to_vec() } else { Vec::new() };
    (Options { order, flags_of, ..Options::with_flags(&["--expect=3"]) }, dir)
}

/// Its group and leader, where it has both and a quorum.
async fn led(cluster: &Cluster, node: usize) -> Result<(String, String), String> {
    let status = cluster.node(node).status().await.map_err(|error| format!("{error:#}"))?;
    let control = &status.0["control"];
    let text = |key: &str| control[key].as_str().unwrap_or_default().to_owned();
    match (control["quorum"].as_bool(), text("leader")) {
        (Some(true), leader) if !leader.is_empty() => Ok((text("group"), leader)),
        _ => Err(format!("node {node}: {control}")),
    }
}

async fn one_group(cluster: &Cluster, nodes: &[usize]) -> (String, String) {
    let all_one = async || {
        let mut seen = BTreeSet::new();
        for node in nodes {
            seen.insert(led(cluster, *node).await?);
        }
        let one = seen.pop_first().filter(|_| seen.is_empty());
        one.ok_or_else(|| "more than one".to_owned())
    };
    cluster.eventually("one group that is led", PATIENCE, all_one).await.0
}

async fn create(cluster: &Cluster, node: usize, name: &str) {
    let made = cluster.cli(node, &["namespace", "create", name]).await;
    let _ = made.expect_code(0);
}

async fn namespaces(cluster: &Cluster, node: usize) -> BTreeSet<String> {
    let listed = cluster.cli(node, &["namespace", "list", "-o", "json"]).await;
    let rows = listed.expect_code(0).json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| Some(row["name"].as_str()?.to_owned())).collect()
}

async fn has_all(cluster: &Cluster, node: usize, names: &BTreeSet<String>) {
    let there = async || {
        let found = namespaces(cluster, node).await;
        if names.is_subset(&found) { Ok(()) } else { Err(format!("{found:?}")) }
    };
    cluster.eventually("everything acknowledged is there", PATIENCE, there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_changes_say_so_and_messages_go_on() {
    let (options, _dir) = three(Order::Reversed, true);
    let cluster = Cluster::start(3, options).await;
    let (_, leader) = one_group(&cluster, &[0, 1, 2]).await;
    create(&cluster, 0, "before").await;
    // Whoever is left follows, so that it has to find out.
    let left = cluster.names().iter().position(|name| **name != leader).unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != left).collect();
    for node in &others {
        cluster.kill9(*node);
    }
    let unled = async || match led(&cluster, left).await {
        Err(_) => Ok(()),
        Ok(_) => Err("it still has a quorum".to_owned()),
    };
    cluster.eventually("no quorum", PATIENCE, unled).await;

    let mut client = cluster.client(left, "client").await;
    client.subscribe(&["room"], &[]).await.unwrap();
    client.publish("room").await.unwrap();
    let _ = client.message().await.unwrap();
    let refused = cluster.cli(left, &["namespace", "create", "meanwhile"]).await.expect_code(1);
    assert!(refused.stderr.contains("quorum"), "{refused:?}");
    assert!(namespaces(&cluster, left).await.contains("before"), "its copy can be read");

    for node in &others {
        cluster.restart(*node);
    }
    one_group(&cluster, &[0, 1, 2]).await;
    create(&cluster, left, "after").await;
    let all = ["before", "after"].map(str::to_owned).into();
    join_all((0..3).map(|node| has_all(&cluster, node, &all))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_kill_of_all() {
    let (options, _dir) = three(Order::MiddleFirst, true);
    let cluster = Cluster::start(3, options).await;
    let (group, _) = one_group(&cluster, &[0, 1, 2]).await;
    let names: BTreeSet<String> = (0..9).map(|number| format!("n{number}")).collect();
    join_all(names.iter().enumerate().map(|(at, name)| create(&cluster, at % 3, name))).await;
    for node in 0..3 {
        cluster.kill9(node);
    }
    for node in [1, 0, 2] {
        cluster.restart(node);
    }
    assert_eq!(one_group(&cluster, &[0, 1, 2]).await.0, group);
    join_all((0..3).map(|node| has_all(&cluster, node, &names))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_disks_keep_what_was_agreed_over_a_rolling_restart() {
    let (options, _dir) = three(Order::Given, false);
    let cluster = Cluster::start(3, options).await;
    let (group, _) = one_group(&cluster, &[0, 1, 2]).await;
    create(&cluster, 2, "kept").await;
    for node in 0..3 {
        let drained = cluster.cli(node, &["drain", "--self", "--wait"]).await;
        let _ = drained.expect_code(0);
        cluster.node(node).exit(PATIENCE).await.unwrap();
        cluster.restart(node);
        let votes = async || {
            let (now, _) = led(&cluster, node).await?;
            let role = cluster.status(node).await.0["control"]["role"].clone();
            let is_voter = now == group && ["voter", "leader"].iter().any(|votes| role == **votes);
            is_voter.then_some(()).ok_or_else(|| format!("{role} in {now}"))
        };
        cluster.eventually("it votes again", PATIENCE, votes).await;
    }
    has_all(&cluster, 0, &["kept".to_owned()].into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_majority_goes_on_from_a_copy() {
    let (options, dir) = three(Order::Given, true);
    let cluster = Cluster::start(3, options).await;
    let (group, _) = one_group(&cluster, &[0, 1, 2]).await;
    create(&cluster, 0, "kept").await;
    let kept: BTreeSet<String> = ["kept".to_owned()].into();
    has_all(&cluster, 2, &kept).await;
    let refused = cluster.cli(2, &["control", "init", "--from-copy", "--yes"]).await;
    assert_ne!(refused.code, Some(0), "a group with a quorum goes on by itself: {refused:?}");
    for node in [0, 1] {
        cluster.kill9(node);
        std::fs::remove_dir_all(dir.path().join(cluster.names()[node])).unwrap();
    }
    let founded = async || {
        let said = cluster.cli(2, &["control", "init", "--from-copy", "--yes"]).await;
        if said.code == Some(0) { Ok(()) } else { Err(said.stderr) }
    };
    cluster.eventually("the third goes on", PATIENCE, founded).await;
    for node in [0, 1] {
        cluster.restart(node);
    }
    assert_ne!(one_group(&cluster, &[0, 1, 2]).await.0, group);
    join_all((0..3).map(|node| has_all(&cluster, node, &kept))).await;
}
