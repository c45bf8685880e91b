//! What operators ask.

use tonic::Code;
use waxwing::wire::v1;
use waxwing::wire::v1::admin_client::AdminClient;

use crate::node::TestNode;

#[tokio::test]
async fn sessions_are_listed_described_and_killed() {
    let node = TestNode::start().await;
    let mut admin = AdminClient::new(node.channel().await);
    let mut talk = node.stream().await;
    let hello = v1::Hello { client: "test/1\u{1b}[2J".to_owned(), ..v1::Hello::default() };
    let id = talk.hello(hello).await.session_id;
    talk.subscribe(&["b", "a"], &["p*"]).await;

    let listed =
        admin.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.total, &*listed.sessions[0].id), (1, &*id));
    let none = v1::ListSessionsRequest { slow: true, ..v1::ListSessionsRequest::default() };
    assert_eq!(admin.list_sessions(none).await.unwrap().into_inner().total, 0);

    let described = v1::DescribeSessionRequest { id: id.clone() };
    let session = admin.describe_session(described).await.unwrap().into_inner();
    // What could play with a terminal is left out.
    assert_eq!((&*session.client, &*session.state), ("test/1[2J", "attached"));
    assert_eq!(
        (session.topics, session.patterns),
        (vec!["a".into(), "b".into()], vec!["p*".into()])
    );
    assert_eq!((&*session.namespace, &*session.front, session.epoch), ("default", "grpc", 1));

    admin.kill_session(v1::KillSessionRequest { id: id.clone() }).await.unwrap();
    assert_eq!(talk.end().await, (Code::Aborted, "killed".to_owned()));
    node.eventually("nothing is left of it", || node.node.handle().broker().attached() == 0).await;
    let again = admin.kill_session(v1::KillSessionRequest { id }).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    let junk = admin.describe_session(v1::DescribeSessionRequest { id: "x".repeat(1_000) }).await;
    assert_eq!(junk.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn topics_are_listed_and_described() {
    let node = TestNode::start().await;
    let mut admin = AdminClient::new(node.channel().await);
    let mut talk = node.session().await;
    talk.subscribe(&["room:1", "room:2", "other"], &["room:*"]).await;
    let request = v1::ListTopicsRequest { prefix: "room:".to_owned(), limit: 1 };
    let listed = admin.list_topics(request).await.unwrap().into_inner();
    assert_eq!((&*listed.topics[0].topic, listed.topics.len(), listed.more), ("room:1", 1, true));
    let request = v1::DescribeTopicRequest { topic: "room:2".to_owned() };
    let topic = admin.describe_topic(request).await.unwrap().into_inner();
    assert_eq!(topic.patterns, ["room:*"]);
    let bad = admin.describe_topic(v1::DescribeTopicRequest::default()).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_node_tells_of_itself_and_does_only_what_is_its_own() {
    let node = TestNode::start().await;
    let mut admin = AdminClient::new(node.channel().await);
    let status = admin.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert!(status.json.contains("\"node\""), "{}", status.json);
    let members = admin.members(v1::MembersRequest {}).await.unwrap().into_inner().members;
    assert_eq!((members.len(), &*members[0].name, members[0].me), (1, "a", true));

    let other = v1::DrainRequest { node: "b".to_owned(), grace: None };
    assert_eq!(admin.drain(other).await.unwrap_err().code(), Code::InvalidArgument);
    let other = v1::LeaveRequest { node: "b".to_owned() };
    assert_eq!(admin.leave(other).await.unwrap_err().code(), Code::InvalidArgument);
    let nobody = admin.join(v1::JoinRequest { seeds: vec![] }).await.unwrap_err();
    assert_eq!(nobody.code(), Code::InvalidArgument);
    let level = v1::SetLogLevelRequest { level: "no=such=level".to_owned(), for_time: None };
    assert_eq!(admin.set_log_level(level).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_drain_tells_clients_to_go_and_its_steps_to_the_asker() {
    let node = TestNode::start().await;
    let mut admin = AdminClient::new(node.channel().await);
    let mut talk = node.session().await;
    let grace = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let request = v1::DrainRequest { node: "a".to_owned(), grace };
    let mut steps = admin.drain(request).await.unwrap().into_inner();
    match talk.event().await {
        v1::event::Kind::GoAway(away) => assert!(!away.reason.is_empty()),
        other => panic!("{other:?}"),
    }
    let mut late = node.stream().await;
    late.ask(0, v1::request::Kind::Hello(v1::Hello::default())).await;
    assert_eq!(late.end().await, (Code::Unavailable, "draining".to_owned()));
    talk.ask(0, v1::request::Kind::Bye(v1::Bye { keep_session: true })).await;
    assert_eq!(talk.end().await.0, Code::Ok);
    let mut last = None;
    while let Ok(Some(step)) = steps.message().await {
        last = Some(step);
    }
    assert!(last.is_some(), "no step was told");
    node.node.handle().ended().await;
}
