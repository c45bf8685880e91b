//! ● The snapshot that newcomers of a topic share: made in pieces, no faster than the fastest of them takes it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::copying::Piece;
use super::pending::snapshot_parts;
use crate::presence::Count;
use crate::replicator::update::{ENTRIES_MAX, Update, UpdateKind};
use crate::types::Topic;

/// What a watcher may have waiting behind its snapshot: more ticks than this, or more entries, and it begins anew. They are shared,
/// so what a slow one pins is bounded by what all watchers of the topic got. A huge list takes its time, and so may they.
const BEHIND_UPDATES_MAX: usize = 128;
const BEHIND_ENTRIES_MAX: usize = 65_536;
/// So many parts are made ahead of the fastest.
const AHEAD: usize = 16;

#[derive(Debug, Clone)]
pub(super) struct Behind {
    updates: usize,
    entries: usize,
    /// Of the list at its beginning.
    list: usize,
}

#[derive(Debug)]
pub(super) struct Snapshot {
    topic: Topic,
    /// Of the moment when it was begun: it is the list as it was then.
    version: Arc<str>,
    count: Count,
    parts: Vec<Arc<Update>>,
    /// In place of the first part, for those who had something before.
    reset: Arc<Update>,
    last_key: Option<Box<str>>,
    is_whole: bool,
    /// What has changed since.
    after: Vec<Arc<Update>>,
    behind: Behind,
}

impl Behind {
    pub(super) fn add(&mut self, updates: usize, entries: usize) {
        self.updates += updates;
        self.entries += entries;
    }

    pub(super) fn is_too_far(&self) -> bool {
        self.updates > BEHIND_UPDATES_MAX + self.list / ENTRIES_MAX
            || self.entries > BEHIND_ENTRIES_MAX.max(self.list)
    }
}

impl Snapshot {
    pub(super) fn new(topic: Topic, version: Arc<str>, count: Count, first: Piece) -> Self {
        let nothing = UpdateKind::Snapshot { entries: Vec::new(), more: true, reset: true };
        let reset = Arc::new(Update::new(topic.clone(), nothing, version.clone(), count));
        let behind = Behind { updates: 0, entries: 0, list: count.presences };
        let (parts, after) = (Vec::new(), Vec::new());
        let mut snapshot = Self {
            topic,
            version,
            count,
            parts,
            reset,
            last_key: None,
            is_whole: false,
            after,
            behind,
        };
        snapshot.add(first);
        if let Some(UpdateKind::Snapshot { entries, more, .. }) =
            snapshot.parts.first().map(|part| &part.kind)
        {
            let (entries, more) = (entries.clone(), *more);
            snapshot.reset = snapshot.update(UpdateKind::Snapshot { entries, more, reset: true });
        }
        snapshot
    }

    fn update(&self, kind: UpdateKind) -> Arc<Update> {
        Arc::new(Update::new(self.topic.clone(), kind, self.version.clone(), self.count))
    }

    pub(super) fn add(&mut self, piece: Piece) {
        let Piece { entries, is_last } = piece;
        let last_key = entries.last().map(|last| last.key().into());
        let parts = snapshot_parts(entries, self.last_key.as_deref());
        let len = parts.len();
        for (at, entries) in parts.into_iter().enumerate() {
            let more = at + 1 < len || !is_last;
            // All of a piece may have come since; only the last part has to be there for its own sake.
            if !(entries.is_empty() && more && !self.parts.is_empty()) {
                let part = self.update(UpdateKind::Snapshot { entries, more, reset: false });
                self.parts.push(part);
            }
        }
        self.last_key = last_key.or(self.last_key.take());
        self.is_whole = is_last;
    }

    /// A tick of the topic, while it is being made.
    pub(super) fn go_on(&mut self, updates: &[Arc<Update>], entries: usize) {
        self.after.extend(updates.iter().cloned());
        self.behind.add(updates.len(), entries);
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) const fn behind(&self) -> &Behind {
        &self.behind
    }

    /// The fastest has taken so many parts.
    pub(super) const fn should_go_on(&self, taken: usize) -> bool {
        !self.is_whole && self.parts.len() < taken + AHEAD
    }

    pub(super) fn part(&self, at: usize, reset: bool) -> Option<&Arc<Update>> {
        if reset && at == 0 { Some(&self.reset) } else { self.parts.get(at) }
    }

    /// Of a whole one: all that comes behind the parts that somebody has taken.
    pub(super) fn rest(&self, taken: usize, reset: bool) -> VecDeque<Arc<Update>> {
        let mut rest: VecDeque<_> =
            self.parts.get(taken..).unwrap_or_default().iter().cloned().collect();
        if reset
            && taken == 0
            && let Some(first) = rest.front_mut()
        {
            *first = self.reset.clone();
        }
        rest.extend(self.after.iter().cloned());
        rest
    }
}
