//! The RESP forms of a batch: runs of whole `message` or `pmessage` pushes, encoded once for all subscribers.
//!
//! Events and headers don't show in RESP: its messages are payloads.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Batch, Messages, Span};
use crate::types::Pattern;

/// Which RESP a connection speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resp {
    #[default]
    Two,
    Three,
}

/// A batch as one pattern's subscribers get it.
#[derive(Debug)]
pub struct PatternRun {
    batch: Arc<Batch>,
    pattern: Pattern,
    forms: Forms,
}

/// One form for each RESP, made when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Forms {
    two: OnceLock<Bytes>,
    three: OnceLock<Bytes>,
}

impl Forms {
    pub(super) fn get(&self, resp: Resp, encode: impl FnOnce() -> Bytes) -> &Bytes {
        match resp {
            Resp::Two => self.two.get_or_init(encode),
            Resp::Three => self.three.get_or_init(encode),
        }
    }
}

impl PatternRun {
    pub fn new(batch: Arc<Batch>, pattern: Pattern) -> Self {
        Self { batch, pattern, forms: Forms::default() }
    }

    pub fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }

    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Bytes that it pins, near enough.
    pub fn cost(&self) -> usize {
        self.batch.cost() + self.pattern.glob.len() * self.batch.count() as usize
    }

    pub fn resp(&self, resp: Resp) -> &Bytes {
        self.forms.get(resp, || {
            let mut head = Vec::new();
            put_array(&mut head, resp, b'4');
            put_bulk(&mut head, b"pmessage");
            put_bulk(&mut head, &self.pattern.glob);
            put_bulk(&mut head, self.batch.topic().name());
            run(&head, &self.batch.messages())
        })
    }
}

/// `message` pushes, or `smessage` where the topic is a sharded channel.
pub(super) fn messages(batch: &Batch, resp: Resp) -> Bytes {
    let topic = batch.topic();
    let kind: &[u8] = if topic.namespace().is_sharded() { b"smessage" } else { b"message" };
    let mut head = Vec::new();
    put_array(&mut head, resp, b'3');
    put_bulk(&mut head, kind);
    put_bulk(&mut head, topic.name());
    run(&head, &batch.messages())
}

/// Digits of the longest length there is, and what stands around a bulk string.
const BULK_OVERHEAD: usize = 1 + 20 + 2 + 2;

fn run(head: &[u8], messages: &Messages) -> Bytes {
    let payloads: usize = messages.iter().map(|(payload, _)| payload.len()).sum();
    let mut out = Vec::with_capacity(payloads + messages.len() * (head.len() + BULK_OVERHEAD));
    for (payload, _) in messages.iter() {
        out.extend_from_slice(head);
        put_bulk(&mut out, payload);
    }
    // Many of these wait in mailboxes; what was set aside for longer lengths need not.
    if out.capacity() > out.len() + out.len() / 4 {
        out.shrink_to_fit();
    }
    out.into()
}

fn put_array(out: &mut Vec<u8>, resp: Resp, len: u8) {
    let mark = match resp {
        Resp::Two => b'*',
        Resp::Three => b'>',
    };
    out.extend_from_slice(&[mark, len, b'\r', b'\n']);
}

fn put_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    put_decimal(out, bytes.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits, without the machinery of formatting: it is written for each message.
pub fn put_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The payloads in a gRPC form: a prefix and a `waxwing.v1.ServerFrame` with one batch. What is no such thing has none.
pub(super) fn payloads_of_grpc(grpc: &Bytes) -> Messages {
    let mut spans = Vec::new();
    let whole = Walk { bytes: grpc, at: PREFIX_LEN.min(grpc.len()), end: grpc.len() };
    for event in whole.fields(1) {
        for batch in event.fields(3) {
            for message in batch.fields(3) {
                let payload = message.fields(6).last().map_or(0..0, |payload| payload.range());
                spans.push(Span { payload, fields: 0..0 });
            }
        }
    }
    Messages::new(grpc.clone(), spans)
}

/// Length of gRPC's prefix.
const PREFIX_LEN: usize = 5;

/// A protobuf message within a buffer.
#[derive(Debug, Clone, Copy)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Walk<'a> {
    fn range(self) -> Range<u32> {
        let at = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        at(self.at)..at(self.end)
    }

    /// The length-delimited fields of this number, until the end or the first thing that is no field.
    fn fields(mut self, wanted: u64) -> impl Iterator<Item = Walk<'a>> {
        std::iter::from_fn(move || {
            loop {
                let key = self.varint()?;
                let len = match key & 7 {
                    0 => {
                        self.varint()?;
                        continue;
                    }
                    1 => 8,
                    2 => usize::try_from(self.varint()?).ok()?,
                    5 => 4,
                    _ => return None,
                };
                let start = self.at;
                let end = start.checked_add(len).filter(|end| *end <= self.end)?;
                self.at = end;
                if key >> 3 == wanted && key & 7 == 2 {
                    return Some(Walk { bytes: self.bytes, at: start, end });
                }
            }
        })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes[..self.end].get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pubsub::batch::Head;
    use crate::pubsub::{MessagesBuilder, Origin};
    use crate::types::{ClusterName, Incarnation, Namespace, NodeName, Topic, TopicHasher};

    fn topic(namespace: &Namespace, name: &[u8]) -> Topic {
        let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
        hasher.binary_topic(namespace, name, 1 << 10).unwrap()
    }

    fn batch(namespace: &Namespace, name: &[u8], payloads: &[Vec<u8>]) -> Batch {
        let mut messages = MessagesBuilder::default();
        for payload in payloads {
            messages.push(payload, "greeting", [("a", "b")]);
        }
        let (topic, count) = (topic(namespace, name), payloads.len() as u32);
        let head = Head { topic, first: 7, count, time_ms: 1, exclude: None, ticket: 0 };
        let origin = Origin::new(&NodeName::parse("a").unwrap(), Incarnation(1));
        Batch::local(head, messages.finish(), Arc::new(origin))
    }

    #[test]
    fn runs_are_what_redis_sends() {
        let payloads = [b"one".to_vec(), Vec::new()];
        let batch = Arc::new(batch(&Namespace::default(), b"c\xff", &payloads));
        let two = b"*3\r\n$7\r\nmessage\r\n$2\r\nc\xff\r\n$3\r\none\r\n*3\r\n$7\r\nmessage\r\n$2\r\nc\xff\r\n$0\r\n\r\n";
        assert_eq!(batch.resp(Resp::Two), &two[..]);
        assert_eq!(batch.resp(Resp::Three)[..4], b">3\r\n"[..]);
        let pattern = Pattern::binary(&Namespace::default(), b"c*", 10).unwrap();
        let run = PatternRun::new(batch, pattern);
        let first = b">4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nc\xff\r\n$3\r\none\r\n";
        assert!(run.resp(Resp::Three).starts_with(first));
        assert!(run.resp(Resp::Two).starts_with(b"*4\r\n$8\r\npmessage\r\n"));
    }

    #[test]
    fn a_sharded_channel_has_a_message_of_its_own() {
        let batch = batch(&Namespace::default().sharded(), b"c", &[b"x".to_vec()]);
        assert_eq!(batch.resp(Resp::Two), &b"*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"[..]);
    }

    proptest! {
        #[test]
        fn what_came_from_a_peer_reads_as_what_was_published(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
            let local = batch(&Namespace::default(), b"room:1", &payloads);
            let came = Batch::ready_made(local.head().clone(), "a".into(), local.grpc().clone());
            prop_assert_eq!(came.resp(Resp::Two), local.resp(Resp::Two));
            prop_assert_eq!(came.resp(Resp::Three), local.resp(Resp::Three));
        }

        #[test]
        fn junk_has_no_payloads_beyond_itself(junk in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = payloads_of_grpc(&junk.into()).iter().count();
        }

        #[test]
        fn decimals(number in any::<u64>()) {
            let mut out = Vec::new();
            put_decimal(&mut out, number);
            prop_assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
