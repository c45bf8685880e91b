//! What must hold of any frame that a peer may send.

use bytes::Bytes;

use super::codec;
use crate::parsers::Understood;

pub(crate) fn frame(bytes: &[u8]) -> Understood {
    let frame = codec::decode(Bytes::copy_from_slice(bytes)).ok()?;
    // Behind the prefix of a gRPC message.
    let again = codec::encode(frame.clone()).slice(crate::wire::frames::PREFIX_LEN..);
    assert_eq!(codec::decode(again).expect("what we write, we read"), frame);
    Some(format!("{frame:?}"))
}

#[cfg(test)]
pub(crate) fn written() -> Vec<(&'static str, Vec<u8>)> {
    use super::frame::{Accepted, Challenge, Frame, Hello, Proof, Refusal, RefusalCode};
    use crate::types::{ClusterName, Incarnation, NodeName};
    let name = |name| NodeName::parse(name).unwrap();
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let all = [
        (
            "hello",
            Frame::Hello(Hello {
                cluster: ClusterName::parse("cluster").unwrap(),
                from: name("a"),
                to: name("b"),
                nonce: [1; 32],
                version_min: 1,
                version_max: 1,
            }),
        ),
        (
            "challenge",
            Frame::Challenge(Challenge {
                from: name("b"),
                nonce: [2; 32],
                proof: [3; 32],
                incarnation: Incarnation(7),
                version: 1,
            }),
        ),
        (
            "proof",
            Frame::Proof(Proof {
                proof: [4; 32],
                incarnation: Incarnation(8),
                attempt: 3,
                settings: [("k".to_owned(), "v".to_owned())].into(),
                acceptor_incarnation: Incarnation(7),
            }),
        ),
        ("accepted", Frame::Accepted(Accepted { position: 12, had_epoch: true, lost: 1 })),
        ("refused", Frame::Refused(Refusal::new(RefusalCode::Version, "too new"))),
        ("ping", Frame::Ping { sent_us: 5, control: bytes("digest"), state: bytes("hash") }),
        ("pong", Frame::Pong { sent_us: 5 }),
        ("ack", Frame::Ack { upto: 40 }),
        ("control", Frame::Control(bytes("control"))),
        ("state", Frame::State(bytes("state"))),
        ("content", Frame::Content { first: 41, items: vec![bytes("one"), bytes("two")] }),
    ];
    let encode = |frame| codec::encode(frame).slice(crate::wire::frames::PREFIX_LEN..).to_vec();
    all.into_iter().map(|(name, frame)| (name, encode(frame))).collect()
}
