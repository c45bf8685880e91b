//! First and last of a key: the marks that let a watcher show people instead of their tabs.

use std::collections::BTreeSet;

use waxwing::client::{PresenceEntry, PresenceEvent};
use waxwing::types::Time;

use super::List;

pub(super) fn keys(list: &List) -> BTreeSet<String> {
    list.keys().map(|(key, _)| key.clone()).collect()
}

/// The first of each key, and no other, is marked. `before`: the key of the entry before this part.
pub(super) fn wrong_in_snapshot(
    event: &PresenceEvent,
    before: Option<&str>,
    at: Time,
) -> Vec<String> {
    let befores = std::iter::once(before)
        .chain(event.joins.iter().map(|entry| Some(entry.key.as_str())))
        .collect::<Vec<_>>();
    let pairs = event.joins.iter().zip(befores);
    let off =
        pairs.filter(|(entry, before)| entry.first_of_key != (*before != Some(entry.key.as_str())));
    off.map(|(entry, _)| said(at, "first", entry, entry.first_of_key)).collect()
}

/// Of a key that nobody had before the event the first join is marked; of one that nobody has after it the last leave.
pub(super) fn wrong_in_changes(
    event: &PresenceEvent,
    had: &BTreeSet<String>,
    has: &BTreeSet<String>,
    at: Time,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut joined: BTreeSet<&str> = BTreeSet::new();
    for entry in &event.joins {
        let is_first = joined.insert(&entry.key) && !had.contains(&entry.key);
        if entry.first_of_key != is_first {
            wrong.push(said(at, "first", entry, entry.first_of_key));
        }
    }
    let mut left: BTreeSet<&str> = BTreeSet::new();
    for entry in event.leaves.iter().rev() {
        let is_last = left.insert(&entry.key) && !has.contains(&entry.key);
        if entry.last_of_key != is_last {
            wrong.push(said(at, "last", entry, entry.last_of_key));
        }
    }
    wrong
}

fn said(at: Time, what: &str, entry: &PresenceEntry, marked: bool) -> String {
    format!("{at:?}: {:?} {:?}: {what} of its key: {marked}", entry.key, entry.id)
}
