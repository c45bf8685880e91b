//! Publishing and subscribing on a session: order, replies, options, credit.

use waxwing::wire::v1;
use waxwing::wire::v1::event::Kind as EventKind;
use waxwing::wire::v1::request::Kind;

use crate::node::{TestNode, confirmed, names, pairs, publish, to};

#[tokio::test]
async fn order_holds_across_topics_and_frames() {
    let node = TestNode::start().await;
    let mut by_pattern = node.session().await;
    by_pattern.subscribe(&[], &["t*"]).await;
    let publisher = node.session().await;
    let sent = [("t1", "a"), ("t1", "b"), ("t2", "c"), ("t1", "d")];
    publisher.send(sent.iter().map(|(topic, text)| (0, publish(topic, text))).collect()).await;
    publisher.send(vec![(0, publish("t1", "e"))]).await;
    let expected = pairs(&[("t1", "a"), ("t1", "b"), ("t2", "c"), ("t1", "d"), ("t1", "e")]);
    assert_eq!(by_pattern.messages(5).await, expected);
}

#[tokio::test]
async fn one_session_gets_one_copy_with_event_and_headers() {
    let node = TestNode::start().await;
    let mut talk = node.session().await;
    talk.subscribe(&["t"], &["t", "*"]).await;
    let request = v1::PublishRequest {
        event: "greeting".to_owned(),
        headers: [("k".to_owned(), "v".to_owned())].into(),
        text: "hi".to_owned(),
        ..to("t", "")
    };
    talk.send(vec![(0, Kind::Publish(request)), (0, publish("t", "next"))]).await;
    let mut messages = Vec::new();
    while messages.len() < 2 {
        let EventKind::Batch(batch) = talk.event().await else { panic!("no batch") };
        assert_eq!(batch.origin, "a");
        messages.extend(batch.messages);
    }
    assert_eq!((&*messages[0].event, &*messages[0].payload), ("greeting", &b"hi"[..]));
    assert_eq!(messages[0].headers["k"], "v");
    assert_eq!(&*messages[1].payload, b"next");
    assert!(messages[0].id < messages[1].id && messages[0].id.len() == 26);
}

#[tokio::test]
async fn each_confirmed_request_gets_its_own_reply() {
    let node = TestNode::start().await;
    let mut talk = node.session().await;
    talk.subscribe(&["t"], &[]).await;
    let cluster = |text| {
        Kind::Publish(v1::PublishRequest {
            confirm: v1::Confirm::Cluster.into(),
            trace: true,
            ..to("t", text)
        })
    };
    talk.send(vec![
        (1, confirmed("t", "a")),
        (2, confirmed("t", "b")),
        (3, cluster("c")),
        // Nobody asked to be told of these.
        (4, publish("t", "d")),
        (0, confirmed("t", "e")),
        (6, confirmed("t", "f")),
    ])
    .await;
    let (mut replies, mut ids) = (Vec::new(), Vec::new());
    while replies.len() < 4 || ids.len() < 6 {
        match talk.event().await {
            EventKind::Reply(reply) => replies.push(reply),
            EventKind::Batch(batch) => ids.extend(batch.messages.into_iter().map(|m| m.id)),
            other => panic!("{other:?}"),
        }
    }
    replies.sort_by_key(|reply| reply.id);
    let told: Vec<_> = replies
        .iter()
        .map(|reply| {
            let publish = reply.publish.as_ref().unwrap();
            (reply.id, publish.members, publish.subscriptions, publish.id.clone())
        })
        .collect();
    let expected = [(1, 0), (2, 1), (3, 2), (6, 5)].map(|(id, at)| (id, 1, 1, ids[at].clone()));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn only_those_get_it_who_are_meant() {
    let node = TestNode::start().await;
    let mut me = node.session().await;
    me.subscribe(&["t"], &[]).await;
    let mut other = node.session().await;
    other.subscribe(&["t"], &[]).await;
    let not_me = v1::PublishRequest { exclude_self: true, ..to("t", "not me") };
    let here = v1::PublishRequest { only_node: "self".to_owned(), ..to("t", "here") };
    let named = v1::PublishRequest { only_node: "a".to_owned(), ..to("t", "a") };
    let nowhere = v1::PublishRequest { only_node: "zz".to_owned(), ..to("t", "nowhere") };
    me.send(vec![
        (0, Kind::Publish(not_me)),
        (0, Kind::Publish(here)),
        (0, Kind::Publish(named)),
        (9, Kind::Publish(nowhere)),
    ])
    .await;
    assert_eq!(other.messages(3).await, pairs(&[("t", "not me"), ("t", "here"), ("t", "a")]));
    let (mut texts, mut refused) = (Vec::new(), None);
    while texts.len() < 2 || refused.is_none() {
        match me.event().await {
            EventKind::Batch(batch) => texts.extend(batch.messages.into_iter().map(|m| m.payload)),
            EventKind::Reply(reply) => refused = Some((reply.id, reply.error.unwrap().code)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(texts, [&b"here"[..], b"a"]);
    assert_eq!(refused, Some((9, "unknown_node".to_owned())));
}

#[tokio::test]
async fn subscribes_are_answered_in_order_and_twice_is_once() {
    let node = TestNode::start().await;
    let mut talk = node.session().await;
    talk.send(vec![
        (1, Kind::Subscribe(names(&["a", "b"], &["p*"]))),
        (2, Kind::Subscribe(names(&["b"], &[]))),
        (3, Kind::Unsubscribe(names(&["a", "never"], &[]))),
        (0, publish("a", "not any more")),
        (0, publish("b", "still")),
    ])
    .await;
    let first = talk.reply().await;
    assert_eq!(first.id, 1);
    let told: Vec<_> = first.topics.iter().map(|t| (&*t.topic, t.confirmed, t.members)).collect();
    assert_eq!(told, [("a", 1, 1), ("b", 1, 1), ("p*", 1, 1)]);
    assert_eq!(talk.reply().await.id, 2);
    // The order of this reply and of messages is not promised.
    let (mut unsubscribed, mut messages) = (false, Vec::new());
    while !unsubscribed || messages.is_empty() {
        match talk.event().await {
            EventKind::Reply(reply) => {
                assert_eq!((reply.id, reply.topics.len()), (3, 2));
                unsubscribed = true;
            }
            EventKind::Batch(batch) => messages.push(batch.topic),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(messages, ["b"]);
}

#[tokio::test]
async fn credit_is_a_limit_once_it_was_given() {
    let node = TestNode::start().await;
    let mut talk = node.session().await;
    talk.subscribe(&["t", "u"], &[]).await;
    talk.ask(1, Kind::Credit(1)).await;
    assert_eq!(talk.refusal().await, (1, String::new()));
    // Batches are not cut: the second may come only with the next credit.
    talk.send(vec![(0, publish("t", "1")), (0, publish("u", "2")), (5, confirmed("v", ""))]).await;
    assert_eq!(talk.messages(1).await, pairs(&[("t", "1")]));
    talk.ask(6, Kind::Credit(10)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        match talk.event().await {
            EventKind::Batch(batch) => seen.push(batch.topic),
            EventKind::Reply(reply) => seen.push(reply.id.to_string()),
            other => panic!("{other:?}"),
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, ["5", "6", "u"]);
}

#[tokio::test]
async fn many_topics_at_once() {
    let node = TestNode::start().await;
    let mut talk = node.session().await;
    let topics: Vec<String> = (0..20_000).map(|n| format!("topic:{n}")).collect();
    let request = v1::SubscribeRequest { topics: topics.clone(), patterns: vec![] };
    talk.ask(1, Kind::Subscribe(request)).await;
    assert_eq!(talk.reply().await.topics.len(), topics.len());
    // And one by one, pipelined.
    for chunk in topics.chunks(5_000) {
        let each =
            chunk.iter().map(|topic| (2, Kind::Subscribe(names(&[&format!("{topic}:x")], &[]))));
        talk.send(each.collect()).await;
    }
    for _ in 0..topics.len() {
        assert_eq!(talk.reply().await.id, 2);
    }
    talk.send(vec![(0, publish("topic:19999:x", "there"))]).await;
    assert_eq!(talk.messages(1).await, pairs(&[("topic:19999:x", "there")]));
}
