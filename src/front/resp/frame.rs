//! ● Commands as they stand on the wire: arrays of bulk strings, and lines that people type.
//!
//! Parsing copies nothing and looks at no byte twice while a command is whole. What is no command ends the connection, as in Redis:
//! nothing behind it can be trusted. Lengths are judged before anything is set aside for them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

/// A line that somebody types is no longer than this.
const INLINE_LEN_MAX: usize = 64 << 10;
/// A length has no more digits than this, its sign included.
const LENGTH_DIGITS_MAX: usize = 20;
/// As Redis: more arguments than this are no command, whoever sends them.
const ARGUMENTS_MAX: i64 = 1 << 20;
/// Of a client that has not authenticated.
const STRANGER_ARGUMENTS_MAX: i64 = 10;
const STRANGER_BULK_MAX: i64 = 16 << 10;

/// What a command may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameLimits {
    arguments: i64,
    bulk: i64,
}

impl FrameLimits {
    /// `bulk`: bytes of the longest argument.
    pub(super) fn new(bulk: usize) -> Self {
        Self { arguments: ARGUMENTS_MAX, bulk: i64::try_from(bulk).unwrap_or(i64::MAX) }
    }

    pub(super) const fn stranger() -> Self {
        Self { arguments: STRANGER_ARGUMENTS_MAX, bulk: STRANGER_BULK_MAX }
    }
}

/// What is no command. The text is Redis's own, behind "Protocol error: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("invalid multibulk length")]
    ArrayLength,
    #[error("unauthenticated multibulk length")]
    StrangerArrayLength,
    #[error("invalid bulk length")]
    BulkLength,
    #[error("unauthenticated bulk length")]
    StrangerBulkLength,
    #[error("expected '$', got '{}'", shown(*.0))]
    NoBulk(u8),
    #[error("expected a line end behind a bulk string")]
    NoLineEnd,
    #[error("too big mbulk count string")]
    ArrayLine,
    #[error("too big bulk count string")]
    BulkLine,
    #[error("too big inline request")]
    InlineTooLong,
    #[error("unbalanced quotes in request")]
    Quotes,
    /// A web browser, led here by some page.
    #[error("this is no HTTP port")]
    Http,
}

fn shown(byte: u8) -> char {
    match byte {
        // As Redis writes what may not stand in a line.
        b'\r' | b'\n' => ' ',
        byte if byte.is_ascii_graphic() || byte == b' ' => char::from(byte),
        _ => '?',
    }
}

/// Where each argument stands in the buffer; of a typed line, its own bytes.
#[derive(Default)]
pub(super) struct Arguments {
    spans: SmallVec<[Range<u32>; 8]>,
    typed: Vec<u8>,
}

/// A command's arguments, its name the first.
#[derive(Clone, Copy)]
pub(super) struct Command<'a> {
    bytes: &'a [u8],
    spans: &'a [Range<u32>],
}

/// Both without what they hold: a key may be among it.
impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments").field("count", &self.spans.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("arguments", &self.spans.len()).finish_non_exhaustive()
    }
}

impl<'a> Command<'a> {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Empty where there is no such argument.
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        self.spans
            .get(index)
            .map_or(&[], |span| &self.bytes[span.start as usize..span.end as usize])
    }

    /// From this argument on.
    pub(super) fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let rest = self.spans.get(index..).unwrap_or_default();
        rest.iter().map(move |span| &bytes[span.start as usize..span.end as usize])
    }

    /// An argument as text for people.
    pub(super) fn text(&self, index: usize) -> Cow<'a, str> {
        String::from_utf8_lossy(self.get(index))
    }
}

/// What stands at the beginning of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A command of so many bytes. Without arguments: nothing was asked.
    Command(usize),
    /// Its end has not come yet. It takes so many bytes at least.
    Partial(usize),
}

impl Arguments {
    /// What `parse` has found.
    pub(super) fn command<'a>(&'a self, buffer: &'a [u8]) -> Command<'a> {
        let bytes = if self.typed.is_empty() { buffer } else { &self.typed[..] };
        Command { bytes, spans: &self.spans }
    }

    /// Looks at the beginning of `buffer`, which is below 4 GiB.
    pub(super) fn parse(
        &mut self,
        buffer: &[u8],
        limits: &FrameLimits,
    ) -> Result<Parsed, FrameError> {
        self.spans.clear();
        self.typed.clear();
        match buffer.first() {
            None => Ok(Parsed::Partial(1)),
            Some(b'*') => self.parse_array(buffer, limits),
            Some(_) => self.parse_line(buffer),
        }
    }

    fn parse_array(&mut self, buffer: &[u8], limits: &FrameLimits) -> Result<Parsed, FrameError> {
        let errors = (FrameError::ArrayLength, FrameError::ArrayLine);
        let Some((count, mut at)) = length(buffer, 1, errors)? else {
            return Ok(Parsed::Partial(buffer.len() + 1));
        };
        if count > ARGUMENTS_MAX {
            return Err(FrameError::ArrayLength);
        }
        if count > limits.arguments {
            return Err(FrameError::StrangerArrayLength);
        }
        for _ in 0..count {
            match buffer.get(at) {
                None => return Ok(Parsed::Partial(at + 1)),
                Some(b'$') => {}
                Some(&other) => return Err(FrameError::NoBulk(other)),
            }
            let errors = (FrameError::BulkLength, FrameError::BulkLine);
            let Some((len, start)) = length(buffer, at + 1, errors)? else {
                return Ok(Parsed::Partial(buffer.len() + 1));
            };
            if len < 0 {
                return Err(FrameError::BulkLength);
            }
            if len > limits.bulk {
                return Err(if limits.arguments == STRANGER_ARGUMENTS_MAX {
                    FrameError::StrangerBulkLength
                } else {
                    FrameError::BulkLength
                });
            }
            let end = start + usize::try_from(len).map_err(|_| FrameError::BulkLength)?;
            match buffer.get(end..end + 2) {
                None => return Ok(Parsed::Partial(end + 2)),
                Some(b"\r\n") => {}
                Some(_) => return Err(FrameError::NoLineEnd),
            }
            self.spans.push(span(start, end));
            at = end + 2;
        }
        Ok(Parsed::Command(at))
    }

    /// As in Redis's `sdssplitargs`: blanks part arguments; quotes hold them together.
    fn parse_line(&mut self, buffer: &[u8]) -> Result<Parsed, FrameError> {
        let within = &buffer[..buffer.len().min(INLINE_LEN_MAX)];
        let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
            return if within.len() == INLINE_LEN_MAX {
                Err(FrameError::InlineTooLong)
            } else {
                Ok(Parsed::Partial(buffer.len() + 1))
            };
        };
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let mut rest = line;
        loop {
            while let [blank, more @ ..] = rest
                && is_blank(*blank)
            {
                rest = more;
            }
            if rest.is_empty() {
                break;
            }
            let start = self.typed.len();
            rest = word(rest, &mut self.typed)?;
            self.spans.push(span(start, self.typed.len()));
        }
        let first = self.spans.first().map_or(&[][..], |span| &self.typed[..span.end as usize]);
        if first.eq_ignore_ascii_case(b"post") || first.eq_ignore_ascii_case(b"host:") {
            return Err(FrameError::Http);
        }
        if self.typed.is_empty() && !self.spans.is_empty() {
            // Nothing but empty quotes: their spans must not be looked up in the buffer.
            self.typed.push(0);
        }
        Ok(Parsed::Command(end + 1))
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c' | 0)
}

/// One argument of a typed line; what is left behind it.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], FrameError> {
    while let [byte, more @ ..] = rest {
        match *byte {
            b'"' | b'\'' => {
                rest = quoted(more, *byte, out)?;
                return match rest.first() {
                    Some(next) if !is_blank(*next) => Err(FrameError::Quotes),
                    _ => Ok(rest),
                };
            }
            blank if is_blank(blank) => return Ok(rest),
            other => {
                out.push(other);
                rest = more;
            }
        }
    }
    Ok(rest)
}

fn quoted<'a>(mut rest: &'a [u8], quote: u8, out: &mut Vec<u8>) -> Result<&'a [u8], FrameError> {
    loop {
        rest = match (quote, rest) {
            (_, []) => return Err(FrameError::Quotes),
            (b'"', [b'\\', b'x', high, low, more @ ..])
                if let (Some(high), Some(low)) = (hex(*high), hex(*low)) =>
            {
                out.push(high << 4 | low);
                more
            }
            (b'"', [b'\\', escaped, more @ ..]) => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                more
            }
            (b'\'', [b'\\', b'\'', more @ ..]) => {
                out.push(b'\'');
                more
            }
            (_, [byte, more @ ..]) if *byte == quote => return Ok(more),
            (_, [byte, more @ ..]) => {
                out.push(*byte);
                more
            }
        };
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn span(start: usize, end: usize) -> Range<u32> {
    let at = |at| u32::try_from(at).unwrap_or(u32::MAX);
    at(start)..at(end)
}

/// The number at `at` and where the line behind it begins. `None`: the line has not ended.
fn length(
    buffer: &[u8],
    at: usize,
    (bad, too_long): (FrameError, FrameError),
) -> Result<Option<(i64, usize)>, FrameError> {
    let mut end = at;
    let mut value: i64 = 0;
    let is_negative = buffer.get(at) == Some(&b'-');
    end += usize::from(is_negative);
    let first = end;
    while let Some(digit @ b'0'..=b'9') = buffer.get(end) {
        if end - at >= LENGTH_DIGITS_MAX {
            return Err(too_long);
        }
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or(bad)?;
        end += 1;
    }
    match buffer.get(end..) {
        None | Some([]) => Ok(None),
        Some([b'\r']) if end > first => Ok(None),
        Some([b'\r', b'\n', ..]) if end > first => {
            Ok(Some((if is_negative { -value } else { value }, end + 2)))
        }
        Some(_) => Err(bad),
    }
}

// With its path, so that `fuzz/` can take this file alone.
#[cfg(any(test, fuzzing))]
#[path = "frame/check.rs"]
pub(super) mod check;

#[cfg(test)]
mod tests;
