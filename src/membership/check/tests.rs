//! Messages as chitchat makes them pass; each way of being wrong doesn't.

use chitchat::Serializable;
use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { inflated: 1 << 20, nodes: 1_024 };

fn id(name: &str, generation: u64) -> ChitchatId {
    ChitchatId::new(name, generation, "127.0.0.1:7401".parse().unwrap())
}

/// An acknowledgement that holds these operations in one block as they are.
fn ack(operations: &[Vec<u8>]) -> Vec<u8> {
    let block = operations.concat();
    let mut bytes = vec![0x53, 0xb0, 0, 2, 2];
    bytes.extend((block.len() as u16).to_le_bytes());
    bytes.extend(block);
    bytes.push(0);
    bytes
}

fn node(id: &ChitchatId) -> Vec<u8> {
    let mut bytes = vec![0];
    id.serialize(&mut bytes);
    0u64.serialize(&mut bytes);
    0u64.serialize(&mut bytes);
    bytes
}

fn key(key: &str, value: &str, version: u64, status: u8) -> Vec<u8> {
    let mut bytes = vec![1];
    key.serialize(&mut bytes);
    value.serialize(&mut bytes);
    version.serialize(&mut bytes);
    status.serialize(&mut bytes);
    bytes
}

fn max_version(version: u64) -> Vec<u8> {
    let mut bytes = vec![2];
    version.serialize(&mut bytes);
    bytes
}

fn compressed(block: &[u8]) -> Vec<u8> {
    ack_of_compressed(&zstd::bulk::compress(block, 0).unwrap())
}

fn ack_of_compressed(block: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x53, 0xb0, 0, 2, 1];
    bytes.extend((block.len() as u16).to_le_bytes());
    bytes.extend(block);
    bytes.push(0);
    bytes
}

#[test]
fn deltas() {
    use Rejected::{Content, Size};
    let a = id("a", 7);
    for (what, message, expected) in [
        ("nothing", ack(&[]), Ok(0)),
        ("keys", ack(&[node(&a), key("ver", "1", 1, 0), key("load", "2", 3, 2)]), Ok(1)),
        ("no keys", ack(&[node(&a), max_version(4)]), Ok(1)),
        ("two nodes", ack(&[node(&a), node(&id("b", 7)), key("ver", "1", 1, 0)]), Ok(2)),
        ("a name that is none", ack(&[node(&id("a b", 7))]), Err(Content)),
        ("a name beyond ASCII", ack(&[node(&id("é", 7))]), Err(Content)),
        ("no room to rise", ack(&[node(&id("a", u64::MAX))]), Err(Content)),
        ("a key of no node", ack(&[key("ver", "1", 1, 0)]), Err(Content)),
        ("a key that panics", ack(&[node(&a), key("é", "1", 1, 0)]), Err(Content)),
        ("an empty key", ack(&[node(&a), key("", "1", 1, 0)]), Err(Content)),
        ("a value beyond ASCII", ack(&[node(&a), key("ver", "é", 1, 0)]), Err(Content)),
        ("a huge value", ack(&[node(&a), key("ver", &"v".repeat(2_000), 1, 0)]), Err(Content)),
        ("version 0", ack(&[node(&a), key("ver", "1", 0, 0)]), Err(Content)),
        (
            "falling versions",
            ack(&[node(&a), key("a", "", 2, 0), key("b", "", 2, 0)]),
            Err(Content),
        ),
        ("a huge version", ack(&[node(&a), key("a", "", u64::MAX, 0)]), Err(Content)),
        ("an unknown status", ack(&[node(&a), key("a", "", 1, 3)]), Err(Content)),
        ("a contradiction", ack(&[node(&a), key("a", "", 9, 0), max_version(4)]), Err(Content)),
        ("an unknown operation", ack(&[vec![3]]), Err(Content)),
        ("compressed", compressed(&node(&a)), Ok(1)),
        ("a bomb", compressed(&vec![0; 200_000]), Err(Size)),
        ("compressed junk", ack_of_compressed(&[9; 100]), Err(Size)),
    ] {
        let got = check(&message, BOUNDS).map(|nodes| nodes.len());
        assert_eq!(got, expected, "{what}");
        // What passes, chitchat takes too.
        if got.is_ok() {
            chitchat::ChitchatMessage::deserialize(&mut &message[..]).unwrap();
        }
    }
}

#[test]
fn many_blocks_are_counted_together() {
    let one = compressed(&[0; 60_000]);
    let block = &one[4..one.len() - 1];
    let mut message = one[..4].to_vec();
    (0..100).for_each(|_| message.extend_from_slice(block));
    message.push(0);
    assert!(message.len() < 10_000);
    assert_eq!(check(&message, BOUNDS).err(), Some(Rejected::Size));
}

#[test]
fn keys_and_nodes_are_bounded() {
    let a = id("a", 7);
    let keys = |count: u64| {
        let keys = (1..=count).map(|n| key(&format!("k{n}"), "", n, 0));
        ack(&std::iter::once(node(&a)).chain(keys).collect::<Vec<_>>())
    };
    assert!(check(&keys(64), BOUNDS).is_ok());
    assert_eq!(check(&keys(65), BOUNDS).err(), Some(Rejected::Content));
    let nodes = ack(&(0..5).map(|n| node(&id("a", n))).collect::<Vec<_>>());
    assert!(check(&nodes, Bounds { nodes: 5, ..BOUNDS }).is_ok());
    assert!(check(&nodes, Bounds { nodes: 4, ..BOUNDS }).is_err());
}

proptest! {
    #[test]
    fn junk_never_panics(kind in 0u8..4, junk in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut message = vec![0x53, 0xb0, 0, kind];
        message.extend(&junk);
        let _ = check(&message, BOUNDS);
        let _ = check(&junk, BOUNDS);
    }
}
