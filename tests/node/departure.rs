//! Draining and leaving: nobody loses anything, and the process's work is done.

use std::time::Duration;

use tokio::sync::mpsc;
use waxwing::membership::MemberState;

use crate::cluster::{Cluster, publish, texts, within};

const GRACE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_goes_step_by_step_to_its_end() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    let draining = cluster.forget("b");
    let handle = draining.handle();
    let (steps, mut told) = mpsc::channel(64);
    within("it drains", handle.commands().drain(GRACE, steps)).await.expect("it drains");
    let mut done = Vec::new();
    while let Some(step) = told.recv().await {
        if step.done {
            done.push(step.step);
        }
    }
    assert_eq!(
        done,
        ["draining", "clients", "attachments", "presences", "messages", "leave", "close"]
    );
    within("its run ends well", draining.run()).await.expect("it ends well");
    cluster.converged(&["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_draining_node_go_on_elsewhere_without_a_gap() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    let (subscriber, mut events) = cluster.subscriber("b", "room").await;
    let (publisher, _) = cluster.client("a").await;
    for i in 0..10 {
        publish(&publisher, "room", &format!("before {i}")).await;
    }

    let draining = cluster.forget("b");
    let handle = draining.handle();
    let drain = handle.drain(GRACE);
    tokio::pin!(drain);
    let mut sent = 0;
    // Under load: messages go out while the client moves.
    within("it drains", async {
        loop {
            let text = format!("meanwhile {sent}");
            tokio::select! {
                () = &mut drain => break,
                _ = publish(&publisher, "room", &text) => sent += 1,
            }
        }
    })
    .await;
    within("it ends", handle.ended()).await;
    publish(&publisher, "room", "after").await;

    let mut got = texts(&mut events, 10).await;
    while got.last().is_none_or(|text| text != "after") {
        got.extend(texts(&mut events, 1).await);
    }
    let mut wanted: Vec<String> = (0..10).map(|i| format!("before {i}")).collect();
    // The publish that the end of the drain interrupted may have been taken or not.
    let meanwhile = got.len() - 11;
    assert!(meanwhile == sent || meanwhile == sent + 1, "{meanwhile} of {sent}");
    wanted.extend((0..meanwhile).map(|i| format!("meanwhile {i}")));
    wanted.push("after".to_owned());
    assert_eq!(got, wanted);
    assert_ne!(subscriber.node().as_deref(), Some("b"));
    cluster.converged(&["a", "c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_a_second_time_watches_the_same_drain() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    let draining = cluster.forget("b");
    let handle = draining.handle();
    let (first, mut told_first) = mpsc::channel(64);
    let (second, mut told_second) = mpsc::channel(64);
    let commands = handle.commands();
    let (one, other) = within("both end", async {
        tokio::join!(commands.drain(GRACE, first), commands.drain(Duration::ZERO, second))
    })
    .await;
    one.expect("it drains");
    other.expect("it drains");
    let mut steps = (Vec::new(), Vec::new());
    while let Some(step) = told_first.recv().await {
        steps.0.push((step.step, step.detail));
    }
    while let Some(step) = told_second.recv().await {
        steps.1.push((step.step, step.detail));
    }
    assert_eq!(steps.0, steps.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_is_no_member_any_more() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    let leaving = cluster.forget("c");
    let handle = leaving.handle();
    within("it leaves", handle.commands().leave()).await.expect("it leaves");
    within("it ends", handle.ended()).await;
    cluster
        .eventually("c is not live", |node| {
            let members = node.membership().members();
            members.iter().all(|m| m.name.as_str() != "c" || !m.state.is_live())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_cuts_a_drain_short() {
    let mut cluster = Cluster::start(&["a"]).await;
    // It stays attached: nobody else could take it. A long grace would be waited for.
    let (_client, _events) = cluster.client("a").await;
    let draining = cluster.forget("a");
    let handle = draining.handle();
    let drain = handle.drain(Duration::from_secs(3_000));
    tokio::pin!(drain);
    tokio::select! {
        () = &mut drain => panic!("it ended before anybody left"),
        () = async {
            while handle.membership().me().state != MemberState::Draining {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        } => {}
    }
    let (left, ()) =
        within("both end", async { tokio::join!(handle.commands().leave(), drain) }).await;
    left.expect("it leaves");
    within("it ends", handle.ended()).await;
}
