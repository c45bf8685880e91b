//! The reading half of a stream: whole gRPC messages, as many at once as one HTTP/2 data frame brought, in one shared buffer.
//!
//! tonic's reader copies every frame into a buffer that it keeps. This one copies only small frames, which would pin the far larger
//! buffer that the connection is read into, and where a message is spread over several; it owns nothing while a client is idle. What is gathered for one message never exceeds the limit by more than one data frame.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tonic::body::Body;

use crate::wire::frames::PREFIX_LEN;

/// Smaller reads are copied into buffers of their own: a message in a slow mailbox must pin no more than it is counted for.
const COPIED_BELOW: usize = 8 << 10;

#[derive(Debug)]
pub(super) struct FrameReader {
    body: Body,
    /// The beginning of a message whose rest is still to come.
    tail: BytesMut,
}

/// Nothing after it can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("a message of {size} bytes is larger than limits.frame, {max}")]
    TooLarge { size: usize, max: usize },
    #[error("compressed messages are not taken")]
    Compressed,
    #[error("byte {0:#04x} stands where a message begins")]
    BadPrefix(u8),
    #[error("the stream ended within a message")]
    Cut,
    /// The client reset the stream, or its connection broke.
    #[error("the stream broke")]
    Broken,
}

impl FrameReader {
    pub(super) fn new(body: Body) -> Self {
        Self { body, tail: BytesMut::new() }
    }

    /// One or more whole messages, each with its prefix. `None`: the client has closed its side. May be dropped at any await.
    pub(super) async fn read(&mut self, frame_max: usize) -> Result<Option<Bytes>, ReadError> {
        loop {
            let body = &mut self.body;
            let frame =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await;
            let data = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
                Some(Err(_)) => return Err(ReadError::Broken),
                None if self.tail.is_empty() => return Ok(None),
                None => return Err(ReadError::Cut),
            };
            if let Some(whole) = self.take(&data, frame_max)? {
                return Ok(Some(whole));
            }
        }
    }

    fn take(&mut self, data: &Bytes, frame_max: usize) -> Result<Option<Bytes>, ReadError> {
        if self.tail.is_empty() {
            let end = whole_messages(data, frame_max)?;
            self.tail = BytesMut::from(&data[end..]);
            return Ok(match end {
                0 => None,
                1..COPIED_BELOW => Some(Bytes::copy_from_slice(&data[..end])),
                _ => Some(data.slice(..end)),
            });
        }
        self.tail.extend_from_slice(data);
        let end = whole_messages(&self.tail, frame_max)?;
        if end == 0 {
            return Ok(None);
        }
        let whole = self.tail.split_to(end).freeze();
        // The rest would keep the whole buffer.
        self.tail = BytesMut::from(&self.tail[..]);
        Ok(Some(whole))
    }
}

/// Where the last whole message in `data` ends.
fn whole_messages(data: &[u8], frame_max: usize) -> Result<usize, ReadError> {
    let mut end = 0;
    while let Some(prefix) = data.get(end..end + PREFIX_LEN) {
        match prefix[0] {
            0 => {}
            1 => return Err(ReadError::Compressed),
            other => return Err(ReadError::BadPrefix(other)),
        }
        let size = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if size > frame_max {
            return Err(ReadError::TooLarge { size, max: frame_max });
        }
        let next = end + PREFIX_LEN + size;
        if next > data.len() {
            break;
        }
        end = next;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use proptest::prelude::*;
    use tonic::body::Body;

    use super::{FrameReader, ReadError};
    use crate::wire::frames::put_prefix;

    fn reader(parts: Vec<Bytes>) -> FrameReader {
        let frames = parts.into_iter().map(|part| Ok::<_, tonic::Status>(Frame::data(part)));
        FrameReader::new(Body::new(StreamBody::new(tokio_stream::iter(frames))))
    }

    fn messages(sizes: &[usize]) -> Bytes {
        let mut out = BytesMut::new();
        for (n, size) in sizes.iter().enumerate() {
            put_prefix(&mut out, *size);
            out.resize(out.len() + size, n as u8);
        }
        out.freeze()
    }

    fn split(mut all: Bytes, at: &[usize]) -> Vec<Bytes> {
        let mut parts = Vec::new();
        for at in at {
            parts.push(all.split_to((*at).min(all.len())));
        }
        parts.push(all);
        parts
    }

    #[tokio::main(flavor = "current_thread")]
    async fn read_all(parts: Vec<Bytes>, frame_max: usize) -> (BytesMut, Result<(), ReadError>) {
        let mut reader = reader(parts);
        let mut read = BytesMut::new();
        loop {
            match reader.read(frame_max).await {
                Ok(Some(whole)) => read.extend_from_slice(&whole),
                Ok(None) => return (read, Ok(())),
                Err(error) => return (read, Err(error)),
            }
        }
    }

    proptest! {
        #[test]
        fn however_it_is_split_the_same_messages_come_out(
            sizes in prop::collection::vec(0..40_usize, 0..12),
            at in prop::collection::vec(0..30_usize, 0..20),
        ) {
            let all = messages(&sizes);
            let (read, result) = read_all(split(all.clone(), &at), 64);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(read.freeze(), all);
        }

        #[test]
        fn junk_ends_in_an_error_or_in_whole_messages(
            junk in prop::collection::vec(any::<u8>(), 0..80),
            at in prop::collection::vec(0..10_usize, 0..10),
        ) {
            let junk = Bytes::from(junk);
            let (read, _) = read_all(split(junk.clone(), &at), 64);
            prop_assert!(junk.starts_with(&read));
        }
    }

    #[tokio::test]
    async fn small_reads_do_not_pin_the_buffer_they_came_in() {
        for (size, shared) in [(100, false), (20_000, true)] {
            let sent = messages(&[size]);
            let mut reader = reader(vec![sent.clone()]);
            let read = reader.read(64 << 10).await.unwrap().unwrap();
            assert_eq!(read, sent);
            assert_eq!(read.as_ptr() == sent.as_ptr(), shared, "{size} bytes");
        }
    }

    #[test]
    fn what_cannot_be_a_message_is_named() {
        let check = |bytes: &'static [u8], expected| {
            assert_eq!(read_all(vec![Bytes::from_static(bytes)], 64).1, Err(expected));
        };
        check(&[0, 0, 0, 0, 65], ReadError::TooLarge { size: 65, max: 64 });
        check(&[1, 0, 0, 0, 1, 7], ReadError::Compressed);
        check(b"GET / HTTP/1.1\r\n", ReadError::BadPrefix(b'G'));
        check(&[0, 0, 0, 0, 2, 7], ReadError::Cut);
        check(&[0, 0], ReadError::Cut);
    }
}
