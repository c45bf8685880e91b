//! P2, P3 and P5 under a busy crowd: several publishers on each node, subscribers that come and go, topics and patterns that overlap.

use std::time::Duration;

use cluster_tests::check;
use cluster_tests::client::{Client, ClientError, Got};
use cluster_tests::cluster::{Cluster, Options};

const TOPICS: [&str; 4] = ["chat:1", "chat:2", "news:1", "news:2"];
const LAST: &str = "chat:last";

/// Frames with one to seven messages to topics that change with each, so that batches of all shapes arise; a confirmation now and then.
async fn publish_all(mut client: Client, salt: usize) {
    for frame in 0..200_usize {
        let step = frame * 31 + salt * 17;
        let topics: Vec<&str> = (0..1 + step % 7).map(|i| TOPICS[(step / (i + 1)) % 4]).collect();
        client.publish_frame(&topics, 16 + step % 300).await.unwrap();
        if frame % 20 == 0 {
            client.publish(TOPICS[salt % 4]).await.unwrap();
        }
    }
    client.publish(LAST).await.unwrap();
}

/// Reads until every publisher's last message has come.
async fn read_all(client: &mut Client, publishers: usize) -> Result<(), ClientError> {
    if publishers == 0 {
        return Ok(());
    }
    let mut last = 0;
    client
        .events_until(|got| {
            last += usize::from(matches!(got, Got::Message(message) if message.topic == LAST));
            last == publishers
        })
        .await?;
    Ok(())
}

/// Subscribes and unsubscribes again and again, then reads to the end.
async fn fickle(mut client: Client, publishers: usize) {
    client.subscribe_everywhere(&[LAST], &[]).await.unwrap();
    let mut last = 0;
    for round in 0..20 {
        let topic = TOPICS[round % 4];
        client.subscribe(&[topic], &["news:*"]).await.unwrap();
        // Some messages, or a moment without any.
        for _ in 0..20 {
            match client.event(Duration::from_millis(5)).await {
                Ok(Got::Message(message)) => last += usize::from(message.topic == LAST),
                Ok(other) => panic!("{} got {other:?}", client.name()),
                Err(error) if error.is_silence() => break,
                Err(error) => panic!("{}: {error}", client.name()),
            }
        }
        client.unsubscribe(&[topic], &["news:*"]).await.unwrap();
    }
    read_all(&mut client, publishers - last).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_sees_one_order_without_loss_or_duplicates() {
    let cluster = Cluster::start(3, Options::default()).await;
    let mut steady = Vec::new();
    let mut fickle_ones = Vec::new();
    let mut publishers = Vec::new();
    for i in 0..3 {
        for (kind, topics, patterns) in [
            ("all", &TOPICS[..], &["chat:*"][..]),
            ("patterns", &[LAST][..], &["*:1", "chat:*"][..]),
            ("one", &["chat:1", LAST][..], &[][..]),
        ] {
            let mut client = cluster.client(i, &format!("{kind}-{i}")).await;
            client.subscribe_everywhere(topics, patterns).await.unwrap();
            steady.push(client);
        }
        fickle_ones.push(cluster.client(i, &format!("fickle-{i}")).await);
        for number in 0..2 {
            publishers.push(cluster.client(i, &format!("publisher-{i}-{number}")).await);
        }
    }
    let count = publishers.len();
    let publishing = futures_util::future::join_all(
        publishers.into_iter().enumerate().map(|(salt, client)| publish_all(client, salt)),
    );
    let reading = futures_util::future::join_all(
        steady.iter_mut().map(|client| async move { read_all(client, count).await.unwrap() }),
    );
    let fickle_ones =
        futures_util::future::join_all(fickle_ones.into_iter().map(|client| fickle(client, count)));
    tokio::join!(publishing, reading, fickle_ones);
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}
