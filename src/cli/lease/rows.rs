//! ● Leases as people and programs are shown them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cli::members::or_none;
use crate::cli::output::{Mark, Table, age, harmless_line};
use crate::client::{LeaseChange, LeaseEntry};

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn object(entry: &LeaseEntry) -> Value {
    let since = UNIX_EPOCH + Duration::from_millis(entry.since_ms);
    json!({
        "namespace": entry.namespace,
        "name": entry.name,
        "token": entry.token,
        "ttl_ms": millis(entry.ttl),
        "note": entry.note,
        "since": humantime::format_rfc3339_millis(since).to_string(),
        "session": entry.session_id,
        "node": entry.node,
        "state": entry.state,
    })
}

pub(super) fn event(change: &LeaseChange) -> Value {
    match change {
        LeaseChange::Held(entry) => {
            let mut object = object(entry);
            object["event"] = "held".into();
            object
        }
        LeaseChange::Free(name) => json!({ "event": "free", "name": name }),
        LeaseChange::Current => json!({ "event": "current" }),
    }
}

/// `known`: what there was has been told.
pub(super) fn change_line(change: &LeaseChange, known: bool) -> String {
    match change {
        LeaseChange::Held(entry) => {
            let sign = if known { '+' } else { '*' };
            let note =
                if entry.note.is_empty() { String::new() } else { format!(" ({})", entry.note) };
            let LeaseEntry { name, token, state, .. } = entry;
            harmless_line(&format!("{sign} {name} token {token} {} {state}{note}", holder(entry)))
        }
        LeaseChange::Free(name) => harmless_line(&format!("- {name}")),
        LeaseChange::Current => String::new(),
    }
}

fn holder(entry: &LeaseEntry) -> String {
    match (&entry.session_id, &entry.node) {
        (Some(session), Some(node)) => format!("session {session} at {node}"),
        (Some(session), None) => format!("session {session}"),
        _ => "without session".to_owned(),
    }
}

pub(super) fn table(leases: &[LeaseEntry], now: SystemTime) -> String {
    let mut table = Table::new(&["NAME", "TOKEN", "HOLDER", "STATE", "TTL", "HELD FOR", "NOTE"]);
    for entry in leases {
        let since = UNIX_EPOCH + Duration::from_millis(entry.since_ms);
        table.row(
            [
                entry.name.clone(),
                entry.token.to_string(),
                holder(entry),
                entry.state.clone(),
                age(entry.ttl),
                age(now.duration_since(since).unwrap_or_default()),
                or_none(&entry.note),
            ],
            Mark::Plain,
        );
    }
    table.render()
}
