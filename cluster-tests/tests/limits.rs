//! Everything has a limit, and the limit costs only whoever reaches it.

use std::time::Duration;

use cluster_tests::check;
use cluster_tests::client::{Client, Got};
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::{figures, gate};
use tokio::sync::Semaphore;
use waxwing::metrics::names;
use waxwing::wire::v1::gap::Reason;

const MIB: u64 = 1 << 20;

/// Bytes of a message's payload.
const SIZE: usize = 1_024;

/// Numbered messages at full speed, to the last one's confirmation.
async fn flood(publisher: &mut Client, topic: &str, messages: usize, size: usize) {
    const AT_ONCE: usize = 50;
    let topics = vec![topic; AT_ONCE];
    for _ in 0..messages / AT_ONCE {
        publisher.publish_frame(&topics, size).await.unwrap();
    }
    publisher.flush().await.unwrap();
}

/// As fast as they read, who have so much room: whoever is behind by more may have to be told of a gap on a slow machine.
async fn flood_readers(
    publisher: &mut Client,
    topic: &str,
    messages: usize,
    room: [&Semaphore; 2],
) {
    const AT_ONCE: usize = 50;
    let topics = vec![topic; AT_ONCE];
    for _ in 0..messages / AT_ONCE {
        for room in room {
            room.acquire_many(AT_ONCE as u32).await.unwrap().forget();
        }
        publisher.publish_frame(&topics, SIZE).await.unwrap();
    }
    publisher.flush().await.unwrap();
}

async fn read_without_gap(subscriber: &mut Client, messages: usize) {
    read_and_tell(subscriber, messages, &Semaphore::new(0)).await;
}

/// Makes room for each message read.
async fn read_and_tell(subscriber: &mut Client, messages: usize, room: &Semaphore) {
    for number in 0..messages {
        match subscriber.event(Duration::from_secs(20)).await {
            Ok(Got::Message(_)) => room.add_permits(1),
            other => panic!("{} got {other:?} after {number}", subscriber.name()),
        }
    }
}

/// P5 and P11. The reader is on another node than the publisher, and so is one of those who must not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_loses_only_its_own() {
    const MESSAGES: usize = 40_000;
    const MAILBOX: u64 = 2 * MIB;
    // Mailbox, sockets, what readers that do read have not read yet, and the allocator's own.
    const GROWTH_MAX: u64 = 40 * MIB;
    let _alone = gate::flooding().await;
    let cluster = Cluster::start(2, Options::with_flags(&["--limits-mailbox", "2MiB"])).await;
    let mut stopped = cluster.client(0, "stopped").await;
    let mut beside = cluster.client(0, "beside").await;
    let mut afar = cluster.client(1, "afar").await;
    for client in [&mut stopped, &mut beside, &mut afar] {
        client.subscribe_everywhere(&["flood"], &[]).await.unwrap();
    }
    let mut publisher = cluster.client(1, "publisher").await;
    let resident = cluster.node(0).resident_bytes();

    let start = cluster.clock().now();
    // Less than half a mailbox.
    let (of_beside, of_afar) = (Semaphore::new(900), Semaphore::new(900));
    tokio::join!(
        flood_readers(&mut publisher, "flood", MESSAGES, [&of_beside, &of_afar]),
        read_and_tell(&mut beside, MESSAGES, &of_beside),
        read_and_tell(&mut afar, MESSAGES, &of_afar),
    );
    let took = cluster.clock().now().since(start);
    figures::tell("limits.flood", MESSAGES as f64 / took.as_secs_f64(), "messages/s");
    let growth = cluster.node(0).resident_bytes().saturating_sub(resident);
    figures::tell("limits.flood_growth", growth as f64 / MIB as f64, "MiB");
    assert!(growth < GROWTH_MAX, "node a grew by {} MiB", growth / MIB);
    let waiting = cluster.metrics(0).await.sum(names::MAILBOX_BYTES, &[]);
    assert!(waiting <= MAILBOX as f64 * 1.1, "{waiting} bytes in mailboxes");

    // It reads again: what waited, one gap with the right count, and then what is published now.
    publisher.publish("flood").await.unwrap();
    let (mut before, mut after, mut gaps) = (0, 0, Vec::new());
    while before + after + gaps.iter().sum::<u64>() < MESSAGES as u64 + 1 {
        match stopped.event(Duration::from_secs(20)).await.unwrap() {
            Got::Message(_) if gaps.is_empty() => before += 1,
            Got::Message(_) => after += 1,
            Got::Gap(gap) => {
                assert_eq!((gap.reason(), gap.certain), (Reason::SlowSubscriber, true), "{gap:?}");
                assert_eq!(gap.topics, ["flood"]);
                gaps.push(gap.missing.expect("a certain gap has a count"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gaps.len(), 1, "gaps of {gaps:?} after {before} messages, {after} after them");
    assert!(before * SIZE as u64 >= MAILBOX / 2, "only {before} messages were kept");
    publisher.publish("flood").await.unwrap();
    read_without_gap(&mut stopped, 1).await;
    let counted = cluster.metrics(0).await.sum(names::GAPS, &[]);
    assert!(counted >= 1.0, "{counted} gaps counted");

    // The healthy ones have two more to read before the history is quiet.
    read_without_gap(&mut beside, 2).await;
    read_without_gap(&mut afar, 2).await;
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

/// A reader that reads slowly, but reads, gets what it can and counts for the rest, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_accounts_for_everything() {
    const ROUNDS: usize = 8;
    const MESSAGES: usize = 2_000;
    let _alone = gate::flooding().await;
    let cluster = Cluster::start(
        2,
        Options::with_flags(&["--limits-mailbox", "256KiB", "--limits-payload", "64KiB"]),
    )
    .await;
    let mut slow = cluster.client(0, "slow").await;
    slow.subscribe_everywhere(&["a", "b"], &["?", "last"]).await.unwrap();
    let mut publisher = cluster.client(1, "publisher").await;
    for round in 0..ROUNDS {
        flood(&mut publisher, if round % 2 == 0 { "a" } else { "b" }, MESSAGES, 512).await;
        for _ in 0..300 {
            slow.event(Duration::from_secs(20)).await.unwrap();
        }
    }
    // What is published until it has caught up for good.
    let caught_up = async || {
        publisher.publish("last").await.map_err(|error| error.to_string())?;
        for _ in 0..100_000 {
            match slow.event(Duration::from_millis(200)).await {
                Ok(Got::Message(message)) if message.topic == "last" => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("still reading".to_owned())
    };
    cluster.eventually("it has caught up", Duration::from_secs(30), caught_up).await;
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_beyond_the_limit_are_refused() {
    let options = Options::with_flags(&["--limits-sessions", "3", "--presence-linger", "100ms"]);
    let cluster = Cluster::start(2, options).await;
    let mut sessions = Vec::new();
    for i in 0..3 {
        sessions.push(cluster.client(0, &format!("session-{i}")).await);
    }
    let error = cluster.try_client(0, "too many").await.unwrap_err();
    let refused = error.code() == Some("too_many_sessions")
        || error.status() == Some(tonic::Code::ResourceExhausted);
    assert!(refused, "{error}");
    let rejected = cluster.metrics(0).await.sum(names::LIMIT_REJECTIONS, &[("limit", "sessions")]);
    assert!(rejected >= 1.0, "{rejected} rejections counted");
    // Elsewhere there is room, and so there is here when one has left.
    cluster.client(1, "elsewhere").await;
    sessions[0].bye(false).await.unwrap();
    cluster
        .eventually("there is room again", Duration::from_secs(5), async || {
            cluster.try_client(0, "next").await.map(drop).map_err(|error| error.to_string())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_read_again_on_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("waxwing.toml");
    std::fs::write(&file, "[limits]\npayload = \"1KiB\"\n").unwrap();
    let cluster =
        Cluster::start(1, Options::with_flags(&["--config", file.to_str().unwrap()])).await;
    let mut client = cluster.client(0, "client").await;
    let long = "x".repeat(2_000);
    let error = client.publish_once("t", &long).await.unwrap_err();
    assert_eq!(error.code(), Some("payload_too_large"), "{error}");

    std::fs::write(&file, "[limits]\npayload = \"4KiB\"\n").unwrap();
    cluster.node(0).signal(nix::sys::signal::Signal::SIGHUP);
    cluster
        .eventually("the new limit holds", Duration::from_secs(5), async || {
            client.publish_once("t", &long).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    // A file that is wrong changes nothing.
    std::fs::write(&file, "[limits]\npayload = \"lots\"\n").unwrap();
    cluster.node(0).signal(nix::sys::signal::Signal::SIGHUP);
    cluster
        .eventually("the fault is logged", Duration::from_secs(5), async || {
            let log = cluster.node(0).log_text();
            log.contains("limits.payload").then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
    client.publish_once("t", &long).await.unwrap();
}
