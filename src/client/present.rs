//! A lean attendee for load generators: one attachment that is in one room, watches it, and looks at entries where they arrived.
//!
//! It neither resumes nor reconnects.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tonic::Status;
use tonic::transport::Channel;

use super::codec::{self, ServerEvent};
use super::connect::{self, status_reason};
use super::presence::Track;
use super::reader::{Reader, messages};
use super::scan::{Fields, Value};
use super::session::Request;
use crate::types::TokenBytes;
use crate::wire::frames::FrameSource;

/// What an attendee sees of a room; keys as they are on the wire.
pub(crate) trait Sight {
    /// An event begins. `anew`: it is the first part of a snapshot, so what was seen before is void.
    fn event(&mut self, anew: bool, reset: bool);
    fn join(&mut self, key: &[u8]);
    fn update(&mut self, key: &[u8]);
    fn leave(&mut self, key: &[u8]);
    /// All that had arrived has been told.
    fn told(&mut self);
}

#[derive(Debug)]
pub(crate) struct Attendee {
    reader: Reader,
    events: Vec<ServerEvent>,
    /// The last event was a snapshot that goes on.
    more: bool,
}

const HELLO_ID: u64 = 2;
const TRACK_ID: u64 = 4;
const WATCH_ID: u64 = 6;

impl Attendee {
    /// Ends when it is there and watches. The session ends with the stream.
    pub(crate) async fn open(
        channel: Channel,
        metadata: &HeaderMap,
        client: &str,
        track: Track,
        sight: &mut impl Sight,
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
        let topic = track.topic.clone();
        let track = Arc::new(track);
        let track = Request::Track { id: TRACK_ID, update: false, track, revision: 1 };
        codec::put_request(&mut requests, track);
        let watch = Request::Watch { id: WATCH_ID, topic, counts_only: false };
        codec::put_request(&mut requests, watch);
        let source = Once(Some(requests.freeze()));
        let opened = connect::open(channel, metadata, source).await;
        let reader = opened.map_err(|status| status_reason(&status))?;
        let mut attendee = Self { reader, events: Vec::new(), more: false };
        while !attendee.next(sight).await? {}
        Ok(attendee)
    }

    /// Tells one run of what the node sends. True: it held the answer to the watch. An error: a refusal, or the end.
    pub(crate) async fn next(&mut self, sight: &mut impl Sight) -> Result<bool, String> {
        poll_fn(|cx| self.poll_next(cx, sight)).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        sight: &mut impl Sight,
    ) -> Poll<Result<bool, String>> {
        let run = match self.reader.poll_run(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(run))) => run,
            Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status_reason(&status))),
            Poll::Ready(None) => return Poll::Ready(Err("the node ended the stream".to_owned())),
        };
        let mut watching = false;
        for message in messages(&run) {
            let mut fields = Fields::new(&run, message);
            loop {
                let event = match fields.next() {
                    Ok(Some((1, Value::Bytes(event)))) => event,
                    Ok(Some(_)) => continue,
                    Ok(None) => break,
                    Err(_) => return Poll::Ready(Err("a frame that can't be read".to_owned())),
                };
                let told = match Fields::new(&run, event.clone()).next() {
                    Ok(Some((5, Value::Bytes(presence)))) => {
                        self.presence(&run, presence, sight).ok_or_else(unreadable)
                    }
                    _ => self.other(run.slice(event), &mut watching),
                };
                if let Err(why) = told {
                    return Poll::Ready(Err(why));
                }
            }
        }
        sight.told();
        Poll::Ready(Ok(watching))
    }

    /// `None`: it can't be read.
    fn presence(
        &mut self,
        run: &[u8],
        event: std::ops::Range<usize>,
        sight: &mut impl Sight,
    ) -> Option<()> {
        // The flags stand before the entries only if the encoder writes them in order, which nobody promises.
        let (mut snapshot, mut more, mut reset) = (false, false, false);
        let mut flags = Fields::new(run, event.clone());
        while let Some((field, value)) = flags.next().ok()? {
            match (field, value) {
                (2, Value::Varint(value)) => snapshot = value != 0,
                (3, Value::Varint(value)) => more = value != 0,
                (9, Value::Varint(value)) => reset = value != 0,
                _ => {}
            }
        }
        let begun = std::mem::replace(&mut self.more, more);
        sight.event(snapshot && !begun, reset);
        let mut entries = Fields::new(run, event);
        while let Some((field, value)) = entries.next().ok()? {
            let (4..=6, Value::Bytes(entry)) = (field, value) else { continue };
            let (1, Value::Bytes(key)) = Fields::new(run, entry).next().ok()?? else {
                return None;
            };
            match field {
                4 => sight.join(&run[key]),
                5 => sight.update(&run[key]),
                _ => sight.leave(&run[key]),
            }
        }
        Some(())
    }

    fn other(&mut self, event: Bytes, watching: &mut bool) -> Result<(), String> {
        self.events.clear();
        codec::event(event, &mut self.events).map_err(|err| err.to_string())?;
        for event in self.events.drain(..) {
            match event {
                ServerEvent::Reply(reply) => {
                    if let Some(error) = reply.error {
                        return Err(error.to_string());
                    }
                    *watching |= reply.id == WATCH_ID;
                }
                ServerEvent::GoAway(away) => {
                    return Err(format!("the node asked to be left: {}", away.reason));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unreadable() -> String {
    "an event that can't be read".to_owned()
}

/// Writes once, then keeps the stream open.
struct Once(Option<Bytes>);

impl FrameSource for Once {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        // Nothing will ever wake this up; the stream ends when the reader is dropped.
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(bytes))))
    }
}
