//! Between the words of the client and the bytes of the session stream.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::message::{
    Confirm, Gap, GapReason, MemberTrace, Publish, Published, ServerError, TopicResult,
};
use super::presence::{PresenceCount, PresenceEntry, PresenceEvent, Track, Untrack};
use super::scan::{Batch, Fields, Unusual, Value};
use super::session::{GoAway, Reply, Request, Welcome};
use crate::types::TokenBytes;
use crate::wire::frames::{PREFIX_LEN, put_message, put_prefix};
use crate::wire::v1;

/// The longest message that is taken from a node: a payload of the greatest size that a node can be set to, and then some.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;

/// One thing that a node says.
#[derive(Debug, Clone)]
pub(crate) enum ServerEvent {
    Batch(Batch),
    Gap(Gap),
    Welcome(Welcome),
    Reply(Reply),
    GoAway(GoAway),
    Presence(PresenceEvent),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a message of {0} bytes is longer than any node sends")]
    TooLong(usize),
    #[error("a compressed message, though none was asked for")]
    Compressed,
    #[error("decode event: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("a batch that can't be read")]
    Batch,
}

/// Reads one `ServerFrame` and appends its events. Kinds that this client doesn't know are left out.
pub(crate) fn events(frame: &Bytes, out: &mut Vec<ServerEvent>) -> Result<(), Malformed> {
    let start = out.len();
    match plain_events(frame, out) {
        Ok(()) => Ok(()),
        Err(Unread::Malformed(malformed)) => Err(malformed),
        Err(Unread::Unusual) => {
            out.truncate(start);
            for event in v1::ServerFrame::decode(frame.clone())?.events {
                out.extend(converted(event)?);
            }
            Ok(())
        }
    }
}

enum Unread {
    Unusual,
    Malformed(Malformed),
}

impl From<Unusual> for Unread {
    fn from(Unusual: Unusual) -> Self {
        Self::Unusual
    }
}

fn plain_events(frame: &Bytes, out: &mut Vec<ServerEvent>) -> Result<(), Unread> {
    let mut fields = Fields::new(frame, 0..frame.len());
    while let Some(field) = fields.next()? {
        let (1, value) = field else { continue };
        let Value::Bytes(at) = value else { return Err(Unread::Unusual) };
        if let Some(batch) = plain_batch(frame, at.clone()) {
            out.push(ServerEvent::Batch(batch));
            continue;
        }
        event(frame.slice(at), out).map_err(Unread::Malformed)?;
    }
    Ok(())
}

/// Reads one event of any kind.
pub(crate) fn event(event: Bytes, out: &mut Vec<ServerEvent>) -> Result<(), Malformed> {
    out.extend(converted(v1::Event::decode(event)?)?);
    Ok(())
}

/// The event at `at`, when it is a batch and nothing else.
fn plain_batch(frame: &Bytes, at: std::ops::Range<usize>) -> Option<Batch> {
    let end = at.end;
    match Fields::new(frame, at).next() {
        Ok(Some((3, Value::Bytes(batch)))) if batch.end == end => {
            Batch::scan(frame.slice(batch)).ok()
        }
        _ => None,
    }
}

fn converted(event: v1::Event) -> Result<Option<ServerEvent>, Malformed> {
    use v1::event::Kind;
    Ok(Some(match event.kind {
        None => return Ok(None),
        Some(Kind::Batch(batch)) => {
            // Encoded by prost it is the plain case.
            let bytes = Bytes::from(batch.encode_to_vec());
            ServerEvent::Batch(Batch::scan(bytes).map_err(|Unusual| Malformed::Batch)?)
        }
        Some(Kind::Gap(gap)) => ServerEvent::Gap(gap.into()),
        Some(Kind::Welcome(welcome)) => ServerEvent::Welcome(Welcome {
            token: TokenBytes(welcome.resume_token),
            resumed: welcome.resumed,
            epoch: welcome.epoch,
            node: welcome.node,
            session_id: welcome.session_id,
            endpoints: welcome.endpoints,
        }),
        Some(Kind::Reply(reply)) => ServerEvent::Reply(Reply {
            id: reply.id,
            error: reply.error.map(Into::into),
            topics: reply.topics.into_iter().map(Into::into).collect(),
            publish: reply.publish.map(Into::into),
            reference: reply.r#ref,
        }),
        Some(Kind::Presence(event)) => ServerEvent::Presence(event.into()),
        Some(Kind::GoAway(away)) => {
            ServerEvent::GoAway(GoAway { reason: away.reason, endpoints: away.endpoints })
        }
    }))
}

impl From<v1::Error> for ServerError {
    fn from(error: v1::Error) -> Self {
        Self { code: error.code, message: error.message, hint: error.hint }
    }
}

impl From<v1::TopicResult> for TopicResult {
    fn from(result: v1::TopicResult) -> Self {
        Self {
            topic: result.topic,
            confirmed: result.confirmed,
            members: result.members,
            error: result.error.map(Into::into),
        }
    }
}

impl From<v1::PublishResponse> for Published {
    fn from(published: v1::PublishResponse) -> Self {
        let trace = |member: v1::MemberTrace| MemberTrace {
            node: member.node,
            subscriptions: member.subscriptions,
            took: member.took.and_then(|took| took.try_into().ok()),
            interested: member.interested,
        };
        Self {
            id: published.id,
            members: published.members,
            subscriptions: published.subscriptions,
            unknown: published.unknown,
            trace: published.trace.into_iter().map(trace).collect(),
        }
    }
}

impl From<v1::Gap> for Gap {
    fn from(gap: v1::Gap) -> Self {
        let reason = match gap.reason() {
            v1::gap::Reason::Unspecified => GapReason::Unspecified,
            v1::gap::Reason::SlowSubscriber => GapReason::SlowSubscriber,
            v1::gap::Reason::Link => GapReason::Link,
            v1::gap::Reason::MemberLost => GapReason::MemberLost,
            v1::gap::Reason::Reconnected => GapReason::Reconnected,
        };
        Self {
            topics: gap.topics,
            origin: Some(gap.origin).filter(|origin| !origin.is_empty()),
            missing: gap.missing,
            reason,
            certain: gap.certain,
        }
    }
}

impl From<v1::PresenceEvent> for PresenceEvent {
    fn from(event: v1::PresenceEvent) -> Self {
        let entries =
            |entries: Vec<v1::PresenceEntry>| entries.into_iter().map(Into::into).collect();
        let count = event.count.unwrap_or_default();
        Self {
            topic: event.topic,
            snapshot: event.snapshot,
            more: event.more,
            reset: event.reset,
            joins: entries(event.joins),
            updates: entries(event.updates),
            leaves: entries(event.leaves),
            count: PresenceCount { presences: count.presences, keys: count.keys },
            version: event.version,
        }
    }
}

impl From<v1::PresenceEntry> for PresenceEntry {
    fn from(entry: v1::PresenceEntry) -> Self {
        let since = entry.since.unwrap_or_default();
        let since_ms = since.seconds.saturating_mul(1_000) + i64::from(since.nanos) / 1_000_000;
        Self {
            key: entry.key,
            id: entry.id,
            reference: entry.r#ref,
            reference_before: entry.prev_ref,
            // A slice of a whole frame would keep it.
            meta: Bytes::copy_from_slice(&entry.meta),
            node: entry.node,
            since_ms: u64::try_from(since_ms).unwrap_or(0),
            first_of_key: entry.first_of_key,
            last_of_key: entry.last_of_key,
            orphaned: entry.orphaned,
            leaves_in: entry.leaves_in.and_then(|left| left.try_into().ok()),
        }
    }
}

/// Appends the request as a gRPC message of its own.
pub(crate) fn put_request(out: &mut BytesMut, request: Request) {
    use v1::request::Kind;
    let (id, kind) = match request {
        Request::Hello { id, token, client, linger, epoch, overlap } => {
            let linger = linger.and_then(|linger| linger.try_into().ok());
            let hello = v1::Hello { resume_token: token.0, client, linger, epoch, overlap };
            (id, Kind::Hello(hello))
        }
        Request::Subscribe { id, topics, patterns } => {
            (id, Kind::Subscribe(v1::SubscribeRequest { topics, patterns }))
        }
        Request::Unsubscribe { id, topics, patterns } => {
            (id, Kind::Unsubscribe(v1::SubscribeRequest { topics, patterns }))
        }
        Request::Track { id, update, track, revision } => {
            let Track { topic, key, id: which, meta } = (*track).clone();
            let track = v1::TrackRequest { topic, key, id: which, meta, revision };
            (id, if update { Kind::Update(track) } else { Kind::Track(track) })
        }
        Request::Untrack { id, untrack } => {
            let Untrack { topic, key, id: which, linger } = untrack;
            let linger = linger.and_then(|linger| linger.try_into().ok());
            (id, Kind::Untrack(v1::UntrackRequest { topic, key, id: which, linger }))
        }
        Request::Watch { id, topic, counts_only } => {
            (id, Kind::Watch(v1::WatchRequest { topic, counts_only }))
        }
        Request::Unwatch { id, topic } => {
            (id, Kind::Unwatch(v1::WatchRequest { topic, counts_only: false }))
        }
        Request::Bye { keep_session } => (0, Kind::Bye(v1::Bye { keep_session })),
    };
    let requests = vec![v1::Request { id, kind: Some(kind) }];
    put_message(out, &v1::ClientFrame { requests });
}

/// Room for the gRPC prefix, which `seal` fills in once the frame's length is known.
pub(crate) fn begin_frame(out: &mut BytesMut) {
    out.put_bytes(0, PREFIX_LEN);
}

/// Makes what `begin_frame` began a whole gRPC message.
pub(crate) fn seal(mut frame: BytesMut) -> Bytes {
    let len = frame.len() - PREFIX_LEN;
    let mut prefix = BytesMut::with_capacity(PREFIX_LEN);
    put_prefix(&mut prefix, len);
    frame[..PREFIX_LEN].copy_from_slice(&prefix);
    frame.freeze()
}

const LEN: u8 = 2;
const VARINT: u8 = 0;

const fn key(field: u8, wire: u8) -> u8 {
    (field << 3) | wire
}

/// Tag, length and bytes of a field whose number is below 16.
fn bytes_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// As `bytes_len`; nothing for the default value.
fn optional_len(len: usize) -> usize {
    if len == 0 { 0 } else { bytes_len(len) }
}

fn put_bytes(out: &mut BytesMut, field: u8, bytes: &[u8]) {
    out.put_u8(key(field, LEN));
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn put_optional(out: &mut BytesMut, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_bytes(out, field, bytes);
    }
}

/// The lengths of a publish on the wire, from the inside out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishLen {
    publish: usize,
    request: usize,
    /// All of it: what it adds to a frame.
    pub(crate) total: usize,
}

pub(crate) fn publish_len(publish: &Publish<'_>, id: u64) -> PublishLen {
    let header =
        |(name, value): &(&str, &str)| bytes_len(bytes_len(name.len()) + bytes_len(value.len()));
    let flag = |set: bool| if set { 2 } else { 0 };
    let inner = optional_len(publish.topic.len())
        + optional_len(publish.payload.len())
        + optional_len(publish.event.len())
        + publish.headers.iter().map(header).sum::<usize>()
        + flag(publish.confirm != Confirm::None)
        + flag(publish.exclude_self)
        + optional_len(publish.only_node.len())
        + flag(publish.trace);
    let id = if id == 0 { 0 } else { 1 + encoded_len_varint(id) };
    let request = id + bytes_len(inner);
    PublishLen { publish: inner, request, total: bytes_len(request) }
}

/// Appends the publish to a frame, straight from the caller's memory: nothing is allocated or copied twice.
pub(crate) fn put_publish(out: &mut BytesMut, publish: &Publish<'_>, id: u64, len: PublishLen) {
    let confirm = match publish.confirm {
        Confirm::None => 0,
        Confirm::Node => 1,
        Confirm::Cluster => 2,
    };
    out.put_u8(key(1, LEN)); // ClientFrame.requests
    encode_varint(len.request as u64, out);
    if id != 0 {
        out.put_u8(key(1, VARINT));
        encode_varint(id, out);
    }
    out.put_u8(key(5, LEN)); // Request.publish
    encode_varint(len.publish as u64, out);
    put_optional(out, 1, publish.topic.as_bytes());
    put_optional(out, 2, publish.payload);
    put_optional(out, 4, publish.event.as_bytes());
    for (name, value) in publish.headers {
        out.put_u8(key(5, LEN));
        encode_varint((bytes_len(name.len()) + bytes_len(value.len())) as u64, out);
        put_bytes(out, 1, name.as_bytes());
        put_bytes(out, 2, value.as_bytes());
    }
    if confirm != 0 {
        out.put_slice(&[key(6, VARINT), confirm]);
    }
    if publish.exclude_self {
        out.put_slice(&[key(7, VARINT), 1]);
    }
    put_optional(out, 8, publish.only_node.as_bytes());
    if publish.trace {
        out.put_slice(&[key(9, VARINT), 1]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_publish_is_encoded_as_prost_would(
            publishes in prop::collection::vec(
                (
                    ("\\PC{0,20}", prop::collection::vec(any::<u8>(), 0..300), "\\PC{0,9}"),
                    prop::collection::vec(("\\PC{1,5}", "\\PC{0,5}"), 0..3),
                    (0u8..3, any::<bool>(), "[a-c]{0,2}", any::<bool>(), prop_oneof![Just(0), any::<u64>()]),
                ),
                1..5,
            )
        ) {
            let mut frame = BytesMut::new();
            begin_frame(&mut frame);
            let mut expected = v1::ClientFrame::default();
            for ((topic, payload, event), headers, (confirm, exclude_self, only_node, trace, id)) in &publishes {
                let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
                let confirms = [Confirm::None, Confirm::Node, Confirm::Cluster];
                let publish = Publish {
                    topic, payload, event, only_node,
                    headers: &headers,
                    confirm: confirms[*confirm as usize],
                    exclude_self: *exclude_self,
                    trace: *trace,
                };
                let len = publish_len(&publish, *id);
                let before = frame.len();
                put_publish(&mut frame, &publish, *id, len);
                prop_assert_eq!(frame.len() - before, len.total);
                let publish = v1::PublishRequest {
                    topic: topic.clone(),
                    payload: payload.clone().into(),
                    text: String::new(),
                    event: event.clone(),
                    headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
                    confirm: i32::from(*confirm),
                    exclude_self: *exclude_self,
                    only_node: only_node.clone(),
                    trace: *trace,
                };
                let kind = Some(v1::request::Kind::Publish(publish));
                expected.requests.push(v1::Request { id: *id, kind });
            }
            let sealed = seal(frame);
            prop_assert_eq!(sealed[0], 0);
            let len = u32::from_be_bytes([sealed[1], sealed[2], sealed[3], sealed[4]]) as usize;
            prop_assert_eq!(len, sealed.len() - PREFIX_LEN);
            prop_assert_eq!(v1::ClientFrame::decode(&sealed[PREFIX_LEN..]).unwrap(), expected);
        }
    }
}
