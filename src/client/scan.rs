//! Reads server frames without decoding what nobody asked for.
//!
//! A frame of batches is by far the commonest thing a client receives, and all that is needed of it at once is where each message
//! begins. So a batch is checked in one pass and then read lazily, out of the buffer it arrived in. Whatever is not the plain case
//! (another kind of event, a field said twice, a group) is left to prost: both readings are always equal, and so are their errors.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::encoding::{WireType, decode_varint};

/// One protobuf field as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Varint(u64),
    /// Where the bytes of a length-delimited field are, in the buffer that is read.
    Bytes(Range<usize>),
    /// Fixed-width numbers: no field of ours is one.
    Fixed,
}

/// Not protobuf, or not the plain case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unusual;

/// Walks over the fields of one message, which is `range` of `buffer`.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(buffer: &'a [u8], range: Range<usize>) -> Self {
        Self { buffer: &buffer[..range.end], at: range.start }
    }

    fn varint(&mut self) -> Result<u64, Unusual> {
        let mut rest = &self.buffer[self.at..];
        let value = decode_varint(&mut rest).map_err(|_| Unusual)?;
        self.at = self.buffer.len() - rest.len();
        Ok(value)
    }

    fn skip(&mut self, len: u64) -> Result<Range<usize>, Unusual> {
        let left = self.buffer.len() - self.at;
        let len = usize::try_from(len).ok().filter(|len| *len <= left).ok_or(Unusual)?;
        let range = self.at..self.at + len;
        self.at += len;
        Ok(range)
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value)>, Unusual> {
        if self.at == self.buffer.len() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Unusual)?;
        let wire = WireType::try_from(u64::from(key & 7)).map_err(|_| Unusual)?;
        let field = key >> 3;
        if field == 0 {
            return Err(Unusual);
        }
        let value = match wire {
            WireType::Varint => Value::Varint(self.varint()?),
            WireType::LengthDelimited => {
                let len = self.varint()?;
                Value::Bytes(self.skip(len)?)
            }
            WireType::SixtyFourBit => {
                self.skip(8)?;
                Value::Fixed
            }
            WireType::ThirtyTwoBit => {
                self.skip(4)?;
                Value::Fixed
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Unusual),
        };
        Ok(Some((field, value)))
    }
}

/// Gives the payload of each message of the event at `at`, and checks nothing else. False: the event is no batch, and not looked at.
/// For receivers that count and must be cheap.
pub(crate) fn payloads(
    buffer: &[u8],
    at: Range<usize>,
    mut each: impl FnMut(&[u8]),
) -> Result<bool, Unusual> {
    let mut event = Fields::new(buffer, at);
    let Some((3, Value::Bytes(batch))) = event.next()? else { return Ok(false) };
    let mut batch = Fields::new(buffer, batch);
    while let Some(field) = batch.next()? {
        let (3, Value::Bytes(message)) = field else { continue };
        let mut message = Fields::new(buffer, message);
        let mut payload = 0..0;
        while let Some(field) = message.next()? {
            if let (6, Value::Bytes(at)) = field {
                payload = at;
            }
        }
        each(&buffer[payload]);
    }
    Ok(true)
}

/// Consecutive messages of one topic from one publisher, in the buffer they arrived in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Bytes,
    topic: Range<usize>,
    origin: Range<usize>,
    messages: usize,
    /// Messages at the front that are not shown: they have been delivered before.
    hidden: usize,
}

impl Batch {
    /// Checks the encoded batch as prost would. `Unusual`: ask prost.
    pub(crate) fn scan(bytes: Bytes) -> Result<Self, Unusual> {
        let mut fields = Fields::new(&bytes, 0..bytes.len());
        let (mut topic, mut origin, mut messages) = (0..0, 0..0, 0);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(at)) => topic = text(&bytes, at)?,
                (2, Value::Bytes(at)) => origin = text(&bytes, at)?,
                (3, Value::Bytes(at)) => {
                    check_message(&bytes, at)?;
                    messages += 1;
                }
                (1..=3, _) => return Err(Unusual),
                _ => {}
            }
        }
        Ok(Self { bytes, topic, origin, messages, hidden: 0 })
    }

    pub fn topic(&self) -> &str {
        str_at(&self.bytes, &self.topic)
    }

    /// The node that the messages were published on.
    pub fn origin(&self) -> &str {
        str_at(&self.bytes, &self.origin)
    }

    pub fn len(&self) -> usize {
        self.messages - self.hidden
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Encoded bytes, which is what keeping the batch costs.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    pub fn messages(&self) -> Messages<'_> {
        let all = Messages {
            batch: self,
            fields: Fields::new(&self.bytes, 0..self.bytes.len()),
            left: self.messages,
        };
        all.after(self.hidden)
    }

    /// Hides every message whose id is at or below `last`. Ids rise within a batch, so these are the first ones.
    pub(crate) fn hide_through(&mut self, last: &str) {
        let old = self.messages().take_while(|message| message.id() <= last).count();
        self.hidden += old;
    }

    /// Ids of the first and the last message shown.
    pub(crate) fn id_span(&self) -> Option<(&str, &str)> {
        let mut messages = self.messages();
        let first = messages.next()?;
        let last = messages.last().unwrap_or(first);
        Some((first.id(), last.id()))
    }
}

/// The messages of a batch, in order.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    batch: &'a Batch,
    fields: Fields<'a>,
    left: usize,
}

impl Messages<'_> {
    fn after(mut self, skipped: usize) -> Self {
        for _ in 0..skipped {
            self.next_range();
        }
        self
    }

    fn next_range(&mut self) -> Option<Range<usize>> {
        // The batch has been checked, so an error can't be; it would end the iteration.
        while let Ok(Some((field, value))) = self.fields.next() {
            if let (3, Value::Bytes(at)) = (field, value) {
                self.left -= 1;
                return Some(at);
            }
        }
        None
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let at = self.next_range()?;
        Some(Message::read(self.batch, at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

/// One message, in its batch.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    batch: &'a Batch,
    at: (usize, usize),
    id: (usize, usize),
    event: (usize, usize),
    payload: (usize, usize),
    seq: u64,
    seconds: i64,
    nanos: i32,
}

impl<'a> Message<'a> {
    fn read(batch: &'a Batch, at: Range<usize>) -> Self {
        let none = (0, 0);
        let mut message = Self {
            batch,
            at: (at.start, at.end),
            id: none,
            event: none,
            payload: none,
            seq: 0,
            seconds: 0,
            nanos: 0,
        };
        let mut fields = Fields::new(&batch.bytes, at);
        while let Ok(Some(field)) = fields.next() {
            match field {
                (1, Value::Bytes(at)) => message.id = (at.start, at.end),
                (2, Value::Varint(seq)) => message.seq = seq,
                (3, Value::Bytes(at)) => {
                    let (seconds, nanos) = timestamp(&batch.bytes, at).unwrap_or_default();
                    (message.seconds, message.nanos) = (seconds, nanos);
                }
                (4, Value::Bytes(at)) => message.event = (at.start, at.end),
                (6, Value::Bytes(at)) => message.payload = (at.start, at.end),
                _ => {}
            }
        }
        message
    }

    pub fn topic(&self) -> &'a str {
        self.batch.topic()
    }

    /// 26 characters; unique, and within one origin ids rise as strings do.
    pub fn id(&self) -> &'a str {
        str_at(&self.batch.bytes, &(self.id.0..self.id.1))
    }

    /// The rising number in the id; not contiguous within a topic.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The origin's clock when it took the message. `None`: not a time that this host can say.
    pub fn time(&self) -> Option<SystemTime> {
        let nanos = u32::try_from(self.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        match u64::try_from(self.seconds) {
            Ok(seconds) => UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)),
            Err(_) => UNIX_EPOCH
                .checked_sub(Duration::from_secs(self.seconds.unsigned_abs()))?
                .checked_add(Duration::from_nanos(nanos.into())),
        }
    }

    /// Seconds since 1970 and nanoseconds, as they came.
    #[cfg(test)]
    pub(crate) fn raw_time(&self) -> (i64, i32) {
        (self.seconds, self.nanos)
    }

    pub fn event(&self) -> &'a str {
        str_at(&self.batch.bytes, &(self.event.0..self.event.1))
    }

    /// In the order of the wire. Should a name come twice, the last one counts.
    pub fn headers(&self) -> Headers<'a> {
        let buffer = &self.batch.bytes;
        Headers { buffer, fields: Fields::new(buffer, self.at.0..self.at.1) }
    }

    pub fn payload(&self) -> &'a [u8] {
        &self.batch.bytes[self.payload.0..self.payload.1]
    }

    /// The payload without a copy. Keeps the whole buffer that it came in.
    pub fn payload_bytes(&self) -> Bytes {
        self.batch.bytes.slice(self.payload.0..self.payload.1)
    }
}

#[derive(Debug, Clone)]
pub struct Headers<'a> {
    buffer: &'a Bytes,
    fields: Fields<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while let Ok(Some((field, value))) = self.fields.next() {
            if let (5, Value::Bytes(at)) = (field, value) {
                let (name, value) = header(self.buffer, at).unwrap_or_default();
                return Some((str_at(self.buffer, &name), str_at(self.buffer, &value)));
            }
        }
        None
    }
}

fn check_message(bytes: &[u8], at: Range<usize>) -> Result<(), Unusual> {
    let mut fields = Fields::new(bytes, at);
    let mut timed = false;
    while let Some(field) = fields.next()? {
        match field {
            (1 | 4, Value::Bytes(at)) => {
                text(bytes, at)?;
            }
            (3, Value::Bytes(at)) => {
                // A second time would be merged with the first.
                if std::mem::replace(&mut timed, true) {
                    return Err(Unusual);
                }
                timestamp(bytes, at)?;
            }
            (5, Value::Bytes(at)) => {
                header(bytes, at)?;
            }
            (2, Value::Varint(_)) | (6, Value::Bytes(_)) => {}
            (1..=6, _) => return Err(Unusual),
            _ => {}
        }
    }
    Ok(())
}

fn timestamp(bytes: &[u8], at: Range<usize>) -> Result<(i64, i32), Unusual> {
    let mut fields = Fields::new(bytes, at);
    let (mut seconds, mut nanos) = (0, 0);
    while let Some(field) = fields.next()? {
        match field {
            // Both are protobuf's plain signed numbers: two's complement in 64 bits.
            (1, Value::Varint(value)) => seconds = value.cast_signed(),
            (2, Value::Varint(value)) => nanos = value as i32,
            (1 | 2, _) => return Err(Unusual),
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

fn header(bytes: &[u8], at: Range<usize>) -> Result<(Range<usize>, Range<usize>), Unusual> {
    let mut fields = Fields::new(bytes, at);
    let (mut name, mut value) = (0..0, 0..0);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(at)) => name = text(bytes, at)?,
            (2, Value::Bytes(at)) => value = text(bytes, at)?,
            (1 | 2, _) => return Err(Unusual),
            _ => {}
        }
    }
    Ok((name, value))
}

fn text(bytes: &[u8], at: Range<usize>) -> Result<Range<usize>, Unusual> {
    match std::str::from_utf8(&bytes[at.clone()]) {
        Ok(_) => Ok(at),
        Err(_) => Err(Unusual),
    }
}

/// What `text` has checked before.
fn str_at<'a>(bytes: &'a [u8], at: &Range<usize>) -> &'a str {
    std::str::from_utf8(&bytes[at.clone()]).unwrap_or_default()
}

#[cfg(test)]
mod tests;
