//! The bytes that a node sends, cut into whole gRPC messages and not copied: only a message that is split between two HTTP/2 frames is
//! put together in a buffer of its own.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tonic::{Code, Status};

use super::codec::{FRAME_BYTES_MAX, Malformed};
use crate::wire::frames::PREFIX_LEN;

#[derive(Debug)]
pub(crate) struct Reader {
    body: tonic::body::Body,
    cut: Cutter,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(body: tonic::body::Body) -> Self {
        Self { body, cut: Cutter::default(), ended: false }
    }

    /// One or more whole gRPC messages, to be told apart by `messages`. `None`: the node has ended the stream in good order.
    pub(crate) fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.cut.next() {
                Ok(Some(run)) => return Poll::Ready(Some(Ok(run))),
                Ok(None) => {}
                Err(malformed) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(Status::internal(malformed.to_string()))));
                }
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(status)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
                None => {
                    self.ended = true;
                    let status = Status::unavailable("the connection broke");
                    return Poll::Ready(Some(Err(status)));
                }
            };
            match frame.into_data() {
                Ok(data) => self.cut.push(data),
                Err(frame) => {
                    self.ended = true;
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    match status {
                        Some(status) if status.code() != Code::Ok => {
                            return Poll::Ready(Some(Err(status)));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Cuts a stream of chunks at the ends of messages.
#[derive(Debug, Default)]
struct Cutter {
    /// Begins a message, unless `partial` holds its beginning.
    chunk: Bytes,
    /// The beginning of a message that its chunk did not hold all of.
    partial: BytesMut,
}

impl Cutter {
    /// Only once `next` has given all there is.
    fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "what came before has been taken");
        self.chunk = chunk;
    }

    fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        if self.chunk.is_empty() {
            return Ok(None);
        }
        if !self.partial.is_empty() {
            return self.complete();
        }
        let whole = whole_len(&self.chunk)?;
        let run = self.chunk.split_to(whole);
        if !self.chunk.is_empty() {
            // Its length is known as soon as its prefix is there.
            let want = message_len(&self.chunk)?.unwrap_or(PREFIX_LEN);
            self.partial.reserve(want.min(1 << 20));
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
        }
        Ok(Some(run).filter(|run| !run.is_empty()))
    }

    fn complete(&mut self) -> Result<Option<Bytes>, Malformed> {
        if self.partial.len() < PREFIX_LEN {
            self.take(PREFIX_LEN);
        }
        let Some(len) = message_len(&self.partial)? else { return Ok(None) };
        self.take(len);
        if self.partial.len() < len {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.partial).freeze()))
    }

    /// Moves from the chunk what `partial` lacks of `len` bytes, as far as it is there.
    fn take(&mut self, len: usize) {
        let lacks = len.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(lacks));
    }
}

/// Prefix and body of the message that begins here; `None`: its prefix is not all there.
fn message_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(&[compressed, a, b, c, d]) = bytes.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    if compressed != 0 {
        return Err(Malformed::Compressed);
    }
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if len > FRAME_BYTES_MAX {
        return Err(Malformed::TooLong(len));
    }
    Ok(Some(PREFIX_LEN + len))
}

fn whole_len(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut at = 0;
    while let Some(len) = message_len(&bytes[at..])? {
        if bytes.len() - at < len {
            break;
        }
        at += len;
    }
    Ok(at)
}

/// Where the messages of a run are in it, without their prefixes.
pub(crate) fn messages(run: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        // A run has been cut before, so an error can't be.
        let len = message_len(&run[at..]).ok().flatten().filter(|len| run.len() - at >= *len)?;
        let message = at + PREFIX_LEN..at + len;
        at += len;
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frames::put_prefix;

    /// Feeds `chunks` and gives the messages that come out.
    fn cut(chunks: &[Bytes]) -> Result<Vec<Bytes>, Malformed> {
        let mut cutter = Cutter::default();
        let mut out = Vec::new();
        for chunk in chunks {
            cutter.push(chunk.clone());
            while !cutter.chunk.is_empty() {
                if let Some(run) = cutter.next()? {
                    out.extend(messages(&run).map(|at| run.slice(at)));
                }
            }
        }
        Ok(out)
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_the_stream_is_cut(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            cuts in prop::collection::vec(1usize..60, 1..40),
        ) {
            let mut stream = BytesMut::new();
            for message in &sent {
                put_prefix(&mut stream, message.len());
                stream.extend_from_slice(message);
            }
            let mut stream = stream.freeze();
            let mut chunks = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !stream.is_empty() {
                let len = (*cuts.next().unwrap()).min(stream.len());
                chunks.push(stream.split_to(len));
            }
            prop_assert_eq!(cut(&chunks).unwrap(), sent);
        }

        #[test]
        fn junk_never_panics(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let chunks: Vec<Bytes> = chunks.into_iter().map(Bytes::from).collect();
            let _ = cut(&chunks);
        }
    }

    #[test]
    fn a_message_longer_than_any_node_sends_is_refused() {
        assert_eq!(
            cut(&[Bytes::from_static(&[0, 255, 255, 255, 255])]),
            Err(Malformed::TooLong(u32::MAX as usize))
        );
        assert_eq!(cut(&[Bytes::from_static(&[1, 0, 0, 0, 0])]), Err(Malformed::Compressed));
    }
}
