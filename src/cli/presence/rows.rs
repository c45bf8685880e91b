//! Presence as it is printed: the same words for lists, events and HTTP.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::codec::Listing;
use crate::cli::output::{Mark, Table, age, harmless_line};
use crate::client::{PresenceCount, PresenceEntry};

/// Metadata in a table are cut to so many characters.
const META_CHARS: usize = 60;

/// `{"topic","keys":[{"key","metas":[..]}],"count":{"keys","presences"}}`
pub(super) fn object(topic: &str, listing: &Listing) -> Value {
    let mut keys: Vec<(&str, Vec<Value>)> = Vec::new();
    for entry in &listing.entries {
        match keys.last_mut() {
            Some((key, metas)) if *key == entry.key => metas.push(meta(entry).into()),
            _ => keys.push((&entry.key, vec![meta(entry).into()])),
        }
    }
    let keys: Vec<Value> =
        keys.into_iter().map(|(key, metas)| json!({ "key": key, "metas": metas })).collect();
    let mut object = json!({ "topic": topic, "keys": keys, "count": count(listing.count) });
    if listing.more {
        object["more"] = true.into();
    }
    object
}

pub(super) fn count(count: PresenceCount) -> Value {
    json!({ "keys": count.keys, "presences": count.presences })
}

/// One of a key's metas.
fn meta(entry: &PresenceEntry) -> Map<String, Value> {
    let mut row = Map::new();
    let mut put = |name: &str, value: Value| row.insert(name.to_owned(), value);
    put("id", entry.id.as_str().into());
    put("ref", entry.reference.as_str().into());
    if !entry.reference_before.is_empty() {
        put("prev_ref", entry.reference_before.as_str().into());
    }
    put("node", entry.node.as_str().into());
    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(entry.since_ms);
    put("since", humantime::format_rfc3339_millis(since).to_string().into());
    put("state", state(entry).into());
    if let Some(left) = entry.leaves_in {
        put("leaves_in_ms", u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into());
    }
    match serde_json::from_slice(&entry.meta) {
        Ok(json) => put("meta", json),
        Err(_) if entry.meta.is_empty() => put("meta", Value::Null),
        Err(_) => put("meta_base64", STANDARD.encode(&entry.meta).into()),
    };
    row
}

/// One entry of an event.
pub(super) fn event(what: &str, topic: &str, entry: &PresenceEntry) -> Value {
    let mut row = Map::new();
    row.insert("event".to_owned(), what.into());
    row.insert("topic".to_owned(), topic.into());
    row.insert("key".to_owned(), entry.key.as_str().into());
    row.extend(meta(entry));
    if what == "join" {
        row.insert("first_of_key".to_owned(), entry.first_of_key.into());
    } else if what == "leave" {
        row.insert("last_of_key".to_owned(), entry.last_of_key.into());
    }
    row.into()
}

const fn state(entry: &PresenceEntry) -> &'static str {
    if entry.orphaned { "orphaned" } else { "live" }
}

/// As members say it of a node's orphans.
fn shown_state(entry: &PresenceEntry) -> String {
    match entry.leaves_in {
        Some(left) => format!("{}, {} s left", state(entry), left.as_millis().div_ceil(1_000)),
        None => state(entry).to_owned(),
    }
}

pub(super) fn table(entries: &[PresenceEntry], now: SystemTime) -> String {
    let mut table = Table::new(&["KEY", "ID", "NODE", "FOR", "STATE", "REF", "META"]);
    for entry in entries {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(entry.since_ms);
        let cells = [
            entry.key.clone(),
            entry.id.clone(),
            entry.node.clone(),
            age(now.duration_since(since).unwrap_or_default()),
            shown_state(entry),
            entry.reference.clone(),
            shown_meta(entry),
        ];
        table.row(cells, if entry.orphaned { Mark::Warn } else { Mark::Plain });
    }
    table.render()
}

/// `+ alice tab1 {"device":"phone"}`
pub(super) fn sign_line(sign: char, topic: &str, entry: &PresenceEntry) -> String {
    let line = format!("{sign} {topic} {} {} {}", entry.key, entry.id, shown_meta(entry));
    harmless_line(line.trim_end())
}

fn shown_meta(entry: &PresenceEntry) -> String {
    match std::str::from_utf8(&entry.meta) {
        Ok(text) if text.chars().count() <= META_CHARS => text.to_owned(),
        Ok(text) => text.chars().take(META_CHARS).chain(['…']).collect(),
        Err(_) => format!("({} bytes)", entry.meta.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_grouped_and_metadata_are_json_where_they_can_be() {
        let entry = |key: &str, id: &str, meta: &'static [u8]| PresenceEntry {
            key: key.to_owned(),
            id: id.to_owned(),
            reference: "Fz3".to_owned(),
            node: "a".to_owned(),
            meta: meta.into(),
            ..PresenceEntry::default()
        };
        let listing = Listing {
            entries: vec![
                entry("alice", "1", b"{\"x\":1}"),
                entry("alice", "2", b"\xff"),
                entry("bob", "1", b""),
            ],
            count: PresenceCount { presences: 3, keys: 2 },
            more: false,
        };
        let since = "1970-01-01T00:00:00.000Z";
        let expected = json!({
            "topic": "room:1",
            "keys": [
                { "key": "alice", "metas": [
                    { "id": "1", "ref": "Fz3", "node": "a", "since": since, "state": "live", "meta": { "x": 1 } },
                    { "id": "2", "ref": "Fz3", "node": "a", "since": since, "state": "live", "meta_base64": "/w==" },
                ]},
                { "key": "bob", "metas": [
                    { "id": "1", "ref": "Fz3", "node": "a", "since": since, "state": "live", "meta": null },
                ]},
            ],
            "count": { "keys": 2, "presences": 3 },
        });
        assert_eq!(object("room:1", &listing), expected);
    }

    #[test]
    fn an_orphan_says_how_long_it_has() {
        let entry = PresenceEntry {
            key: "alice".to_owned(),
            orphaned: true,
            leaves_in: Some(Duration::from_millis(1_300)),
            ..PresenceEntry::default()
        };
        assert_eq!(meta(&entry)["leaves_in_ms"], 1_300);
        let shown = table(&[entry], SystemTime::UNIX_EPOCH);
        assert!(shown.contains("orphaned, 2 s left"), "{shown}");
        let live = PresenceEntry { key: "bob".to_owned(), ..PresenceEntry::default() };
        assert!(!meta(&live).contains_key("leaves_in_ms"));
    }
}
