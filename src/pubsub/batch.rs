//! The unit of everything: consecutive messages of one topic from one publisher, immutable and shared.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::resp::{self, Forms, Resp};
use super::{Messages, encode};
use crate::types::{Incarnation, NodeName, SessionId, Topic};

/// What a batch costs besides its bytes, when queues count.
const BATCH_OVERHEAD: usize = 320;

const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Length of a message id.
pub const ID_LEN: usize = 26;

/// Where messages start: a node in one incarnation.
#[derive(Debug)]
pub struct Origin {
    pub name: Arc<str>,
    pub incarnation: Incarnation,
    prefix: [u8; 13],
}

impl Origin {
    pub fn new(name: &NodeName, incarnation: Incarnation) -> Self {
        Self { name: name.as_str().into(), incarnation, prefix: base32(incarnation.0) }
    }

    /// Ids of one origin rise as strings do, those of a later incarnation of the same node above those of an earlier one.
    pub fn id(&self, number: u64) -> [u8; ID_LEN] {
        let mut id = [0; ID_LEN];
        id[..13].copy_from_slice(&self.prefix);
        id[13..].copy_from_slice(&base32(number));
        id
    }

    pub fn id_string(&self, number: u64) -> String {
        self.id(number).iter().map(|&digit| char::from(digit)).collect()
    }
}

/// 13 digits of Crockford's base 32: in the order of the numbers.
fn base32(number: u64) -> [u8; 13] {
    std::array::from_fn(|i| BASE32[(number >> (60 - 5 * i)) as usize & 31])
}

/// What is known of a batch besides its messages.
#[derive(Debug, Clone)]
pub struct Head {
    pub topic: Topic,
    /// Number of the first message.
    pub first: u64,
    pub count: u32,
    /// The origin's clock when it took them, Unix milliseconds.
    pub time_ms: u64,
    /// The session whose subscriptions are left out.
    pub exclude: Option<SessionId>,
    /// Not 0: receivers on other nodes answer how many subscriptions got it.
    pub ticket: u64,
}

/// Encoded once per wire form, by whoever needs it first.
pub struct Batch {
    head: Head,
    origin: Arc<str>,
    source: Source,
    grpc: OnceLock<Bytes>,
    link: OnceLock<Bytes>,
    resp: Forms,
    cost: usize,
}

#[derive(Debug)]
enum Source {
    /// Published here.
    Local(Messages, Arc<Origin>),
    /// A peer encoded it: the gRPC form is there from the beginning.
    Ready,
    /// From a peer; the topic is no text, so that there is no gRPC form.
    Payloads(Messages),
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch({:?} from {} {}+{})",
            self.head.topic, self.origin, self.head.first, self.head.count
        )
    }
}

impl Batch {
    /// Messages published here. `head.first` was taken under the topic's lock.
    pub fn local(head: Head, messages: Messages, origin: Arc<Origin>) -> Self {
        let names = head.topic.name().len() + origin.name.len();
        let cost = messages.payload_bytes()
            + messages.len() * encode::MESSAGE_OVERHEAD
            + names
            + BATCH_OVERHEAD;
        let name = origin.name.clone();
        Self::new(head, name, Source::Local(messages, origin), OnceLock::new(), cost)
    }

    /// A batch that a peer encoded: `grpc` is one whole gRPC message.
    pub fn ready_made(head: Head, origin: Arc<str>, grpc: Bytes) -> Self {
        let cost = grpc.len() + BATCH_OVERHEAD;
        Self::new(head, origin, Source::Ready, OnceLock::from(grpc), cost)
    }

    /// A batch of a peer whose topic is no text: payloads alone.
    pub fn payloads(head: Head, origin: Arc<str>, messages: Messages) -> Self {
        let cost = messages.buffer().len() + head.topic.name().len() + BATCH_OVERHEAD;
        Self::new(head, origin, Source::Payloads(messages), OnceLock::new(), cost)
    }

    fn new(
        head: Head,
        origin: Arc<str>,
        source: Source,
        grpc: OnceLock<Bytes>,
        cost: usize,
    ) -> Self {
        Self { head, origin, source, grpc, link: OnceLock::new(), resp: Forms::default(), cost }
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn topic(&self) -> &Topic {
        &self.head.topic
    }

    /// The origin node's name.
    pub fn origin(&self) -> &Arc<str> {
        &self.origin
    }

    pub fn count(&self) -> u32 {
        self.head.count
    }

    /// Bytes that it pins, near enough.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// One whole gRPC message: prefix and a `ServerFrame` with this batch as its only event. Only where the topic is text.
    pub fn grpc(&self) -> &Bytes {
        self.grpc.get_or_init(|| match &self.source {
            Source::Local(messages, origin) => encode::batch(&self.head, origin, messages),
            Source::Ready | Source::Payloads(_) => Bytes::new(),
        })
    }

    /// Its messages; of those that a peer encoded, the payloads alone.
    pub fn messages(&self) -> Cow<'_, Messages> {
        match &self.source {
            Source::Local(messages, _) | Source::Payloads(messages) => Cow::Borrowed(messages),
            Source::Ready => Cow::Owned(resp::payloads_of_grpc(self.grpc())),
        }
    }

    /// A run of `message` pushes.
    pub fn resp(&self, resp: Resp) -> &Bytes {
        self.resp.get(resp, || resp::messages(self, resp))
    }

    /// What links carry; `encode` is the router's, called once.
    pub fn link(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.link.get_or_init(|| encode(self))
    }
}
