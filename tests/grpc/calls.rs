//! Calls for simple clients: one publish, a stream that listens; health and reflection.

use tonic::{Code, Request};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use waxwing::wire::v1;
use waxwing::wire::v1::event::Kind as EventKind;
use waxwing::wire::v1::pub_sub_client::PubSubClient;

use crate::node::{TestNode, names, to, within};

#[tokio::test]
async fn listen_and_publish() {
    let node = TestNode::start().await;
    let mut calls = PubSubClient::new(node.channel().await);
    let listening = calls.subscribe(names(&["t", ""], &["u*"]));
    let mut events = within("headers come", listening).await.unwrap().into_inner();
    let first = within("the reply comes", events.message()).await.unwrap().unwrap();
    let [v1::Event { kind: Some(EventKind::Reply(reply)) }] = &first.events[..] else {
        panic!("{first:?}")
    };
    let told: Vec<_> = reply
        .topics
        .iter()
        .map(|topic| (&*topic.topic, topic.confirmed, topic.error.is_some()))
        .collect();
    assert_eq!(told, [("t", 1, false), ("", 0, true), ("u*", 1, false)]);

    let published = calls.publish(to("t", "hi")).await.unwrap().into_inner();
    assert_eq!((published.members, published.subscriptions), (1, 1));
    let second = within("the message comes", events.message()).await.unwrap().unwrap();
    let [v1::Event { kind: Some(EventKind::Batch(batch)) }] = &second.events[..] else {
        panic!("{second:?}")
    };
    assert_eq!((&*batch.topic, &*batch.messages[0].id), ("t", &*published.id));
    drop(events);
    node.eventually("who listened has gone", || {
        let counts = node.node.handle().broker().session_counts();
        (counts.attached, counts.lingering) == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn calls_that_cannot_be() {
    let node = TestNode::start().await;
    let mut calls = PubSubClient::new(node.channel().await);
    let refused = calls.publish(to("", "x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let large = v1::PublishRequest { payload: vec![0; (1 << 20) + 1].into(), ..to("t", "") };
    let refused = calls.publish(large).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("limits.payload"), "{refused:?}");
    let elsewhere = v1::PublishRequest { only_node: "zz".to_owned(), ..to("t", "") };
    assert_eq!(calls.publish(elsewhere).await.unwrap_err().code(), Code::NotFound);

    let mut events = calls.subscribe(names(&[""], &[])).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap_err().code(), Code::InvalidArgument);
    let mut request = Request::new(names(&["t"], &[]));
    request.metadata_mut().insert("waxwing-namespace", "a b".parse().unwrap());
    assert_eq!(calls.subscribe(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn health_says_what_readiness_says() {
    let node = TestNode::start().await;
    let mut health = HealthClient::new(node.channel().await);
    let services =
        ["", "waxwing.v1.Session", "waxwing.v1.PubSub", "waxwing.v1.Presence", "waxwing.v1.Admin"];
    for service in services {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watched = health.watch(request).await.unwrap().into_inner();
        while watched.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
}
