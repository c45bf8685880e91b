//! What one publisher published to one topic in one go, before it has numbers.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// Consecutive messages, as ranges into one shared buffer: no allocation for each.
#[derive(Debug, Clone, Default)]
pub struct Messages {
    buffer: Bytes,
    spans: Vec<Span>,
    payload_bytes: usize,
}

/// One message within the buffer of its `Messages`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    pub payload: Range<u32>,
    /// Protobuf fields 4 (event) and 5 (headers) as they stand on the wire, which are the same in `PublishRequest` and `Message`;
    /// each entry with its tag. Empty when there are none.
    pub fields: Range<u32>,
}

impl Messages {
    /// `spans` must lie within `buffer`, which is below 4 GiB.
    pub fn new(buffer: Bytes, spans: Vec<Span>) -> Self {
        let payload_bytes = spans.iter().map(|span| span.payload.len() + span.fields.len()).sum();
        debug_assert!(
            spans.iter().all(|s| s.payload.end.max(s.fields.end) as usize <= buffer.len())
        );
        Self { buffer, spans, payload_bytes }
    }

    /// One message with neither event nor headers.
    pub fn single(payload: Bytes) -> Self {
        let end = u32::try_from(payload.len()).expect("a payload is far below 4 GiB");
        Self::new(payload, vec![Span { payload: 0..end, fields: 0..0 }])
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of payloads, events and headers.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The same in a buffer of their own, so that the old one is not pinned.
    pub fn copied(&self) -> Self {
        let mut builder = MessagesBuilder::default();
        for (payload, fields) in self.iter() {
            builder.push_raw(payload, fields);
        }
        builder.finish()
    }

    pub fn buffer(&self) -> &Bytes {
        &self.buffer
    }

    /// Each message's payload and its wire fields.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| (self.slice(&span.payload), self.slice(&span.fields)))
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.buffer[range.start as usize..range.end as usize]
    }
}

/// Collects messages that are not in one buffer yet.
#[derive(Debug, Default)]
pub struct MessagesBuilder {
    buffer: BytesMut,
    spans: Vec<Span>,
}

impl MessagesBuilder {
    pub fn push<'a>(
        &mut self,
        payload: &[u8],
        event: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let start = self.at();
        if !event.is_empty() {
            put_bytes(&mut self.buffer, 4, event.as_bytes());
        }
        for (name, value) in headers {
            let mut entry = BytesMut::new();
            put_bytes(&mut entry, 1, name.as_bytes());
            put_bytes(&mut entry, 2, value.as_bytes());
            put_bytes(&mut self.buffer, 5, &entry);
        }
        let fields = start..self.at();
        self.buffer.put_slice(payload);
        self.spans.push(Span { payload: fields.end..self.at(), fields });
    }

    /// `fields`: as in `Span`.
    pub fn push_raw(&mut self, payload: &[u8], fields: &[u8]) {
        let start = self.at();
        self.buffer.put_slice(fields);
        let fields = start..self.at();
        self.buffer.put_slice(payload);
        self.spans.push(Span { payload: fields.end..self.at(), fields });
    }

    pub fn finish(self) -> Messages {
        Messages::new(self.buffer.freeze(), self.spans)
    }

    fn at(&self) -> u32 {
        u32::try_from(self.buffer.len()).expect("messages of one go are far below 4 GiB")
    }
}

/// A length-delimited protobuf field.
pub(crate) fn put_bytes(out: &mut BytesMut, field: u32, bytes: &[u8]) {
    prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}
