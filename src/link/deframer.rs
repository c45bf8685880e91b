//! gRPC messages out of an HTTP/2 body, without copying what came in one piece.
//!
//! The limit can change on the way: strangers get a small one. No more than one message is held.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;

use super::error::LinkError;
use crate::wire::frames::PREFIX_LEN;

#[derive(Debug)]
pub(super) struct Deframer<B> {
    body: B,
    /// What came last and has not been looked at.
    chunk: Bytes,
    /// The beginning of a message that came in several pieces, prefix included.
    held: BytesMut,
    len_max: usize,
    received: metrics::Counter,
}

impl<B> Deframer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub(super) fn new(body: B, len_max: usize) -> Self {
        let received = metrics::Counter::noop();
        Self { body, chunk: Bytes::new(), held: BytesMut::new(), len_max, received }
    }

    /// From here on: another limit, and bytes are counted.
    pub(super) fn proven(&mut self, len_max: usize, received: metrics::Counter) {
        self.len_max = len_max;
        self.received = received;
    }

    /// The next message, without its prefix. May be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Result<Bytes, LinkError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LinkError>> {
        loop {
            if let Some(message) = self.take_message()? {
                return Poll::Ready(Ok(message));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(Err(closed(""))),
                Some(Err(err)) => {
                    tracing::debug!(%err, "a link's connection broke");
                    return Poll::Ready(Err(LinkError::Broke));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.received.increment(data.len() as u64);
                        self.chunk = data;
                    }
                    Err(other) => {
                        let trailers = other.into_trailers().unwrap_or_default();
                        let status = tonic::Status::from_header_map(&trailers);
                        let said =
                            status.map_or_else(String::new, |status| status.message().to_owned());
                        return Poll::Ready(Err(closed(&said)));
                    }
                },
            }
        }
    }

    /// `None`: all of the chunk was used, and more is needed.
    fn take_message(&mut self) -> Result<Option<Bytes>, LinkError> {
        if self.held.is_empty() {
            let Some(len) = self.message_len(&self.chunk)? else {
                self.hold(PREFIX_LEN);
                return Ok(None);
            };
            if self.chunk.len() >= PREFIX_LEN + len {
                self.chunk.advance(PREFIX_LEN);
                return Ok(Some(self.chunk.split_to(len)));
            }
        }
        self.hold(PREFIX_LEN);
        let Some(len) = self.message_len(&self.held)? else { return Ok(None) };
        self.hold(PREFIX_LEN + len);
        if self.held.len() < PREFIX_LEN + len {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.held).freeze();
        message.advance(PREFIX_LEN);
        Ok(Some(message))
    }

    /// Moves bytes of the chunk until `want` are held or the chunk is empty.
    fn hold(&mut self, want: usize) {
        let more = want.saturating_sub(self.held.len()).min(self.chunk.len());
        if more > 0 {
            self.held.reserve(want - self.held.len());
            self.held.extend_from_slice(&self.chunk.split_to(more));
        }
    }

    fn message_len(&self, bytes: &[u8]) -> Result<Option<usize>, LinkError> {
        let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let [flags, a, b, c, d] = *prefix;
        if flags != 0 {
            return Err(LinkError::Malformed("a compressed message".into()));
        }
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > self.len_max {
            return Err(LinkError::TooLong { len, max: self.len_max });
        }
        Ok(Some(len))
    }
}

fn closed(said: &str) -> LinkError {
    LinkError::Closed(said.chars().filter(|c| !c.is_control()).take(300).collect())
}
