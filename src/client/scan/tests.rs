//! The scanner reads what prost reads, and fails where prost fails.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::client::codec::{self, ServerEvent};
use crate::wire::v1::{self, event};

fn seen(batch: &Batch) -> v1::Batch {
    let messages = batch.messages().map(|message| {
        let (seconds, nanos) = message.raw_time();
        v1::Message {
            id: message.id().to_owned(),
            seq: message.seq(),
            time: Some(prost_types::Timestamp { seconds, nanos }),
            event: message.event().to_owned(),
            headers: message.headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            payload: message.payload_bytes(),
        }
    });
    v1::Batch {
        topic: batch.topic().to_owned(),
        origin: batch.origin().to_owned(),
        messages: messages.collect(),
    }
}

/// No time and the time 0 are the same to us.
fn timed(mut batch: v1::Batch) -> v1::Batch {
    for message in &mut batch.messages {
        message.time.get_or_insert_default();
    }
    batch
}

fn check(frame: &[u8]) -> Result<(), TestCaseError> {
    let frame = Bytes::copy_from_slice(frame);
    let mut events = Vec::new();
    let ours = codec::events(&frame, &mut events);
    match v1::ServerFrame::decode(frame) {
        Err(_) => prop_assert!(ours.is_err(), "prost refuses it: {events:?}"),
        Ok(theirs) => {
            prop_assert!(ours.is_ok(), "prost takes it: {ours:?}");
            let theirs: Vec<_> = theirs.events.into_iter().filter_map(|event| event.kind).collect();
            prop_assert_eq!(events.len(), theirs.len());
            for (ours, theirs) in events.iter().zip(theirs) {
                match (ours, theirs) {
                    (ServerEvent::Batch(ours), event::Kind::Batch(theirs)) => {
                        prop_assert_eq!(ours.len(), theirs.messages.len());
                        prop_assert_eq!(seen(ours), timed(theirs));
                    }
                    (ServerEvent::Gap(_), event::Kind::Gap(_))
                    | (ServerEvent::Presence(_), event::Kind::Presence(_))
                    | (ServerEvent::Welcome(_), event::Kind::Welcome(_))
                    | (ServerEvent::Reply(_), event::Kind::Reply(_))
                    | (ServerEvent::GoAway(_), event::Kind::GoAway(_)) => {}
                    (ours, theirs) => prop_assert!(false, "{ours:?} is not {theirs:?}"),
                }
            }
        }
    }
    Ok(())
}

fn message() -> impl Strategy<Value = v1::Message> {
    let time = prop::option::of((any::<i64>(), any::<i32>()));
    let headers = prop::collection::hash_map("\\PC{0,4}", "\\PC{0,4}", 0..3);
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    ("[0-9A-Z]{0,26}", any::<u64>(), time, "\\PC{0,6}", headers, payload).prop_map(
        |(id, seq, time, event, headers, payload): (_, _, _, _, HashMap<_, _>, Vec<u8>)| {
            v1::Message {
                id,
                seq,
                time: time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
                event,
                headers,
                payload: payload.into(),
            }
        },
    )
}

fn batch() -> impl Strategy<Value = v1::Batch> {
    ("\\PC{0,8}", "[a-c]{0,2}", prop::collection::vec(message(), 0..5))
        .prop_map(|(topic, origin, messages)| v1::Batch { topic, origin, messages })
}

fn kind() -> impl Strategy<Value = Option<event::Kind>> {
    prop_oneof![
        6 => batch().prop_map(|batch| Some(event::Kind::Batch(batch))),
        1 => Just(None),
        1 => any::<u64>().prop_map(|missing| {
            let topics = vec!["t".to_owned()];
            Some(event::Kind::Gap(v1::Gap { topics, missing: Some(missing), ..v1::Gap::default() }))
        }),
        1 => any::<u64>().prop_map(|id| Some(event::Kind::Reply(v1::Reply { id, ..v1::Reply::default() }))),
        1 => "\\PC{0,8}".prop_map(|node| Some(event::Kind::Welcome(v1::Welcome { node, ..v1::Welcome::default() }))),
        1 => "\\PC{0,8}".prop_map(|reason| Some(event::Kind::GoAway(v1::GoAway { reason, ..v1::GoAway::default() }))),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(kind(), 0..6).prop_map(|kinds| {
        let events = kinds.into_iter().map(|kind| v1::Event { kind }).collect();
        v1::ServerFrame { events }.encode_to_vec()
    })
}

/// A few fields of any kind, nested: what prost may merge, skip or refuse.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop::collection::vec(any::<u8>(), 0..6);
    leaf.prop_recursive(5, 64, 4, |inner| {
        prop::collection::vec((1u32..8, 0u32..6, inner, any::<u64>()), 0..4).prop_map(|fields| {
            let mut out = Vec::new();
            for (field, wire, inner, number) in fields {
                prost::encoding::encode_varint(u64::from(field << 3 | wire), &mut out);
                match wire {
                    0 => prost::encoding::encode_varint(number, &mut out),
                    1 => out.extend(number.to_le_bytes()),
                    2 => {
                        prost::encoding::encode_varint(inner.len() as u64, &mut out);
                        out.extend(inner);
                    }
                    3 => {
                        out.extend(inner);
                        prost::encoding::encode_varint(u64::from(field << 3 | 4), &mut out);
                    }
                    5 => out.extend((number as u32).to_le_bytes()),
                    _ => {}
                }
            }
            out
        })
    })
}

proptest! {
    #[test]
    fn frames_are_read_as_prost_reads_them(frame in frame()) {
        check(&frame)?;
    }

    #[test]
    fn a_damaged_frame_is_read_or_refused_as_prost_does(
        frame in frame(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut frame = frame;
        if !frame.is_empty() {
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            check(&frame)?;
            frame.truncate(cut.index(frame.len()));
        }
        check(&frame)?;
    }

    #[test]
    fn two_frames_in_a_row_are_one(a in frame(), b in frame()) {
        check(&[a, b].concat())?;
    }

    #[test]
    fn odd_fields_are_read_or_refused_as_prost_does(fields in fields()) {
        check(&fields)?;
    }

    #[test]
    fn junk_is_refused_as_prost_does(junk in prop::collection::vec(any::<u8>(), 0..80)) {
        check(&junk)?;
    }
}

fn plain(ids: &[&str]) -> Batch {
    let messages = ids
        .iter()
        .map(|id| v1::Message { id: (*id).to_owned(), ..v1::Message::default() })
        .collect();
    let batch = v1::Batch { topic: "t".to_owned(), origin: "a".to_owned(), messages };
    Batch::scan(Bytes::from(batch.encode_to_vec())).unwrap()
}

fn shown(batch: &Batch) -> Vec<&str> {
    assert_eq!(batch.messages().len(), batch.len());
    batch.messages().map(|message| message.id()).collect()
}

#[test]
fn what_is_hidden_is_not_shown() {
    let mut batch = plain(&["1", "2", "3"]);
    batch.hide_through("1");
    assert_eq!((shown(&batch), batch.id_span()), (vec!["2", "3"], Some(("2", "3"))));
    batch.hide_through("9");
    assert_eq!((shown(&batch), batch.id_span()), (vec![], None));
}

#[test]
fn only_what_is_new_of_an_origin_and_topic_passes() {
    let mut seen = crate::client::seen::Seen::default();
    for (ids, new) in [
        (&["1", "2"][..], &["1", "2"][..]),
        (&["1", "2", "3"], &["3"]),
        (&["2"], &[]),
        (&["5", "6"], &["5", "6"]),
        (&["6", "7"], &["7"]),
    ] {
        let mut batch = plain(ids);
        seen.filter(&mut batch);
        assert_eq!(shown(&batch), new);
    }
}
