//! What lies between nodes breaks: nothing is lost in silence, and nothing stays broken.

use std::time::Duration;

use cluster_tests::check;
use cluster_tests::client::{Client, Got};
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::gate;
use cluster_tests::history::Numbered;
use waxwing::proxy::Lane;
use waxwing::wire::v1::Confirm;
use waxwing::wire::v1::gap::Reason;

/// Publishes on `publisher` until `subscriber` gets one of the messages. The gaps that came before it.
async fn until_delivery_goes_on(
    cluster: &Cluster,
    publisher: &mut Client,
    subscriber: &mut Client,
    topic: &str,
) -> Vec<waxwing::wire::v1::Gap> {
    let mut gaps = Vec::new();
    let arrives = async || {
        let response = publisher.publish(topic).await.map_err(|error| error.to_string())?;
        loop {
            match subscriber.event(Duration::from_millis(200)).await {
                Ok(Got::Gap(gap)) => gaps.push(gap),
                Ok(Got::Message(message)) if message.id == response.id => return Ok(()),
                Ok(Got::Message(_)) => {}
                Ok(other) => panic!("{} got {other:?}", subscriber.name()),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    cluster.eventually("delivery goes on", Duration::from_secs(20), arrives).await;
    gaps
}

/// Ends when everything published has been read by everybody who is subscribed to `topic`, so that the history can be judged. What each
/// of them read meanwhile.
async fn settle(
    cluster: &Cluster,
    publishers: Vec<&mut Client>,
    subscribers: Vec<&mut Client>,
    topic: &str,
) -> Vec<Vec<Got>> {
    for publisher in publishers {
        let over = async || match publisher.all_handed_over(topic).await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        cluster.eventually("all is handed over", Duration::from_secs(10), over).await;
    }
    let mut read = Vec::new();
    for subscriber in subscribers {
        read.push(subscriber.events_until_own_marker().await.unwrap());
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_cut_costs_nothing() {
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::proxied()).await;
    let mut behind = cluster.client(1, "behind-the-cut").await;
    let mut elsewhere = cluster.client(2, "elsewhere").await;
    let mut beside = cluster.client(0, "beside-the-publisher").await;
    for client in [&mut behind, &mut elsewhere, &mut beside] {
        client.subscribe_everywhere(&["t"], &[]).await.unwrap();
    }
    let mut publisher = cluster.client(0, "publisher").await;
    publisher.publish("t").await.unwrap();
    behind.message().await.unwrap();

    // Connections alone: gossip goes on, so nobody is declared dead.
    let link = cluster.mesh().pair(0, 1).only(&[Lane::There, Lane::Back]);
    cluster.recorder().fault("cut a to b", true);
    link.cut();
    for _ in 0..20 {
        publisher.publish("t").await.unwrap();
    }
    // Nobody waits for who can't answer now; it is told as unknown, and gets it all the same.
    let response = publisher.publish_numbered("t", Confirm::Cluster).await.unwrap();
    assert_eq!((response.members, response.unknown), (2, 1), "{response:?}");
    link.heal();
    cluster.recorder().fault("cut a to b", false);

    for client in [&mut behind, &mut elsewhere, &mut beside] {
        let gaps = until_delivery_goes_on(&cluster, &mut publisher, client, "t").await;
        assert!(gaps.is_empty(), "{} got {gaps:?}", client.name());
    }
    let subscribers = vec![&mut behind, &mut elsewhere, &mut beside];
    let rest = settle(&cluster, vec![&mut publisher], subscribers, "t").await.concat();
    assert!(!rest.iter().any(|got| matches!(got, Got::Gap(_))), "{rest:?}");
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_cut_again_and_again_under_load_lose_nothing_in_silence() {
    const CUTS: usize = 20;
    let cluster = Cluster::start(3, Options::proxied()).await;
    let mut subscribers = Vec::new();
    for i in 0..3 {
        let mut client = cluster.client(i, &format!("subscriber-{i}")).await;
        client.subscribe_everywhere(&["t"], &["p:*"]).await.unwrap();
        subscribers.push(client);
    }
    let mut publishers = Vec::new();
    for i in 0..3 {
        publishers.push(cluster.client(i, &format!("publisher-{i}")).await);
    }
    for round in 0..CUTS {
        let (from, to) = [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)][round % 6];
        let link = cluster.mesh().pair(from, to).only(&[Lane::There, Lane::Back]);
        for publisher in &mut publishers {
            publisher.publish_frame(&["t", "p:1", "t", "p:2"], 100).await.unwrap();
        }
        cluster.recorder().fault(&format!("cut {from} to {to}"), true);
        link.cut();
        for publisher in &mut publishers {
            publisher.publish_frame(&["p:1", "t", "t"], 100).await.unwrap();
            publisher.flush().await.unwrap();
        }
        link.heal();
        cluster.recorder().fault(&format!("cut {from} to {to}"), false);
        if round % 4 == 3 {
            cluster
                .eventually_all_see("links come back", Duration::from_secs(20), &["a", "b", "c"])
                .await;
        }
    }
    cluster.eventually_all_see("links come back", Duration::from_secs(20), &["a", "b", "c"]).await;
    let mut gaps = Vec::new();
    for publisher in &mut publishers {
        for subscriber in &mut subscribers {
            gaps.extend(until_delivery_goes_on(&cluster, publisher, subscriber, "t").await);
        }
    }
    let (publishers, subscribers) =
        (publishers.iter_mut().collect(), subscribers.iter_mut().collect());
    let rest = settle(&cluster, publishers, subscribers, "t").await.concat();
    assert!(!rest.iter().any(|got| matches!(got, Got::Gap(_))), "{rest:?}");
    assert!(gaps.is_empty(), "{gaps:?}");
    let resets: u64 = cluster.mesh().all().map(|proxy| proxy.report().resets).sum();
    assert!(resets >= CUTS as u64 / 2, "only {resets} connections were cut");
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_or_jammed_link_loses_nothing() {
    let cluster = Cluster::start(2, Options::proxied()).await;
    let mut subscriber = cluster.client(1, "subscriber").await;
    subscriber.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let mut publisher = cluster.client(0, "publisher").await;
    let link = cluster.mesh().pair(0, 1);

    link.delay(Duration::from_millis(100));
    for _ in 0..50 {
        publisher.publish_frame(&["t", "t", "t"], 200).await.unwrap();
    }
    for _ in 0..150 {
        subscriber.message().await.unwrap();
    }
    link.delay(Duration::ZERO);

    // Held back for less than anybody takes for a failure, then all at once.
    let messages = link.only(&[Lane::There]);
    messages.hold();
    for _ in 0..50 {
        publisher.publish_frame(&["t", "t", "t"], 200).await.unwrap();
    }
    publisher.flush().await.unwrap();
    messages.release();
    for _ in 0..150 {
        subscriber.message().await.unwrap();
    }
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

/// The peer's host has vanished: nothing arrives and nothing refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_link_is_noticed_and_made_anew() {
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::proxied()).await;
    let mut subscriber = cluster.client(1, "subscriber").await;
    subscriber.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let mut publisher = cluster.client(0, "publisher").await;
    let link = cluster.mesh().pair(0, 1).only(&[Lane::There, Lane::Back]);
    link.half_open();
    cluster
        .eventually("a shows that its link to b is not up", Duration::from_secs(20), async || {
            let row = cluster.status(0).await.member("b");
            let out = row.as_ref().map(|row| row.link_out.as_str());
            (out != Some("up")).then_some(()).ok_or_else(|| format!("{row:?}"))
        })
        .await;
    publisher.publish("t").await.unwrap();
    link.heal();
    let gaps = until_delivery_goes_on(&cluster, &mut publisher, &mut subscriber, "t").await;
    assert!(gaps.is_empty(), "{gaps:?}");
    settle(&cluster, vec![&mut publisher], vec![&mut subscriber], "t").await;
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

/// P10, and what follows: both sides go on by themselves, and come together again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_goes_on_and_comes_back() {
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::proxied()).await;
    let mut subscribers = Vec::new();
    for i in 0..3 {
        let mut client = cluster.client(i, &format!("subscriber-{i}")).await;
        client.subscribe_everywhere(&["t"], &[]).await.unwrap();
        subscribers.push(client);
    }
    let mut alone = cluster.client(2, "alone").await;
    let mut majority = cluster.client(0, "majority").await;

    cluster.recorder().fault("cut off c", true);
    cluster.mesh().around(2).for_each(|proxy| proxy.cut());
    cluster
        .eventually("a and b show c down", Duration::from_secs(15), async || {
            for i in 0..2 {
                let row = cluster.status(i).await.member("c");
                if row.as_ref().is_none_or(|row| row.state != "down") {
                    return Err(format!("node {i}: {row:?}"));
                }
            }
            Ok(())
        })
        .await;
    alone.publish("t").await.unwrap();
    majority.publish("t").await.unwrap();
    for (subscriber, origin) in subscribers.iter_mut().zip(["a", "a", "c"]) {
        let mut origins = Vec::new();
        let last = subscriber
            .events_until(|got| match got {
                Got::Message(message) => {
                    origins.push(message.origin.clone());
                    true
                }
                Got::Gap(_) | Got::GoAway(_) | Got::Presence(_) | Got::Welcome(_) => false,
            })
            .await;
        assert!(last.is_ok(), "{}: {last:?}", subscriber.name());
        assert_eq!(origins, [origin]);
    }

    cluster.mesh().around(2).for_each(|proxy| proxy.heal());
    cluster.recorder().fault("cut off c", false);
    cluster.eventually_all_see("c is back", Duration::from_secs(20), &["a", "b", "c"]).await;
    for subscriber in &mut subscribers {
        until_delivery_goes_on(&cluster, &mut alone, subscriber, "t").await;
        until_delivery_goes_on(&cluster, &mut majority, subscriber, "t").await;
    }
    let publishers = vec![&mut alone, &mut majority];
    settle(&cluster, publishers, subscribers.iter_mut().collect(), "t").await;
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

/// A member that died may have taken messages with it: those who listened to it are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_publisher_node_is_a_possible_gap() {
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::default()).await;
    let mut subscriber = cluster.client(0, "subscriber").await;
    subscriber.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let mut publisher = cluster.client(1, "publisher").await;
    publisher.publish("t").await.unwrap();
    subscriber.message().await.unwrap();
    for _ in 0..50 {
        publisher.publish_frame(&["t"; 20], 1_000).await.unwrap();
    }
    cluster.kill9(1);
    let until_gap = subscriber.events_until(|got| matches!(got, Got::Gap(_))).await.unwrap();
    let Some(Got::Gap(gap)) = until_gap.last() else { panic!("no gap") };
    assert_eq!((gap.origin.as_str(), gap.certain), ("b", false), "{gap:?}");
    assert_eq!(gap.reason(), Reason::MemberLost, "{gap:?}");
    // All up to some message came before it.
    let came = until_gap.iter().filter_map(|got| match got {
        Got::Message(message) => Numbered::read(&message.topic, &message.payload),
        Got::Gap(_) | Got::GoAway(_) | Got::Presence(_) | Got::Welcome(_) => None,
    });
    assert!(came.map(|message| message.seq).eq(2..2 + until_gap.len() as u64 - 1));

    // The others noticed nothing, and the restarted node's new incarnation is heard as well.
    let mut other = cluster.client(2, "other").await;
    until_delivery_goes_on(&cluster, &mut other, &mut subscriber, "t").await;
    cluster.restart(1);
    cluster.eventually_all_see("b is back", Duration::from_secs(20), &["a", "b", "c"]).await;
    let mut again = cluster.client(1, "publisher-again").await;
    until_delivery_goes_on(&cluster, &mut again, &mut subscriber, "t").await;
    let rest = settle(&cluster, vec![&mut other, &mut again], vec![&mut subscriber], "t").await;
    assert!(!rest.concat().iter().any(|got| matches!(got, Got::Gap(_))), "{rest:?}");
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}
