//! Protobuf <-> what the router means. Nothing else in the router knows generated types.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::pubsub::batch::Head;
use crate::pubsub::interest::{Change, Subject};
use crate::pubsub::mailbox::Entry;
use crate::pubsub::{Batch, Gap, GapReason, MessagesBuilder};
use crate::types::{Namespace, Pattern, SessionId, Topic, TopicHasher, topic::TOPIC_LEN_CEILING};
use crate::wire::peer as pb;

use super::{SessionKnown, SessionMoved};

/// What one peer tells another beside content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    SnapshotPart { version: u64, first: bool, last: Option<u64>, changes: Vec<Change> },
    Changes { from: u64, changes: Vec<Change> },
    Applied { version: u64 },
    SnapshotWanted,
    Delivered { ticket: u64, subscriptions: u64 },
    SessionMoved { ticket: u64, moved: SessionMoved },
    SessionKnown { ticket: u64, known: SessionKnown },
    Sync { ticket: u64 },
    NamesWanted(NamesWanted),
    Names { ticket: u64, names: Vec<Bytes> },
}

/// Which topics of a namespace have subscribers there?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamesWanted {
    pub(super) ticket: u64,
    pub(super) namespace: Namespace,
    /// Empty: all.
    pub(super) glob: Bytes,
}

/// What a link's content says.
#[derive(Debug)]
pub(super) enum Item {
    Batch(Arc<Batch>),
    /// No topic: any.
    Gap {
        topic: Option<Topic>,
        missing: u64,
        certain: bool,
    },
    /// All that was put into the link before this node asked for it has come.
    Marker {
        ticket: u64,
    },
    /// What follows was published when the peer had applied this node's interest up to `version`.
    InterestPlace {
        version: u64,
    },
}

/// The peer's fault; its link is closed. Nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    #[error("not protobuf: {0}")]
    Protobuf(String),
    #[error("empty or unknown kind")]
    Unknown,
    #[error("bad {0}")]
    Bad(&'static str),
}

impl From<prost::DecodeError> for CodecError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Protobuf(error.to_string())
    }
}

pub(super) fn control(control: &Control) -> Bytes {
    use pb::control::Kind;
    let kind = match control {
        Control::SnapshotPart { version, first, last, changes } => {
            let mut part = pb::InterestSnapshot {
                version: *version,
                first: *first,
                last: last.is_some(),
                digest: last.unwrap_or(0),
                ..Default::default()
            };
            for change in changes {
                match &change.subject {
                    Subject::Topic(topic) => {
                        part.topics.push(*topic);
                        part.subscriptions.push(change.subscriptions);
                    }
                    Subject::Pattern(pattern) => {
                        part.patterns.push(pattern_interest(pattern, change.subscriptions))
                    }
                }
            }
            Kind::InterestSnapshot(part)
        }
        Control::Changes { from, changes } => {
            let changes = changes
                .iter()
                .map(|change| pb::InterestChange {
                    kind: Some(match &change.subject {
                        Subject::Topic(topic) => pb::interest_change::Kind::Topic(pb::Interest {
                            topic: *topic,
                            subscriptions: change.subscriptions,
                        }),
                        Subject::Pattern(pattern) => pb::interest_change::Kind::Pattern(
                            pattern_interest(pattern, change.subscriptions),
                        ),
                    }),
                })
                .collect();
            Kind::InterestDelta(pb::InterestDelta { from: *from, changes })
        }
        &Control::Applied { version } => Kind::InterestApplied(pb::InterestApplied { version }),
        Control::SnapshotWanted => Kind::SnapshotWanted(pb::SnapshotWanted {}),
        &Control::Delivered { ticket, subscriptions } => {
            Kind::Delivered(pb::Delivered { ticket, subscriptions })
        }
        Control::SessionMoved { ticket, moved } => Kind::SessionMoved(pb::SessionMoved {
            ticket: *ticket,
            session: Bytes::copy_from_slice(&moved.session.0),
            epoch: moved.epoch,
            overlap: moved.overlap,
            ended: moved.ended,
        }),
        &Control::SessionKnown { ticket, known } => {
            Kind::SessionKnown(pb::SessionKnown { ticket, known: known.known, epoch: known.epoch })
        }
        &Control::Sync { ticket } => Kind::Sync(pb::Sync { ticket }),
        Control::NamesWanted(NamesWanted { ticket, namespace, glob }) => {
            Kind::NamesWanted(pb::NamesWanted {
                ticket: *ticket,
                namespace: namespace.as_str().to_owned(),
                glob: glob.clone(),
            })
        }
        Control::Names { ticket, names } => {
            Kind::Names(pb::Names { ticket: *ticket, names: names.clone() })
        }
    };
    pb::Control { kind: Some(kind) }.encode_to_vec().into()
}

pub(super) fn parse_control(bytes: Bytes) -> Result<Control, CodecError> {
    use pb::control::Kind;
    Ok(match pb::Control::decode(bytes)?.kind.ok_or(CodecError::Unknown)? {
        Kind::InterestSnapshot(part) => {
            if part.topics.len() != part.subscriptions.len() {
                return Err(CodecError::Bad("snapshot: not one count for each topic"));
            }
            let topics = part.topics.into_iter().zip(part.subscriptions);
            let topics = topics.map(|(topic, subscriptions)| {
                Ok(Change { subject: Subject::Topic(topic), subscriptions })
            });
            let patterns = part.patterns.iter().map(parse_pattern);
            let changes = topics.chain(patterns).collect::<Result<_, CodecError>>()?;
            let last = part.last.then_some(part.digest);
            Control::SnapshotPart { version: part.version, first: part.first, last, changes }
        }
        Kind::InterestDelta(delta) => {
            let changes = delta
                .changes
                .into_iter()
                .map(|change| match change.kind.ok_or(CodecError::Unknown)? {
                    pb::interest_change::Kind::Topic(one) => Ok(Change {
                        subject: Subject::Topic(one.topic),
                        subscriptions: one.subscriptions,
                    }),
                    pb::interest_change::Kind::Pattern(one) => parse_pattern(&one),
                })
                .collect::<Result<_, CodecError>>()?;
            Control::Changes { from: delta.from, changes }
        }
        Kind::InterestApplied(pb::InterestApplied { version }) => Control::Applied { version },
        Kind::SnapshotWanted(pb::SnapshotWanted {}) => Control::SnapshotWanted,
        Kind::Delivered(pb::Delivered { ticket, subscriptions }) => {
            Control::Delivered { ticket, subscriptions }
        }
        Kind::SessionMoved(moved) => Control::SessionMoved {
            ticket: moved.ticket,
            moved: SessionMoved {
                session: session(&moved.session)?.ok_or(CodecError::Bad("session"))?,
                epoch: moved.epoch,
                overlap: moved.overlap,
                ended: moved.ended,
            },
        },
        Kind::SessionKnown(pb::SessionKnown { ticket, known, epoch }) => {
            Control::SessionKnown { ticket, known: SessionKnown { known, epoch } }
        }
        Kind::Sync(pb::Sync { ticket }) => Control::Sync { ticket },
        Kind::NamesWanted(pb::NamesWanted { ticket, namespace, glob }) => {
            if glob.len() > TOPIC_LEN_CEILING {
                return Err(CodecError::Bad("pattern"));
            }
            let namespace =
                Namespace::parse_told(&namespace).map_err(|_| CodecError::Bad("namespace"))?;
            Control::NamesWanted(NamesWanted { ticket, namespace, glob })
        }
        Kind::Names(pb::Names { ticket, names }) => Control::Names { ticket, names },
    })
}

fn pattern_interest(pattern: &Pattern, subscriptions: u32) -> pb::PatternInterest {
    pb::PatternInterest {
        namespace: pattern.namespace.as_str().to_owned(),
        pattern: Bytes::copy_from_slice(&pattern.glob),
        subscriptions,
    }
}

fn parse_pattern(one: &pb::PatternInterest) -> Result<Change, CodecError> {
    let namespace =
        Namespace::parse_told(&one.namespace).map_err(|_| CodecError::Bad("namespace"))?;
    if one.pattern.len() > TOPIC_LEN_CEILING {
        return Err(CodecError::Bad("pattern"));
    }
    let pattern = Pattern { namespace, glob: one.pattern[..].into() };
    Ok(Change { subject: Subject::Pattern(pattern), subscriptions: one.subscriptions })
}

fn session(bytes: &[u8]) -> Result<Option<SessionId>, CodecError> {
    match bytes.len() {
        0 => Ok(None),
        16 => Ok(bytes.try_into().ok().map(SessionId)),
        _ => Err(CodecError::Bad("session")),
    }
}

/// The digest in a ping: (version, digest).
pub(super) fn ping(version: u64, digest: u64) -> Bytes {
    pb::InterestDigest { version, digest }.encode_to_vec().into()
}

pub(super) fn parse_ping(bytes: Bytes) -> Result<(u64, u64), CodecError> {
    let pb::InterestDigest { version, digest } = pb::InterestDigest::decode(bytes)?;
    Ok((version, digest))
}

/// One content item of what an outbox holds. A batch is encoded once for all links.
pub(super) fn item(entry: &Entry) -> Bytes {
    match entry {
        Entry::Batch(batch) => batch.link(encode_batch).clone(),
        Entry::Gap(gap) => {
            let topic = gap.topics.first();
            let gap = pb::Gap {
                namespace: topic
                    .map_or_else(String::new, |topic| topic.namespace().as_str().to_owned()),
                topic: topic.map_or_else(Bytes::new, |topic| Bytes::copy_from_slice(topic.name())),
                missing: gap.missing.unwrap_or(0),
                certain: gap.certain,
            };
            pb::Item { kind: Some(pb::item::Kind::Gap(gap)) }.encode_to_vec().into()
        }
        // A marker, made by `marker`.
        Entry::Event(item) => item.clone(),
        &Entry::InterestPlace(version) => {
            let place = pb::item::Kind::InterestPlace(pb::InterestPlace { version });
            pb::Item { kind: Some(place) }.encode_to_vec().into()
        }
        // Nobody puts these into an outbox.
        Entry::Match(_) => Bytes::new(),
    }
}

/// What stands for an item that was given up after it had been written: a batch is counted in a gap, anything else is short already.
pub(super) fn summary(item: &Bytes) -> Bytes {
    let Ok(pb::Item { kind: Some(pb::item::Kind::Batch(batch)) }) = pb::Item::decode(item.clone())
    else {
        return item.clone();
    };
    let gap = pb::Gap {
        namespace: batch.namespace,
        topic: Bytes::copy_from_slice(&batch.topic),
        missing: batch.count.into(),
        certain: true,
    };
    pb::Item { kind: Some(pb::item::Kind::Gap(gap)) }.encode_to_vec().into()
}

pub(super) fn marker(ticket: u64) -> Bytes {
    let marker = pb::item::Kind::Marker(pb::Marker { ticket });
    pb::Item { kind: Some(marker) }.encode_to_vec().into()
}

fn encode_batch(batch: &Batch) -> Bytes {
    let head = batch.head();
    let (mut event, mut payloads) = (Bytes::new(), Vec::new());
    if head.topic.is_text() {
        event = batch.grpc().clone();
    } else {
        let messages = batch.messages();
        payloads.extend(messages.iter().map(|(payload, _)| Bytes::copy_from_slice(payload)));
    }
    let batch = pb::Batch {
        namespace: head.topic.namespace().as_str().to_owned(),
        topic: Bytes::copy_from_slice(head.topic.name()),
        first: head.first,
        count: head.count,
        exclude: head.exclude.map_or_else(Bytes::new, |session| Bytes::copy_from_slice(&session.0)),
        ticket: head.ticket,
        event,
        time_ms: head.time_ms,
        payloads,
    };
    pb::Item { kind: Some(pb::item::Kind::Batch(batch)) }.encode_to_vec().into()
}

/// `origin`: the peer at the other end.
pub(super) fn parse_item(
    bytes: Bytes,
    origin: &Arc<str>,
    hasher: &TopicHasher,
) -> Result<Item, CodecError> {
    let topic = |namespace: &str, name: &[u8]| {
        let namespace =
            Namespace::parse_told(namespace).map_err(|_| CodecError::Bad("namespace"))?;
        hasher
            .binary_topic(&namespace, name, TOPIC_LEN_CEILING)
            .map_err(|_| CodecError::Bad("topic"))
    };
    match pb::Item::decode(bytes)?.kind.ok_or(CodecError::Unknown)? {
        pb::item::Kind::Batch(batch) => {
            let head = Head {
                topic: topic(&batch.namespace, &batch.topic)?,
                first: batch.first,
                count: batch.count,
                time_ms: batch.time_ms,
                exclude: session(&batch.exclude)?,
                ticket: batch.ticket,
            };
            if !head.topic.is_text() {
                return payloads(head, &batch.payloads, origin);
            }
            let event = batch.event;
            let length =
                event.get(1..5).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
            if event.first() != Some(&0)
                || length.map(|length| length as usize + 5) != Some(event.len())
            {
                return Err(CodecError::Bad("event"));
            }
            Ok(Item::Batch(Arc::new(Batch::ready_made(head, origin.clone(), event))))
        }
        pb::item::Kind::Gap(gap) => {
            let topic =
                if gap.topic.is_empty() { None } else { Some(topic(&gap.namespace, &gap.topic)?) };
            Ok(Item::Gap { topic, missing: gap.missing, certain: gap.certain })
        }
        pb::item::Kind::Marker(pb::Marker { ticket }) => Ok(Item::Marker { ticket }),
        pb::item::Kind::InterestPlace(pb::InterestPlace { version }) => {
            Ok(Item::InterestPlace { version })
        }
    }
}

fn payloads(head: Head, payloads: &[Bytes], origin: &Arc<str>) -> Result<Item, CodecError> {
    if payloads.len() != head.count as usize {
        return Err(CodecError::Bad("count"));
    }
    let mut messages = MessagesBuilder::default();
    for payload in payloads {
        messages.push_raw(payload, &[]);
    }
    let batch = Batch::payloads(head, origin.clone(), messages.finish());
    Ok(Item::Batch(Arc::new(batch)))
}

/// The gap that a peer's link reports, for this node's subscribers.
pub(super) fn gap_of(topic: Option<Topic>, missing: u64, certain: bool, origin: &Arc<str>) -> Gap {
    Gap {
        topics: topic.into_iter().collect(),
        origin: Some(origin.clone()),
        missing: certain.then_some(missing),
        reason: GapReason::Link,
        certain,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::ClusterName;

    fn change() -> impl Strategy<Value = Change> {
        let topic = any::<u64>().prop_map(Subject::Topic);
        let pattern = "[a-z*]{1,8}".prop_map(|glob| {
            Subject::Pattern(Pattern {
                namespace: Namespace::default(),
                glob: glob.as_bytes().into(),
            })
        });
        (prop_oneof![3 => topic, 1 => pattern], any::<u32>())
            .prop_map(|(subject, subscriptions)| Change { subject, subscriptions })
    }

    fn any_control() -> impl Strategy<Value = Control> {
        let changes = || prop::collection::vec(change(), 0..20);
        prop_oneof![
            (any::<u64>(), any::<u64>(), changes()).prop_map(|(version, digest, mut changes)| {
                changes.sort_by_key(|change| matches!(change.subject, Subject::Pattern(_)));
                Control::SnapshotPart {
                    version,
                    first: version % 2 == 0,
                    last: (digest % 2 == 0).then_some(digest),
                    changes,
                }
            }),
            (any::<u64>(), changes())
                .prop_map(|(from, changes)| Control::Changes { from, changes }),
            any::<u64>().prop_map(|version| { Control::Applied { version } }),
            Just(Control::SnapshotWanted),
            any::<u64>().prop_map(|ticket| Control::Sync { ticket }),
            (any::<u64>(), any::<u64>())
                .prop_map(|(ticket, subscriptions)| Control::Delivered { ticket, subscriptions }),
            (any::<u64>(), any::<[u8; 16]>(), any::<u64>(), any::<bool>(), any::<bool>()).prop_map(
                |(ticket, session, epoch, overlap, ended)| {
                    Control::SessionMoved {
                        ticket,
                        moved: SessionMoved { session: SessionId(session), epoch, overlap, ended },
                    }
                }
            ),
            (any::<u64>(), any::<bool>(), any::<u64>()).prop_map(|(ticket, known, epoch)| {
                Control::SessionKnown { ticket, known: SessionKnown { known, epoch } }
            }),
            (any::<u64>(), any::<[u8; 3]>()).prop_map(|(ticket, glob)| {
                let (namespace, glob) = (Namespace::default(), glob.to_vec().into());
                Control::NamesWanted(NamesWanted { ticket, namespace, glob })
            }),
            (any::<u64>(), prop::collection::vec(any::<[u8; 3]>(), 0..5)).prop_map(
                |(ticket, names)| {
                    let names = names.iter().map(|name| name.to_vec().into()).collect();
                    Control::Names { ticket, names }
                }
            ),
        ]
    }

    #[test]
    fn a_place_reads_back_and_stands_for_itself() {
        let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
        let place = item(&Entry::InterestPlace(7));
        assert_eq!(summary(&place), place);
        let read = parse_item(place, &"a".into(), &hasher).unwrap();
        assert!(matches!(read, Item::InterestPlace { version: 7 }), "{read:?}");
    }

    proptest! {
        #[test]
        fn control_reads_back(one in any_control()) {
            prop_assert_eq!(parse_control(control(&one)), Ok(one));
        }

        #[test]
        fn a_topic_of_any_bytes_travels(name in prop::collection::vec(any::<u8>(), 1..20), payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5)) {
            use crate::pubsub::{Origin, Resp};
            use crate::types::{Incarnation, NodeName};

            let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
            let topic = hasher.binary_topic(&Namespace::default(), &name, 100).unwrap();
            let mut messages = MessagesBuilder::default();
            payloads.iter().for_each(|payload| messages.push_raw(payload, &[]));
            let head = Head { topic, first: 1, count: payloads.len() as u32, time_ms: 1, exclude: None, ticket: 0 };
            let origin = Arc::new(Origin::new(&NodeName::parse("a").unwrap(), Incarnation(1)));
            let sent = Batch::local(head, messages.finish(), origin);
            let came = parse_item(encode_batch(&sent), &"a".into(), &hasher).unwrap();
            let Item::Batch(came) = came else { panic!("not a batch") };
            prop_assert_eq!(came.topic(), sent.topic());
            prop_assert_eq!(came.resp(Resp::Two), sent.resp(Resp::Two));
        }

        #[test]
        fn junk_is_refused_and_never_panics(junk in prop::collection::vec(any::<u8>(), 0..200)) {
            let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
            let _ = parse_control(junk.clone().into());
            let _ = parse_item(junk.clone().into(), &"a".into(), &hasher);
            let _ = parse_ping(junk.into());
        }
    }
}
