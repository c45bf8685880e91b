//! What must hold of any frames that a client may send.

use bytes::{BufMut, Bytes, BytesMut};

use super::decode::{Decoder, Part};
use crate::config::Limits;
use crate::parsers::Understood;
use crate::types::{ClusterName, Namespace, TopicHasher};
use crate::wire::frames::put_prefix;

/// `bytes`: one frame, without its prefix. It is read twice, the second time behind itself: a run may go on from frame to frame.
pub(crate) fn frames(bytes: &[u8]) -> Understood {
    let hasher = TopicHasher::new(&ClusterName::parse("fuzzed").expect("a lawful name"));
    let limits = Limits { payload: 4_096, ..Limits::default() };
    let mut frames = BytesMut::new();
    for _ in 0..2 {
        put_prefix(&mut frames, bytes.len());
        frames.put_slice(bytes);
    }
    let frames: Bytes = frames.freeze();
    let mut decoder = Decoder::new(Namespace::default(), hasher);
    let mut requests = decoder.requests(frames, &limits);
    let (mut messages, mut others) = (0, 0);
    loop {
        match requests.next() {
            Ok(Some(Part::Run(run))) => messages += run.messages.len(),
            Ok(Some(Part::Ask { .. } | Part::Refused { .. })) => others += 1,
            Ok(None) => return Some(format!("{messages} messages, {others} other requests")),
            Err(_) => return None,
        }
    }
}
