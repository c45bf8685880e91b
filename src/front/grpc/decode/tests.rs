//! What the walk over the bytes gives is what prost gives, for any frames and for any damage to them.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;

use super::{Ask, Decoder, Part, Run};
use crate::config::Limits;
use crate::router::Confirm;
use crate::types::{ClusterName, Namespace, TopicHasher};
use crate::wire::frames::{message_bytes, put_prefix};
use crate::wire::v1;
use v1::request::Kind;

/// A message as its subscriber sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    id: u64,
    topic: String,
    payload: Bytes,
    event: String,
    headers: BTreeMap<String, String>,
    confirm: Confirm,
    exclude_self: bool,
    only_node: String,
    trace: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Publish(Seen),
    Refused(u64, &'static str),
    Other(u64, &'static str),
    Malformed,
}

fn decoder() -> Decoder {
    let cluster = ClusterName::parse("test").unwrap();
    Decoder::new(Namespace::default(), TopicHasher::new(&cluster))
}

fn limits() -> Limits {
    Limits { topic: 20, payload: 100, headers: 200, ..Limits::default() }
}

fn parts(frames: Bytes) -> (Vec<Part>, bool) {
    let (mut decoder, limits) = (decoder(), limits());
    let mut requests = decoder.requests(frames, &limits);
    let mut parts = Vec::new();
    loop {
        match requests.next() {
            Ok(Some(part)) => parts.push(part),
            Ok(None) => return (parts, true),
            Err(_) => return (parts, false),
        }
    }
}

fn flatten(run: &Run) -> Vec<Step> {
    let mut steps = Vec::new();
    for (n, (payload, fields)) in run.messages.iter().enumerate() {
        // As a subscriber's decoder reads them.
        let message = v1::Message::decode(fields).expect("subscribers can read it");
        steps.push(Step::Publish(Seen {
            id: run.ids.get(n).copied().unwrap_or(0),
            topic: run.topic.to_string(),
            payload: Bytes::copy_from_slice(payload),
            event: message.event,
            headers: message.headers.into_iter().collect(),
            confirm: run.flags.confirm,
            exclude_self: run.flags.exclude_self,
            only_node: run.flags.only_node.clone(),
            trace: run.flags.trace,
        }));
    }
    steps
}

fn fast(frames: Bytes) -> Vec<Step> {
    let (parts, whole) = parts(frames);
    let mut steps = Vec::new();
    for part in &parts {
        match part {
            Part::Run(run) => steps.extend(flatten(run)),
            Part::Refused { id, error } => steps.push(Step::Refused(*id, error.code())),
            Part::Ask { id, ask } => steps.push(Step::Other(*id, name(ask))),
        }
    }
    if !whole {
        steps.push(Step::Malformed);
    }
    steps
}

fn name(ask: &Ask) -> &'static str {
    match ask {
        Ask::Hello(_) => "hello",
        Ask::Subscribe(_) => "subscribe",
        Ask::Unsubscribe(_) => "unsubscribe",
        Ask::Credit(_) => "credit",
        Ask::Bye { .. } => "bye",
        Ask::Track(crate::broker::Verb::Track, _) => "track",
        Ask::Track(crate::broker::Verb::Update, _) => "update",
        Ask::Untrack(_) => "untrack",
        Ask::Watch { .. } => "watch",
        Ask::Unwatch { .. } => "unwatch",
        Ask::Unknown => "unknown",
    }
}

/// The same by way of prost alone.
fn slow(frame: &v1::ClientFrame) -> Vec<Step> {
    frame.requests.iter().map(slow_request).collect()
}

fn slow_request(request: &v1::Request) -> Step {
    let id = request.id;
    let publish = match &request.kind {
        Some(Kind::Publish(publish)) => publish,
        Some(Kind::Hello(hello)) => {
            let bad = super::codec::duration(hello.linger).is_err();
            return if bad { Step::Refused(id, "invalid") } else { Step::Other(id, "hello") };
        }
        Some(Kind::Subscribe(_)) => return Step::Other(id, "subscribe"),
        Some(Kind::Unsubscribe(_)) => return Step::Other(id, "unsubscribe"),
        Some(Kind::Credit(_)) => return Step::Other(id, "credit"),
        Some(Kind::Bye(_)) => return Step::Other(id, "bye"),
        Some(Kind::Track(_)) => return Step::Other(id, "track"),
        Some(Kind::Update(_)) => return Step::Other(id, "update"),
        Some(Kind::Untrack(untrack)) => {
            let bad = super::codec::duration(untrack.linger).is_err();
            return if bad { Step::Refused(id, "invalid") } else { Step::Other(id, "untrack") };
        }
        Some(Kind::Watch(_)) => return Step::Other(id, "watch"),
        Some(Kind::Unwatch(_)) => return Step::Other(id, "unwatch"),
        None => return Step::Other(id, "unknown"),
    };
    let confirm = match publish.confirm {
        0 => Confirm::None,
        1 => Confirm::Node,
        2 => Confirm::Cluster,
        _ => return Step::Refused(id, "invalid"),
    };
    if !publish.payload.is_empty() && !publish.text.is_empty() {
        return Step::Refused(id, "invalid");
    }
    if publish.topic.chars().any(char::is_control) {
        return Step::Refused(id, "topic_control_character");
    }
    if publish.topic.is_empty() {
        return Step::Refused(id, "topic_empty");
    }
    if publish.topic.len() > limits().topic {
        return Step::Refused(id, "topic_too_long");
    }
    let payload = if publish.payload.is_empty() {
        Bytes::copy_from_slice(publish.text.as_bytes())
    } else {
        publish.payload.clone()
    };
    if payload.len() > limits().payload {
        return Step::Refused(id, "payload_too_large");
    }
    Step::Publish(Seen {
        id,
        topic: publish.topic.clone(),
        payload,
        event: publish.event.clone(),
        headers: publish.headers.clone().into_iter().collect(),
        confirm: if id == 0 { Confirm::None } else { confirm },
        exclude_self: publish.exclude_self,
        only_node: publish.only_node.clone(),
        trace: publish.trace,
    })
}

fn publish() -> impl Strategy<Value = v1::PublishRequest> {
    let text = || prop_oneof![4 => Just(String::new()), 1 => "[a-zäß]{1,8}"];
    let topic = prop_oneof![
        8 => prop_oneof![Just("t1"), Just("t2")].prop_map(str::to_owned),
        1 => Just(String::new()),
        1 => Just("a\nb".to_owned()),
        1 => Just("long".repeat(8)),
    ];
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(vec![7; 101]),
    ];
    let flags = (prop_oneof![6 => Just(0), 1 => 0..5_i32], any::<bool>(), any::<bool>());
    let headers = prop::collection::hash_map("[a-z]{0,2}", "[a-z]{0,2}", 0..3);
    (topic, payload, text(), text(), headers, flags, text()).prop_map(
        |(topic, payload, text, event, headers, (confirm, exclude_self, trace), only_node)| {
            let payload = payload.into();
            v1::PublishRequest {
                topic,
                payload,
                text,
                event,
                headers,
                confirm,
                exclude_self,
                only_node,
                trace,
            }
        },
    )
}

fn request() -> impl Strategy<Value = v1::Request> {
    let names = || v1::SubscribeRequest { topics: vec!["t".to_owned()], patterns: vec![] };
    let kind = prop_oneof![
        12 => publish().prop_map(|publish| Some(Kind::Publish(publish))),
        1 => Just(Some(Kind::Subscribe(names()))),
        1 => Just(Some(Kind::Unsubscribe(names()))),
        1 => Just(Some(Kind::Hello(v1::Hello::default()))),
        1 => any::<u32>().prop_map(|credit| Some(Kind::Credit(credit))),
        1 => any::<bool>().prop_map(|keep_session| Some(Kind::Bye(v1::Bye { keep_session }))),
        1 => Just(None),
    ];
    (prop_oneof![Just(0), any::<u64>()], kind).prop_map(|(id, kind)| v1::Request { id, kind })
}

fn frame() -> impl Strategy<Value = v1::ClientFrame> {
    prop::collection::vec(request(), 0..8).prop_map(|requests| v1::ClientFrame { requests })
}

/// Fields one by one, in any order and any number, as no encoder would write them.
fn untidy_publish() -> impl Strategy<Value = Bytes> {
    let any_fields = prop::collection::vec(1..11_u32, 0..8);
    // Each at most once, but for headers: what may be recognised, if the headers stand together.
    let once = prop::sample::subsequence(vec![2, 3, 4, 5, 5, 6, 7, 8, 9], 0..9);
    let once = once.prop_map(|fields| [vec![1], fields].concat()).prop_shuffle();
    let fields = prop_oneof![1 => any_fields, 3 => once];
    let content = prop::collection::vec((prop::collection::vec(97..100_u8, 1..4), 0..2_u64), 10);
    (fields, content).prop_map(|(fields, content)| {
        let fields = fields.into_iter().zip(content).map(|(field, (text, n))| (field, text, n));
        let mut out = BytesMut::new();
        for (field, text, number) in fields {
            if matches!(field, 6 | 7 | 9 | 10) {
                out.put_slice(&[(field << 3) as u8, number as u8]);
            } else {
                let mut entry = text.clone();
                if field == 5 {
                    entry = vec![0x0A, text.len() as u8];
                    entry.extend(&text);
                    entry.extend(std::iter::repeat_n([0x12, 1, b'v'], number as usize).flatten());
                }
                out.put_slice(&[(field << 3) as u8 | 2, entry.len() as u8]);
                out.put_slice(&entry);
            }
        }
        let mut request = BytesMut::new();
        request.put_slice(&[5 << 3 | 2, out.len() as u8]);
        request.put_slice(&out);
        request.freeze()
    })
}

fn as_frame(request: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_prefix(&mut out, request.len() + 2);
    out.put_slice(&[0x0A, request.len() as u8]);
    out.put_slice(request);
    out.freeze()
}

/// As `slow`, from bytes that may be damaged: each request by itself, as far as they can be told apart.
fn slow_bytes(bytes: &[u8]) -> Option<Vec<Step>> {
    v1::ClientFrame::decode(bytes).ok().map(|frame| slow(&frame))
}

proptest! {
    #[test]
    fn it_decodes_what_prost_decodes(sent in prop::collection::vec(frame(), 0..4)) {
        let mut bytes = BytesMut::new();
        for frame in &sent {
            bytes.put_slice(&message_bytes(frame));
        }
        let expected: Vec<_> = sent.iter().flat_map(slow).collect();
        prop_assert_eq!(fast(bytes.freeze()), expected);
    }

    #[test]
    fn untidy_encodings_mean_the_same(request in untidy_publish()) {
        let expected = v1::Request::decode(request.clone()).map(|request| slow_request(&request));
        prop_assert_eq!(fast(as_frame(&request)), [expected.unwrap_or(Step::Malformed)]);
    }

    #[test]
    fn damaged_frames_are_refused_where_prost_refuses_them(
        sent in frame(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut message = sent.encode_to_vec();
        prop_assume!(!message.is_empty());
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let mut bytes = BytesMut::new();
        put_prefix(&mut bytes, message.len());
        bytes.put_slice(&message);
        let fast = fast(bytes.freeze());
        match slow_bytes(&message) {
            Some(expected) => prop_assert_eq!(fast, expected),
            None => prop_assert_eq!(fast.last(), Some(&Step::Malformed)),
        }
    }

    #[test]
    fn junk_never_panics(message in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut bytes = BytesMut::new();
        put_prefix(&mut bytes, message.len());
        bytes.put_slice(&message);
        let _ = fast(bytes.freeze());
        let _ = parts(Bytes::from(message));
    }
}

fn to(topic: &str, payload: &str) -> v1::Request {
    let publish = v1::PublishRequest {
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..v1::PublishRequest::default()
    };
    v1::Request { id: 0, kind: Some(Kind::Publish(publish)) }
}

fn runs(requests: Vec<v1::Request>) -> Vec<(String, usize)> {
    let (parts, whole) = parts(message_bytes(&v1::ClientFrame { requests }));
    assert!(whole);
    let each = parts.iter().map(|part| match part {
        Part::Run(run) => (run.topic.to_string(), run.messages.len()),
        Part::Ask { ask, .. } => (name(ask).to_owned(), 0),
        Part::Refused { error, .. } => (error.code().to_owned(), 0),
    });
    each.collect()
}

#[test]
fn only_neighbours_share_a_run() {
    let check = |topics: &str, expected: &[(&str, usize)]| {
        let requests = topics.split(' ').map(|topic| match topic {
            "!" => to("", "x"),
            "?" => v1::Request { id: 3, kind: Some(Kind::Credit(1)) },
            topic => to(topic, "x"),
        });
        let expected: Vec<_> = expected.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect();
        assert_eq!(runs(requests.collect()), expected, "{topics}");
    };
    check("a a a", &[("a", 3)]);
    check("a b a", &[("a", 1), ("b", 1), ("a", 1)]);
    check("a a ? a", &[("a", 2), ("credit", 0), ("a", 1)]);
    check("a ! a b", &[("a", 1), ("topic_empty", 0), ("a", 1), ("b", 1)]);
    check("? a", &[("credit", 0), ("a", 1)]);
}

#[test]
fn a_run_goes_on_into_the_next_frame_of_a_read() {
    let frame = message_bytes(&v1::ClientFrame { requests: vec![to("a", "1")] });
    let both = Bytes::from([&frame[..], &frame[..]].concat());
    let (parts, whole) = parts(both);
    assert!(whole);
    let [Part::Run(run)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(run.messages.len(), 2);
}

#[test]
fn runs_are_bounded() {
    let requests = (0..super::RUN_MESSAGES_MAX + 1).map(|_| to("a", "")).collect();
    let expected = [("a".to_owned(), super::RUN_MESSAGES_MAX), ("a".to_owned(), 1)];
    assert_eq!(runs(requests), expected);
}

#[test]
fn different_options_are_different_runs() {
    let mut other = to("a", "x");
    if let Some(Kind::Publish(publish)) = &mut other.kind {
        publish.exclude_self = true;
    }
    let expected = [("a".to_owned(), 1), ("a".to_owned(), 1), ("a".to_owned(), 1)];
    assert_eq!(runs(vec![to("a", "x"), other, to("a", "x")]), expected);
}

#[test]
fn messages_are_not_copied() {
    let frame = message_bytes(&v1::ClientFrame { requests: vec![to("a", "payload")] });
    let (parts, _) = parts(frame.clone());
    let [Part::Run(run)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(run.messages.buffer().as_ptr(), frame.as_ptr());
}

#[test]
fn ids_follow_their_messages() {
    let mut requests = vec![to("a", "x"), to("a", "x"), to("a", "x")];
    requests[1].id = 9;
    let (parts, _) = parts(message_bytes(&v1::ClientFrame { requests }));
    let [Part::Run(run)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(run.ids, [0, 9, 0]);
}

#[test]
fn what_came_with_the_hello_is_not_lost() {
    let hello = || v1::Request { id: 1, kind: Some(Kind::Hello(v1::Hello::default())) };
    let check = |frames: Vec<Vec<v1::Request>>, expected: &[&str]| {
        let mut bytes = BytesMut::new();
        for requests in frames {
            bytes.put_slice(&message_bytes(&v1::ClientFrame { requests }));
        }
        let (mut decoder, limits) = (decoder(), limits());
        let mut requests = decoder.requests(bytes.freeze(), &limits);
        assert!(matches!(requests.next(), Ok(Some(Part::Ask { id: 1, .. }))));
        let rest = requests.rest().unwrap_or_default();
        let topics: Vec<_> = fast(rest)
            .into_iter()
            .map(|step| match step {
                Step::Publish(seen) => seen.topic,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(topics, expected);
    };
    check(vec![vec![hello()]], &[]);
    check(vec![vec![hello(), to("a", "x")]], &["a"]);
    check(vec![vec![hello()], vec![to("a", "x")]], &["a"]);
    check(vec![vec![hello(), to("a", "x")], vec![to("b", "x")]], &["a", "b"]);
}
