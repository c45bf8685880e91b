//! A message published on any node reaches every subscriber on all of them, once.

use cluster_tests::client::{Client, Got, PATIENCE};
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::{check, http};
use waxwing::wire::v1::pub_sub_client::PubSubClient;
use waxwing::wire::v1::{Confirm, PublishRequest, SubscribeRequest, event};

async fn texts(client: &mut Client, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let message = client.message().await.unwrap_or_else(|error| {
            panic!("{} on {} has {all:?}: {error}", client.name(), client.node())
        });
        // A client subscribed to everything gets the markers of others too.
        if !message.topic.starts_with("marker:") {
            all.push(message.text().to_owned());
        }
    }
    all.sort_unstable();
    all
}

/// Nothing more has come to it.
async fn nothing_more(client: &mut Client) {
    let mut more = client.events_until_own_marker().await.unwrap();
    // A client subscribed to everything gets the markers of others too.
    more.retain(
        |got| !matches!(got, Got::Message(message) if message.topic.starts_with("marker:")),
    );
    assert!(more.is_empty(), "{} also got {more:?}", client.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_on_any_node_reaches_subscribers_on_all() {
    let cluster = Cluster::start(3, Options::default()).await;
    let mut subscribers = Vec::new();
    for i in 0..3 {
        let mut by_topic = cluster.client(i, &format!("topic-{i}")).await;
        by_topic.subscribe_everywhere(&["room:1"], &[]).await.unwrap();
        let mut by_pattern = cluster.client(i, &format!("pattern-{i}")).await;
        by_pattern.subscribe_everywhere(&[], &["room:*"]).await.unwrap();
        // However many of its subscriptions match: one copy.
        let mut by_all = cluster.client(i, &format!("overlap-{i}")).await;
        by_all.subscribe_everywhere(&["room:1"], &["room:*", "*", "ro?m:[0-9]"]).await.unwrap();
        subscribers.extend([by_topic, by_pattern, by_all]);
    }
    let mut elsewhere = cluster.client(0, "elsewhere").await;
    elsewhere.subscribe_everywhere(&["room:2", "room:11"], &["Room:*", "room"]).await.unwrap();

    for i in 0..3 {
        let mut publisher = cluster.client(i, &format!("publisher-{i}")).await;
        publisher.publish_once("room:1", &format!("from {i}")).await.unwrap();
    }
    for subscriber in &mut subscribers {
        assert_eq!(texts(subscriber, 3).await, ["from 0", "from 1", "from 2"]);
    }
    for subscriber in subscribers.iter_mut().chain([&mut elsewhere]) {
        nothing_more(subscriber).await;
    }

    // Once unsubscribed, nothing; what still matches goes on.
    for subscriber in &mut subscribers {
        subscriber.unsubscribe(&["room:1"], &[]).await.unwrap();
    }
    let mut publisher = cluster.client(1, "publisher-last").await;
    publisher.publish_once("room:1", "last").await.unwrap();
    let (by_topic, by_pattern): (Vec<_>, Vec<_>) =
        subscribers.iter_mut().partition(|subscriber| subscriber.name().starts_with("topic"));
    // Before the others' markers, which those subscribed to everything get too.
    for subscriber in by_pattern {
        assert_eq!(texts(subscriber, 1).await, ["last"]);
    }
    for subscriber in by_topic {
        nothing_more(subscriber).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_arrives_as_it_was_published() {
    let cluster = Cluster::start(2, Options::default()).await;
    let mut subscriber = cluster.client(1, "subscriber").await;
    subscriber.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let mut publisher = cluster.client(0, "publisher").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let request = PublishRequest {
        topic: "t".to_owned(),
        payload: every_byte.clone().into(),
        event: "new".to_owned(),
        headers: [("k".to_owned(), "v".to_owned())].into(),
        confirm: Confirm::Cluster.into(),
        ..PublishRequest::default()
    };
    let response = publisher.publish_request(request.clone()).await.unwrap();
    let message = subscriber.message().await.unwrap();
    assert_eq!(message.payload, every_byte);
    assert_eq!((message.topic.as_str(), message.origin.as_str()), ("t", "a"));
    assert_eq!(message.event, "new");
    assert_eq!(message.headers.get("k").map(String::as_str), Some("v"));
    assert_eq!(message.id, response.id);
    assert_eq!(message.id.len(), 26);

    // Empty, and ids rise within an origin.
    let empty = PublishRequest { payload: Vec::new().into(), ..request };
    publisher.publish_request(empty).await.unwrap();
    let second = subscriber.message().await.unwrap();
    assert!(second.payload.is_empty());
    assert!(second.id > message.id, "{} after {}", second.id, message.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_clients_publish_and_listen_without_a_session() {
    let cluster = Cluster::start(2, Options::default()).await;
    let at = |i: usize| format!("http://{}", cluster.node(i).ports.grpc);

    let mut listener = PubSubClient::connect(at(0)).await.unwrap();
    let request = SubscribeRequest { topics: vec!["t".to_owned()], patterns: Vec::new() };
    let mut stream = listener.subscribe(request).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    let mut next = async || {
        while kinds.is_empty() {
            let frame = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap();
            let events = frame.unwrap().unwrap().events;
            kinds.extend(events.into_iter().rev().filter_map(|event| event.kind));
        }
        kinds.pop().unwrap()
    };
    let event::Kind::Reply(reply) = next().await else { panic!("no reply first") };
    assert_eq!((reply.topics[0].confirmed, reply.topics[0].members), (2, 2));

    let mut publisher = PubSubClient::connect(at(1)).await.unwrap();
    let request = PublishRequest {
        topic: "t".to_owned(),
        text: "unary".to_owned(),
        confirm: Confirm::Cluster.into(),
        ..PublishRequest::default()
    };
    let response = publisher.publish(request).await.unwrap().into_inner();
    assert_eq!((response.members, response.subscriptions, response.unknown), (1, 1, 0));

    let path = "/v1/topics/t/publish?confirm=cluster";
    let headers = "Waxwing-Event: new\r\n";
    let answer = http::post(cluster.node(1).ports.http, path, headers, "by http").await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&body["members"], &body["subscriptions"]), (&1.into(), &1.into()), "{body}");

    for (text, name) in [("unary", ""), ("by http", "new")] {
        let event::Kind::Batch(batch) = next().await else { panic!("no batch") };
        assert_eq!(batch.messages[0].payload, text.as_bytes());
        assert_eq!(batch.messages[0].event, name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_session_left_out_this_node_only_one_node_only() {
    let cluster = Cluster::start(3, Options::default()).await;
    let mut clients = Vec::new();
    for i in 0..3 {
        let mut client = cluster.client(i, &format!("client-{i}")).await;
        client.subscribe_everywhere(&["t"], &["t*"]).await.unwrap();
        clients.push(client);
    }
    let request = |text: &str| PublishRequest {
        topic: "t".to_owned(),
        text: text.to_owned(),
        confirm: Confirm::Cluster.into(),
        ..PublishRequest::default()
    };
    // Who publishes is client 0, on a.
    let cases = [
        (PublishRequest { exclude_self: true, ..request("not me") }, [false, true, true]),
        (PublishRequest { only_node: "self".to_owned(), ..request("here") }, [true, false, false]),
        (PublishRequest { only_node: "a".to_owned(), ..request("on a") }, [true, false, false]),
        (PublishRequest { only_node: "b".to_owned(), ..request("on b") }, [false, true, false]),
        (
            PublishRequest {
                only_node: "self".to_owned(),
                exclude_self: true,
                ..request("nobody")
            },
            [false, false, false],
        ),
    ];
    for (request, reached) in cases {
        let text = request.text.clone();
        let response = clients[0].publish_request(request).await.unwrap();
        let expected = reached.iter().filter(|reached| **reached).count();
        assert_eq!(response.members as usize, expected, "{text}: {response:?}");
        for (client, reached) in clients.iter_mut().zip(reached) {
            if reached {
                assert_eq!(client.message().await.unwrap().text(), text);
            }
        }
    }
    for client in &mut clients {
        nothing_more(client).await;
    }
    let to_nobody = PublishRequest { only_node: "z".to_owned(), ..request("to z") };
    let error = clients[0].publish_request(to_nobody).await.unwrap_err();
    assert_eq!(error.code(), Some("unknown_node"), "{error}");
}

/// P1: the acknowledgement is the promise, so the publish starts right behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_subscription_gets_what_is_published_right_after() {
    const LANES: usize = 4;
    const ROUNDS: usize = 250;
    let cluster = Cluster::start(3, Options::default()).await;
    let lane = async |lane: usize| {
        let mut clients = Vec::new();
        for i in 0..3 {
            clients.push(cluster.client(i, &format!("p1-{lane}-{i}")).await);
        }
        for round in 0..ROUNDS {
            // All nine pairs of nodes, in an order of its own for each lane.
            let pair = (round * 7 + lane * 5) % 9;
            let (subscriber, publisher) = (pair / 3, pair % 3);
            // With an end, so that no round's pattern takes another's messages.
            let topic = format!("p1:{lane}:{round}.");
            if round % 3 == 0 {
                let pattern = format!("{topic}*");
                clients[subscriber].subscribe_everywhere(&[], &[&pattern]).await.unwrap();
            } else {
                clients[subscriber].subscribe_everywhere(&[&topic], &[]).await.unwrap();
            }
            clients[publisher].publish_frame(&[&topic], 0).await.unwrap();
            if subscriber != publisher {
                clients[publisher].flush().await.unwrap();
            }
            let message = clients[subscriber].message().await.unwrap_or_else(|error| {
                panic!("round {round}, {publisher} to {subscriber}: {error}")
            });
            assert_eq!(message.topic, topic);
        }
        for client in &mut clients {
            client.flush().await.unwrap();
        }
    };
    tokio::join!(lane(0), lane(1), lane(2), lane(3));
    assert_eq!(LANES * ROUNDS, 1_000);
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_resumed_on_another_node() {
    let cluster = Cluster::start(2, Options::default()).await;
    let mut first = cluster.client(0, "mover").await;
    first.subscribe_everywhere(&["t"], &[]).await.unwrap();
    assert!(!first.welcome.resumed);
    assert_eq!(first.welcome.endpoints.len(), 2, "{:?}", first.welcome.endpoints);
    assert_eq!(first.welcome.endpoints[0], cluster.node(0).ports.grpc.to_string());

    let at_b = cluster.node(1).ports.grpc.to_string();
    let hello = first.resume_hello(false);
    let mut second = Client::attach(&at_b, "mover", 1, hello, cluster.recorder()).await.unwrap();
    assert!(second.welcome.resumed);
    assert_eq!(second.welcome.session_id, first.welcome.session_id);
    assert!(second.welcome.epoch > first.welcome.epoch);
    // Without overlap the attachment of the lower epoch ends at once.
    let ended = first.event(PATIENCE).await;
    assert!(!matches!(ended, Ok(Got::Message(_))), "{ended:?}");

    // Subscriptions are of the attachment: asked for again, and the client is told that it was away.
    second.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let gap = second.gap().await.unwrap();
    assert_eq!(gap.reason(), waxwing::wire::v1::gap::Reason::Reconnected);
    assert!(!gap.certain);
    let mut publisher = cluster.client(0, "publisher").await;
    publisher.publish_once("t", "after").await.unwrap();
    assert_eq!(second.message().await.unwrap().text(), "after");

    // A bye that does not keep the session ends it everywhere, by the time the node has ended the stream.
    let hello = second.resume_hello(false);
    second.bye(false).await.unwrap();
    second.read_to_end().await.unwrap();
    let at_a = cluster.node(0).ports.grpc.to_string();
    let again = Client::attach(&at_a, "again", 0, hello, cluster.recorder()).await.unwrap();
    assert!(!again.welcome.resumed);
}
