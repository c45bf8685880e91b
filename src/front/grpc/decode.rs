//! The hot path of a publisher: whole frames into runs of publishes, without a decoder, an allocation or a copy for each message.
//!
//! A publish in the form in which every encoder writes it is recognised by walking over its bytes; its payload and fields stay where
//! they are. Whatever is not exactly of that form, malformed bytes too, is left to prost, so this can be fast without being lenient:
//! it never decides that something is *wrong*. Invariant: messages come out in the order in which they stand in the frames, and only
//! neighbours with the same topic and options share a run.

mod recognise;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};

use super::codec::{self, Ask, Decoded, Malformed, PublishAsk, PublishFlags};
use crate::broker::{BrokerError, check_sizes};
use crate::config::Limits;
use crate::pubsub::{Messages, Span};
use crate::router::Confirm;
use crate::types::{Namespace, Topic, TopicHasher};
use crate::wire::frames::{PREFIX_LEN, put_prefix};
use recognise::{Publish, recognise};

/// A run goes to subscribers as one gRPC message, which must stay far below the 4 MiB that their libraries take.
const RUN_BYTES_MAX: usize = 256 << 10;
const RUN_MESSAGES_MAX: usize = 4_096;

/// What stands next in the frames of one read.
#[derive(Debug)]
pub(super) enum Part {
    Run(Run),
    Ask { id: u64, ask: Ask },
    Refused { id: u64, error: BrokerError },
}

/// Consecutive publishes to one topic with the same options.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) topic: Topic,
    pub(super) flags: PublishFlags,
    pub(super) messages: Messages,
    /// Of the requests, one for each message; empty when none has an id.
    pub(super) ids: Vec<u64>,
}

/// What stays the same from read to read.
#[derive(Debug)]
pub(super) struct Decoder {
    namespace: Namespace,
    hasher: TopicHasher,
    /// Most publishers publish to one topic for a while: it is neither hashed nor allocated again.
    last: Option<Topic>,
}

impl Decoder {
    pub(super) fn new(namespace: Namespace, hasher: TopicHasher) -> Self {
        Self { namespace, hasher, last: None }
    }

    /// `frames`: whole gRPC messages with their prefixes, below 4 GiB.
    pub(super) fn requests<'a>(&'a mut self, frames: Bytes, limits: &'a Limits) -> Requests<'a> {
        Requests { decoder: self, limits, frames, at: 0, frame_end: 0, run: None, after: None }
    }

    /// `Ok(None)`: not text.
    fn topic(&mut self, name: &[u8], limits: &Limits) -> Option<Result<Topic, BrokerError>> {
        if let Some(last) = &self.last
            && last.name() == name
        {
            return Some(Ok(last.clone()));
        }
        let text = std::str::from_utf8(name).ok()?;
        Some(match self.hasher.topic(&self.namespace, text, limits.topic) {
            Ok(topic) => {
                self.last = Some(topic.clone());
                Ok(topic)
            }
            Err(bad) => Err(bad.into()),
        })
    }
}

/// The requests of one read, in order.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    decoder: &'a mut Decoder,
    limits: &'a Limits,
    frames: Bytes,
    at: usize,
    frame_end: usize,
    run: Option<Growing>,
    after: Option<Part>,
}

/// What a request means for the run before it.
enum Judged {
    /// It is part of it.
    Joined,
    /// It ends it, and begins one of its own.
    Starts(Growing),
    /// It ends it.
    Part(Part),
}

#[derive(Debug)]
struct Growing {
    topic: Topic,
    flags: PublishFlags,
    spans: Vec<Span>,
    ids: Vec<u64>,
    bytes: usize,
}

impl Requests<'_> {
    /// An error: what stands before it has been given already, and nothing behind it can be understood.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Malformed> {
        if let Some(part) = self.after.take() {
            return Ok(Some(part));
        }
        while let Some(request) = self.next_request()? {
            match self.judge(request)? {
                Judged::Joined => {}
                Judged::Starts(run) => {
                    let before = self.finish_run();
                    self.run = Some(run);
                    if before.is_some() {
                        return Ok(before);
                    }
                }
                Judged::Part(part) => {
                    let Some(before) = self.finish_run() else { return Ok(Some(part)) };
                    self.after = Some(part);
                    return Ok(Some(before));
                }
            }
        }
        Ok(self.finish_run())
    }

    /// What has not been given yet, as frames. Only after something that is no run.
    pub(super) fn rest(self) -> Option<Bytes> {
        if self.at == self.frame_end {
            return Some(self.frames.slice(self.at..)).filter(|rest| !rest.is_empty());
        }
        let mut rest = BytesMut::with_capacity(PREFIX_LEN + self.frames.len() - self.at);
        put_prefix(&mut rest, self.frame_end - self.at);
        rest.extend_from_slice(&self.frames[self.at..]);
        Some(rest.freeze())
    }

    /// Where the next request lies. Walks over prefixes, and over fields that no version of ours knows.
    fn next_request(&mut self) -> Result<Option<Range<usize>>, Malformed> {
        loop {
            while self.at == self.frame_end {
                let Some(prefix) = self.frames.get(self.at..self.at + PREFIX_LEN) else {
                    return Ok(None);
                };
                let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
                self.at += PREFIX_LEN;
                self.frame_end = self.at + len as usize;
            }
            let Some(mut left) = self.frames.get(self.at..self.frame_end) else {
                return Err(Malformed("it is shorter than it says".to_owned()));
            };
            let (field, wire_type) = decode_key(&mut left)?;
            if field != 1 {
                skip_field(wire_type, field, &mut left, DecodeContext::default())?;
                self.at = self.frame_end - left.len();
                continue;
            }
            prost::encoding::check_wire_type(
                prost::encoding::WireType::LengthDelimited,
                wire_type,
            )?;
            let len = decode_varint(&mut left)?;
            if len > left.len() as u64 {
                return Err(Malformed("a request is longer than its frame".to_owned()));
            }
            let start = self.frame_end - left.len();
            self.at = start + len as usize;
            return Ok(Some(start..self.at));
        }
    }

    fn judge(&mut self, request: Range<usize>) -> Result<Judged, Malformed> {
        // Its own handle on the bytes: what lies in them is looked at while `self` changes.
        let frames = self.frames.clone();
        let Some((id, publish)) = recognise(&frames, request.clone()) else {
            return self.decode_slowly(frames.slice(request)).map(Judged::Part);
        };
        let topic = match self.decoder.topic(publish.topic, self.limits) {
            None => return self.decode_slowly(frames.slice(request)).map(Judged::Part),
            Some(Err(error)) => return Ok(Judged::Part(Part::Refused { id, error })),
            Some(Ok(topic)) => topic,
        };
        let (payload, fields) = (publish.payload.clone(), publish.fields.clone());
        if let Err(error) = check_sizes(payload.len(), fields.len(), self.limits) {
            return Ok(Judged::Part(Part::Refused { id, error }));
        }
        let bytes = payload.len() + fields.len();
        let span = Span { payload: narrow(&payload), fields: narrow(&fields) };
        if let Some(run) = &mut self.run
            && run.takes(&topic, &publish, id, bytes)
        {
            run.push(id, span, bytes);
            return Ok(Judged::Joined);
        }
        let flags = PublishFlags {
            confirm: wanted(publish.confirm, id),
            exclude_self: publish.exclude_self,
            only_node: publish.only_node.to_owned(),
            trace: publish.trace,
        };
        let mut run = Growing { topic, flags, spans: Vec::new(), ids: Vec::new(), bytes: 0 };
        run.push(id, span, bytes);
        Ok(Judged::Starts(run))
    }

    fn decode_slowly(&mut self, request: Bytes) -> Result<Part, Malformed> {
        let (id, decoded) = codec::request(request)?;
        let part = match decoded {
            Ok(Decoded::Publish(publish)) => self.single(id, *publish).map(Part::Run),
            Ok(Decoded::Ask(ask)) => Ok(Part::Ask { id, ask }),
            Err(error) => Err(error),
        };
        Ok(part.unwrap_or_else(|error| Part::Refused { id, error }))
    }

    fn single(&mut self, id: u64, publish: PublishAsk) -> Result<Run, BrokerError> {
        let PublishAsk { topic, messages, mut flags } = publish;
        let Some(topic) = self.decoder.topic(topic.as_bytes(), self.limits) else {
            return Err(BrokerError::Invalid("the topic is no text".to_owned()));
        };
        let topic = topic?;
        for (payload, fields) in messages.iter() {
            check_sizes(payload.len(), fields.len(), self.limits)?;
        }
        flags.confirm = wanted(flags.confirm, id);
        let ids = if id == 0 { Vec::new() } else { vec![id] };
        Ok(Run { topic, flags, messages, ids })
    }

    fn finish_run(&mut self) -> Option<Part> {
        self.run.take().map(|run| {
            let Growing { topic, flags, spans, ids, .. } = run;
            let messages = Messages::new(self.frames.clone(), spans);
            Part::Run(Run { topic, flags, messages, ids })
        })
    }
}

impl Growing {
    fn takes(&self, topic: &Topic, publish: &Publish<'_>, id: u64, bytes: usize) -> bool {
        self.topic == *topic
            && self.flags.confirm == wanted(publish.confirm, id)
            && self.flags.exclude_self == publish.exclude_self
            && self.flags.trace == publish.trace
            && self.flags.only_node == publish.only_node
            && self.spans.len() < RUN_MESSAGES_MAX
            && self.bytes + bytes <= RUN_BYTES_MAX
    }

    fn push(&mut self, id: u64, span: Span, bytes: usize) {
        if id != 0 || !self.ids.is_empty() {
            self.ids.resize(self.spans.len(), 0);
            self.ids.push(id);
        }
        self.spans.push(span);
        self.bytes += bytes;
    }
}

/// A confirmation that nobody could be told isn't waited for.
const fn wanted(confirm: Confirm, id: u64) -> Confirm {
    if id == 0 { Confirm::None } else { confirm }
}

fn narrow(range: &Range<usize>) -> Range<u32> {
    // `Decoder::requests` takes less than 4 GiB.
    range.start as u32..range.end as u32
}
