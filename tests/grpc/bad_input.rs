//! What is wrong gets a clear error, and costs nobody but its sender.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use waxwing::config::Limits;
use waxwing::wire::v1;
use waxwing::wire::v1::request::Kind;

use crate::node::{Talk, TestNode, confirmed, names, pairs, publish, to, within};

#[tokio::test]
async fn the_first_request_is_hello() {
    let node = TestNode::start().await;
    let mut talk = node.stream().await;
    talk.send(vec![(1, publish("t", "x"))]).await;
    assert_eq!(talk.end().await, (Code::FailedPrecondition, "no_hello".to_owned()));
    let mut silent = node.stream().await;
    silent.half_close();
    assert_eq!(silent.end().await, (Code::FailedPrecondition, "no_hello".to_owned()));
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut talk = node.stream().await;
    assert_eq!(talk.end().await, (Code::FailedPrecondition, "no_hello".to_owned()));
    // A connection that never asks anything, one that only begins to, and one that speaks something else.
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut tcp = TcpStream::connect(node.address()).await.unwrap();
        tcp.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset: either is an end.
        let _ = within("the connection ends", tcp.read_to_end(&mut answer)).await;
    }
    // Who has greeted stays, however long it is silent after that.
    let mut greeted = node.session().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    greeted.subscribe(&["t"], &[]).await;
}

#[tokio::test]
async fn hellos_that_cannot_be() {
    let node = TestNode::start().await;
    let check = async |hello: v1::Hello, code: &str| {
        let mut talk = node.stream().await;
        talk.ask(1, Kind::Hello(hello)).await;
        assert_eq!(talk.end().await, (Code::InvalidArgument, code.to_owned()));
    };
    let hello = v1::Hello::default;
    check(v1::Hello { resume_token: vec![1; 15].into(), ..hello() }, "bad_resume_token").await;
    check(v1::Hello { resume_token: vec![1; 17].into(), ..hello() }, "bad_resume_token").await;
    check(v1::Hello { epoch: u64::MAX, ..hello() }, "invalid").await;
    let linger = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    check(v1::Hello { linger, ..hello() }, "invalid").await;
}

#[tokio::test]
async fn one_bad_request_is_answered_and_the_others_go_on() {
    let limits = Limits { payload: 10, headers: 20, topic: 8, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut talk = node.session().await;
    let header = v1::PublishRequest { event: "e".repeat(21), ..to("t", "") };
    let confirm = v1::PublishRequest { confirm: 9, ..to("t", "") };
    let bad_node = v1::PublishRequest { only_node: "a b".to_owned(), ..to("t", "") };
    let bad = vec![
        (1, Kind::Hello(v1::Hello::default()), "invalid"),
        (2, publish("", "x"), "topic_empty"),
        (3, publish("too long:", "x"), "topic_too_long"),
        (4, publish("a\0b", "x"), "topic_control_character"),
        (5, publish("t", "elevenbytes"), "payload_too_large"),
        (6, Kind::Publish(header), "headers_too_large"),
        (7, Kind::Publish(confirm), "invalid"),
        (8, Kind::Publish(bad_node), "invalid"),
        (9, Kind::Subscribe(names(&[], &[])), "invalid"),
        (10, Kind::Publish(v1::PublishRequest { text: "x".to_owned(), ..to("t", "y") }), "invalid"),
        // Without an id a failure is reported all the same.
        (0, publish("", "x"), "topic_empty"),
    ];
    let expected: Vec<_> = bad.iter().map(|(id, _, code)| (*id, (*code).to_owned())).collect();
    talk.send(bad.into_iter().map(|(id, kind, _)| (id, kind)).collect()).await;
    for expected in expected {
        assert_eq!(talk.refusal().await, expected);
    }
    let unknown = v1::Request { id: 11, kind: None };
    talk.send_frame(v1::ClientFrame { requests: vec![unknown] }).await;
    assert_eq!(talk.refusal().await, (11, "invalid".to_owned()));
    talk.subscribe(&["t"], &[]).await;
    talk.send(vec![(0, publish("t", "tenbytes!!"))]).await;
    assert_eq!(talk.messages(1).await, pairs(&[("t", "tenbytes!!")]));
}

#[tokio::test]
async fn each_topic_of_a_subscribe_is_judged_by_itself() {
    let limits = Limits { subscriptions: 4, patterns: 1, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut talk = node.session().await;
    let codes = async |talk: &mut Talk| -> Vec<String> {
        let reply = talk.reply().await;
        assert!(reply.error.is_none(), "{reply:?}");
        reply.topics.into_iter().map(|topic| topic.error.unwrap_or_default().code).collect()
    };
    talk.ask(1, Kind::Subscribe(names(&["a", ""], &["p*", "q*"]))).await;
    assert_eq!(codes(&mut talk).await, ["", "topic_empty", "", "too_many_patterns"]);
    talk.ask(2, Kind::Subscribe(names(&["a", "b", "c", "d"], &[]))).await;
    assert_eq!(codes(&mut talk).await, ["", "", "", "too_many_subscriptions"]);
    talk.ask(3, Kind::Subscribe(names(&["e"], &["\n"]))).await;
    assert_eq!(codes(&mut talk).await, ["too_many_subscriptions", "topic_control_character"]);
    talk.ask(4, Kind::Subscribe(names(&["1", "2", "3", "4", "5"], &[]))).await;
    assert_eq!(talk.refusal().await, (4, "too_many_subscriptions".to_owned()));
    // What is given up can be used again.
    talk.ask(5, Kind::Unsubscribe(names(&["b"], &[]))).await;
    assert_eq!(codes(&mut talk).await, [""]);
    talk.ask(6, Kind::Subscribe(names(&["d"], &[]))).await;
    assert_eq!(codes(&mut talk).await, [""]);
}

#[tokio::test]
async fn one_session_too_many_is_refused() {
    let node = TestNode::with_limits(Limits { sessions: 2, ..Limits::default() }).await;
    let first = node.session().await;
    let _second = node.session().await;
    let mut third = node.stream().await;
    third.ask(0, Kind::Hello(v1::Hello::default())).await;
    assert_eq!(third.end().await, (Code::ResourceExhausted, "too_many_sessions".to_owned()));
    drop(first);
    node.eventually("there is room again", || node.node.handle().broker().attached() == 1).await;
    node.session().await;
}

/// Says the bytes of a message as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, said: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        said.advance(said.remaining());
        Ok(Some(()))
    }
}

/// How a stream ends on which these messages are said.
async fn end_of(node: &TestNode, messages: Vec<Vec<u8>>) -> (Code, String) {
    let mut client = tonic::client::Grpc::new(node.channel().await);
    client.ready().await.unwrap();
    let said = tokio_stream::iter(messages.into_iter().map(Bytes::from));
    // It doesn't half-close by itself.
    let said = tokio_stream::StreamExt::chain(said, tokio_stream::pending());
    let path = http::uri::PathAndQuery::from_static("/waxwing.v1.Session/Open");
    let mut answers = within("headers come", client.streaming(Request::new(said), path, Raw))
        .await
        .unwrap()
        .into_inner();
    loop {
        match within("it ends", answers.message()).await {
            Ok(Some(())) => {}
            Ok(None) => return (Code::Ok, String::new()),
            Err(status) => {
                let code =
                    status.metadata().get("waxwing-code").map(|c| c.to_str().unwrap().into());
                return (status.code(), code.unwrap_or_default());
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_cannot_be_understood_end_the_stream_alone() {
    let limits = Limits { frame: 1 << 16, payload: 1 << 10, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut other = node.session().await;
    other.subscribe(&["t"], &[]).await;
    let hello = || {
        let kind = Some(Kind::Hello(v1::Hello::default()));
        let frame = v1::ClientFrame { requests: vec![v1::Request { id: 0, kind }] };
        prost::Message::encode_to_vec(&frame)
    };
    let malformed = (Code::InvalidArgument, "malformed".to_owned());
    assert_eq!(end_of(&node, vec![b"\x0a\x7fjunk".to_vec()]).await, malformed);
    assert_eq!(end_of(&node, vec![hello(), b"\x0a\x7fjunk".to_vec()]).await, malformed);
    // A topic that is no text.
    let no_text = b"\x0a\x07\x2a\x05\x0a\x03\xff\xfe\xfd".to_vec();
    assert_eq!(end_of(&node, vec![hello(), no_text]).await, malformed);
    let too_large = (Code::ResourceExhausted, "frame_too_large".to_owned());
    assert_eq!(end_of(&node, vec![hello(), vec![0; (1 << 16) + 1]]).await, too_large);
    assert_eq!(end_of(&node, vec![vec![0; (1 << 16) + 1]]).await, too_large);

    other.send(vec![(1, confirmed("t", "as ever"))]).await;
    assert_eq!(other.messages(1).await, pairs(&[("t", "as ever")]));
}

#[tokio::test]
async fn who_takes_nothing_is_let_go_and_others_never_notice() {
    let limits =
        Limits { mailbox_stall: Duration::from_millis(300), mailbox: 1 << 20, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut lazy = node.session().await;
    lazy.subscribe(&["t"], &[]).await;
    let mut eager = node.session().await;
    eager.subscribe(&["t"], &[]).await;
    let broker = node.node.handle().broker().clone();
    // Until its windows and its mailbox are full: `lazy` is never polled.
    let text = "x".repeat(100_000);
    let mut sent = 0_u64;
    while broker.attached() == 2 {
        sent += 1;
        eager.send(vec![(sent, confirmed("t", &text))]).await;
        let mut got = (false, false);
        while got != (true, true) {
            match eager.event().await {
                waxwing::wire::v1::event::Kind::Reply(reply) => got.0 = reply.id == sent,
                waxwing::wire::v1::event::Kind::Batch(_) => got.1 = true,
                other => panic!("{other:?}"),
            }
        }
        assert!(sent < 100_000, "it is never let go");
    }
    assert_eq!(lazy.end().await, (Code::Aborted, "stalled".to_owned()));
}

#[tokio::test]
async fn a_call_with_too_large_a_message_is_told_the_limit() {
    let node = TestNode::with_limits(Limits { frame: 1 << 16, ..Limits::default() }).await;
    let too_large = "x".repeat(1 << 17);
    let mut pubsub = v1::pub_sub_client::PubSubClient::new(node.channel().await);
    let mut admin = v1::admin_client::AdminClient::new(node.channel().await);
    let described = v1::DescribeTopicRequest { topic: too_large.clone() };
    for refused in [
        pubsub.publish(to("t", &too_large)).await.unwrap_err(),
        admin.describe_topic(described).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert_eq!(refused.metadata().get("waxwing-code").unwrap(), "frame_too_large");
        assert!(refused.message().contains("limits.frame, 65536 bytes"), "{refused:?}");
    }
}
