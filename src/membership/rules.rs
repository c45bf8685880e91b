//! What must hold of any datagram, whoever sent it.

use super::check::{self, Bounds};
use super::envelope::{Control, Envelope, PIECE_MAX, Piece};
use super::fragment::Reassembly;
use super::seal::Keyring;
use crate::config::Secret;
use crate::parsers::Understood;
use crate::types::{ClusterName, Time};

fn cluster() -> ClusterName {
    ClusterName::parse("fuzzed").expect("a lawful name")
}

/// Sealed: only whoever has the key gets past it.
pub(crate) fn datagram(bytes: &[u8]) -> Understood {
    let keyring = Keyring::new(&cluster(), &[Secret::new(b"secret".to_vec())]);
    let sealed = keyring.inspect(bytes).ok()?;
    let plain = keyring.open(&sealed).ok()?;
    Some(format!("{} bytes", plain.len()))
}

pub(crate) fn envelope(bytes: &[u8]) -> Understood {
    let (envelope, body) = Envelope::decode(bytes).ok()?;
    let again = envelope.encode(body);
    if let Some(again) = &again {
        let (read, rest) = Envelope::decode(again).expect("what we write, we read");
        assert_eq!((&read, rest), (&envelope, body));
    }
    Some(format!("{envelope:?} {body:?}"))
}

pub(crate) fn control(bytes: &[u8]) -> Understood {
    Some(format!("{:?}", Control::decode(bytes).ok()?))
}

/// A message of chitchat: what passes the check is small enough to be inflated.
pub(crate) fn message(bytes: &[u8]) -> Understood {
    let bounds = Bounds { inflated: 1 << 20, nodes: 100 };
    let speaks_of = check::check(bytes, bounds).ok()?;
    assert!(speaks_of.len() <= bounds.nodes);
    let _ = <chitchat::ChitchatMessage as chitchat::Deserializable>::deserialize(&mut &bytes[..]);
    Some(format!("{speaks_of:?}"))
}

/// Four bytes say which piece of which message follows, and how long it is; the longest message is 5,000 bytes.
pub(crate) fn pieces(bytes: &[u8]) -> Understood {
    const SIZE_MAX: usize = 5_000;
    let mut reassembly = Reassembly::default();
    let mut whole = 0;
    let mut rest = bytes;
    while let [message, index, count, length, after @ ..] = rest {
        let piece = Piece { message: u32::from(*message % 4), index: *index, count: *count };
        // Most pieces must be full.
        let size = if *length > 250 { PIECE_MAX } else { usize::from(*length) };
        let body = vec![*length; size];
        if let Ok(added) =
            reassembly.add(Time::ZERO, u64::from(*message / 4), piece, &body, SIZE_MAX)
            && let Some(message) = added.message
        {
            assert!(message.len() <= SIZE_MAX);
            whole += 1;
        }
        rest = after;
    }
    Some(format!("{whole} messages"))
}

#[cfg(test)]
pub(crate) fn written_envelopes() -> Vec<(&'static str, Vec<u8>)> {
    use super::envelope::{Kind, Sender};
    use crate::types::{Incarnation, NodeName};
    let envelope = |heard_ms, kind| Envelope {
        sender: Sender {
            name: NodeName::parse("node-1").unwrap(),
            incarnation: Incarnation(1_700_000_000_000),
            boot: 77,
            address: address(),
        },
        unix_ms: 1_700_000_000_123,
        sequence: 9,
        heard_ms,
        piece: Piece { message: 3, index: 0, count: 1 },
        kind,
    };
    vec![
        ("gossip", envelope(Some(12), Kind::Gossip).encode(b"body").unwrap()),
        ("control", envelope(None, Kind::Control).encode(b"").unwrap()),
    ]
}

#[cfg(test)]
pub(crate) fn written_controls() -> Vec<(&'static str, Vec<u8>)> {
    use super::envelope::{Answer, Holder, Refusal};
    let holder = Holder { address: address(), silent_ms: 40 };
    let answer = Answer { highest: 5, holder: Some(holder), members: vec!["a".to_owned()] };
    let all = [
        ("liveness", Control::Liveness),
        ("query", Control::Query { nonce: 1 }),
        ("answer", Control::Answer { nonce: 1, answer }),
        ("refusal-name", Control::Refusal { incarnation: 5, why: Refusal::NameInUse(holder) }),
        ("refusal-floor", Control::Refusal { incarnation: 5, why: Refusal::Floor(9) }),
        ("refusal-full", Control::Refusal { incarnation: 5, why: Refusal::Full { max: 256 } }),
        ("farewell", Control::Farewell { incarnation: 5 }),
    ];
    all.into_iter().map(|(name, control)| (name, control.encode().unwrap())).collect()
}

#[cfg(test)]
fn address() -> std::net::SocketAddr {
    "10.0.0.1:7401".parse().unwrap()
}
