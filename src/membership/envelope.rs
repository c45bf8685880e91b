//! What is inside a sealed datagram: who sent it, when, its number, which piece of which message it is. Pure.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::codec::{self, CodecError};
use super::rejected::Rejected;
use super::seal::{DATAGRAM_MAX, OVERHEAD};
use crate::types::{Incarnation, NodeName};

/// Bytes of a message in one datagram; the rest is room for the longest header.
pub(super) const PIECE_MAX: usize = 1_000;
/// Pieces of one message.
pub(super) const PIECES_MAX: usize = 255;
/// A datagram from further back or ahead is refused.
pub(super) const SKEW_MAX_MS: u64 = 30_000;
/// Incarnations are about milliseconds since 1970; one far above would leave no room to rise.
pub(super) const INCARNATION_MAX: u64 = 1 << 60;

/// Who speaks. The address is where answers go: never to a packet's source, which anybody can write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) name: NodeName,
    /// Zero: it has none yet, it only asks.
    pub(super) incarnation: Incarnation,
    /// Random, for one run of a process; the numbers of its datagrams rise within it.
    pub(super) boot: u64,
    pub(super) address: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) sender: Sender,
    pub(super) unix_ms: u64,
    pub(super) sequence: u64,
    /// How long ago the sender last opened a datagram from the one it writes to.
    pub(super) heard_ms: Option<u32>,
    pub(super) piece: Piece,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    pub(super) message: u32,
    pub(super) index: u8,
    pub(super) count: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A message of chitchat.
    Gossip,
    /// A `Control`.
    Control,
}

/// Messages of our own beside chitchat's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Control {
    /// "I live, and this is when I last heard you": the header says it all.
    Liveness,
    /// What do you know of my name? Who is there?
    Query {
        nonce: u64,
    },
    Answer {
        nonce: u64,
        answer: Answer,
    },
    /// You are not let in.
    Refusal {
        incarnation: u64,
        why: Refusal,
    },
    /// This incarnation stops now.
    Farewell {
        incarnation: u64,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The highest incarnation ever heard of for the asking name.
    pub(super) highest: u64,
    /// Who has the name now and still heartbeats.
    pub(super) holder: Option<Holder>,
    /// The names of the live members that the answering node sees, itself among them.
    pub(super) members: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) address: SocketAddr,
    pub(super) silent_ms: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// Another node has this name and heartbeats.
    NameInUse(Holder),
    /// Incarnations up to this one are gone for good.
    Floor(u64),
    /// The cluster has as many members as it may.
    Full { max: u32 },
}

#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    incarnation: u64,
    boot: u64,
    address: SocketAddr,
    unix_ms: u64,
    sequence: u64,
    heard_ms: Option<u32>,
    piece: Piece,
    kind: Kind,
}

impl Envelope {
    /// The plain content of a datagram. `None` where it wouldn't fit one: a name can't be that long.
    pub(super) fn encode(&self, body: &[u8]) -> Option<Vec<u8>> {
        let header = Header {
            name: self.sender.name.as_str().to_owned(),
            incarnation: self.sender.incarnation.0,
            boot: self.sender.boot,
            address: self.sender.address,
            unix_ms: self.unix_ms,
            sequence: self.sequence,
            heard_ms: self.heard_ms,
            piece: self.piece,
            kind: self.kind,
        };
        let mut plain = codec::encode(&header).ok()?;
        plain.extend_from_slice(body);
        (plain.len() + OVERHEAD <= DATAGRAM_MAX).then_some(plain)
    }

    pub(super) fn decode(plain: &[u8]) -> Result<(Self, &[u8]), Rejected> {
        let (header, body): (Header, _) = codec::decode(plain).map_err(|_| Rejected::Decode)?;
        let name = NodeName::parse(&header.name).map_err(|_| Rejected::Decode)?;
        if header.incarnation > INCARNATION_MAX {
            return Err(Rejected::Decode);
        }
        let envelope = Self {
            sender: Sender {
                name,
                incarnation: Incarnation(header.incarnation),
                boot: header.boot,
                address: header.address,
            },
            unix_ms: header.unix_ms,
            sequence: header.sequence,
            heard_ms: header.heard_ms,
            piece: header.piece,
            kind: header.kind,
        };
        Ok((envelope, body))
    }

    /// How far the sender's clock is ahead of ours; `Err` where it is too far either way.
    pub(super) fn skew(&self, unix_ms: u64) -> Result<(), i64> {
        if self.unix_ms.abs_diff(unix_ms) <= SKEW_MAX_MS {
            return Ok(());
        }
        Err(i64::try_from(i128::from(self.unix_ms) - i128::from(unix_ms)).unwrap_or(i64::MAX))
    }
}

impl Control {
    pub(super) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Rejected> {
        let (control, rest) = codec::decode(bytes).map_err(|_| Rejected::Decode)?;
        if rest.is_empty() { Ok(control) } else { Err(Rejected::Decode) }
    }
}

/// The pieces of one message, in order. `None`: too long to send.
pub(super) fn split(message: &[u8]) -> Option<Vec<&[u8]>> {
    if message.is_empty() {
        return Some(vec![message]);
    }
    let pieces: Vec<_> = message.chunks(PIECE_MAX).collect();
    (pieces.len() <= PIECES_MAX).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(name: &str, address: &str) -> Envelope {
        Envelope {
            sender: Sender {
                name: NodeName::parse(name).unwrap(),
                incarnation: Incarnation(INCARNATION_MAX),
                boot: u64::MAX,
                address: address.parse().unwrap(),
            },
            unix_ms: u64::MAX,
            sequence: u64::MAX,
            heard_ms: Some(u32::MAX),
            piece: Piece { message: u32::MAX, index: 254, count: 255 },
            kind: Kind::Gossip,
        }
    }

    #[test]
    fn the_longest_header_and_piece_fit_a_datagram() {
        let longest = envelope(&"n".repeat(64), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
        let plain = longest.encode(&[9; PIECE_MAX]).unwrap();
        let (decoded, body) = Envelope::decode(&plain).unwrap();
        assert_eq!((decoded, body), (longest.clone(), &[9; PIECE_MAX][..]));
        assert!(longest.encode(&[9; DATAGRAM_MAX]).is_none());
    }

    #[test]
    fn clocks_may_differ_by_half_a_minute() {
        let mut envelope = envelope("a", "127.0.0.1:1");
        for (sent, now, expected) in [
            (100_000, 100_000, Ok(())),
            (100_000, 130_000, Ok(())),
            (130_000, 100_000, Ok(())),
            (100_000, 130_001, Err(-30_001)),
            (130_001, 100_000, Err(30_001)),
            (u64::MAX, 0, Err(i64::MAX)),
        ] {
            envelope.unix_ms = sent;
            assert_eq!(envelope.skew(now), expected, "{sent} at {now}");
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Envelope::decode(&junk);
            let _ = Control::decode(&junk);
        }

        #[test]
        fn pieces_make_the_message(message in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let pieces = split(&message).unwrap();
            prop_assert!(pieces.iter().all(|piece| piece.len() <= PIECE_MAX));
            prop_assert_eq!(pieces.concat(), message);
        }
    }

    #[test]
    fn a_message_of_too_many_pieces_is_not_sent() {
        assert!(split(&vec![0; PIECES_MAX * PIECE_MAX]).is_some());
        assert!(split(&vec![0; PIECES_MAX * PIECE_MAX + 1]).is_none());
    }
}
