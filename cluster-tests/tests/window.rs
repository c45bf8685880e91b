//! What links keep and send again: cut under load, held for less and for more than the window, and subscribing while they are cut.
//!
//! Short by default. With `WAXWING_LONG=1` (`scripts/links.sh`) at full size: a minute of cuts, a gibibyte held, ten thousand
//! subscriptions. `WAXWING_RATE` sets the messages a second under cuts; unless it does, half of what the link carries without a gap.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_tests::check;
use cluster_tests::client::{Client, Got};
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::figures;
use cluster_tests::gate;
use cluster_tests::history::Numbered;
use tokio::sync::watch;
use tokio::time::sleep;
use waxwing::metrics::names;
use waxwing::proxy::{Lane, ProxyHandle};
use waxwing::supervise::Clock;
use waxwing::types::Time;
use waxwing::wire::v1::Confirm;
use waxwing::wire::v1::gap::Reason;

const CONNECTIONS: [Lane; 2] = [Lane::There, Lane::Back];

fn long() -> bool {
    std::env::var_os("WAXWING_LONG").is_some()
}

/// Messages a second, where the environment says so.
fn rate_asked() -> Option<u64> {
    std::env::var("WAXWING_RATE").ok().map(|rate| rate.parse().expect("a number"))
}

/// The same every time, without a pattern.
fn scattered(i: u64) -> u64 {
    let mixed = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33
}

async fn sleep_until(clock: Clock, at: Time) {
    sleep(at.since(clock.now())).await;
}

/// Cuts every half second for 50 to 300 ms, until after so many it is enough.
async fn keep_cutting(
    clock: Clock,
    links: &[ProxyHandle],
    enough: impl AsyncFn(u64) -> bool,
) -> u64 {
    let mut cuts = 0;
    let mut at = clock.now();
    while !enough(cuts).await {
        at = at + Duration::from_millis(500);
        sleep_until(clock, at).await;
        let link = &links[usize::try_from(scattered(cuts)).unwrap() % links.len()];
        link.cut();
        sleep(Duration::from_millis(50 + scattered(cuts + 7) % 250)).await;
        link.heal();
        cuts += 1;
    }
    cuts
}

/// The number of a message of this test.
fn number(got: &Got) -> Option<u64> {
    let Got::Message(message) = got else { return None };
    Numbered::read(&message.topic, &message.payload).map(|numbered| numbered.seq)
}

/// Bytes of a message under cuts.
const SIZE: usize = 100;

/// Messages a second that go from one to the other, without a gap, when the publisher goes on as soon as not too many are on their way.
async fn most_without_gap(
    clock: Clock,
    publisher: &mut Client,
    subscriber: &mut Client,
    messages: u64,
) -> f64 {
    const FRAME: u64 = 250;
    const UNDER_WAY: u64 = 20_000;
    let begin = clock.now();
    let (received, mut seen) = watch::channel(0);
    let publish = async {
        for sent in (0..messages).step_by(FRAME as usize) {
            seen.wait_for(|received| sent < received + UNDER_WAY).await.unwrap();
            publisher.publish_frame(&["t"; FRAME as usize], SIZE).await.unwrap();
        }
    };
    let receive = async {
        for next in 1..=messages {
            let got = subscriber.event(Duration::from_secs(5)).await.unwrap();
            assert_eq!(number(&got), Some(next), "{got:?}");
            received.send_replace(next);
        }
    };
    tokio::join!(publish, receive);
    messages as f64 / clock.now().since(begin).as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_cut_every_half_second_lose_and_repeat_nothing() {
    let _alone = gate::flooding().await;
    // A busy machine hits fewer at a time, so the cutting goes on until it has tried what it is for.
    let (time, hits_enough) =
        if long() { (Duration::from_secs(60), 90.0) } else { (Duration::from_secs(5), 8.0) };
    let cluster = Cluster::start(2, Options::proxied()).await;
    let deaf = cluster.recorder().deaf();
    let address = |i: usize| cluster.node(i).ports.grpc.to_string();
    let mut subscriber = Client::open(&address(1), "subscriber", &deaf).await.unwrap();
    subscriber.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let mut publisher = Client::open(&address(0), "publisher", &deaf).await.unwrap();

    let clock = cluster.clock();
    // Half of what the link carries; short: what a debug build on a busy machine carries with ease.
    let (rate, first) = match rate_asked() {
        Some(rate) => (rate, 1),
        None if long() => {
            let messages = 1_000_000;
            let most = most_without_gap(clock, &mut publisher, &mut subscriber, messages).await;
            figures::tell("messages a second without a gap, at most", most, "");
            assert!(most > 100_000.0, "a link carries far less than it should: {most}/s");
            (most as u64 / 2, messages + 1)
        }
        None => (2_000, 1),
    };
    let every = Duration::from_millis(5);
    let begin = clock.now();
    let over = AtomicBool::new(false);
    let is_over = || over.load(Ordering::Relaxed);
    let hits =
        async || cluster.metrics(0).await.sum(names::LINK_RESUMES, &[("kind", "unacknowledged")]);
    let links = [cluster.mesh().pair(0, 1).only(&CONNECTIONS)];
    let cut = async {
        let enough = async |cuts| {
            let (taken, hits) = (clock.now().since(begin), hits().await);
            assert!(taken < 6 * time, "{hits} of {cuts} cuts hit in {taken:?}");
            taken >= time && hits >= hits_enough
        };
        let cuts = keep_cutting(clock, &links, enough).await;
        over.store(true, Ordering::Relaxed);
        cuts
    };
    let publish = async {
        let (mut at, mut sent, mut ticks) = (begin, 0, 0);
        while !is_over() {
            at = at + every;
            ticks += 1;
            sleep_until(clock, at).await;
            let due = rate * ticks / 200;
            let topics = vec!["t"; usize::try_from(due - sent).unwrap()];
            publisher.publish_frame(&topics, SIZE).await.unwrap();
            sent = due;
        }
        // The end of it.
        publisher.publish_frame(&["t"], SIZE).await.unwrap();
        publisher.flush().await.unwrap();
        sent + 1
    };
    // Ends at whatever is not the next message.
    let receive = async {
        let mut next = first;
        loop {
            match subscriber.event(Duration::from_secs(5)).await {
                Ok(got) if number(&got) == Some(next) => next += 1,
                Ok(got) => panic!("{got:?} instead of message {next}"),
                Err(error) if !is_over() => panic!("message {next}: {error}"),
                Err(_) => return next - first,
            }
        }
    };
    let (sent, received, cuts) = tokio::join!(publish, receive, cut);
    assert_eq!(received, sent, "after {cuts} cuts");

    let metrics = cluster.metrics(0).await;
    let hits = hits().await;
    let again = metrics.sum(names::LINK_RETRANSMITTED, &[]);
    figures::tell("messages over a link that was cut", sent as f64, "");
    figures::tell("a second", rate as f64, "");
    figures::tell("cuts", cuts as f64, "");
    figures::tell("cuts that hit unacknowledged frames", hits, "");
    figures::tell("batches sent again", again, "");
    assert_eq!(metrics.sum(names::LINK_RESUMES, &[("kind", "lost")]), 0.0);
}

/// What a held link's test needs: how long, how much, and what nodes are started with.
struct Held {
    window: &'static str,
    bytes_max: u64,
    /// Less than the window's age, and more.
    short: Duration,
    long: Duration,
    bytes: usize,
    topics: usize,
}

impl Held {
    fn new() -> Self {
        if long() {
            Self {
                window: "64MiB 30s",
                bytes_max: 64 << 20,
                short: Duration::from_secs(20),
                long: Duration::from_secs(40),
                bytes: 1 << 30,
                topics: 1_000,
            }
        } else {
            Self {
                window: "4MiB 6s",
                bytes_max: 4 << 20,
                short: Duration::from_secs(4),
                long: Duration::from_secs(11),
                bytes: 12 << 20,
                topics: 50,
            }
        }
    }

    fn options(&self) -> Options {
        // What is kept for the peer comes at once when the link is let go: that is not what a mailbox is judged by here.
        let mailbox = (4 * self.bytes_max).to_string();
        let flags = ["--limits-link-window", self.window, "--limits-mailbox", &mailbox];
        Options { flags: flags.map(str::to_owned).into(), ..Options::proxied() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_held_for_less_than_the_window_counts_exactly_what_is_missing() {
    const SIZE: usize = 16 << 10;
    let _alone = gate::flooding().await;
    let held = Held::new();
    let cluster = Cluster::start(2, held.options()).await;
    let names: Vec<String> = (0..held.topics).map(|n| format!("held:{n}")).collect();
    let mut by_topic = cluster.client(1, "by-topic").await;
    let topics: Vec<&str> = names.iter().map(String::as_str).collect();
    by_topic.subscribe_everywhere(&topics, &[]).await.unwrap();
    let mut by_pattern = cluster.client(1, "by-pattern").await;
    by_pattern.subscribe_everywhere(&[], &["held:*", "h*1"]).await.unwrap();
    let mut unaffected = cluster.client(1, "unaffected").await;
    unaffected.subscribe_everywhere(&["quiet"], &[]).await.unwrap();
    let mut publisher = cluster.client(0, "publisher").await;
    let frame = 16.min(topics.len());
    for some in topics.chunks(frame) {
        publisher.publish_frame(some, SIZE).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let rss_before = cluster.node(0).resident_bytes();

    let link = cluster.mesh().pair(0, 1).only(&CONNECTIONS);
    cluster.recorder().fault("hold a to b", true);
    link.hold();
    let clock = cluster.clock();
    let release = clock.now() + held.short;
    publisher.publish_frame(&["quiet"], 0).await.unwrap();
    let mut published = 0;
    let mut rss_most = rss_before;
    while published < held.bytes {
        let first = (published / SIZE) % topics.len();
        let some: Vec<&str> = topics.iter().cycle().skip(first).take(frame).copied().collect();
        publisher.publish_frame(&some, SIZE).await.unwrap();
        published += frame * SIZE;
        rss_most = rss_most.max(cluster.node(0).resident_bytes());
    }
    publisher.flush().await.unwrap();
    assert!(clock.now() < release, "publishing took longer than the link is held");
    sleep_until(clock, release).await;
    link.heal();
    cluster.recorder().fault("hold a to b", false);

    cluster
        .eventually("all is handed over", Duration::from_secs(30), async || {
            // Numbered, since it may still be one of those that are counted.
            match publisher.publish_numbered("held:0", Confirm::Cluster).await {
                Ok(response) if response.unknown == 0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    let mut counted = Vec::new();
    for subscriber in [&mut by_topic, &mut by_pattern] {
        let got = subscriber.events_until_own_marker().await.unwrap();
        let gaps = got.iter().filter_map(|got| match got {
            Got::Gap(gap) => Some((gap.certain, gap.reason(), gap.missing.unwrap_or_default())),
            Got::Message(_) | Got::GoAway(_) | Got::Presence(_) | Got::Welcome(_) => None,
        });
        let gaps: Vec<_> = gaps.collect();
        assert!(gaps.iter().all(|gap| gap.0 && gap.1 == Reason::Link), "{gaps:?}");
        counted.push(gaps.iter().map(|gap| gap.2).sum::<u64>());
    }
    assert!(counted[0] > 0 && counted[0] == counted[1], "{counted:?}");
    let got = unaffected.events_until_own_marker().await.unwrap();
    assert!(matches!(&got[..], [Got::Message(_)]), "{got:?}");
    let grown = rss_most.saturating_sub(rss_before);
    figures::tell("messages a held link lost, all counted", counted[0] as f64, "");
    figures::tell("memory of the sender grew by", grown as f64 / f64::from(1 << 20), "MiB");
    // What is kept, and as much again for what sockets and the publishing client's stream have under way.
    assert!(grown < held.bytes_max * 2 + (64 << 20), "the sender grew by {grown} bytes");
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_held_for_longer_is_one_possible_gap_and_nothing_behind_it() {
    let _quiet = gate::measuring().await;
    let held = Held::new();
    let cluster = Cluster::start(2, held.options()).await;
    let mut subscriber = cluster.client(1, "subscriber").await;
    subscriber.subscribe_everywhere(&["t"], &["t*"]).await.unwrap();
    let mut publisher = cluster.client(0, "publisher").await;
    publisher.publish("t").await.unwrap();
    subscriber.message().await.unwrap();

    let link = cluster.mesh().pair(0, 1).only(&CONNECTIONS);
    cluster.recorder().fault("hold a to b", true);
    link.hold();
    let clock = cluster.clock();
    let release = clock.now() + held.long;
    // Some on its way, some never written, some when nothing is kept any more.
    while clock.now() < release {
        publisher.publish_frame(&["t", "t2"], 100).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    publisher.flush().await.unwrap();
    let before = publisher.publish("t").await.unwrap();
    link.heal();
    cluster.recorder().fault("hold a to b", false);

    let (mut gaps, mut covered) = (Vec::new(), Vec::new());
    let goes_on = async || {
        let response = publisher.publish("t").await.map_err(|error| error.to_string())?;
        loop {
            match subscriber.event(Duration::from_millis(200)).await {
                Ok(Got::Gap(gap)) => gaps.push(gap),
                Ok(Got::Message(message)) if message.id == response.id => return Ok(()),
                Ok(Got::Message(message)) if message.id <= before.id => covered.push(message),
                Ok(Got::Message(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    cluster.eventually("delivery goes on", Duration::from_secs(30), goes_on).await;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].reason(), gaps[0].certain), (Reason::Link, false), "{gaps:?}");
    assert_eq!(gaps[0].origin, "a");
    assert!(covered.is_empty(), "{covered:?} came, and the gap covers it");
    let rest = subscriber.events_until_own_marker().await.unwrap();
    assert!(!rest.iter().any(|got| matches!(got, Got::Gap(_))), "{rest:?}");
    assert_eq!(cluster.metrics(0).await.sum(names::LINK_RESUMES, &[("kind", "lost")]), 1.0);
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

/// What the member had published by then was on its way to others here, and comes to the new one too: its gap is final, so it stands
/// behind all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gap_of_a_late_confirmation_stands_behind_what_was_on_its_way() {
    const SIZE: usize = 16 << 10;
    // More than is on its way before an answer can be, and less than a mailbox holds.
    const MESSAGES: u64 = 384;
    let cluster = Cluster::start(2, Options::proxied()).await;
    let mut early = cluster.client(1, "early").await;
    early.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let mut publisher = cluster.client(0, "publisher").await;

    let link = cluster.mesh().pair(0, 1).only(&CONNECTIONS);
    cluster.recorder().fault("hold a to b", true);
    link.hold();
    for _ in 0..MESSAGES {
        publisher.publish_frame(&["t"], SIZE).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut late = cluster.client(1, "late").await;
    // One that nobody had, or there would be nothing to confirm.
    let results = late.subscribe(&["t", "new"], &[]).await.unwrap();
    assert_eq!((results[0].confirmed, results[0].members), (1, 2), "{results:?}");
    link.heal();
    cluster.recorder().fault("hold a to b", false);

    let gap = late.events_until(|got| matches!(got, Got::Gap(_))).await.unwrap();
    let before: Vec<u64> = gap.iter().filter_map(number).collect();
    assert_eq!(before, (1..=MESSAGES).collect::<Vec<_>>(), "{:?}", gap.last());
    let Some(Got::Gap(gap)) = gap.last() else { panic!("{gap:?}") };
    assert_eq!((gap.reason(), gap.certain, gap.origin.as_str()), (Reason::Link, false, "a"));
    publisher.publish("t").await.unwrap();
    for subscriber in [&mut late, &mut early] {
        let last = |got: &Got| number(got) == Some(MESSAGES + 1);
        let rest = subscriber.events_until(last).await.unwrap();
        assert!(!rest.iter().any(|got| matches!(got, Got::Gap(_))), "{rest:?}");
    }
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

/// Subscribes on one node and publishes on another as soon as that is acknowledged, under cuts and while a node joins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribed_means_subscribed_while_links_are_cut() {
    const KEPT: usize = 40;
    let _alone = gate::flooding().await;
    let rounds = if long() { 10_000 } else { 300 };
    let cluster = Cluster::start(3, Options::proxied()).await;
    let mut subscribers = Vec::new();
    let mut publishers = Vec::new();
    for i in 0..2 {
        subscribers.push(cluster.client(i, &format!("subscriber-{i}")).await);
        publishers.push(cluster.client(i, &format!("publisher-{i}")).await);
    }
    let links = [(0, 1), (1, 0)].map(|(a, b)| cluster.mesh().pair(a, b).only(&CONNECTIONS));
    let mut partial = 0_u32;
    let churn = async {
        for round in 0..rounds {
            let from = usize::try_from(scattered(round) % 2).unwrap();
            let topic = format!("churn:{round}");
            let subscriber = &mut subscribers[from];
            let results = subscriber.subscribe(&[&topic], &[]).await.unwrap();
            partial += u32::from(results[0].confirmed < results[0].members);
            // The other node, with what came before and what comes after.
            publishers[1 - from].publish(&topic).await.unwrap();
            publishers[from].publish_frame(&[&topic], 0).await.unwrap();
            if let Some(old) = usize::try_from(round).unwrap().checked_sub(KEPT) {
                let name = format!("churn:{old}");
                let of = usize::try_from(scattered(old as u64) % 2).unwrap();
                subscribers[of].unsubscribe(&[&name], &[]).await.unwrap();
            }
            if round % 100 == 30 {
                cluster.kill9(2);
            } else if round % 100 == 60 {
                cluster.restart(2);
            }
        }
    };
    tokio::select! {
        () = churn => {}
        cuts = keep_cutting(cluster.clock(), &links, async |_| false) => unreachable!("{cuts} cuts"),
    }
    cluster.mesh().all().for_each(ProxyHandle::heal);
    cluster.restart(2);
    cluster.eventually_all_see("all is whole", Duration::from_secs(30), &["a", "b", "c"]).await;
    for (publisher, subscriber) in publishers.iter_mut().zip(&mut subscribers) {
        // So that what is on its way to the other has an end.
        let topic = format!("end:{}", publisher.node());
        subscriber.subscribe_everywhere(&["end:a", "end:b"], &[]).await.unwrap();
        let over = async || match publisher.all_handed_over(&topic).await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        cluster.eventually("all is handed over", Duration::from_secs(10), over).await;
    }
    for publisher in &mut publishers {
        let over = async || match publisher.all_handed_over("end:a").await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        cluster.eventually("all is handed over", Duration::from_secs(10), over).await;
    }
    for subscriber in &mut subscribers {
        subscriber.events_until_own_marker().await.unwrap();
    }
    figures::tell("subscribes", rounds as f64, "");
    figures::tell("of them not confirmed by all", f64::from(partial), "");
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}
