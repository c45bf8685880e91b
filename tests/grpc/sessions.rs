//! Hello, resume, overlap, bye.

use tonic::Code;
use waxwing::wire::v1;
use waxwing::wire::v1::event::Kind as EventKind;
use waxwing::wire::v1::request::Kind;

use crate::node::{Talk, TestNode, confirmed, names, pairs, publish};

fn resume(welcome: &v1::Welcome, overlap: bool) -> v1::Hello {
    v1::Hello {
        resume_token: welcome.resume_token.clone(),
        epoch: welcome.epoch,
        overlap,
        ..v1::Hello::default()
    }
}

const fn reconnected(event: &EventKind) -> bool {
    matches!(event, EventKind::Gap(gap) if gap.reason == 4 && !gap.certain && gap.missing.is_none())
}

#[tokio::test]
async fn a_welcome_says_who_one_is_and_where_to_go() {
    let node = TestNode::start().await;
    let mut talk = node.stream().await;
    let welcome = talk.hello(v1::Hello::default()).await;
    assert_eq!((welcome.session_id.len(), welcome.resume_token.len()), (32, 16));
    assert_eq!((welcome.resumed, welcome.epoch, &*welcome.node), (false, 1, "a"));
    assert_eq!(welcome.endpoints, [node.address()]);
}

#[tokio::test]
async fn an_unknown_token_makes_a_session_under_it() {
    let node = TestNode::start().await;
    let hello =
        || v1::Hello { resume_token: vec![9; 16].into(), epoch: 41, ..v1::Hello::default() };
    let mut first = node.stream().await;
    let welcome = first.hello(hello()).await;
    assert_eq!((welcome.resumed, welcome.epoch), (false, 42));
    assert_eq!(welcome.resume_token, vec![9; 16]);
    // It was somewhere, and that is gone: something may have been missed.
    first.subscribe(&["t"], &[]).await;
    assert!(reconnected(&first.event().await));
}

#[tokio::test]
async fn a_lost_attachment_can_be_resumed_and_says_so() {
    let node = TestNode::start().await;
    let mut first = node.stream().await;
    let welcome = first.hello(v1::Hello::default()).await;
    drop(first);
    node.eventually("the attachment is lost", || {
        node.node.handle().broker().session_counts().lingering == 1
    })
    .await;
    let mut second = node.stream().await;
    let again = second.hello(resume(&welcome, false)).await;
    assert_eq!((again.resumed, again.epoch), (true, 2));
    assert_eq!(again.session_id, welcome.session_id);
    second.subscribe(&["t"], &[]).await;
    assert!(reconnected(&second.event().await));
    // Once is enough.
    second.subscribe(&["u"], &[]).await;
    second.send(vec![(0, publish("u", "x"))]).await;
    assert_eq!(second.messages(1).await, pairs(&[("u", "x")]));
}

#[tokio::test]
async fn a_second_attachment_takes_over() {
    let node = TestNode::start().await;
    let mut first = node.stream().await;
    let welcome = first.hello(v1::Hello::default()).await;
    let mut second = node.stream().await;
    let again = second.hello(resume(&welcome, false)).await;
    assert!(again.resumed);
    assert_eq!(first.end().await, (Code::Aborted, "superseded".to_owned()));
    assert_eq!(node.node.handle().broker().session_counts().lingering, 0);
}

#[tokio::test]
async fn with_overlap_the_older_attachment_only_receives() {
    let node = TestNode::start().await;
    let mut older = node.stream().await;
    let welcome = older.hello(v1::Hello::default()).await;
    older.subscribe(&["t"], &[]).await;
    let mut newer = node.stream().await;
    assert!(newer.hello(resume(&welcome, true)).await.resumed);
    newer.subscribe(&["t"], &[]).await;

    older.send(vec![(5, publish("t", "x")), (6, Kind::Subscribe(names(&["u"], &[])))]).await;
    assert_eq!(older.refusal().await, (5, "superseded".to_owned()));
    assert_eq!(older.refusal().await, (6, "superseded".to_owned()));
    newer.send(vec![(0, publish("t", "both"))]).await;
    assert_eq!(older.messages(1).await, pairs(&[("t", "both")]));
    // No gap came before it.
    assert_eq!(newer.messages(1).await, pairs(&[("t", "both")]));

    // Its bye ends nothing but itself.
    older.ask(8, Kind::Bye(v1::Bye { keep_session: false })).await;
    assert_eq!(older.refusal().await, (8, String::new()));
    assert_eq!(older.end().await, (Code::Ok, String::new()));
    newer.send(vec![(0, publish("t", "one"))]).await;
    assert_eq!(newer.messages(1).await, pairs(&[("t", "one")]));
}

#[tokio::test]
async fn a_bye_ends_the_session_unless_it_is_kept() {
    let node = TestNode::start().await;
    for keep_session in [false, true] {
        let mut talk = node.stream().await;
        let welcome = talk.hello(v1::Hello::default()).await;
        talk.ask(0, Kind::Bye(v1::Bye { keep_session })).await;
        assert_eq!(talk.end().await.0, Code::Ok);
        let mut again = node.stream().await;
        let resumed = again.hello(resume(&welcome, false)).await.resumed;
        assert_eq!(resumed, keep_session);
    }
}

#[tokio::test]
async fn who_asks_and_half_closes_gets_the_answers() {
    let node = TestNode::start().await;
    let mut talk = node.session().await;
    let cluster =
        v1::PublishRequest { confirm: v1::Confirm::Cluster.into(), ..crate::node::to("t", "y") };
    talk.send(vec![(1, confirmed("t", "x")), (2, Kind::Publish(cluster))]).await;
    talk.half_close();
    assert_eq!(talk.reply().await.id, 1);
    assert_eq!(talk.reply().await.id, 2);
    assert_eq!(talk.end().await, (Code::Ok, String::new()));
}

#[tokio::test]
async fn what_comes_together_with_the_hello_is_heard() {
    let node = TestNode::start().await;
    let mut talk = node.stream().await;
    talk.send(vec![
        (1, Kind::Hello(v1::Hello::default())),
        (2, Kind::Subscribe(names(&["t"], &[]))),
        (3, confirmed("t", "x")),
    ])
    .await;
    assert!(matches!(talk.event().await, EventKind::Welcome(_)));
    let mut answered = Vec::new();
    for _ in 0..3 {
        match talk.event().await {
            EventKind::Reply(reply) => answered.push(reply.id),
            EventKind::Batch(_) => {}
            other => panic!("{other:?}"),
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3]);
}

#[tokio::test]
async fn namespaces_never_meet() {
    let node = TestNode::start().await;
    let mut here = node.session().await;
    let mut there = Talk::open(node.channel().await, "other").await.unwrap();
    let _ = there.hello(v1::Hello::default()).await;
    here.subscribe(&["t"], &["*"]).await;
    there.subscribe(&["t"], &[]).await;
    there.send(vec![(0, publish("t", "there"))]).await;
    here.send(vec![(0, publish("t", "here"))]).await;
    assert_eq!(here.messages(1).await, pairs(&[("t", "here")]));
    assert_eq!(there.messages(1).await, pairs(&[("t", "there")]));
    let refused = Talk::open(node.channel().await, "a b").await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
