//! What a user says and sees of presence; and a roster, which keeps the list of a watched topic.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

/// A presence to be tracked, or tracked otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Track {
    pub topic: String,
    /// Who.
    pub key: String,
    /// Which one of them: a tab, a socket. Empty: the session's id.
    pub id: String,
    /// JSON by custom.
    pub meta: Bytes,
}

impl Track {
    pub fn new(topic: impl Into<String>, key: impl Into<String>) -> Self {
        Self { topic: topic.into(), key: key.into(), ..Self::default() }
    }

    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    #[must_use]
    pub fn meta(self, meta: impl Into<Bytes>) -> Self {
        Self { meta: meta.into(), ..self }
    }
}

/// A presence to be let go of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Untrack {
    pub topic: String,
    pub key: String,
    /// As it was tracked.
    pub id: String,
    /// Some: it stays for so long, for another session to take over.
    pub linger: Option<Duration>,
}

impl Untrack {
    pub fn new(topic: impl Into<String>, key: impl Into<String>) -> Self {
        Self { topic: topic.into(), key: key.into(), ..Self::default() }
    }

    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        Self { linger: Some(linger), ..self }
    }
}

/// One presence as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PresenceEntry {
    pub key: String,
    pub id: String,
    /// The same on all nodes; changes with the metadata, and with nothing else.
    pub reference: String,
    /// In updates.
    pub reference_before: String,
    pub meta: Bytes,
    /// Where its session is, or was last.
    pub node: String,
    /// Unix milliseconds: when it was first tracked.
    pub since_ms: u64,
    /// In joins: no other presence has this key.
    pub first_of_key: bool,
    /// In leaves: no other presence has this key any longer.
    pub last_of_key: bool,
    /// Its node is down; it goes when its linger is over, unless it is taken over.
    pub orphaned: bool,
    /// In lists, of an orphan: how long that is.
    pub leaves_in: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PresenceCount {
    pub presences: u64,
    pub keys: u64,
}

/// What happened to a watched topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PresenceEvent {
    pub topic: String,
    /// `joins` are all that there is, in one part or more.
    pub snapshot: bool,
    /// Another part of the snapshot follows.
    pub more: bool,
    /// What is known so far is void, and this snapshot takes its place.
    pub reset: bool,
    pub joins: Vec<PresenceEntry>,
    pub updates: Vec<PresenceEntry>,
    pub leaves: Vec<PresenceEntry>,
    pub count: PresenceCount,
    pub version: String,
}

impl PresenceEvent {
    /// Near enough what it pins.
    pub(crate) fn bytes(&self) -> usize {
        let entries = self.joins.iter().chain(&self.updates).chain(&self.leaves);
        let of = |entry: &PresenceEntry| {
            size_of::<PresenceEntry>() + entry.key.len() + entry.id.len() + entry.meta.len()
        };
        self.topic.len() + entries.map(of).sum::<usize>()
    }
}

/// What an event changed in a roster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub joins: Vec<PresenceEntry>,
    /// Before and after.
    pub updates: Vec<(PresenceEntry, PresenceEntry)>,
    pub leaves: Vec<PresenceEntry>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.updates.is_empty() && self.leaves.is_empty()
    }
}

/// Who is in one topic, kept by applying each of its events. A snapshot replaces the list, and only what differs is a change: whoever
/// watches on another node after a move sees nothing where nothing happened.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    entries: BTreeMap<(String, String), PresenceEntry>,
    /// The parts of a snapshot so far.
    arriving: Option<BTreeMap<(String, String), PresenceEntry>>,
    is_known: bool,
}

impl Roster {
    pub fn new() -> Self {
        Self::default()
    }

    /// A snapshot has been seen to its end.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// In order of key and id.
    pub fn entries(&self) -> impl Iterator<Item = &PresenceEntry> {
        self.entries.values()
    }

    pub fn get(&self, key: &str, id: &str) -> Option<&PresenceEntry> {
        self.entries.get(&(key.to_owned(), id.to_owned()))
    }

    pub fn apply(&mut self, event: PresenceEvent) -> Changes {
        if event.snapshot {
            let arriving = self.arriving.get_or_insert_default();
            for entry in event.joins {
                arriving.insert(name(&entry), entry);
            }
            if event.more {
                return Changes::default();
            }
            let after = self.arriving.take().unwrap_or_default();
            self.is_known = true;
            return self.replace(after);
        }
        let mut changes = Changes::default();
        for leave in event.leaves {
            if let Some(left) = self.entries.remove(&name(&leave)) {
                changes.leaves.push(PresenceEntry { last_of_key: leave.last_of_key, ..left });
            }
        }
        for entry in event.joins.into_iter().chain(event.updates) {
            match self.entries.insert(name(&entry), entry.clone()) {
                None => changes.joins.push(entry),
                Some(before) if before.reference != entry.reference => {
                    changes.updates.push((before, entry));
                }
                Some(_) => {}
            }
        }
        changes
    }

    fn replace(&mut self, after: BTreeMap<(String, String), PresenceEntry>) -> Changes {
        let mut before = std::mem::replace(&mut self.entries, after);
        let mut changes = Changes::default();
        for (name, entry) in &self.entries {
            match before.remove(name) {
                None => changes.joins.push(entry.clone()),
                Some(before) if before.reference != entry.reference => {
                    changes.updates.push((before, entry.clone()));
                }
                Some(_) => {}
            }
        }
        changes.leaves.extend(before.into_values());
        changes
    }
}

fn name(entry: &PresenceEntry) -> (String, String) {
    (entry.key.clone(), entry.id.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(key: u8, reference: u8) -> PresenceEntry {
        PresenceEntry {
            key: key.to_string(),
            id: "1".to_owned(),
            reference: reference.to_string(),
            ..PresenceEntry::default()
        }
    }

    fn listed(model: &BTreeMap<u8, u8>) -> Vec<PresenceEntry> {
        model.iter().map(|(key, reference)| entry(*key, *reference)).collect()
    }

    fn names(roster: &Roster) -> BTreeMap<u8, u8> {
        let each = roster.entries();
        each.map(|entry| (entry.key.parse().unwrap(), entry.reference.parse().unwrap())).collect()
    }

    proptest! {
        /// Each step: the list as it is next, and whether a snapshot tells it or a diff.
        #[test]
        fn a_roster_is_the_list_and_its_changes_lead_there(
            steps in prop::collection::vec(
                (prop::collection::btree_map(0..6_u8, 0..3_u8, 0..6), any::<bool>(), 1..4_usize), 1..12),
        ) {
            let mut roster = Roster::new();
            let mut now = BTreeMap::<u8, u8>::new();
            for (n, (next, snapshot, parts)) in steps.into_iter().enumerate() {
                let before = names(&roster);
                let mut changes = Changes::default();
                if snapshot || n == 0 {
                    let entries = listed(&next);
                    let size = entries.len().div_ceil(parts).max(1);
                    let chunks: Vec<_> = entries.chunks(size).map(<[_]>::to_vec).collect();
                    let chunks = if chunks.is_empty() { vec![Vec::new()] } else { chunks };
                    let last = chunks.len() - 1;
                    for (at, joins) in chunks.into_iter().enumerate() {
                        let more = at < last;
                        let event = PresenceEvent { snapshot: true, more, joins, ..Default::default() };
                        changes = roster.apply(event);
                        prop_assert!(!more || changes.is_empty());
                    }
                } else {
                    let event = PresenceEvent {
                        joins: listed(&next.iter().filter(|(key, _)| !now.contains_key(key)).map(|(k, v)| (*k, *v)).collect()),
                        updates: listed(&next.iter().filter(|(key, v)| now.get(key).is_some_and(|was| was != *v)).map(|(k, v)| (*k, *v)).collect()),
                        leaves: listed(&now.iter().filter(|(key, _)| !next.contains_key(key)).map(|(k, v)| (*k, *v)).collect()),
                        ..Default::default()
                    };
                    changes = roster.apply(event);
                }
                let mut led = before;
                for leave in &changes.leaves {
                    prop_assert!(led.remove(&leave.key.parse::<u8>().unwrap()).is_some());
                }
                for join in &changes.joins {
                    prop_assert!(led.insert(join.key.parse().unwrap(), join.reference.parse().unwrap()).is_none());
                }
                for (before, after) in &changes.updates {
                    prop_assert_ne!(&before.reference, &after.reference);
                    prop_assert!(led.insert(after.key.parse().unwrap(), after.reference.parse().unwrap()).is_some());
                }
                prop_assert_eq!(&led, &next);
                prop_assert_eq!(names(&roster), next.clone());
                now = next;
            }
        }
    }
}
