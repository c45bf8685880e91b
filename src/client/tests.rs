//! The client against a small cluster over loopback.

pub(crate) mod node;

use std::time::Duration;

use prost::Message as _;

use super::*;
use crate::wire::v1;
use node::Hub;

const NO_NAMES: [&str; 0] = [];

/// A batch of one message, as it comes from a node.
pub(crate) fn batch(
    topic: &str,
    origin: &str,
    id: &str,
    event: &str,
    (name, value): (&str, &str),
    payload: &'static [u8],
) -> Batch {
    let message = v1::Message {
        id: id.to_owned(),
        seq: 7,
        time: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
        event: event.to_owned(),
        headers: [(name.to_owned(), value.to_owned())].into(),
        payload: payload.into(),
    };
    let (topic, origin) = (topic.to_owned(), origin.to_owned());
    let batch = v1::Batch { topic, origin, messages: vec![message] };
    Batch::scan(batch.encode_to_vec().into()).unwrap()
}

async fn connect(addresses: &[&str]) -> (Client, Events) {
    Client::connect(Options::new(addresses.iter().copied())).await.unwrap()
}

/// Fails the test rather than waiting for ever.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within 20 s"),
    }
}

/// Payloads, and words for all other events, until `until` of them.
async fn heard(events: &mut Events, until: &str) -> Vec<String> {
    let mut heard = Vec::new();
    within(until, async {
        while let Some(event) = events.next().await {
            let before = heard.len();
            match event {
                Event::Messages(batch) => heard.extend(
                    batch.messages().map(|m| String::from_utf8_lossy(m.payload()).into_owned()),
                ),
                Event::Gap(gap) => heard.push(format!("gap: {}", gap.reason)),
                Event::Presence(event) => {
                    for entry in &event.joins {
                        heard.push(format!("{} {}", event.topic, entry.key));
                    }
                }
                Event::Disconnected { .. } => heard.push("disconnected".to_owned()),
                Event::Reconnected { node, resumed } => {
                    heard.push(format!("reconnected to {node}, resumed {resumed}"));
                }
                Event::Moved { from, to, .. } => heard.push(format!("moved from {from} to {to}")),
                Event::Refused { topic, error } => {
                    heard.push(format!("refused {topic:?}: {}", error.code));
                }
            }
            if heard[before..].iter().any(|heard| heard == until) {
                return;
            }
        }
    })
    .await;
    heard
}

/// As `heard`; nothing, if it is in `before` already.
async fn heard_unless(before: &[String], events: &mut Events, until: &str) -> Vec<String> {
    if before.iter().any(|heard| heard == until) { Vec::new() } else { heard(events, until).await }
}

#[tokio::test]
async fn what_is_published_arrives_in_order_and_is_confirmed() {
    let hub = Hub::new();
    let (a, b) = (hub.node("a").await, hub.node("b").await);
    let (subscriber, mut events) = connect(&[&a.address]).await;
    let (publisher, _events) = connect(&[&b.address]).await;
    assert_eq!(subscriber.node().as_deref(), Some("a"));
    let results = subscriber.subscribe(["room:1"], ["x*"]).await.unwrap();
    let told: Vec<_> = results.iter().map(|r| (&*r.topic, r.confirmed, r.members)).collect();
    assert_eq!(told, [("room:1", 2, 2), ("x*", 2, 2)]);

    let headers = [("k", "v")];
    let publish = Publish::new("room:1", b"hi").event("greeting").headers(&headers);
    let outcome = publisher.publish(publish.confirm(Confirm::Cluster)).await.unwrap();
    let Outcome::Confirmed(published) = outcome else { panic!("{outcome:?}") };
    assert_eq!((published.members, published.subscriptions), (2, 1));
    let Some(Event::Messages(batch)) = within("a message", events.next()).await else { panic!() };
    let message = batch.messages().next().unwrap();
    assert_eq!((batch.topic(), batch.origin(), message.event()), ("room:1", "b", "greeting"));
    assert_eq!((message.id(), message.payload()), (&*published.id, &b"hi"[..]));
    assert_eq!(message.headers().collect::<Vec<_>>(), headers);

    let mut sent = Vec::new();
    for i in 0..5_000 {
        let payload = i.to_string();
        publisher.send(Publish::new("xyz", payload.as_bytes())).await.unwrap();
        sent.push(payload);
    }
    assert_eq!(heard(&mut events, "4999").await, sent);
    assert!(within("close", publisher.close()).await);
    assert!(matches!(publisher.send(Publish::new("xyz", b"")).await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn refusals_reach_whoever_asked() {
    let hub = Hub::new();
    let a = hub.node("a").await;
    let (client, _events) = connect(&[&a.address]).await;
    let results = client.subscribe(["forbidden", "fine"], NO_NAMES).await.unwrap();
    assert_eq!(results[0].error.as_ref().unwrap().code, "forbidden");
    assert_eq!(results[1].error, None);
    let large = vec![0; outbox::PUBLISH_BYTES_MAX];
    let result = client.publish(Publish::new("fine", &large)).await;
    assert!(matches!(result, Err(ClientError::TooLarge { .. })), "{result:?}");
}

#[tokio::test]
async fn nobody_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let result = Client::connect(Options::new([address.clone()])).await.unwrap_err();
    let ClientError::Unreachable { tried } = result else { panic!("{result}") };
    assert_eq!(tried.len(), 1);
    assert_eq!(tried[0].0, address);
    assert!(tried[0].1.to_lowercase().contains("refused"), "{tried:?}");
    let result = Client::connect(Options::new(["no port"])).await.unwrap_err();
    assert!(matches!(result, ClientError::BadAddress { .. }));
}

#[tokio::test]
async fn after_a_break_it_comes_back_elsewhere_and_says_so() {
    let hub = Hub::new();
    let (a, b) = (hub.node("a").await, hub.node("b").await);
    let (client, mut events) = connect(&[&a.address]).await;
    let (other, _other_events) = connect(&[&b.address]).await;
    client.subscribe(["t"], NO_NAMES).await.unwrap();
    hub.mute(b"unanswered");
    let unanswered = Publish::new("t", b"unanswered").confirm(Confirm::Node);
    let unanswered = client.send(unanswered).await.unwrap();
    assert_eq!(heard(&mut events, "unanswered").await, ["unanswered"]);
    a.kill();
    assert_eq!(within("an outcome", unanswered).await.unwrap(), Outcome::Unknown);
    let news = heard(&mut events, "gap: reconnected").await;
    assert_eq!(news, ["disconnected", "reconnected to b, resumed true", "gap: reconnected"]);
    other.publish(Publish::new("t", b"after").confirm(Confirm::Node)).await.unwrap();
    assert_eq!(heard(&mut events, "after").await, ["after"]);
    // What had an unknown outcome was not published again.
    assert_eq!(hub.published(), [b"unanswered".to_vec(), b"after".to_vec()]);
}

#[tokio::test]
async fn publishes_wait_while_no_node_is_there() {
    let hub = Hub::new();
    let a = hub.node("a").await;
    let (client, mut events) = connect(&[&a.address]).await;
    a.kill();
    assert_eq!(heard(&mut events, "disconnected").await, ["disconnected"]);
    let confirmation =
        client.send(Publish::new("t", b"kept").confirm(Confirm::Node)).await.unwrap();
    assert!(hub.published().is_empty());
    drop(client);
    // Closed without a node: it has not been sent, and that is known.
    assert_eq!(within("an answer", confirmation).await, Err(ClientError::Closed));
}

/// A publisher on `b`, a subscriber that also publishes on `a`; `a` asks to be left, again and again, both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_loses_nothing_doubles_nothing_and_keeps_the_order() {
    let hub = Hub::new();
    let (a, b) = (hub.node("a").await, hub.node("b").await);
    let (mover, mut events) = connect(&[&a.address]).await;
    let (publisher, mut publisher_events) = connect(&[&b.address]).await;
    mover.subscribe(["theirs", "own"], NO_NAMES).await.unwrap();
    let supervisor = Supervisor::new(Shutdown::new());
    let stop = Shutdown::new();
    for (client, topic) in [(publisher.clone(), "theirs"), (mover.clone(), "own")] {
        let stop = stop.clone();
        supervisor.spawn(Task::Client(topic.to_owned()), async move {
            for i in 0.. {
                let payload = format!("{topic} {i}");
                let publish = Publish::new(topic, payload.as_bytes());
                if i % 7 == 0 {
                    // The small cluster knows no backpressure: an answer now and then is the pace.
                    let outcome = client.publish(publish.confirm(Confirm::Node)).await.unwrap();
                    assert!(matches!(outcome, Outcome::Confirmed(_)), "{topic} {i}: {outcome:?}");
                } else {
                    client.send(publish).await.unwrap();
                }
                if stop.is_cancelled() {
                    let end = format!("{topic} end");
                    let end = Publish::new(topic, end.as_bytes()).confirm(Confirm::Node);
                    client.publish(end).await.unwrap();
                    return;
                }
            }
        });
    }
    let mut heard_all = Vec::new();
    for (moves, node, from, to) in [(1, &a, "a", "b"), (2, &b, "b", "a"), (3, &a, "a", "b")] {
        // Not before messages of both topics flow.
        for topic in ["theirs", "own"] {
            let some = format!("{topic} {}", 7 * 10 * moves);
            heard_all.extend(heard_unless(&heard_all, &mut events, &some).await);
        }
        node.go_away();
        let moved = format!("moved from {from} to {to}");
        heard_all.extend(heard(&mut events, &moved).await);
    }
    stop.cancel();
    for end in ["theirs end", "own end"] {
        heard_all.extend(heard_unless(&heard_all, &mut events, end).await);
    }
    for topic in ["theirs", "own"] {
        let of_topic: Vec<_> = heard_all.iter().filter(|heard| heard.starts_with(topic)).collect();
        let published: Vec<_> =
            hub.published().into_iter().map(|p| String::from_utf8(p).unwrap()).collect();
        let published: Vec<_> = published.iter().filter(|p| p.starts_with(topic)).collect();
        assert!(of_topic == published, "{topic}: {} heard of {}", of_topic.len(), published.len());
    }
    assert!(!heard_all.iter().any(|heard| heard.starts_with("gap")), "a move has no gap");
    let stray: Vec<_> = std::iter::from_fn(|| publisher_events.try_next()).collect();
    assert!(stray.iter().all(|event| matches!(event, Event::Moved { .. })), "{stray:?}");
    within("the old attachments to end", async {
        while hub.attachments("a") + hub.attachments("b") > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_behind_unread_messages_is_not_waited_for_in_vain() {
    let hub = Hub::new();
    let a = hub.node("a").await;
    let mut options = Options::new([a.address.clone()]);
    options.inbox_bytes = 10_000;
    let (client, mut events) = Client::connect(options).await.unwrap();
    client.subscribe(["t"], NO_NAMES).await.unwrap();
    for i in 0..2_000u32 {
        // Nobody takes the events meanwhile.
        let publish = Publish::new("t", &[7; 100]).confirm(Confirm::Node);
        within("an answer", client.publish(publish))
            .await
            .unwrap_or_else(|err| panic!("{i}: {err}"));
    }
    let (mut came, mut missing) = (0, 0);
    while came + missing < 2_000 {
        match within("an event", events.next()).await {
            Some(Event::Messages(batch)) => came += batch.len() as u64,
            Some(Event::Gap(gap)) => {
                assert!(gap.certain);
                assert_eq!(gap.topics, ["t"]);
                missing += gap.missing.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(came + missing, 2_000);
    assert!(missing > 0);
}
