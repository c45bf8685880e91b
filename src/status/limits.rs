//! How near each limit is.

use std::time::Duration;

use super::document::LimitStatus;
use super::facts::Facts;
use crate::config::Limits;

/// One row for each of `config::Limits`. Taking the struct apart makes a forgotten one an error of the compiler.
pub(super) fn rows(facts: &Facts) -> Vec<LimitStatus> {
    let Limits {
        sessions,
        subscriptions,
        patterns,
        topics,
        topic,
        payload,
        headers,
        presences,
        namespace_presences,
        watches,
        key,
        metadata,
        presence_transfer,
        mailbox,
        mailbox_stall,
        link_window,
        link_window_age,
        http_connections,
        frame,
        streams,
        handshake,
        idle,
        linger,
        linger_max,
        confirm,
        gossip_message,
        members,
    } = *facts.limits;
    vec![
        row("sessions", Some(facts.sessions.attached), count(sessions), "sessions"),
        row("subscriptions", None, count(subscriptions), "subscriptions a session"),
        row("patterns", None, count(patterns), "patterns a session"),
        row("topics", Some(facts.router.topics), count(topics), "topics"),
        row("topic", None, count(topic), "bytes"),
        row("payload", None, count(payload), "bytes"),
        row("headers", None, count(headers), "bytes"),
        row("presences", None, count(presences), "presences a session"),
        row("namespace_presences", None, count(namespace_presences), "presences a namespace"),
        row("watches", None, count(watches), "watches a session"),
        row("key", None, count(key), "bytes"),
        row("metadata", None, count(metadata), "bytes"),
        row(
            "presence_transfer",
            Some(facts.presence.transfer_bytes),
            count(presence_transfer),
            "bytes",
        ),
        row("mailbox", None, count(mailbox), "bytes a session"),
        row("mailbox_stall", None, millis(mailbox_stall), "ms"),
        row("link_window", Some(facts.router.fullest_outbox), count(link_window), "bytes a link"),
        row("link_window_age", None, millis(link_window_age), "ms"),
        row("http_connections", None, count(http_connections), "connections"),
        row("frame", None, count(frame), "bytes"),
        row("streams", None, streams.into(), "streams a connection"),
        row("handshake", None, millis(handshake), "ms"),
        row("idle", None, millis(idle), "ms"),
        row("linger", None, millis(linger), "ms"),
        row("linger_max", None, millis(linger_max), "ms"),
        row("confirm", None, millis(confirm), "ms"),
        row("gossip_message", None, count(gossip_message), "bytes"),
        row("members", Some(count(facts.members.by_name.len())), count(members), "members"),
    ]
}

fn row(name: &str, used: Option<u64>, max: u64, unit: &str) -> LimitStatus {
    LimitStatus { name: name.to_owned(), used, max, unit: unit.to_owned() }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
