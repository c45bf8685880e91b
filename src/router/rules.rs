//! What must hold of whatever a link brings the router.

use bytes::Bytes;

use super::codec::{self, Item};
use crate::parsers::Understood;
use crate::types::{ClusterName, TopicHasher};

pub(crate) fn control(bytes: &[u8]) -> Understood {
    let control = codec::parse_control(Bytes::copy_from_slice(bytes)).ok()?;
    assert_eq!(codec::parse_control(codec::control(&control)).as_ref(), Ok(&control));
    Some(format!("{control:?}"))
}

pub(crate) fn item(bytes: &[u8]) -> Understood {
    let hasher = TopicHasher::new(&ClusterName::parse("fuzzed").expect("a lawful name"));
    let item = codec::parse_item(Bytes::copy_from_slice(bytes), &"peer".into(), &hasher).ok()?;
    Some(match item {
        Item::Batch(batch) => {
            // What subscribers get, in every form.
            let _ = batch.grpc();
            let _ = batch.resp(crate::pubsub::Resp::Two);
            let _ = batch.resp(crate::pubsub::Resp::Three);
            format!("batch for {:?}", batch.topic())
        }
        Item::Gap { topic, missing, certain } => format!("gap {topic:?} {missing} {certain}"),
        Item::Marker { ticket } => format!("marker {ticket}"),
        Item::InterestPlace { version } => format!("place {version}"),
    })
}

pub(crate) fn ping(bytes: &[u8]) -> Understood {
    Some(format!("{:?}", codec::parse_ping(Bytes::copy_from_slice(bytes)).ok()?))
}

#[cfg(test)]
pub(crate) fn written() -> Vec<(&'static str, Vec<u8>)> {
    use super::codec::{Control, NamesWanted};
    use super::{SessionKnown, SessionMoved};
    use crate::pubsub::interest::{Change, Subject};
    use crate::types::{Namespace, Pattern, SessionId};
    let changes = vec![
        Change { subject: Subject::Topic(99), subscriptions: 2 },
        Change {
            subject: Subject::Pattern(Pattern {
                namespace: Namespace::default(),
                glob: b"room:*".as_slice().into(),
            }),
            subscriptions: 1,
        },
    ];
    let moved = SessionMoved { session: SessionId([7; 16]), epoch: 3, overlap: true, ended: false };
    let wanted =
        NamesWanted { ticket: 4, namespace: Namespace::default(), glob: Bytes::from_static(b"a*") };
    let all = [
        (
            "snapshot",
            Control::SnapshotPart {
                version: 5,
                first: true,
                last: Some(77),
                changes: changes.clone(),
            },
        ),
        ("changes", Control::Changes { from: 6, changes }),
        ("applied", Control::Applied { version: 6 }),
        ("snapshot-wanted", Control::SnapshotWanted),
        ("delivered", Control::Delivered { ticket: 1, subscriptions: 2 }),
        ("session-moved", Control::SessionMoved { ticket: 2, moved }),
        (
            "session-known",
            Control::SessionKnown { ticket: 2, known: SessionKnown { known: true, epoch: 3 } },
        ),
        ("sync", Control::Sync { ticket: 3 }),
        ("names-wanted", Control::NamesWanted(wanted)),
        ("names", Control::Names { ticket: 4, names: vec![Bytes::from_static(b"ab")] }),
    ];
    all.into_iter().map(|(name, one)| (name, codec::control(&one).to_vec())).collect()
}
