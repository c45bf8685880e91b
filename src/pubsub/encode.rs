//! The gRPC form of batches and gaps, written by hand: the same bytes as prost makes of `waxwing.v1.ServerFrame`, without a value and
//! an allocation for each message.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::batch::{Head, ID_LEN};
use super::messages::put_bytes;
use super::{Gap, GapReason, Messages, Origin};

/// Bytes of a message besides payload and fields, at most.
pub(super) const MESSAGE_OVERHEAD: usize = 2 + ID_LEN + 11 + 14 + 6 + 6;

/// Length of gRPC's prefix.
const PREFIX_LEN: usize = 5;

const FRAME_EVENTS: u8 = 0x0A;
const EVENT_BATCH: u8 = 0x1A;
const EVENT_GAP: u8 = 0x22;
const BATCH_TOPIC: u8 = 0x0A;
const BATCH_ORIGIN: u8 = 0x12;
const BATCH_MESSAGES: u8 = 0x1A;
const MESSAGE_ID: u8 = 0x0A;
const MESSAGE_SEQ: u8 = 0x10;
const MESSAGE_TIME: u8 = 0x1A;
const MESSAGE_PAYLOAD: u8 = 0x32;

/// One gRPC message: a frame with one event with this batch.
pub(super) fn batch(head: &Head, origin: &Origin, messages: &Messages) -> Bytes {
    let (topic, first) = (&head.topic, head.first);
    let time = timestamp(head.time_ms);
    let size_of = |number: u64, payload: &[u8], fields: &[u8]| {
        let mut size = 2 + ID_LEN + 1 + encoded_len_varint(number) + 2 + time.len() + fields.len();
        if !payload.is_empty() {
            size += 1 + encoded_len_varint(payload.len() as u64) + payload.len();
        }
        size
    };
    let delimited = |len: usize| 1 + encoded_len_varint(len as u64) + len;
    let mut body = delimited(topic.name().len()) + delimited(origin.name.len());
    for (number, (payload, fields)) in (first..).zip(messages.iter()) {
        body += delimited(size_of(number, payload, fields));
    }
    let event = delimited(body);
    let frame = delimited(event);

    let mut out = BytesMut::with_capacity(PREFIX_LEN + frame);
    put_prefix(&mut out, frame);
    put_head(&mut out, FRAME_EVENTS, event);
    put_head(&mut out, EVENT_BATCH, body);
    put_head(&mut out, BATCH_TOPIC, topic.name().len());
    out.put_slice(topic.name());
    put_head(&mut out, BATCH_ORIGIN, origin.name.len());
    out.put_slice(origin.name.as_bytes());
    for (number, (payload, fields)) in (first..).zip(messages.iter()) {
        put_head(&mut out, BATCH_MESSAGES, size_of(number, payload, fields));
        put_head(&mut out, MESSAGE_ID, ID_LEN);
        out.put_slice(&origin.id(number));
        out.put_u8(MESSAGE_SEQ);
        encode_varint(number, &mut out);
        put_head(&mut out, MESSAGE_TIME, time.len());
        out.put_slice(&time);
        out.put_slice(fields);
        if !payload.is_empty() {
            put_head(&mut out, MESSAGE_PAYLOAD, payload.len());
            out.put_slice(payload);
        }
    }
    debug_assert_eq!(out.len(), PREFIX_LEN + frame, "the sizes were computed as written");
    out.freeze()
}

/// One gRPC message: a frame with one event with this gap.
pub(super) fn gap(gap: &Gap) -> Bytes {
    let mut body = BytesMut::new();
    for topic in &gap.topics {
        put_bytes(&mut body, 1, topic.name());
    }
    if let Some(origin) = &gap.origin {
        put_bytes(&mut body, 2, origin.as_bytes());
    }
    if let Some(missing) = gap.missing {
        body.put_u8(0x18);
        encode_varint(missing, &mut body);
    }
    body.put_u8(0x20);
    body.put_u8(match gap.reason {
        GapReason::SlowSubscriber => 1,
        GapReason::Link => 2,
        GapReason::MemberLost => 3,
        GapReason::Reconnected => 4,
    });
    if gap.certain {
        body.put_slice(&[0x28, 1]);
    }
    let mut event = BytesMut::new();
    put_head(&mut event, EVENT_GAP, body.len());
    event.put_slice(&body);
    let mut frame = BytesMut::new();
    put_head(&mut frame, FRAME_EVENTS, event.len());
    frame.put_slice(&event);
    let mut out = BytesMut::with_capacity(PREFIX_LEN + frame.len());
    put_prefix(&mut out, frame.len());
    out.put_slice(&frame);
    out.freeze()
}

fn put_head(out: &mut BytesMut, tag: u8, len: usize) {
    out.put_u8(tag);
    encode_varint(len as u64, out);
}

fn put_prefix(out: &mut BytesMut, len: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(len).expect("a batch is far below 4 GiB"));
}

/// The fields of a `google.protobuf.Timestamp`.
fn timestamp(time_ms: u64) -> smallvec::SmallVec<[u8; 16]> {
    let mut out = smallvec::SmallVec::<[u8; 16]>::new();
    let mut put = |tag: u8, mut value: u64| {
        if value == 0 {
            return;
        }
        out.push(tag);
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    };
    put(0x08, time_ms / 1_000);
    put(0x10, time_ms % 1_000 * 1_000_000);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::pubsub::MessagesBuilder;
    use crate::types::{ClusterName, Incarnation, Namespace, NodeName, Topic, TopicHasher};
    use crate::wire::v1;

    fn topic(name: &str) -> Topic {
        let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
        hasher.topic(&Namespace::default(), name, 1 << 10).unwrap()
    }

    fn decode(bytes: &Bytes) -> v1::Event {
        assert_eq!(bytes[0], 0, "not compressed");
        assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
        let mut frame = v1::ServerFrame::decode(&bytes[5..]).unwrap();
        assert_eq!(frame.events.len(), 1);
        frame.events.remove(0)
    }

    proptest! {
        #[test]
        fn a_batch_reads_back_with_prost(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), "[a-z]{0,9}", prop::collection::hash_map("[a-z]{1,5}", "[a-z]{0,5}", 0..3)), 1..20),
            first in any::<u32>(),
            time_ms in 0u64..5_000_000_000_000,
        ) {
            let mut builder = MessagesBuilder::default();
            for (payload, event, headers) in &messages {
                builder.push(payload, event, headers.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            }
            let origin = Origin::new(&NodeName::parse("a").unwrap(), Incarnation(1_763_000_000_000));
            let built = builder.finish();
            let head = Head { topic: topic("room:1"), first: first.into(), count: built.len() as u32, time_ms, exclude: None, ticket: 0 };
            let bytes = batch(&head, &origin, &built);
            let Some(v1::event::Kind::Batch(got)) = decode(&bytes).kind else { panic!("not a batch") };
            prop_assert_eq!(&got.topic, "room:1");
            prop_assert_eq!(&got.origin, "a");
            prop_assert_eq!(got.messages.len(), messages.len());
            for (i, (got, (payload, event, headers))) in got.messages.iter().zip(&messages).enumerate() {
                let number = u64::from(first) + i as u64;
                prop_assert_eq!(&got.id, &origin.id_string(number));
                prop_assert_eq!(got.seq, number);
                prop_assert_eq!(&got.payload[..], &payload[..]);
                prop_assert_eq!(&got.event, event);
                prop_assert_eq!(&got.headers, headers);
                let time = got.time.unwrap();
                prop_assert_eq!(time.seconds as u64 * 1_000 + time.nanos as u64 / 1_000_000, time_ms);
            }
        }

        #[test]
        fn ids_rise_as_strings_do(a in any::<u64>(), b in any::<u64>(), i in any::<u64>(), j in any::<u64>()) {
            let id = |incarnation, number| Origin::new(&NodeName::parse("a").unwrap(), Incarnation(incarnation)).id_string(number);
            prop_assert_eq!((i, a).cmp(&(j, b)), id(i, a).cmp(&id(j, b)));
        }
    }

    #[test]
    fn a_gap_reads_back_with_prost() {
        let certain = Gap {
            topics: vec![topic("a"), topic("b")],
            origin: Some("n".into()),
            missing: Some(1204),
            reason: GapReason::SlowSubscriber,
            certain: true,
        };
        let Some(v1::event::Kind::Gap(got)) = decode(&gap(&certain)).kind else {
            panic!("not a gap")
        };
        assert_eq!((got.topics, got.origin.as_str()), (vec!["a".to_owned(), "b".to_owned()], "n"));
        assert_eq!((got.missing, got.certain), (Some(1204), true));
        assert_eq!(got.reason, v1::gap::Reason::SlowSubscriber as i32);

        let Some(v1::event::Kind::Gap(got)) =
            decode(&gap(&Gap::possible(None, GapReason::Reconnected))).kind
        else {
            panic!("not a gap")
        };
        assert_eq!((got.topics.len(), got.missing, got.certain), (0, None, false));
        assert_eq!(got.reason, v1::gap::Reason::Reconnected as i32);
    }
}
