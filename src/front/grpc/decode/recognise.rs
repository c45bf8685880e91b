//! ● A publish in the form in which every encoder writes it, found by walking over its bytes. Whatever isn't exactly so is not recognised,
//! and left to prost: nothing is decided to be wrong here.

use std::ops::Range;

use prost::encoding::decode_varint;

use crate::router::Confirm;

/// A publish as it lies in the frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub(super) topic: &'a [u8],
    pub(super) payload: Range<usize>,
    pub(super) fields: Range<usize>,
    pub(super) confirm: Confirm,
    pub(super) exclude_self: bool,
    pub(super) only_node: &'a str,
    pub(super) trace: bool,
}

/// A request that holds an id and a publish, each at most once, and nothing else.
pub(super) fn recognise(frames: &[u8], request: Range<usize>) -> Option<(u64, Publish<'_>)> {
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
