//! A receiver for load generators: one attachment that subscribes and then only looks at payloads, where they arrived.
//!
//! It neither resumes nor reconnects, and drops no duplicates: it is there to see them.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tonic::Status;
use tonic::transport::Channel;

use super::codec::{self, ServerEvent};
use super::connect::{self, status_reason};
use super::message::Gap;
use super::reader::{Reader, messages};
use super::scan::{Fields, Value, payloads};
use super::session::Request;
use crate::types::TokenBytes;
use crate::wire::frames::FrameSource;

/// What a lean receiver tells.
pub(crate) trait Sink {
    /// Something has arrived; what it is comes next.
    fn arrived(&mut self);
    fn payload(&mut self, payload: &[u8]);
    fn gap(&mut self, gap: &Gap);
    /// All that had arrived has been told.
    fn told(&mut self);
}

#[derive(Debug)]
pub(crate) struct Lean {
    reader: Reader,
    events: Vec<ServerEvent>,
}

const HELLO_ID: u64 = 2;
const SUBSCRIBE_ID: u64 = 4;

impl Lean {
    /// Ends when the node has answered the subscription. The session ends with the stream.
    pub(crate) async fn open(
        channel: Channel,
        metadata: &HeaderMap,
        client: &str,
        topics: Vec<String>,
        sink: &mut impl Sink,
    ) -> Result<Self, String> {
        let mut requests = BytesMut::new();
        let hello = Request::Hello {
            id: HELLO_ID,
            token: TokenBytes::default(),
            client: client.to_owned(),
            linger: Some(Duration::ZERO),
            epoch: 0,
            overlap: false,
        };
        codec::put_request(&mut requests, hello);
        let subscribe = Request::Subscribe { id: SUBSCRIBE_ID, topics, patterns: Vec::new() };
        codec::put_request(&mut requests, subscribe);
        let source = Once(Some(requests.freeze()));
        let opened = connect::open(channel, metadata, source).await;
        let reader = opened.map_err(|status| status_reason(&status))?;
        let mut lean = Self { reader, events: Vec::new() };
        loop {
            if let Some(answer) = lean.next(sink).await? {
                return answer.map(|()| lean);
            }
        }
    }

    /// Tells one run of what the node sends. `Some`: it held the answer to the subscription, or a refusal.
    pub(crate) async fn next(
        &mut self,
        sink: &mut impl Sink,
    ) -> Result<Option<Result<(), String>>, String> {
        poll_fn(|cx| self.poll_next(cx, sink)).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> Poll<Result<Option<Result<(), String>>, String>> {
        let run = match self.reader.poll_run(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(run))) => run,
            Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status_reason(&status))),
            Poll::Ready(None) => return Poll::Ready(Err("the node ended the stream".to_owned())),
        };
        sink.arrived();
        let mut answer = None;
        for message in messages(&run) {
            let mut fields = Fields::new(&run, message);
            loop {
                let event = match fields.next() {
                    Ok(Some((1, Value::Bytes(event)))) => event,
                    Ok(Some(_)) => continue,
                    Ok(None) => break,
                    Err(_) => return Poll::Ready(Err("a frame that can't be read".to_owned())),
                };
                match payloads(&run, event.clone(), |payload| sink.payload(payload)) {
                    Ok(true) => {}
                    Ok(false) => {
                        if let Err(err) = self.other(run.slice(event), sink, &mut answer) {
                            return Poll::Ready(Err(err));
                        }
                    }
                    Err(_) => return Poll::Ready(Err("a batch that can't be read".to_owned())),
                }
            }
        }
        sink.told();
        Poll::Ready(Ok(answer))
    }

    fn other(
        &mut self,
        event: Bytes,
        sink: &mut impl Sink,
        answer: &mut Option<Result<(), String>>,
    ) -> Result<(), String> {
        self.events.clear();
        codec::event(event, &mut self.events).map_err(|err| err.to_string())?;
        for event in self.events.drain(..) {
            match event {
                ServerEvent::Gap(gap) => sink.gap(&gap),
                ServerEvent::Reply(reply) => {
                    let refused = reply.topics.into_iter().find_map(|topic| topic.error);
                    match reply.error.or(refused) {
                        Some(error) => *answer = Some(Err(error.to_string())),
                        None if reply.id == SUBSCRIBE_ID => *answer = Some(Ok(())),
                        None => {}
                    }
                }
                ServerEvent::GoAway(away) => {
                    return Err(format!("the node asked to be left: {}", away.reason));
                }
                ServerEvent::Batch(_) | ServerEvent::Welcome(_) | ServerEvent::Presence(_) => {}
            }
        }
        Ok(())
    }
}

/// Writes once, then keeps the stream open.
struct Once(Option<Bytes>);

impl FrameSource for Once {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        // Nothing will ever wake this up; the stream ends when the reader is dropped.
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(bytes))))
    }
}
