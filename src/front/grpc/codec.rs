//! The frames of a session: requests into our own words, and our own words into events.
//!
//! Here, in `convert` and where tonic's service traits force them are the only generated types of this front.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::presence::codec as presence;
use crate::broker::{BrokerError, GoAway, TrackAnswer, TrackAsk, UntrackAsk, Verb, Voice, Welcome};
use crate::pubsub::{Messages, MessagesBuilder};
use crate::replicator::Update;
use crate::router::{Confirm, Confirmed, MemberTrace, Published};
use crate::types::TokenBytes;
use crate::wire::frames::{PREFIX_LEN, message_bytes};
use crate::wire::v1;
use v1::event::Kind as EventKind;
use v1::request::Kind as RequestKind;

/// A request as prost reads it.
#[derive(Debug, Clone)]
pub(super) enum Decoded {
    Ask(Ask),
    Publish(Box<PublishAsk>),
}

/// What a client asks, but for publishes.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Hello(Hello),
    Subscribe(Names),
    Unsubscribe(Names),
    Credit(u32),
    Bye {
        keep_session: bool,
    },
    Track(Verb, TrackAsk),
    Untrack(UntrackAsk),
    Watch {
        topic: String,
        counts_only: bool,
    },
    Unwatch {
        topic: String,
    },
    /// Of a later version.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hello {
    pub(super) token: TokenBytes,
    pub(super) client: String,
    pub(super) linger: Option<Duration>,
    pub(super) epoch: u64,
    pub(super) overlap: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Names {
    pub(super) topics: Vec<String>,
    pub(super) patterns: Vec<String>,
}

impl Names {
    /// Near enough what they pin.
    pub(super) fn bytes(&self) -> usize {
        let of = |names: &[String]| {
            names.iter().map(|name| name.capacity() + size_of::<String>()).sum::<usize>()
        };
        of(&self.topics) + of(&self.patterns)
    }
}

#[derive(Debug, Clone)]
pub(super) struct PublishAsk {
    pub(super) topic: String,
    pub(super) messages: Messages,
    pub(super) flags: PublishFlags,
}

/// What a client says of a publish besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PublishFlags {
    pub(super) confirm: Confirm,
    pub(super) exclude_self: bool,
    pub(super) only_node: String,
    pub(super) trace: bool,
}

/// The bytes are no request, so that nothing behind them can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame can't be understood: {0}")]
pub(super) struct Malformed(pub(super) String);

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// One request with its id. What is well-formed but senseless is an error for that request alone.
pub(super) fn request(bytes: Bytes) -> Result<(u64, Result<Decoded, BrokerError>), Malformed> {
    let v1::Request { id, kind } = v1::Request::decode(bytes)?;
    let ask = match kind {
        Some(RequestKind::Publish(asked)) => {
            return Ok((id, publish(asked).map(|publish| Decoded::Publish(Box::new(publish)))));
        }
        Some(RequestKind::Hello(asked)) => hello(asked),
        Some(RequestKind::Subscribe(asked)) => Ok(Ask::Subscribe(names(asked))),
        Some(RequestKind::Unsubscribe(asked)) => Ok(Ask::Unsubscribe(names(asked))),
        Some(RequestKind::Track(asked)) => Ok(Ask::Track(Verb::Track, presence::track(asked))),
        Some(RequestKind::Update(asked)) => Ok(Ask::Track(Verb::Update, presence::track(asked))),
        Some(RequestKind::Untrack(asked)) => presence::untrack(asked).map(Ask::Untrack),
        Some(RequestKind::Watch(v1::WatchRequest { topic, counts_only })) => {
            Ok(Ask::Watch { topic, counts_only })
        }
        Some(RequestKind::Unwatch(asked)) => Ok(Ask::Unwatch { topic: asked.topic }),
        Some(RequestKind::Credit(messages)) => Ok(Ask::Credit(messages)),
        Some(RequestKind::Bye(bye)) => Ok(Ask::Bye { keep_session: bye.keep_session }),
        None => Ok(Ask::Unknown),
    };
    Ok((id, ask.map(Decoded::Ask)))
}

fn hello(asked: v1::Hello) -> Result<Ask, BrokerError> {
    let v1::Hello { resume_token, client, linger, epoch, overlap } = asked;
    let linger = duration(linger)?;
    Ok(Ask::Hello(Hello { token: TokenBytes(resume_token), client, linger, epoch, overlap }))
}

pub(super) fn names(asked: v1::SubscribeRequest) -> Names {
    Names { topics: asked.topics, patterns: asked.patterns }
}

pub(super) fn publish(asked: v1::PublishRequest) -> Result<PublishAsk, BrokerError> {
    let confirm = i32::from(v1::Confirm::None)..=i32::from(v1::Confirm::Cluster);
    if !confirm.contains(&asked.confirm) {
        return Err(BrokerError::Invalid(format!(
            "no confirmation has the number {}",
            asked.confirm
        )));
    }
    let flags = PublishFlags {
        confirm: confirm_of(asked.confirm()),
        exclude_self: asked.exclude_self,
        only_node: asked.only_node,
        trace: asked.trace,
    };
    if !asked.payload.is_empty() && !asked.text.is_empty() {
        let both =
            "both payload and text are set; drop text, or payload if it is the text that is meant";
        return Err(BrokerError::Invalid(both.to_owned()));
    }
    let payload = if asked.payload.is_empty() { Bytes::from(asked.text) } else { asked.payload };
    let mut messages = MessagesBuilder::default();
    let headers = asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    messages.push(&payload, &asked.event, headers);
    Ok(PublishAsk { topic: asked.topic, messages: messages.finish(), flags })
}

pub(super) const fn confirm_of(confirm: v1::Confirm) -> Confirm {
    match confirm {
        v1::Confirm::None => Confirm::None,
        v1::Confirm::Node => Confirm::Node,
        v1::Confirm::Cluster => Confirm::Cluster,
    }
}

pub(super) fn duration(
    said: Option<prost_types::Duration>,
) -> Result<Option<Duration>, BrokerError> {
    said.map(|said| {
        Duration::try_from(said)
            .map_err(|_| BrokerError::Invalid("a duration must not be negative".to_owned()))
    })
    .transpose()
}

/// Events that wait to be put into the mailbox as one gRPC message.
#[derive(Debug, Default)]
pub(super) struct Events {
    frame: BytesMut,
}

impl Events {
    pub(super) fn len(&self) -> usize {
        self.frame.len()
    }

    /// One whole gRPC message, if there is any event.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.frame.is_empty() {
            return None;
        }
        let len = u32::try_from(self.frame.len() - PREFIX_LEN).unwrap_or(u32::MAX);
        self.frame[1..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
        Some(std::mem::take(&mut self.frame).freeze())
    }

    pub(super) fn done(&mut self, id: u64) {
        self.put(reply(id));
    }

    pub(super) fn refused(&mut self, id: u64, error: &BrokerError) {
        self.put(v1::Reply { error: Some(error_of(error)), ..reply(id) });
    }

    /// Of a track or an update.
    pub(super) fn tracked(&mut self, id: u64, answer: TrackAnswer) {
        let (reference, error) = match answer {
            Ok(reference) => (reference, None),
            Err(error) => {
                let said = Some(error_of(&error));
                match error {
                    BrokerError::OlderRevision { reference } => (reference, said),
                    _ => (String::new(), said),
                }
            }
        };
        self.put(v1::Reply { r#ref: reference, error, ..reply(id) });
    }

    /// `message_id`: of the message that this request published.
    pub(super) fn published(
        &mut self,
        id: u64,
        message_id: String,
        published: &Published,
        trace: bool,
    ) {
        let publish = Some(publish_response(message_id, published, trace));
        self.put(v1::Reply { publish, ..reply(id) });
    }

    pub(super) fn unsubscribed(
        &mut self,
        id: u64,
        names: &Names,
        results: &[Result<(), BrokerError>],
    ) {
        let topics = topic_results(names, results, 0, 0);
        self.put(v1::Reply { topics, ..reply(id) });
    }

    fn put(&mut self, reply: v1::Reply) {
        if self.frame.is_empty() {
            self.frame.put_bytes(0, PREFIX_LEN);
        }
        let event = v1::Event { kind: Some(EventKind::Reply(reply)) };
        prost::encoding::message::encode(1, &event, &mut self.frame);
    }
}

/// What becomes of a subscribe, as one whole gRPC message. Without an id it speaks only where something failed or may be missing.
pub(super) fn subscribed(
    id: u64,
    names: &Names,
    results: &[Result<(), BrokerError>],
    confirmed: &Confirmed,
    reconnected: bool,
) -> Bytes {
    let mut events = Vec::new();
    if id != 0 || results.iter().any(Result::is_err) {
        let topics = topic_results(names, results, confirmed.confirmed, confirmed.members);
        events.push(EventKind::Reply(v1::Reply { topics, ..reply(id) }));
    }
    if reconnected {
        events.push(EventKind::Gap(v1::Gap {
            reason: v1::gap::Reason::Reconnected.into(),
            ..v1::Gap::default()
        }));
    }
    let events = events.into_iter().map(|kind| v1::Event { kind: Some(kind) }).collect();
    message_bytes(&v1::ServerFrame { events })
}

/// The first event of a stream that only listens.
pub(super) fn listening(
    names: &Names,
    results: &[Result<(), BrokerError>],
    confirmed: &Confirmed,
) -> Bytes {
    let topics = topic_results(names, results, confirmed.confirmed, confirmed.members);
    event(EventKind::Reply(v1::Reply { topics, ..reply(0) }))
}

fn topic_results(
    names: &Names,
    results: &[Result<(), BrokerError>],
    confirmed: u32,
    members: u32,
) -> Vec<v1::TopicResult> {
    // What is refused for one reason is explained once: 100,000 explanations would be an answer of many megabytes.
    let mut explained: Vec<&'static str> = Vec::new();
    let names = names.topics.iter().chain(&names.patterns);
    let each = names.zip(results).map(|(name, result)| match result {
        Ok(()) => v1::TopicResult { topic: name.clone(), confirmed, members, error: None },
        Err(error) => {
            let code = error.code();
            let mut said = error_of(error);
            if explained.contains(&code) {
                said = v1::Error { code: said.code, ..v1::Error::default() };
            } else {
                explained.push(code);
            }
            v1::TopicResult { topic: name.clone(), error: Some(said), ..v1::TopicResult::default() }
        }
    });
    each.collect()
}

pub(super) fn publish_response(
    id: String,
    published: &Published,
    trace: bool,
) -> v1::PublishResponse {
    let trace = if trace { published.trace.iter().map(member_trace).collect() } else { Vec::new() };
    v1::PublishResponse {
        id,
        members: published.members,
        subscriptions: published.subscriptions,
        unknown: published.unknown,
        trace,
    }
}

fn member_trace(trace: &MemberTrace) -> v1::MemberTrace {
    v1::MemberTrace {
        node: trace.node.to_string(),
        subscriptions: trace.subscriptions,
        took: trace.took.and_then(|took| took.try_into().ok()),
        interested: trace.interested,
    }
}

pub(super) fn error_of(error: &BrokerError) -> v1::Error {
    v1::Error {
        code: error.code().to_owned(),
        message: error.to_string(),
        hint: error.hint().to_owned(),
    }
}

fn reply(id: u64) -> v1::Reply {
    v1::Reply { id, ..v1::Reply::default() }
}

/// Sessions that greet.
#[derive(Debug)]
pub(super) struct SessionVoice;

/// Streams that only listen: the first thing they get is the reply.
#[derive(Debug)]
pub(super) struct ListenerVoice;

impl Voice for SessionVoice {
    fn welcome(&self, welcome: &Welcome) -> Option<Bytes> {
        Some(event(EventKind::Welcome(v1::Welcome {
            session_id: welcome.session.to_string(),
            resume_token: Bytes::copy_from_slice(welcome.token.as_bytes()),
            resumed: welcome.resumed,
            epoch: welcome.epoch,
            node: welcome.node.clone(),
            endpoints: welcome.endpoints.clone(),
        })))
    }

    fn go_away(&self, away: &GoAway) -> Option<Bytes> {
        Some(go_away(away))
    }

    fn presence(&self, update: &Update) -> Option<Bytes> {
        Some(presence::frame(update))
    }
}

impl Voice for ListenerVoice {
    fn welcome(&self, _: &Welcome) -> Option<Bytes> {
        None
    }

    fn go_away(&self, away: &GoAway) -> Option<Bytes> {
        Some(go_away(away))
    }
}

fn go_away(away: &GoAway) -> Bytes {
    event(EventKind::GoAway(v1::GoAway {
        reason: away.reason.clone(),
        grace: away.grace.try_into().ok(),
        endpoints: away.endpoints.clone(),
    }))
}

fn event(kind: EventKind) -> Bytes {
    message_bytes(&v1::ServerFrame { events: vec![v1::Event { kind: Some(kind) }] })
}
