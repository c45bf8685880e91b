//! Leases in words of the wire.

use std::hash::{BuildHasher, Hash as _, Hasher as _, RandomState};
use std::time::Duration;

use crate::control::model::{Held, Lease, LeaseKey, Owner};
use crate::front::grpc::convert::timestamp;
use crate::wire::v1;

pub(super) type Event = v1::LeaseEvent;

pub(super) fn info(key: &LeaseKey, lease: &Lease) -> v1::LeaseInfo {
    let (session_id, node) = match &lease.owner {
        Owner::Session { id, at, .. } => (id.to_string(), at.name.to_string()),
        Owner::Alone { .. } => (String::new(), String::new()),
    };
    v1::LeaseInfo {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        token: lease.token,
        ttl: Duration::from_millis(lease.ttl_ms).try_into().ok(),
        note: lease.note.to_string(),
        since: Some(timestamp(lease.since_ms)),
        session_id,
        node,
        state: match lease.held {
            Held::Attached => "attached".to_owned(),
            Held::Runs => "running".to_owned(),
        },
    }
}

/// Near enough its length on the wire.
pub(super) fn len(info: &v1::LeaseInfo) -> usize {
    info.namespace.len() + info.name.len() + info.note.len() + info.node.len() + 96
}

/// Differs where what is shown does; that the same is shown after a renewal is no news.
pub(super) fn mark(hasher: &RandomState, lease: &Lease) -> u64 {
    let mut hash = hasher.build_hasher();
    (lease.token, lease.ttl_ms, &lease.note, lease.held == Held::Runs).hash(&mut hash);
    match &lease.owner {
        Owner::Session { id, at, .. } => (id, &at.name).hash(&mut hash),
        Owner::Alone { id } => id.hash(&mut hash),
    }
    hash.finish()
}

pub(super) const fn held(info: v1::LeaseInfo) -> Event {
    v1::LeaseEvent { kind: Some(v1::lease_event::Kind::Held(info)) }
}

pub(super) fn free(name: &str) -> Event {
    v1::LeaseEvent { kind: Some(v1::lease_event::Kind::Free(name.to_owned())) }
}

pub(super) const fn current() -> Event {
    v1::LeaseEvent { kind: Some(v1::lease_event::Kind::Current(true)) }
}
