//! Protobuf <-> what the replicator means. Nothing else in the replicator knows generated types.
//!
//! What isn't protobuf ends the link; what is, and makes no sense, is refused, counted, and changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::META_LEN_MAX;
use super::shard::millis;
use crate::presence::{
    Asked, Claim, Delta, Dot, Entry, Fields, GivenUp, Handed, Kind, Removal, Row, SHARDS, Want,
    shard_of,
};
use crate::types::topic::TOPIC_LEN_CEILING;
use crate::types::{Incarnation, Namespace, NodeName, Replica, SessionId, Topic, TopicHasher};
use crate::wire::peer as pb;

/// Nobody counts so far.
const COUNTER_MAX: u64 = 1 << 48;
/// No member is down for longer, and no linger is longer.
const AGE_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What one peer tells another of presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Rows { rows: Vec<(usize, Row)>, last: bool },
    RowsWanted,
    Delta { shard: usize, delta: Delta },
    Wanted { shard: usize, want: Want },
    Adopt { ticket: u64, entries: Vec<Handed>, last: bool },
    Adopted { ticket: u64, entries: u64 },
    Mark { ticket: u64 },
    Applied { ticket: u64 },
}

/// Nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    /// The link is closed.
    #[error("not protobuf: {0}")]
    Protobuf(String),
    /// Of a newer version, or nonsense.
    #[error("bad {0}")]
    Bad(&'static str),
}

impl From<prost::DecodeError> for CodecError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Protobuf(error.to_string())
    }
}

pub(super) fn encode(frame: Frame) -> Bytes {
    use pb::state_frame::Kind as K;
    let kind = match frame {
        Frame::Rows { rows, last } => K::Rows(encode_rows(rows, last)),
        Frame::RowsWanted => K::RowsWanted(pb::RowsWanted {}),
        Frame::Delta { shard, delta } => K::Delta(encode_delta(shard, &delta)),
        Frame::Wanted { shard, want } => K::Wanted(pb::DeltaWanted {
            replica: Some(replica_id(&want.replica)),
            shard: small(shard),
            from: want.from,
            whole: want.whole,
        }),
        Frame::Adopt { ticket, entries, last } => {
            let mut topics = Topics::default();
            let entries = entries.iter().map(|handed| pb::AdoptEntry {
                entry: Some(encode_entry(0, topics.index(&handed.topic), &handed.claim)),
                remaining_ms: millis(handed.remaining),
            });
            let entries = entries.collect();
            K::Adopt(pb::Adopt { ticket, topics: topics.names, entries, last })
        }
        Frame::Adopted { ticket, entries } => K::Adopted(pb::Adopted { ticket, entries }),
        Frame::Mark { ticket } => K::Mark(pb::Mark { ticket }),
        Frame::Applied { ticket } => K::Applied(pb::Applied { ticket }),
    };
    pb::StateFrame { kind: Some(kind) }.encode_to_vec().into()
}

pub(super) fn decode(payload: Bytes, hasher: &TopicHasher) -> Result<Frame, CodecError> {
    use pb::state_frame::Kind as K;
    Ok(match pb::StateFrame::decode(payload)?.kind.ok_or(CodecError::Bad("kind"))? {
        K::Rows(rows) => decode_rows(rows)?,
        K::RowsWanted(_) => Frame::RowsWanted,
        K::Delta(delta) => decode_delta(delta, hasher)?,
        K::Wanted(wanted) => Frame::Wanted {
            shard: shard(wanted.shard)?,
            want: Want {
                replica: replica(wanted.replica)?,
                from: counter(wanted.from)?,
                whole: wanted.whole,
            },
        },
        K::Adopt(adopt) => {
            let topics = Names::new(adopt.topics, hasher);
            let entry = |one: pb::AdoptEntry| {
                let entry = one.entry.ok_or(CodecError::Bad("entry"))?;
                let topic = topics.get(entry.topic)?;
                let remaining = Duration::from_millis(one.remaining_ms).min(AGE_MAX);
                Ok(Handed { topic, claim: decode_claim(&entry)?, remaining })
            };
            let entries =
                adopt.entries.into_iter().map(entry).collect::<Result<_, CodecError>>()?;
            Frame::Adopt { ticket: adopt.ticket, entries, last: adopt.last }
        }
        K::Adopted(pb::Adopted { ticket, entries }) => Frame::Adopted { ticket, entries },
        K::Mark(pb::Mark { ticket }) => Frame::Mark { ticket },
        K::Applied(pb::Applied { ticket }) => Frame::Applied { ticket },
    })
}

/// In the state bytes of a ping.
pub(super) fn encode_hash(hash: u64) -> Bytes {
    Bytes::copy_from_slice(&hash.to_be_bytes())
}

/// `None`: the peer says nothing of its rows.
pub(super) fn decode_hash(payload: &Bytes) -> Result<Option<u64>, CodecError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let bytes = payload.as_ref().try_into().map_err(|_| CodecError::Bad("hash"))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

fn encode_rows(rows: Vec<(usize, Row)>, last: bool) -> pb::Rows {
    let mut replicas: Vec<pb::ReplicaRows> = Vec::new();
    let mut at: HashMap<Replica, usize> = HashMap::new();
    for (shard, row) in rows {
        let index = *at.entry(row.replica).or_insert_with_key(|replica| {
            replicas.push(pb::ReplicaRows {
                replica: Some(replica_id(replica)),
                ..pb::ReplicaRows::default()
            });
            replicas.len() - 1
        });
        replicas[index].shards.push(pb::ShardRow {
            shard: small(shard),
            counter: row.counter,
            digest: row.digest,
            unsettled: !row.settled,
        });
    }
    pb::Rows { replicas, last }
}

fn decode_rows(rows: pb::Rows) -> Result<Frame, CodecError> {
    let mut all = Vec::new();
    for of in rows.replicas {
        let replica = replica(of.replica)?;
        if of.shards.len() > SHARDS {
            return Err(CodecError::Bad("number of shards"));
        }
        for row in of.shards {
            all.push((
                shard(row.shard)?,
                Row {
                    replica: replica.clone(),
                    counter: counter(row.counter)?,
                    digest: row.digest,
                    settled: !row.unsettled,
                },
            ));
        }
    }
    Ok(Frame::Rows { rows: all, last: rows.last })
}

fn encode_delta(shard: usize, delta: &Delta) -> pb::StateDelta {
    let mut topics = Topics::default();
    let adds = delta
        .adds
        .iter()
        .map(|entry| encode_entry(entry.counter, topics.index(&entry.topic), &entry.claim))
        .collect();
    let remove = |removal: &Removal| pb::StateRemove {
        counter: removal.counter,
        because: removal
            .because
            .as_ref()
            .map(|dot| pb::Dot { replica: Some(replica_id(&dot.replica)), counter: dot.counter }),
        given_up: removal.given_up.map(|given_up| pb::GivenUp {
            session: Bytes::copy_from_slice(&given_up.session.0),
            at: Some(encode_asked(given_up.at)),
            presence: given_up.presence,
        }),
    };
    let (whole, first, last) = match delta.kind {
        Kind::Interval => (false, false, false),
        Kind::Whole { first, last } => (true, first, last),
    };
    pb::StateDelta {
        replica: Some(replica_id(&delta.replica)),
        shard: small(shard),
        from: delta.from,
        to: delta.to,
        topics: topics.names,
        adds,
        removes: delta.removes.iter().map(remove).collect(),
        whole,
        first,
        last,
        down_ms: delta.down_for.map(millis),
    }
}

fn decode_delta(delta: pb::StateDelta, hasher: &TopicHasher) -> Result<Frame, CodecError> {
    let shard = shard(delta.shard)?;
    let topics = Names::new(delta.topics, hasher);
    let entry = |one: pb::StateEntry| {
        let topic = topics.get(one.topic)?;
        if shard_of(&topic) != shard {
            return Err(CodecError::Bad("shard of a topic"));
        }
        Ok(Entry { counter: counter(one.counter)?, topic, claim: decode_claim(&one)? })
    };
    let removal = |one: pb::StateRemove| {
        let because = one.because.map(|dot| {
            Ok::<_, CodecError>(Dot {
                replica: replica(dot.replica)?,
                counter: counter(dot.counter)?,
            })
        });
        let given_up = one.given_up.map(|one| {
            let session = session(&one.session)?;
            let at = one.at.map(decode_asked).ok_or(CodecError::Bad("when it was untracked"))?;
            Ok::<_, CodecError>(GivenUp { session, at, presence: one.presence })
        });
        let (because, given_up) = (because.transpose()?, given_up.transpose()?);
        Ok(Removal { counter: counter(one.counter)?, because, given_up })
    };
    let kind = if delta.whole {
        Kind::Whole { first: delta.first, last: delta.last }
    } else {
        Kind::Interval
    };
    let delta = Delta {
        replica: replica(delta.replica)?,
        from: counter(delta.from)?,
        to: counter(delta.to)?,
        adds: delta.adds.into_iter().map(entry).collect::<Result<_, CodecError>>()?,
        removes: delta.removes.into_iter().map(removal).collect::<Result<_, CodecError>>()?,
        kind,
        down_for: delta.down_ms.map(|ms| Duration::from_millis(ms).min(AGE_MAX)),
    };
    Ok(Frame::Delta { shard, delta })
}

fn encode_entry(counter: u64, topic: u32, claim: &Claim) -> pb::StateEntry {
    let session = claim.session();
    let id = claim.id();
    pb::StateEntry {
        counter,
        topic,
        key: claim.key().to_owned(),
        id: if id == session.to_string() { String::new() } else { id.to_owned() },
        meta: Bytes::copy_from_slice(claim.meta()),
        session: Bytes::copy_from_slice(&session.0),
        epoch: claim.epoch(),
        claim: claim.number(),
        revision: claim.revision(),
        base: claim.base(),
        linger_ms: millis(claim.linger()),
        since_ms: claim.since_ms(),
        asked: Some(encode_asked(claim.asked())),
    }
}

fn encode_asked(asked: Asked) -> pb::Asked {
    pb::Asked { epoch: asked.epoch, counter: asked.counter }
}

fn decode_asked(asked: pb::Asked) -> Asked {
    Asked { epoch: asked.epoch, counter: asked.counter }
}

fn session(bytes: &Bytes) -> Result<SessionId, CodecError> {
    bytes.as_ref().try_into().map(SessionId).map_err(|_| CodecError::Bad("session"))
}

fn decode_claim(entry: &pb::StateEntry) -> Result<Claim, CodecError> {
    let session = session(&entry.session)?;
    if entry.meta.len() > META_LEN_MAX {
        return Err(CodecError::Bad("length of metadata"));
    }
    let own_id;
    let id = if entry.id.is_empty() {
        own_id = session.to_string();
        &own_id
    } else {
        &entry.id
    };
    let fields = Fields {
        key: &entry.key,
        id,
        meta: &entry.meta,
        session,
        epoch: entry.epoch,
        asked: entry.asked.map_or(Asked { epoch: entry.epoch, counter: 0 }, decode_asked),
        number: entry.claim,
        revision: entry.revision,
        base: entry.base,
        since_ms: entry.since_ms,
        linger: Duration::from_millis(entry.linger_ms),
    };
    Claim::new(&fields).map_err(|_| CodecError::Bad("key or id"))
}

/// The topics of one frame, each named once.
#[derive(Debug, Default)]
struct Topics {
    names: Vec<pb::TopicName>,
    index: HashMap<Topic, u32>,
}

impl Topics {
    fn index(&mut self, topic: &Topic) -> u32 {
        if let Some(index) = self.index.get(topic) {
            return *index;
        }
        let index = small(self.names.len());
        self.names.push(pb::TopicName {
            namespace: topic.namespace().as_str().to_owned(),
            name: Bytes::copy_from_slice(topic.name()),
        });
        self.index.insert(topic.clone(), index);
        index
    }
}

/// The same, read: a bad one is an error only for those who point to it.
struct Names(Vec<Option<Topic>>);

impl Names {
    fn new(names: Vec<pb::TopicName>, hasher: &TopicHasher) -> Self {
        let topic = |name: pb::TopicName| {
            let namespace = Namespace::parse(&name.namespace).ok()?;
            hasher.binary_topic(&namespace, &name.name, TOPIC_LEN_CEILING).ok()
        };
        Self(names.into_iter().map(topic).collect())
    }

    fn get(&self, index: u32) -> Result<Topic, CodecError> {
        let topic = usize::try_from(index).ok().and_then(|at| self.0.get(at)?.clone());
        topic.ok_or(CodecError::Bad("topic"))
    }
}

fn replica_id(replica: &Replica) -> pb::ReplicaId {
    pb::ReplicaId { node: replica.name.as_str().to_owned(), incarnation: replica.incarnation.0 }
}

fn replica(id: Option<pb::ReplicaId>) -> Result<Replica, CodecError> {
    let id = id.ok_or(CodecError::Bad("replica"))?;
    let name = NodeName::parse(&id.node).map_err(|_| CodecError::Bad("replica"))?;
    Ok(Replica { name, incarnation: Incarnation(id.incarnation) })
}

fn shard(number: u32) -> Result<usize, CodecError> {
    let shard = usize::try_from(number).ok().filter(|shard| *shard < SHARDS);
    shard.ok_or(CodecError::Bad("shard"))
}

const fn counter(counter: u64) -> Result<u64, CodecError> {
    if counter > COUNTER_MAX { Err(CodecError::Bad("counter")) } else { Ok(counter) }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
