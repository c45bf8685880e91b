//! Published on one node, received on the others.

use crate::cluster::{Cluster, publish, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_on_one_node_arrives_on_all_in_order() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    let (_on_a, mut at_a) = cluster.subscriber("a", "room").await;
    let (_on_b, mut at_b) = cluster.subscriber("b", "room").await;
    let (_on_c, mut at_c) = cluster.subscriber("c", "room").await;
    let (publisher, _) = cluster.client("a").await;
    let sent: Vec<String> = (0..50).map(|i| format!("message {i}")).collect();
    for text in &sent {
        let published = publish(&publisher, "room", text).await;
        assert_eq!((published.members, published.subscriptions, published.unknown), (3, 3, 0));
    }
    for events in [&mut at_a, &mut at_b, &mut at_c] {
        assert_eq!(texts(events, sent.len()).await, sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_nobody_wants_says_so_and_goes_nowhere() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let (publisher, _) = cluster.client("a").await;
    let before = cluster.node("a").router().report().forwarded;
    let published = publish(&publisher, "nobody:here", "hello?").await;
    assert_eq!(published.subscriptions, 0);
    // The node's own probe may be on its way to a peer at any moment; this topic is not.
    let members = cluster.node("a").status().report().pubsub.forwarded_total;
    assert!(members <= before, "{members} messages forwarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_hears_a_node_that_joined_after_it() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    let (_client, mut events) = cluster.subscriber("a", "room").await;
    cluster.add("c").await;
    cluster.converged(&["a", "b", "c"]).await;
    let (publisher, _) = cluster.client("c").await;
    let published = publish(&publisher, "room", "from the new one").await;
    assert_eq!(published.subscriptions, 1);
    assert_eq!(texts(&mut events, 1).await, ["from the new one"]);
}

#[tokio::test]
async fn how_many_sessions_a_node_has_is_seen_on_the_others() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let _one = cluster.subscriber("a", "t").await;
    let _other = cluster.subscriber("a", "t").await;
    cluster
        .eventually("both nodes say that a has two sessions", |node| {
            let members = node.status().report().members;
            members.iter().any(|member| member.name == "a" && member.sessions == 2)
        })
        .await;
}
