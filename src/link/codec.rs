//! Frames to and from bytes. The one place of `link` that knows the generated types.
//!
//! Content is written by hand: items are ready-made bytes, small ones are joined, and large ones go to HTTP/2 as they are.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::frame::{Accepted, Challenge, Frame, Hello, Proof, Refusal, RefusalCode};
use crate::types::{ClusterName, Incarnation, NodeName};
use crate::wire::frames::{PREFIX_LEN, message_bytes, put_prefix};
use crate::wire::peer as pb;

/// Items of this length and more are not copied.
const CHAIN_LEN_MIN: usize = 16 << 10;

/// A refusal's reason is cut after so many characters.
const REASON_LEN_MAX: usize = 300;

#[derive(Debug, thiserror::Error)]
pub(super) enum BadFrame {
    #[error("{0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("a frame of no known kind")]
    NoKind,
    #[error("{0}")]
    Name(#[from] crate::types::node::BadName),
    #[error("{field} has {len} bytes")]
    Length { field: &'static str, len: usize },
}

/// Slices `bytes`; copies nothing.
pub(super) fn decode(bytes: Bytes) -> Result<Frame, BadFrame> {
    use pb::frame::Kind;
    Ok(match pb::Frame::decode(bytes)?.kind.ok_or(BadFrame::NoKind)? {
        Kind::Content(content) => Frame::Content { first: content.first, items: content.items },
        Kind::Control(payload) => Frame::Control(payload),
        Kind::Ack(ack) => Frame::Ack { upto: ack.upto },
        Kind::State(payload) => Frame::State(payload),
        Kind::Ping(ping) => {
            Frame::Ping { sent_us: ping.sent_us, control: ping.control, state: ping.state }
        }
        Kind::Pong(pong) => Frame::Pong { sent_us: pong.sent_us },
        Kind::Hello(hello) => Frame::Hello(Hello {
            cluster: ClusterName::parse(&hello.cluster)?,
            from: NodeName::parse(&hello.from)?,
            to: NodeName::parse(&hello.to)?,
            nonce: array("nonce", &hello.nonce)?,
            version_min: hello.version_min,
            version_max: hello.version_max,
        }),
        Kind::Challenge(challenge) => Frame::Challenge(Challenge {
            from: NodeName::parse(&challenge.from)?,
            nonce: array("nonce", &challenge.nonce)?,
            proof: array("proof", &challenge.proof)?,
            incarnation: Incarnation(challenge.incarnation),
            version: challenge.version,
        }),
        Kind::Proof(proof) => Frame::Proof(Proof {
            proof: array("proof", &proof.proof)?,
            incarnation: Incarnation(proof.incarnation),
            attempt: proof.attempt,
            settings: proof.settings.into_iter().collect(),
            acceptor_incarnation: Incarnation(proof.acceptor_incarnation),
        }),
        Kind::Accepted(accepted) => {
            let pb::Accepted { position, had_epoch, lost } = accepted;
            Frame::Accepted(Accepted { position, had_epoch, lost })
        }
        Kind::Refused(refused) => {
            let reason = refused.reason.chars().filter(|c| !c.is_control()).take(REASON_LEN_MAX);
            Frame::Refused(Refusal {
                code: RefusalCode::parse(&refused.code),
                reason: reason.collect(),
            })
        }
    })
}

/// A call's or an answer's message, without its prefix.
pub(super) fn payload(message: Bytes) -> Result<Bytes, BadFrame> {
    Ok(pb::CallPayload::decode(message)?.payload)
}

/// A whole gRPC message.
pub(super) fn encode_payload(payload: Bytes) -> Bytes {
    message_bytes(&pb::CallPayload { payload })
}

fn array<const N: usize>(field: &'static str, bytes: &Bytes) -> Result<[u8; N], BadFrame> {
    bytes.as_ref().try_into().map_err(|_| BadFrame::Length { field, len: bytes.len() })
}

/// A whole gRPC message. Content goes through `put_content` instead.
pub(super) fn encode(frame: Frame) -> Bytes {
    use pb::frame::Kind;
    let kind = match frame {
        Frame::Hello(hello) => Kind::Hello(pb::Hello {
            cluster: hello.cluster.as_str().into(),
            from: hello.from.as_str().into(),
            to: hello.to.as_str().into(),
            nonce: Bytes::copy_from_slice(&hello.nonce),
            version_min: hello.version_min,
            version_max: hello.version_max,
        }),
        Frame::Challenge(challenge) => Kind::Challenge(pb::Challenge {
            from: challenge.from.as_str().into(),
            nonce: Bytes::copy_from_slice(&challenge.nonce),
            proof: Bytes::copy_from_slice(&challenge.proof),
            incarnation: challenge.incarnation.0,
            version: challenge.version,
        }),
        Frame::Proof(proof) => Kind::Proof(pb::Proof {
            proof: Bytes::copy_from_slice(&proof.proof),
            incarnation: proof.incarnation.0,
            attempt: proof.attempt,
            settings: proof.settings.into_iter().collect(),
            acceptor_incarnation: proof.acceptor_incarnation.0,
        }),
        Frame::Accepted(Accepted { position, had_epoch, lost }) => {
            Kind::Accepted(pb::Accepted { position, had_epoch, lost })
        }
        Frame::Refused(refusal) => Kind::Refused(pb::Refused {
            code: refusal.code.as_str().into(),
            reason: refusal.reason.chars().take(REASON_LEN_MAX).collect(),
        }),
        Frame::Ping { sent_us, control, state } => Kind::Ping(pb::Ping { sent_us, control, state }),
        Frame::Pong { sent_us } => Kind::Pong(pb::Pong { sent_us }),
        Frame::Ack { upto } => Kind::Ack(pb::Ack { upto }),
        Frame::Control(payload) => Kind::Control(payload),
        Frame::State(payload) => Kind::State(payload),
        Frame::Content { first, items } => Kind::Content(pb::Content { first, items }),
    };
    message_bytes(&pb::Frame { kind: Some(kind) })
}

// Tags of `Frame` and `Content` in link.proto, as bytes: field number << 3 | wire type.
const TAG_CONTROL: u8 = 9 << 3 | 2;
const TAG_CONTENT: u8 = 10 << 3 | 2;
const TAG_STATE: u8 = 11 << 3 | 2;
const TAG_FIRST: u8 = 1 << 3;
const TAG_ITEM: u8 = 2 << 3 | 2;

/// Pieces of an HTTP/2 body, joined where that is cheaper than sending them apart.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    joined: BytesMut,
    done: std::collections::VecDeque<Bytes>,
}

impl Pieces {
    /// The next piece that is whole.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.done.pop_front()
    }

    /// Makes what was joined so far a piece.
    pub(super) fn cut(&mut self) {
        if !self.joined.is_empty() {
            self.done.push_back(self.joined.split().freeze());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.joined.is_empty()
    }

    /// Lets go of the buffer: an idle link owns none.
    pub(super) fn release(&mut self) {
        self.joined = BytesMut::new();
    }

    pub(super) fn put_frame(&mut self, frame: Frame) {
        self.joined.extend_from_slice(&encode(frame));
    }

    /// `Frame { control: payload }`
    pub(super) fn put_control(&mut self, payload: &Bytes) {
        self.put_payload(TAG_CONTROL, payload);
    }

    /// `Frame { state: payload }`
    pub(super) fn put_state(&mut self, payload: &Bytes) {
        self.put_payload(TAG_STATE, payload);
    }

    fn put_payload(&mut self, tag: u8, payload: &Bytes) {
        let len = 1 + varint_len(payload.len() as u64) + payload.len();
        put_prefix(&mut self.joined, len);
        self.joined.put_u8(tag);
        self.put_bytes(payload);
    }

    /// `Frame { content: Content { first, items } }`
    pub(super) fn put_content<'a>(
        &mut self,
        first: u64,
        items: impl Iterator<Item = &'a Bytes> + Clone,
    ) {
        let items_len: usize = items.clone().map(|item| item_len(item.len())).sum();
        let content_len = 1 + varint_len(first) + items_len;
        let len = 1 + varint_len(content_len as u64) + content_len;
        let small = items.clone().map(Bytes::len).filter(|len| *len < CHAIN_LEN_MIN);
        self.joined.reserve(PREFIX_LEN + 32 + small.map(item_len).sum::<usize>());
        put_prefix(&mut self.joined, len);
        self.joined.put_u8(TAG_CONTENT);
        put_varint(&mut self.joined, content_len as u64);
        self.joined.put_u8(TAG_FIRST);
        put_varint(&mut self.joined, first);
        for item in items {
            self.joined.put_u8(TAG_ITEM);
            self.put_bytes(item);
        }
    }

    fn put_bytes(&mut self, bytes: &Bytes) {
        put_varint(&mut self.joined, bytes.len() as u64);
        if bytes.len() < CHAIN_LEN_MIN {
            self.joined.extend_from_slice(bytes);
        } else {
            self.cut();
            self.done.push_back(bytes.clone());
        }
    }
}

const fn item_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

const fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
