//! The writing half of a stream: HTTP/2 pulls straight from the mailbox, without a task or a channel between.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;

use super::convert;
use crate::broker::Outlet;
use crate::wire::frames::{FrameBody, FrameSource};

/// Handed to HTTP/2 in one go; then other streams have their turn.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// How the reading half tells that the attachment is open, or why it isn't.
pub(super) type Opened = oneshot::Sender<Result<Outlet, Status>>;

#[derive(Debug)]
enum Source {
    /// The hello is still being read or judged.
    Opening(oneshot::Receiver<Result<Outlet, Status>>),
    Open(Outlet),
    Ended,
}

/// A response that begins at once, and goes on as `Opened` says.
pub(super) fn response() -> (Opened, Response<Body>) {
    let (opened, opening) = oneshot::channel();
    let body = FrameBody::response(Source::Opening(opening));
    let mut response = Response::new(Body::new(body));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    (opened, response)
}

impl FrameSource for Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self {
                Self::Opening(opening) => {
                    let opened = ready!(std::pin::Pin::new(opening).poll(cx));
                    match opened {
                        Ok(Ok(outlet)) => *self = Self::Open(outlet),
                        Ok(Err(status)) => {
                            *self = Self::Ended;
                            return Poll::Ready(Some(Err(status)));
                        }
                        Err(_) => {
                            // Its task has ended without a word: it panicked, or the node stops.
                            *self = Self::Ended;
                            let status = Status::unavailable("the stream was given up");
                            return Poll::Ready(Some(Err(status)));
                        }
                    }
                }
                Self::Open(outlet) => {
                    return match ready!(outlet.poll_take(cx, WRITE_BYTES_MAX)) {
                        Ok(bytes) => Poll::Ready(Some(Ok(bytes))),
                        Err(ending) => {
                            *self = Self::Ended;
                            Poll::Ready(convert::status_of_ending(&ending).map(Err))
                        }
                    };
                }
                Self::Ended => return Poll::Ready(None),
            }
        }
    }
}
