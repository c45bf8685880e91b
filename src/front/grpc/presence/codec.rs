//! Presence in words of the wire: asks, entries, and what happened to a watched topic, encoded once for all who watch it.

use bytes::Bytes;

use super::super::codec::duration;
use crate::broker::{BrokerError, TrackAsk, UntrackAsk, page_text};
use crate::presence::{Count, Reference};
use crate::replicator::{Listed, Page, Update, UpdateKind};
use crate::types::Time;
use crate::wire::frames::message_bytes;
use crate::wire::v1;

pub(in crate::front::grpc) fn track(asked: v1::TrackRequest) -> TrackAsk {
    let v1::TrackRequest { topic, key, id, meta, revision } = asked;
    TrackAsk { topic, key, id, meta, revision }
}

pub(in crate::front::grpc) fn untrack(
    asked: v1::UntrackRequest,
) -> Result<UntrackAsk, BrokerError> {
    let v1::UntrackRequest { topic, key, id, linger } = asked;
    Ok(UntrackAsk { topic, key, id, linger: duration(linger)? })
}

/// For sessions.
pub(in crate::front::grpc) fn frame(update: &Update) -> Bytes {
    let encoded = update.frame(|update| {
        let kind = Some(v1::event::Kind::Presence(event_of(update)));
        message_bytes(&v1::ServerFrame { events: vec![v1::Event { kind }] })
    });
    encoded.clone()
}

/// For streams of `Presence.Watch`.
pub(super) fn event(update: &Update) -> Bytes {
    update.event(|update| message_bytes(&event_of(update))).clone()
}

fn event_of(update: &Update) -> v1::PresenceEvent {
    let mut event = v1::PresenceEvent {
        topic: update.topic.to_string(),
        count: Some(count(update.count)),
        version: update.version.to_string(),
        ..v1::PresenceEvent::default()
    };
    match &update.kind {
        UpdateKind::Snapshot { entries, more, reset } => {
            event.snapshot = true;
            event.more = *more;
            event.reset = *reset;
            event.joins = entries.iter().map(entry).collect();
        }
        UpdateKind::Diff { joins, updates, leaves } => {
            event.joins = joins.iter().map(entry).collect();
            event.updates = updates.iter().map(|(after, before)| updated(after, before)).collect();
            event.leaves = leaves.iter().map(entry).collect();
        }
        UpdateKind::Count => {}
    }
    event
}

pub(super) fn page(page: &Page) -> v1::ListResponse {
    v1::ListResponse {
        entries: page.entries.iter().map(|listed| listed_at(listed, page.at)).collect(),
        count: Some(count(page.count)),
        next_page: page.next.as_ref().map(page_text).unwrap_or_default(),
        version: page.version.to_string(),
    }
}

pub(super) fn count(count: Count) -> v1::CountResponse {
    v1::CountResponse { presences: count.presences as u64, keys: count.keys as u64 }
}

fn updated(after: &Listed, before: &Reference) -> v1::PresenceEntry {
    v1::PresenceEntry { prev_ref: before.to_string(), ..entry(after) }
}

/// Only a page says how long an orphan has: events are encoded once for whoever gets them whenever.
fn listed_at(listed: &Listed, now: Time) -> v1::PresenceEntry {
    let left = listed.shown.leaves_at().map(|at| at.since(now));
    let leaves_in = left.and_then(|left| prost_types::Duration::try_from(left).ok());
    v1::PresenceEntry { leaves_in, ..entry(listed) }
}

fn entry(listed: &Listed) -> v1::PresenceEntry {
    let Listed { shown, first_of_key, last_of_key } = listed;
    let since_ms = shown.since_ms();
    v1::PresenceEntry {
        key: shown.key().to_owned(),
        id: shown.id().to_owned(),
        r#ref: shown.reference().to_string(),
        prev_ref: String::new(),
        meta: Bytes::copy_from_slice(shown.meta()),
        node: shown.node().to_string(),
        since: Some(prost_types::Timestamp {
            seconds: (since_ms / 1_000) as i64,
            nanos: ((since_ms % 1_000) * 1_000_000) as i32,
        }),
        first_of_key: *first_of_key,
        last_of_key: *last_of_key,
        orphaned: shown.orphaned(),
        leaves_in: None,
    }
}
