//! The hot path of a publisher: whole frames into runs of publishes, without a decoder, an allocation or a copy for each message.
//!
//! A publish in the form in which every encoder writes it is recognised by walking over its bytes; its payload and fields stay where
//! they are. Whatever is not exactly of that form, malformed bytes too, is left to prost, so this can be fast without being lenient:
//! it never decides that something is *wrong*. Invariant: messages come out in the order in which they stand in the frames, and only
//! neighbours with the same topic and options share a run.

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

/// A publish as it lies in the frames.
#[derive(Debug, Default, PartialEq, Eq)]
struct Publish<'a> {
    topic: &'a [u8],
    payload: Range<usize>,
    fields: Range<usize>,
    confirm: Confirm,
    exclude_self: bool,
    only_node: &'a str,
    trace: bool,
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

/// A request that holds an id and a publish, each at most once, and nothing else.
fn recognise(frames: &[u8], request: Range<usize>) -> Option<(u64, Publish<'_>)> {
    let mut cursor = Cursor { bytes: frames, at: request.start, end: request.end };
    let (mut id, mut publish) = (None, None);
    while !cursor.is_at_end() {
        match cursor.varint()? {
            ID if id.is_none() => id = Some(cursor.varint()?),
            PUBLISH if publish.is_none() => publish = Some(cursor.delimited()?),
            _ => return None,
        }
    }
    Some((id.unwrap_or(0), recognise_publish(frames, publish?)?))
}

const ID: u64 = 1 << 3;
const PUBLISH: u64 = 5 << 3 | 2;

fn recognise_publish(frames: &[u8], publish: Range<usize>) -> Option<Publish<'_>> {
    const TOPIC: u64 = 1 << 3 | 2;
    const PAYLOAD: u64 = 2 << 3 | 2;
    const TEXT: u64 = 3 << 3 | 2;
    const EVENT: u64 = 4 << 3 | 2;
    const HEADERS: u64 = 5 << 3 | 2;
    const CONFIRM: u64 = 6 << 3;
    const EXCLUDE_SELF: u64 = 7 << 3;
    const ONLY_NODE: u64 = 8 << 3 | 2;
    const TRACE: u64 = 9 << 3;

    let mut cursor = Cursor { bytes: frames, at: publish.start, end: publish.end };
    let mut found = Publish::default();
    let mut seen = 0_u32;
    while !cursor.is_at_end() {
        let start = cursor.at;
        let key = cursor.varint()?;
        let field = u32::try_from(key >> 3).ok().filter(|field| *field < 32)?;
        // A second topic or payload would replace the first: nobody writes that, so prost may deal with it.
        if key != HEADERS && seen & (1 << field) != 0 {
            return None;
        }
        match key {
            TOPIC => found.topic = cursor.slice()?,
            PAYLOAD | TEXT => {
                let both = (1 << (PAYLOAD >> 3)) | (1 << (TEXT >> 3));
                if seen & both != 0 {
                    return None;
                }
                found.payload = cursor.delimited()?;
                if key == TEXT {
                    std::str::from_utf8(&frames[found.payload.clone()]).ok()?;
                }
            }
            EVENT | HEADERS => {
                if key == EVENT {
                    std::str::from_utf8(cursor.slice()?).ok()?;
                } else {
                    let entry = cursor.delimited()?;
                    recognise_header(Cursor { bytes: frames, at: entry.start, end: entry.end })?;
                }
                // They are handed on as they stand, so they must stand together.
                if found.fields.is_empty() {
                    found.fields = start..cursor.at;
                } else if found.fields.end == start {
                    found.fields.end = cursor.at;
                } else {
                    return None;
                }
            }
            CONFIRM => {
                found.confirm = match cursor.varint()? {
                    0 => Confirm::None,
                    1 => Confirm::Node,
                    2 => Confirm::Cluster,
                    _ => return None,
                }
            }
            EXCLUDE_SELF => found.exclude_self = cursor.varint()? != 0,
            ONLY_NODE => found.only_node = std::str::from_utf8(cursor.slice()?).ok()?,
            TRACE => found.trace = cursor.varint()? != 0,
            _ => return None,
        }
        seen |= 1 << field;
    }
    Some(found)
}

/// A name and a value, each text and at most once. It goes to subscribers as it stands: what their decoders might refuse would cost
/// them the connection.
fn recognise_header(mut entry: Cursor<'_>) -> Option<()> {
    const NAME: u64 = 1 << 3 | 2;
    const VALUE: u64 = 2 << 3 | 2;
    let (mut name, mut value) = (false, false);
    while !entry.is_at_end() {
        match entry.varint()? {
            NAME if !name => name = true,
            VALUE if !value => value = true,
            _ => return None,
        }
        std::str::from_utf8(entry.slice()?).ok()?;
    }
    Some(())
}

/// Walks over protobuf; `None` where it can't go on.
#[derive(Debug, Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    const fn is_at_end(&self) -> bool {
        self.at == self.end
    }

    fn varint(&mut self) -> Option<u64> {
        let mut left = &self.bytes[self.at..self.end];
        let value = match left.first() {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                return Some(byte.into());
            }
            _ => decode_varint(&mut left).ok()?,
        };
        self.at = self.end - left.len();
        Some(value)
    }

    fn delimited(&mut self) -> Option<Range<usize>> {
        let len = usize::try_from(self.varint()?).ok()?;
        let start = self.at;
        if len > self.end - start {
            return None;
        }
        self.at = start + len;
        Some(start..self.at)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        self.delimited().map(|range| &self.bytes[range])
    }
}
