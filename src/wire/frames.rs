//! gRPC messages over HTTP/2 bodies without copying what is already encoded.
//!
//! tonic's codec copies every message into a buffer of its own. A run that is shared by a thousand subscribers should be copied by
//! nobody: `FrameBody` hands ready-made bytes (5 bytes of gRPC prefix and the message) to HTTP/2 as they are.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use prost::Message;
use tonic::Status;

/// Length of gRPC's prefix: one byte of flags and a big-endian length.
pub const PREFIX_LEN: usize = 5;

/// Where a body's bytes come from. `poll_next` appends nothing itself: each returned value is one or more whole gRPC messages.
pub trait FrameSource: Send + 'static {
    /// `None`: the stream ends with `Status::ok`. `Err`: it ends with that status.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;
}

/// An HTTP body of gRPC messages. As a response it ends with trailers, as a request it doesn't.
pub struct FrameBody<S> {
    source: Option<S>,
    trailers: bool,
    ended: Option<Status>,
}

impl<S> fmt::Debug for FrameBody<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameBody").finish_non_exhaustive()
    }
}

impl<S: FrameSource + Unpin> FrameBody<S> {
    pub fn response(source: S) -> Self {
        Self { source: Some(source), trailers: true, ended: None }
    }

    pub fn request(source: S) -> Self {
        Self { source: Some(source), trailers: false, ended: None }
    }
}

impl<S: FrameSource + Unpin> http_body::Body for FrameBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some(source) = &mut this.source {
            match source.poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Poll::Ready(Some(Err(status))) => {
                    this.source = None;
                    if !this.trailers {
                        return Poll::Ready(Some(Err(status)));
                    }
                    this.ended = Some(status);
                }
                Poll::Ready(None) => {
                    this.source = None;
                    this.ended = this.trailers.then(|| Status::ok(""));
                }
            }
        }
        match this.ended.take() {
            Some(status) => {
                let mut trailers = HeaderMap::new();
                if status.add_header(&mut trailers).is_err() {
                    trailers.insert("grpc-status", HeaderValue::from_static("13"));
                }
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            None => Poll::Ready(None),
        }
    }
}

/// Appends `message` with its prefix.
pub fn put_message(out: &mut BytesMut, message: &impl Message) {
    let len = message.encoded_len();
    out.reserve(PREFIX_LEN + len);
    put_prefix(out, len);
    message.encode_raw(out);
}

/// Encodes `message` with its prefix.
pub fn message_bytes(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX_LEN + message.encoded_len());
    put_message(&mut out, message);
    out.freeze()
}

/// The prefix of an uncompressed message of `len` bytes.
pub fn put_prefix(out: &mut BytesMut, len: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// The codec for `tonic::codec::Streaming`: each item is the bytes of one gRPC message, undecoded.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawDecoder;

impl tonic::codec::Decoder for RawDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf;
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}
