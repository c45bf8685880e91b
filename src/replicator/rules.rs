//! What must hold of whatever a link brings of presence.

use bytes::Bytes;

use super::codec;
use crate::parsers::Understood;
use crate::types::{ClusterName, TopicHasher};

pub(crate) fn frame(bytes: &[u8]) -> Understood {
    let hasher = TopicHasher::new(&ClusterName::parse("fuzzed").expect("a lawful name"));
    let _ = codec::decode_hash(&Bytes::copy_from_slice(bytes));
    let frame = codec::decode(Bytes::copy_from_slice(bytes), &hasher).ok()?;
    Some(format!("{frame:?}"))
}
