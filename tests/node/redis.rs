//! Redis clients of real nodes, byte by byte: across nodes, beside gRPC, at their limits.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waxwing::client::{Event, Publish};
use waxwing::config::{Config, OnGap, Secret};
use waxwing::node::{Node, NodeHandle};
use waxwing::telemetry::LogLevel;

use crate::cluster::{Cluster, texts, within};

/// A Redis client that knows no more of the protocol than what it is told to expect.
struct Redis {
    io: TcpStream,
}

impl Redis {
    async fn to(node: &NodeHandle) -> Self {
        let address = node.bound().redis.expect("the Redis port is on");
        Self { io: TcpStream::connect(address).await.expect("it connects") }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("it is taken");
    }

    async fn ask(&mut self, words: &[&[u8]]) {
        self.send(&wire(words)).await;
    }

    /// The next bytes are these, and then (for now) nothing else is looked at.
    async fn expect(&mut self, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        let mut at = 0;
        let read = async {
            while at < got.len() {
                match self.io.read(&mut got[at..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => at += bytes,
                }
                if got[..at] != expected[..at] {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(crate::cluster::PATIENCE, read).await.is_ok();
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert!(
            in_time && got == expected,
            "got {}\nexpected {}",
            shown(&got[..at]),
            shown(expected)
        );
    }

    async fn is_told(&mut self, words: &[&[u8]], expected: &[u8]) {
        self.ask(words).await;
        self.expect(expected).await;
    }

    /// Everything until the other side closes.
    async fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = within("it is closed", self.io.read_to_end(&mut rest)).await;
        rest
    }

    /// Until it is answered so: what others announce takes a moment.
    async fn eventually_told(&mut self, words: &[&[u8]], expected: &[u8]) {
        let asked = async {
            loop {
                self.ask(words).await;
                let mut got = vec![0; expected.len()];
                self.io.read_exact(&mut got).await.expect("an answer");
                if got == expected {
                    return;
                }
                // Same length or not, nothing may be left over.
                let mut more = [0; 4096];
                while self.io.try_read(&mut more).is_ok_and(|bytes| bytes > 0) {}
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(&format!("{}", expected.escape_ascii()), asked).await;
    }
}

fn wire(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// An array as servers send it; `:3` is a number.
fn array(mark: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![mark];
    out.extend_from_slice(format!("{}\r\n", parts.len()).as_bytes());
    for part in parts {
        if let [b':', ..] = part {
            out.extend_from_slice(part);
        } else {
            out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

async fn one_node(change: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config::for_test("a");
    change(&mut config);
    Node::start(config, LogLevel::detached()).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_of_any_bytes_pass_between_nodes() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    for channel in [&b"room:1"[..], b"\xff\x00\r\n", b"smile \xf0\x9f\x99\x82"] {
        let mut subscribers = Vec::new();
        for name in ["a", "b", "c"] {
            let mut subscriber = Redis::to(&cluster.node(name)).await;
            let acknowledged = array(b'*', &[b"subscribe", channel, b":1"]);
            subscriber.is_told(&[b"SUBSCRIBE", channel], &acknowledged).await;
            subscribers.push(subscriber);
        }
        let mut publisher = Redis::to(&cluster.node("b")).await;
        for payload in [&b"hello"[..], b"", b"\x00\xff\r\n:1\r\n"] {
            publisher.is_told(&[b"PUBLISH", channel, payload], b":3\r\n").await;
            for subscriber in &mut subscribers {
                subscriber.expect(&array(b'*', &[b"message", channel, payload])).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_copy_for_each_match_and_counts_of_the_whole_cluster() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let mut subscriber = Redis::to(&cluster.node("a")).await;
    // Pipelined, in one write, with a command behind them.
    let mut asked = wire(&[b"SUBSCRIBE", b"news", b"other"]);
    asked.extend(wire(&[b"PSUBSCRIBE", b"n*", b"*s"]));
    asked.extend(wire(&[b"SSUBSCRIBE", b"news"]));
    asked.extend(wire(&[b"PING", b"x"]));
    subscriber.send(&asked).await;
    for (word, name, count) in [
        ("subscribe", "news", ":1"),
        ("subscribe", "other", ":2"),
        ("psubscribe", "n*", ":3"),
        ("psubscribe", "*s", ":4"),
        ("ssubscribe", "news", ":1"),
    ] {
        let parts = [word, name, count].map(str::as_bytes);
        subscriber.expect(&array(b'*', &parts)).await;
    }
    subscriber.expect(&array(b'*', &[b"pong", b"x"])).await;

    let mut publisher = Redis::to(&cluster.node("b")).await;
    publisher.is_told(&[b"PUBLISH", b"news", b"1"], b":3\r\n").await;
    publisher.is_told(&[b"SPUBLISH", b"news", b"2"], b":1\r\n").await;
    publisher.is_told(&[b"PUBLISH", b"nobody", b"3"], b":1\r\n").await;
    publisher.is_told(&[b"PUBLISH", b"x", b"4"], b":0\r\n").await;
    subscriber.expect(&array(b'*', &[b"message", b"news", b"1"])).await;
    subscriber.expect(&array(b'*', &[b"pmessage", b"n*", b"news", b"1"])).await;
    subscriber.expect(&array(b'*', &[b"pmessage", b"*s", b"news", b"1"])).await;
    subscriber.expect(&array(b'*', &[b"smessage", b"news", b"2"])).await;
    subscriber.expect(&array(b'*', &[b"pmessage", b"n*", b"nobody", b"3"])).await;

    publisher.is_told(&[b"PUBSUB", b"NUMPAT"], b":2\r\n").await;
    let counts = array(b'*', &[b"news", b":1", b"x", b":0"]);
    publisher.is_told(&[b"PUBSUB", b"NUMSUB", b"news", b"x"], &counts).await;
    publisher.is_told(&[b"PUBSUB", b"SHARDNUMSUB", b"news"], &array(b'*', &[b"news", b":1"])).await;
    publisher.is_told(&[b"PUBSUB", b"CHANNELS"], &array(b'*', &[b"news", b"other"])).await;
    publisher.is_told(&[b"PUBSUB", b"CHANNELS", b"o*"], &array(b'*', &[b"other"])).await;
    publisher.is_told(&[b"PUBSUB", b"SHARDCHANNELS"], &array(b'*', &[b"news"])).await;

    // A second one: its number is told within the tenth of a second that numbers are told in.
    let mut second = Redis::to(&cluster.node("b")).await;
    second.is_told(&[b"SUBSCRIBE", b"news"], &array(b'*', &[b"subscribe", b"news", b":1"])).await;
    publisher.is_told(&[b"PUBSUB", b"NUMSUB", b"news"], &array(b'*', &[b"news", b":2"])).await;
    let mut elsewhere = Redis::to(&cluster.node("a")).await;
    elsewhere
        .eventually_told(&[b"PUBSUB", b"NUMSUB", b"news"], &array(b'*', &[b"news", b":2"]))
        .await;

    // Nothing comes after the acknowledgement that it is over.
    subscriber
        .is_told(&[b"UNSUBSCRIBE", b"news"], &array(b'*', &[b"unsubscribe", b"news", b":3"]))
        .await;
    subscriber.is_told(&[b"RESET"], b"+RESET\r\n").await;
    // The other node hears of it in its own time.
    let one = array(b'*', &[b"news", b":1"]);
    publisher.eventually_told(&[b"PUBSUB", b"NUMSUB", b"news"], &one).await;
    publisher.eventually_told(&[b"PUBSUB", b"NUMPAT"], b":0\r\n").await;
    publisher.is_told(&[b"PUBLISH", b"news", b"5"], b":1\r\n").await;
    subscriber.is_told(&[b"PUBLISH", b"news", b"6"], b":1\r\n").await;
    second.expect(&array(b'*', &[b"message", b"news", b"5"])).await;
    second.expect(&array(b'*', &[b"message", b"news", b"6"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subscriptions_of_a_killed_node_count_no_more() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    let subscribe = [wire(&[b"SUBSCRIBE", b"n"]), wire(&[b"SSUBSCRIBE", b"s"])].concat();
    let acknowledged =
        [array(b'*', &[b"subscribe", b"n", b":1"]), array(b'*', &[b"ssubscribe", b"s", b":1"])];
    let mut subscribers = Vec::new();
    for name in ["a", "b"] {
        let mut subscriber = Redis::to(&cluster.node(name)).await;
        subscriber.send(&subscribe).await;
        subscriber.expect(&acknowledged.concat()).await;
        subscribers.push(subscriber);
    }
    let mut asked = Redis::to(&cluster.node("c")).await;
    let counted = |count: &'static [u8]| [array(b'*', &[b"n", count]), array(b'*', &[b"s", count])];
    let questions: [[&[u8]; 3]; 2] =
        [[b"PUBSUB", b"NUMSUB", b"n"], [b"PUBSUB", b"SHARDNUMSUB", b"s"]];
    for (question, answer) in questions.iter().zip(&counted(b":2")) {
        asked.eventually_told(question, answer).await;
    }
    // What it had is kept for its return; and it doesn't return.
    cluster.kill("b").await;
    for (question, answer) in questions.iter().zip(&counted(b":1")) {
        asked.eventually_told(question, answer).await;
    }
    asked.is_told(&[b"SPUBLISH", b"s", b"x"], b":1\r\n").await;
    subscribers[0].expect(&array(b'*', &[b"smessage", b"s", b"x"])).await;
    let mut moved = Redis::to(&cluster.node("c")).await;
    moved.send(&subscribe).await;
    moved.expect(&acknowledged.concat()).await;
    for (question, answer) in questions.iter().zip(&counted(b":2")) {
        asked.is_told(question, answer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_and_grpc_share_their_topics() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let (_on_a, mut events) = cluster.subscriber("a", "room").await;
    let (publisher, _) = cluster.client("b").await;
    let (by_pattern, mut all) = cluster.client("a").await;
    within("it subscribes", by_pattern.subscribe([""; 0], ["*"])).await.expect("it subscribes");
    let mut three = Redis::to(&cluster.node("a")).await;
    three.ask(&[b"HELLO", b"3"]).await;
    three.expect(b"%7\r\n$6\r\nserver\r\n").await;
    let mut two = Redis::to(&cluster.node("b")).await;
    two.is_told(&[b"PSUBSCRIBE", b"r*"], &array(b'*', &[b"psubscribe", b"r*", b":1"])).await;
    three.ask(&[b"SUBSCRIBE", b"room"]).await;
    let mut told = Vec::new();
    let acknowledged = array(b'>', &[b"subscribe", b"room", b":1"]);
    within("it is acknowledged", async {
        while !told.ends_with(&acknowledged) {
            told.push(three.io.read_u8().await.expect("an answer"));
        }
    })
    .await;

    for text in ["one", "two"] {
        within("it publishes", publisher.publish(Publish::new("room", text.as_bytes())))
            .await
            .expect("it publishes");
    }
    for text in [b"one", b"two"] {
        three.expect(&array(b'>', &[b"message", b"room", text])).await;
        two.expect(&array(b'*', &[b"pmessage", b"r*", b"room", text])).await;
    }
    assert_eq!(texts(&mut events, 2).await, ["one", "two"]);
    assert_eq!(texts(&mut all, 2).await, ["one", "two"]);

    // RESP3 publishes while it is subscribed; a channel that is no text reaches no gRPC client. Its own copy comes first.
    three.ask(&[b"PUBLISH", b"\xff", b"bytes"]).await;
    three.expect(b":").await;
    let _count = three.io.read_u8().await;
    three.expect(b"\r\n").await;
    three.ask(&[b"PUBLISH", b"room", b"three"]).await;
    three.expect(&array(b'>', &[b"message", b"room", b"three"])).await;
    assert_eq!(texts(&mut events, 1).await, ["three"]);
    assert_eq!(texts(&mut all, 1).await, ["three"]);
    two.expect(&array(b'*', &[b"pmessage", b"r*", b"room", b"three"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipelining_publisher_keeps_its_order_and_gets_every_answer() {
    const EACH: usize = 5_000;
    let cluster = Cluster::start(&["a", "b"]).await;
    let mut subscriber = Redis::to(&cluster.node("b")).await;
    subscriber.is_told(&[b"PSUBSCRIBE", b"*"], &array(b'*', &[b"psubscribe", b"*", b":1"])).await;
    let publisher = Redis::to(&cluster.node("a")).await;
    let (mut answers, mut asks) = publisher.io.into_split();
    let (mut asked, mut expected) = (Vec::new(), Vec::new());
    for number in 0..EACH {
        // Changing channels, so that runs are of every length.
        let channel = format!("c{}", number * number % 7 / 3);
        let payload = number.to_string();
        asked.extend(wire(&[b"PUBLISH", channel.as_bytes(), payload.as_bytes()]));
        expected.extend(array(b'*', &[b"pmessage", b"*", channel.as_bytes(), payload.as_bytes()]));
    }
    let writing = async { asks.write_all(&asked).await.expect("it is taken") };
    let reading = async {
        let mut got = vec![0; EACH * 4];
        answers.read_exact(&mut got).await.expect("answers");
        assert_eq!(got, b":1\r\n".repeat(EACH));
    };
    let receiving = subscriber.expect(&expected);
    within("all is said", async { tokio::join!(writing, reading, receiving) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_pass_and_larger_ones_end_the_connection() {
    let node = one_node(|_| {}).await;
    let handle = node.handle();
    let mut subscriber = Redis::to(&handle).await;
    subscriber.is_told(&[b"SUBSCRIBE", b"c"], &array(b'*', &[b"subscribe", b"c", b":1"])).await;
    let mut publisher = Redis::to(&handle).await;
    let payload = vec![b'x'; 1 << 20];
    for _ in 0..20 {
        publisher.is_told(&[b"PUBLISH", b"c", &payload], b":1\r\n").await;
        subscriber.expect(&array(b'*', &[b"message", b"c", &payload])).await;
    }
    publisher.send(b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1048577\r\n").await;
    assert_eq!(publisher.rest().await, b"-ERR Protocol error: invalid bulk length\r\n");
    let mut other = Redis::to(&handle).await;
    let long = vec![b'c'; 2_000];
    other.ask(&[b"PUBLISH", &long, b"x"]).await;
    other.ask(&[b"SUBSCRIBE", b"fine", &long]).await;
    let refused = b"-ERR a topic of 2000 bytes is longer than the limit of 1024; the limit is limits.topic\r\n";
    other.expect(refused).await;
    other.expect(refused).await;
    other.is_told(&[b"PING"], b"+PONG\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_is_disconnected_and_others_are_not() {
    let node = one_node(|config| {
        config.redis.output_hard = 4 << 20;
        config.redis.output_soft = 4 << 20;
    })
    .await;
    let handle = node.handle();
    let mut slow = Redis::to(&handle).await;
    slow.is_told(&[b"SUBSCRIBE", b"c"], &array(b'*', &[b"subscribe", b"c", b":1"])).await;
    let mut quick = Redis::to(&handle).await;
    quick.is_told(&[b"SUBSCRIBE", b"c"], &array(b'*', &[b"subscribe", b"c", b":1"])).await;
    let mut publisher = Redis::to(&handle).await;
    publisher.is_told(&[b"PING"], b"+PONG\r\n").await;
    let payload = vec![b'x'; 1 << 18];
    let message = array(b'*', &[b"message", b"c", &payload]);
    let mut sent = 0;
    // The kernel's buffers come on top of ours.
    while handle.broker().attached() == 3 {
        publisher.ask(&[b"PUBLISH", b"c", &payload]).await;
        publisher.expect(b":").await;
        publisher.io.read_exact(&mut [0; 3]).await.expect("a count");
        quick.expect(&message).await;
        sent += 1;
        assert!(
            sent < 4_000,
            "never: {:?}",
            handle
                .broker()
                .list(&waxwing::broker::SessionFilter { limit: 9, ..Default::default() })
        );
    }
    publisher.eventually_told(&[b"PUBLISH", b"c", b"x"], b":1\r\n").await;
    let rest = slow.rest().await;
    assert!(rest.len() < sent * message.len(), "it has got everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_in_by_the_password_alone() {
    let node = one_node(|config| {
        config.redis.password = Some(Secret::new(b"secret".to_vec()));
        config.limits.handshake = Duration::from_millis(700);
    })
    .await;
    let handle = node.handle();
    let mut client = Redis::to(&handle).await;
    client.is_told(&[b"PUBLISH", b"c", b"x"], b"-NOAUTH Authentication required.\r\n").await;
    assert_eq!(handle.broker().attached(), 0);
    let mut asked = wire(&[b"AUTH", b"secret"]);
    asked.extend(wire(&[b"PUBLISH", b"c", b"x"]));
    client.send(&asked).await;
    client.expect(b"+OK\r\n:0\r\n").await;
    assert_eq!(handle.broker().attached(), 1);

    let silent = Redis::to(&handle).await;
    assert_eq!(silent.rest().await, b"");
    let mut large = Redis::to(&handle).await;
    large.send(b"*2\r\n$4\r\nAUTH\r\n$20000\r\n").await;
    let told = b"-ERR Protocol error: unauthenticated bulk length\r\n";
    assert_eq!(large.rest().await, told);
    client.is_told(&[b"PING"], b"+PONG\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_where_they_must_and_say_what_they_had_to_say() {
    let node = one_node(|config| config.limits.sessions = 2).await;
    let handle = node.handle();
    let mut first = Redis::to(&handle).await;
    first.is_told(&[b"CLIENT", b"SETNAME", b"one"], b"+OK\r\n").await;
    let mut second = Redis::to(&handle).await;
    second.is_told(&[b"PING"], b"+PONG\r\n").await;
    let third = Redis::to(&handle).await;
    assert_eq!(third.rest().await, b"-ERR max number of clients reached\r\n");
    let (listed, total) = handle.broker().list(&waxwing::broker::SessionFilter {
        front: "redis".to_owned(),
        limit: 10,
        ..Default::default()
    });
    assert_eq!((listed.len(), total), (2, 2));
    assert!(listed.iter().any(|row| row.client == "one"));
    assert_eq!(handle.status().report().sessions.redis, 2);

    // Killed by another client; what it had asked before was answered.
    first.is_told(&[b"CLIENT", b"ID"], b":1\r\n").await;
    second.is_told(&[b"CLIENT", b"KILL", b"ID", b"1"], b":1\r\n").await;
    assert_eq!(first.rest().await, b"");
    second.is_told(&[b"CLIENT", b"KILL", b"ID", b"1"], b":0\r\n").await;

    let mut junk = Redis::to(&handle).await;
    let mut asked = wire(&[b"PING"]);
    asked.extend_from_slice(b"*1\r\n!\r\nwhatever comes behind");
    junk.send(&asked).await;
    assert_eq!(junk.rest().await, b"+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n");
    let mut quitting = Redis::to(&handle).await;
    quitting.ask(&[b"QUIT"]).await;
    assert_eq!(quitting.rest().await, b"+OK\r\n");
    assert_eq!(second_rest_after_drain(second, &handle).await, b"+PONG\r\n");
}

async fn second_rest_after_drain(mut client: Redis, handle: &NodeHandle) -> Vec<u8> {
    client.ask(&[b"PING"]).await;
    client.expect(b"+PONG\r\n").await;
    client.ask(&[b"PING"]).await;
    // Asked before the drain begins, so that it is answered.
    client.io.readable().await.expect("an answer");
    let (rest, ()) = within("it drains", async {
        tokio::join!(client.rest(), handle.drain(Duration::from_secs(10)))
    })
    .await;
    rest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_lost_disconnects_where_that_is_wanted() {
    let mut cluster = Cluster::start(&["b"]).await;
    let mut config = Config::for_test("a");
    config.cluster.seeds = vec![cluster.node("b").bound().peer.to_string()];
    config.redis.on_gap = OnGap::Disconnect;
    let node = Node::start(config, LogLevel::detached()).await.expect("it starts");
    let handle = node.handle();
    cluster
        .eventually("b sees a", |_| {
            handle.membership().members().live_peers().count() == 1
                && handle.router().connected_to_all()
                && handle.status().ready().is_ok()
        })
        .await;
    let mut client = Redis::to(&handle).await;
    client.is_told(&[b"SUBSCRIBE", b"c"], &array(b'*', &[b"subscribe", b"c", b":1"])).await;
    let (publisher, _) = cluster.client("b").await;
    crate::cluster::publish(&publisher, "c", "x").await;
    client.expect(&array(b'*', &[b"message", b"c", b"x"])).await;
    cluster.kill("b").await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_protocol_changes_at_the_answer_and_not_before() {
    let node = one_node(|_| {}).await;
    let mut client = Redis::to(&node.handle()).await;
    let mut asked = wire(&[b"HELLO", b"3"]);
    asked.extend(wire(&[b"SUBSCRIBE", b"c"]));
    asked.extend(wire(&[b"PUBLISH", b"c", b"1"]));
    asked.extend(wire(&[b"HELLO", b"2"]));
    client.send(&asked).await;
    let mut told = Vec::new();
    let message = array(b'>', &[b"message", b"c", b"1"]);
    within("it is told", async {
        while !told.ends_with(b"modules\r\n*0\r\n") || told.starts_with(b"%7") && told.len() < 250 {
            told.push(client.io.read_u8().await.expect("an answer"));
        }
    })
    .await;
    let told = String::from_utf8(told).unwrap();
    let message = String::from_utf8(message).unwrap();
    let answers = told.find(":1\r\n*14\r\n$6\r\nserver").expect("counted, then hello in RESP2");
    assert!(told.find(&message).expect("its message in RESP3") < answers, "{told}");
    // Subscribed, in RESP2: its mode holds again.
    client.is_told(&[b"PING"], &array(b'*', &[b"pong", b""])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_subscribers_see_no_loss_of_what_they_cannot_get() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let (client, mut events) = cluster.client("a").await;
    within("it subscribes", client.subscribe([""; 0], ["*"])).await.expect("it subscribes");
    let mut publisher = Redis::to(&cluster.node("b")).await;
    publisher.ask(&[b"PUBLISH", b"\xfe", b"x"]).await;
    publisher.expect(b":1\r\n").await;
    publisher.is_told(&[b"PUBLISH", b"text", b"x"], b":1\r\n").await;
    let event = within("a message", events.next()).await.expect("it lives");
    assert!(matches!(&event, Event::Messages(batch) if batch.topic() == "text"), "{event:?}");
}
