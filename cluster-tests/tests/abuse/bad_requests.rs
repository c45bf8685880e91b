//! Requests that are wrong in themselves.

use std::time::Duration;

use bytes::Bytes;
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::{http, raw, witness::Witness};
use prost::Message;
use tonic::Code;
use waxwing::metrics::names;
use waxwing::wire::v1::request::Kind;
use waxwing::wire::v1::{ClientFrame, Confirm, Hello, PublishRequest, Request, SubscribeRequest};

const QUIET: Duration = Duration::from_secs(3);

struct Case {
    name: &'static str,
    frames: Vec<Bytes>,
    /// Codes of errors, one of which must come in a reply ...
    errors: &'static [&'static str],
    /// ... or statuses, with one of which the stream must end.
    statuses: &'static [Code],
}

const ENDS: &[Code] = &[Code::InvalidArgument, Code::FailedPrecondition];
const BAD_FRAME: &[Code] = &[Code::Internal, Code::InvalidArgument];
const TOO_LARGE: &[Code] = &[Code::ResourceExhausted, Code::OutOfRange];

fn frame(kinds: Vec<Kind>) -> Bytes {
    let numbered = (1..).zip(kinds);
    let requests = numbered.map(|(id, kind)| Request { id, kind: Some(kind) }).collect();
    ClientFrame { requests }.encode_to_vec().into()
}

fn hello() -> Kind {
    Kind::Hello(Hello { client: "abuser".to_owned(), ..Hello::default() })
}

fn subscribe(topic: &str) -> Vec<Bytes> {
    let request = SubscribeRequest { topics: vec![topic.to_owned()], patterns: Vec::new() };
    vec![frame(vec![hello(), Kind::Subscribe(request)])]
}

fn pattern(pattern: &str) -> Vec<Bytes> {
    let request = SubscribeRequest { topics: Vec::new(), patterns: vec![pattern.to_owned()] };
    vec![frame(vec![hello(), Kind::Subscribe(request)])]
}

fn publish(topic: &str, change: impl FnOnce(&mut PublishRequest)) -> Vec<Bytes> {
    let mut request = PublishRequest {
        topic: topic.to_owned(),
        confirm: Confirm::Node.into(),
        ..PublishRequest::default()
    };
    change(&mut request);
    vec![frame(vec![hello(), Kind::Publish(request)])]
}

fn cases() -> Vec<Case> {
    let case = |name, frames, errors, statuses| Case { name, frames, errors, statuses };
    let resume = |token: &'static [u8]| {
        vec![frame(vec![Kind::Hello(Hello {
            resume_token: Bytes::from_static(token),
            ..Hello::default()
        })])]
    };
    let plain = |_: &mut PublishRequest| {};
    let no_kind = ClientFrame { requests: vec![Request { id: 2, kind: None }] }.encode_to_vec();
    // Field 1 (requests), of 4 bytes: field 99 of a request, a kind that does not exist.
    let unknown_kind: &'static [u8] = &[0x0a, 0x04, 0x9a, 0x06, 0x01, 0x00];
    // Field 1, length 2^63.
    let endless: &'static [u8] =
        &[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let mut not_text = subscribe("MARK")[0].to_vec();
    let mark = not_text.windows(4).position(|bytes| bytes == b"MARK").unwrap();
    not_text[mark] = 0xff;

    vec![
        case("subscribe: empty topic", subscribe(""), &["topic_empty"], &[]),
        case("subscribe: long topic", subscribe(&"x".repeat(1_025)), &["topic_too_long"], &[]),
        case("subscribe: control character", subscribe("a\nb"), &["topic_control_character"], &[]),
        case("subscribe: NUL", subscribe("a\0b"), &["topic_control_character"], &[]),
        case("subscribe: C1 control", subscribe("a\u{85}b"), &["topic_control_character"], &[]),
        case("subscribe: not UTF-8", vec![not_text.into()], &[], BAD_FRAME),
        case("pattern: empty", pattern(""), &["topic_empty"], &[]),
        case("pattern: long", pattern(&"*".repeat(1_025)), &["topic_too_long"], &[]),
        case("pattern: 64 KiB", pattern(&"a*".repeat(32 << 10)), &["topic_too_long"], &[]),
        case("publish: empty topic", publish("", plain), &["topic_empty"], &[]),
        case("publish: long topic", publish(&"é".repeat(513), plain), &["topic_too_long"], &[]),
        case("publish: control", publish("\u{7f}", plain), &["topic_control_character"], &[]),
        case(
            "publish: payload over the limit",
            publish("t", |request| request.payload = vec![0; (1 << 20) + 1].into()),
            &["payload_too_large"],
            &[],
        ),
        case(
            "publish: text over the limit",
            publish("t", |request| request.text = "x".repeat((1 << 20) + 1)),
            &["payload_too_large"],
            &[],
        ),
        case(
            "publish: long event",
            publish("t", |request| request.event = "x".repeat((16 << 10) + 1)),
            &["headers_too_large"],
            &[],
        ),
        case(
            "publish: many headers",
            publish("t", |request| {
                request.headers = (0..2_000).map(|i| (format!("key-{i}"), "v".repeat(9))).collect();
            }),
            &["headers_too_large"],
            &[],
        ),
        case(
            "publish: nobody is called so",
            publish("t", |request| request.only_node = "nobody".to_owned()),
            &["unknown_node"],
            &[],
        ),
        case(
            "publish: not a node's name",
            publish("t", |request| request.only_node = "no body\n".to_owned()),
            &["unknown_node", "invalid"],
            &[],
        ),
        case(
            "publish without confirmation: the failure is told all the same",
            publish("", |request| request.confirm = Confirm::None.into()),
            &["topic_empty"],
            &[],
        ),
        case(
            "publish: a confirmation that does not exist",
            publish("t", |request| request.confirm = 77),
            &["invalid"],
            ENDS,
        ),
        case("hello: short token", resume(&[7; 15]), &["bad_resume_token"], ENDS),
        case("hello: long token", resume(&[7; 17]), &["bad_resume_token"], ENDS),
        case("no hello", vec![frame(vec![Kind::Credit(1)])], &["invalid"], ENDS),
        case(
            "a second hello",
            vec![frame(vec![hello()]), frame(vec![hello()])],
            &["invalid"],
            ENDS,
        ),
        case(
            "a second hello in one frame",
            vec![frame(vec![hello(), hello()])],
            &["invalid"],
            ENDS,
        ),
        case("no kind", vec![frame(vec![hello()]), no_kind.into()], &["invalid"], ENDS),
        case(
            "a kind of the future",
            vec![frame(vec![hello()]), Bytes::from_static(unknown_kind)],
            &["invalid"],
            ENDS,
        ),
        case("no protobuf", vec![Bytes::from_static(&[0xff; 64])], &[], BAD_FRAME),
        case(
            "no protobuf after hello",
            vec![frame(vec![hello()]), Bytes::from_static(endless)],
            &[],
            BAD_FRAME,
        ),
        case("a frame over the limit", vec![vec![0; 5 << 20].into()], &[], TOO_LARGE),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_session_requests_get_their_error_and_cost_nobody_else() {
    let cluster = Cluster::start(2, Options::default()).await;
    let mut witness = Witness::start(&cluster, 1, 0).await;
    let node = cluster.node(0).ports.grpc.to_string();
    let mut wrong = Vec::new();
    for case in cases() {
        let answer = match raw::converse(&node, case.frames, QUIET).await {
            Ok(answer) => answer,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let told = answer.codes().iter().any(|code| case.errors.contains(code));
        let ended = answer.status.as_ref().is_some_and(|end| case.statuses.contains(&end.code()));
        if !told && !ended {
            wrong.push(format!("{}: {answer:?}", case.name));
        }
        witness.sees_nothing(&cluster, case.name).await;
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    let counted = cluster.metrics(0).await.sum(names::LIMIT_REJECTIONS, &[]);
    assert!(counted >= 5.0, "{counted} rejections by limits were counted");
    witness.tell("abuse.requests.slowest_round");
}

/// Just inside every limit is fine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_the_limit_are_served() {
    let cluster = Cluster::start(2, Options::default()).await;
    let longest = "x".repeat(1_024);
    let mut subscriber = cluster.client(0, "subscriber").await;
    subscriber.subscribe_everywhere(&[&longest], &[&"?".repeat(1_024)]).await.unwrap();
    let mut publisher = cluster.client(1, "publisher").await;
    let request = PublishRequest {
        topic: longest.clone(),
        payload: vec![7; 1 << 20].into(),
        confirm: Confirm::Cluster.into(),
        ..PublishRequest::default()
    };
    assert_eq!(publisher.publish_request(request).await.unwrap().subscriptions, 1);
    let message = subscriber.message().await.unwrap();
    assert_eq!((message.topic, message.payload.len()), (longest, 1 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_http_requests_get_their_error_and_cost_nobody_else() {
    let cluster = Cluster::start(2, Options::default()).await;
    let mut witness = Witness::start(&cluster, 1, 0).await;
    let address = cluster.node(0).ports.http;
    let long_topic = format!("/v1/topics/{}/publish", "x".repeat(1_025));
    let big = "x".repeat((1 << 20) + 1);
    // Path, body, status, code of the error.
    let cases: [(&str, &str, u16, &str); 6] = [
        ("/v1/topics/%0A/publish", "x", 400, "topic_control_character"),
        (&long_topic, "x", 400, "topic_too_long"),
        ("/v1/topics/%ff/publish", "x", 400, ""),
        ("/v1/topics/t/publish", &big, 413, ""),
        ("/v1/topics/t/publish?confirm=perhaps", "x", 400, ""),
        ("/v1/publish", "[]", 415, ""),
    ];
    for (path, body, status, code) in cases {
        let shown: String = path.chars().take(40).collect();
        let answer = http::post(address, path, "", body).await.unwrap();
        assert_eq!(answer.status, status, "{shown}: {answer:?}");
        let error: serde_json::Value = serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("{shown}: {error}: {answer:?}"));
        let told = error["error"]["code"].as_str().unwrap_or_default();
        assert!(!told.is_empty() && (code.is_empty() || told == code), "{shown}: {answer:?}");
        witness.sees_nothing(&cluster, &shown).await;
    }
    for path in ["/../../etc/passwd", "/v1", "/status/../metrics/x", "/debug"] {
        let answer = http::get(address, path).await.unwrap();
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    let answer = http::get(address, "/v1/topics/t/publish").await.unwrap();
    assert_eq!(answer.status, 405, "{answer:?}");
    witness.sees_nothing(&cluster, "bad HTTP").await;
}
