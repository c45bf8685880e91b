//! A confirmed publish tells the truth about who got it.

use std::time::Duration;

use cluster_tests::client::Client;
use cluster_tests::cluster::{Cluster, Options};
use waxwing::wire::v1::{Confirm, PublishRequest, PublishResponse};

async fn publish(client: &mut Client, topic: &str, confirm: Confirm) -> PublishResponse {
    let request = PublishRequest {
        topic: topic.to_owned(),
        text: "x".to_owned(),
        confirm: confirm.into(),
        trace: confirm == Confirm::Cluster,
        ..PublishRequest::default()
    };
    client.publish_request(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmations_count_members_and_subscriptions() {
    let cluster = Cluster::start(3, Options::default()).await;
    // Subscribers on a, b and c.
    let cases: [(&str, [usize; 3]); 5] = [
        ("none", [0, 0, 0]),
        ("one", [1, 0, 0]),
        ("uneven", [1, 2, 0]),
        ("all", [3, 1, 2]),
        ("far", [0, 0, 4]),
    ];
    let mut subscribers = Vec::new();
    for (topic, counts) in cases {
        for (i, count) in counts.into_iter().enumerate() {
            for number in 0..count {
                let mut client = cluster.client(i, &format!("{topic}-{i}-{number}")).await;
                client.subscribe_everywhere(&[topic], &[]).await.unwrap();
                subscribers.push(client);
            }
        }
    }
    for from in 0..3 {
        let mut publisher = cluster.client(from, &format!("publisher-{from}")).await;
        for (topic, counts) in cases {
            let members = counts.iter().filter(|count| **count > 0).count();
            let subscriptions: usize = counts.iter().sum();
            let response = publish(&mut publisher, topic, Confirm::Cluster).await;
            let got = (response.members, response.subscriptions, response.unknown);
            let expected = (members as u32, subscriptions as u64, 0);
            assert_eq!(got, expected, "{topic} from node {from}: {response:?}");
            for (i, count) in counts.into_iter().enumerate().filter(|(i, _)| *i != from) {
                let name = &cluster.node(i).name;
                let row = response.trace.iter().find(|row| row.node == *name);
                let row = row.unwrap_or_else(|| panic!("no {name} in {response:?}"));
                assert_eq!(row.interested, count > 0, "{response:?}");
                assert_eq!(row.took.is_some(), count > 0, "{response:?}");
                assert_eq!(row.subscriptions, count as u64, "{response:?}");
            }

            // By this node alone: what the others last announced, and whom nobody asked is unknown.
            let response = publish(&mut publisher, topic, Confirm::Node).await;
            let here = usize::from(counts[from] > 0);
            assert_eq!(response.unknown as usize, members - here, "{topic}: {response:?}");
            assert_eq!(response.members as usize, here, "{topic}: {response:?}");
        }
    }
    // Counts of subscriptions are announced within moments, and then told.
    let mut publisher = cluster.client(0, "counting").await;
    cluster
        .eventually("announced counts are told", Duration::from_secs(5), async || {
            let response = publish(&mut publisher, "far", Confirm::Node).await;
            (response.subscriptions == 4).then_some(()).ok_or_else(|| format!("{response:?}"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_is_unknown() {
    let cluster = Cluster::start(3, Options::default()).await;
    let mut subscribers = Vec::new();
    for i in 1..3 {
        let mut client = cluster.client(i, &format!("subscriber-{i}")).await;
        client.subscribe_everywhere(&["t"], &[]).await.unwrap();
        subscribers.push(client);
    }
    let mut publisher = cluster.client(0, "publisher").await;
    cluster.sigstop(2);
    let start = cluster.clock().now();
    let response = publish(&mut publisher, "t", Confirm::Cluster).await;
    let took = cluster.clock().now().since(start);
    cluster.sigcont(2);
    let got = (response.members, response.subscriptions, response.unknown);
    assert_eq!(got, (1, 1, 1), "{response:?}");
    assert!(took < Duration::from_secs(3), "an answer after {took:?}");
    // It was late, not lost.
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.message().await.unwrap().text(), "x");
    }
}

/// The acknowledgement of a subscription is just as true: a member that sleeps hasn't confirmed, and its later confirmation is a
/// possible gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_not_all_confirmed_says_so() {
    let cluster = Cluster::start(3, Options::default()).await;
    let mut subscriber = cluster.client(0, "subscriber").await;
    let mut far = cluster.client(2, "far").await;
    cluster.sigstop(2);
    let start = cluster.clock().now();
    let results = subscriber.subscribe(&["t"], &[]).await.unwrap();
    let took = cluster.clock().now().since(start);
    cluster.sigcont(2);
    assert_eq!((results[0].confirmed, results[0].members), (2, 3), "{results:?}");
    assert!(took < Duration::from_secs(3), "an answer after {took:?}");

    let gap = subscriber.gap().await.unwrap();
    assert_eq!((gap.origin.as_str(), gap.certain, gap.missing), ("c", false, None), "{gap:?}");
    far.publish_once("t", "now it holds").await.unwrap();
    assert_eq!(subscriber.message().await.unwrap().text(), "now it holds");
}
