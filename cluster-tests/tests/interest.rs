//! Nodes know what the others want, down to the topic, and send nothing else.

use std::time::Duration;

use cluster_tests::client::PATIENCE;
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::gate;
use waxwing::metrics::names;
use waxwing::wire::v1::Confirm;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_topics_of_one_session() {
    const TOPICS: usize = 100_000;
    const AT_ONCE: usize = 2_000;
    const SAMPLES: usize = 1_000;
    let _alone = gate::flooding().await;
    let cluster = Cluster::start(2, Options::default()).await;
    let topic = |i: usize| format!("device:{i}:state");

    let mut subscriber = cluster.client(0, "subscriber").await;
    for first in (0..TOPICS).step_by(AT_ONCE) {
        let names: Vec<String> = (first..first + AT_ONCE).map(topic).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let results = subscriber.subscribe(&names, &[]).await.unwrap();
        assert_eq!(results.len(), AT_ONCE);
        assert!(results.iter().all(|result| result.error.is_none()), "{:?}", results[0]);
    }
    // That is the limit.
    let results = subscriber.subscribe(&["one:more"], &[]).await;
    let code = match &results {
        Ok(results) => results[0].error.as_ref().map(|error| error.code.as_str()),
        Err(error) => error.code(),
    };
    assert_eq!(code, Some("too_many_subscriptions"), "{results:?}");

    // Spread over all of them, the first and the last included.
    let mut publisher = cluster.client(1, "publisher").await;
    let samples: Vec<usize> = (0..SAMPLES).map(|i| i * (TOPICS - 1) / (SAMPLES - 1)).collect();
    for sample in &samples {
        publisher.publish_frame(&[&topic(*sample), &topic(*sample + TOPICS)], 0).await.unwrap();
    }
    publisher.flush().await.unwrap();
    for sample in &samples {
        assert_eq!(subscriber.message().await.unwrap().topic, topic(*sample));
    }
    let response = publisher.publish_numbered(&topic(TOPICS - 1), Confirm::Cluster).await.unwrap();
    assert_eq!((response.members, response.subscriptions), (1, 1));
    assert_eq!(subscriber.message().await.unwrap().topic, topic(TOPICS - 1));

    // All of them end with the session.
    subscriber.bye(false).await.unwrap();
    cluster
        .eventually("b knows that nobody is left", PATIENCE, async || {
            let response = publisher.publish_numbered(&topic(7), Confirm::Cluster).await;
            let response = response.map_err(|error| error.to_string())?;
            (response.members == 0).then_some(()).ok_or_else(|| format!("{response:?}"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_without_subscribers_sends_nothing() {
    const MESSAGES: usize = 1_000;
    const SIZE: usize = 1_024;
    let cluster = Cluster::start(3, Options::default()).await;
    // Others are interested in other things.
    let mut subscriber = cluster.client(1, "subscriber").await;
    subscriber
        .subscribe_everywhere(&["wanted", "wante"], &["want[a-d]*", "Unwanted*"])
        .await
        .unwrap();
    let mut publisher = cluster.client(0, "publisher").await;

    let forwarded = async || cluster.metrics(0).await.sum(names::MESSAGES_FORWARDED, &[]);
    let sent = async || cluster.metrics(0).await.sum(names::LINK_BYTES, &[]);
    let (forwarded_before, sent_before) = (forwarded().await, sent().await);
    let topics = vec!["unwanted"; 100];
    for _ in 0..MESSAGES / topics.len() {
        publisher.publish_frame(&topics, SIZE).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let published = cluster.status(0).await.0["pubsub"]["published_total"].as_u64();
    assert!(published.is_some_and(|count| count >= MESSAGES as u64), "{published:?}");
    assert_eq!(forwarded().await - forwarded_before, 0.0, "messages were forwarded");
    let bytes = sent().await - sent_before;
    assert!(bytes < (MESSAGES * SIZE / 20) as f64, "{bytes} bytes went over links");

    // Those with a subscriber go to that member alone, one copy each.
    let to = async |peer: &str| {
        cluster.metrics(0).await.sum(names::MESSAGES_FORWARDED, &[("peer", peer)])
    };
    let (to_b, to_c) = (to("b").await, to("c").await);
    for _ in 0..10 {
        publisher.publish("wanted").await.unwrap();
    }
    for _ in 0..10 {
        subscriber.message().await.unwrap();
    }
    assert_eq!((to("b").await - to_b, to("c").await - to_c), (10.0, 0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_of_subscriptions_causes_no_snapshots() {
    const ROUNDS: usize = 100;
    const AT_ONCE: usize = 200;
    let _alone = gate::flooding().await;
    let cluster = Cluster::start(2, Options::default()).await;
    let snapshots = async || {
        let mut all = 0.0;
        for i in 0..2 {
            all += cluster.metrics(i).await.sum(names::INTEREST_SNAPSHOTS, &[]);
        }
        all
    };
    let before = snapshots().await;
    assert!(before > 0.0, "a link-up takes a snapshot each way");

    let start = cluster.clock().now();
    let mut subscriber = cluster.client(0, "subscriber").await;
    subscriber.subscribe_everywhere(&["kept"], &[]).await.unwrap();
    for round in 0..ROUNDS {
        let names: Vec<String> =
            (0..AT_ONCE).map(|i| format!("churn:{}:{i}", round % 10)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        subscriber.subscribe(&names, &[]).await.unwrap();
        subscriber.unsubscribe(&names, &[]).await.unwrap();
    }
    let took = cluster.clock().now().since(start);
    let changes = (2 * ROUNDS * AT_ONCE) as f64;
    cluster_tests::figures::tell("interest.churn", changes / took.as_secs_f64(), "changes/s");

    // Digests travel with pings, once a second: two of them must have found nothing wrong.
    let watched = cluster.clock().now();
    cluster
        .eventually("digests are compared", Duration::from_secs(10), async || {
            let enough = cluster.clock().now().since(watched) > Duration::from_millis(2_500);
            enough.then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
    assert_eq!(snapshots().await, before, "interest snapshots");

    let mut publisher = cluster.client(1, "publisher").await;
    let response = publisher.publish_numbered("kept", Confirm::Cluster).await.unwrap();
    assert_eq!(response.subscriptions, 1);
    assert_eq!(subscriber.message().await.unwrap().topic, "kept");
    let response = publisher.publish_numbered("churn:3:7", Confirm::Cluster).await.unwrap();
    assert_eq!((response.members, response.subscriptions), (0, 0));
}
