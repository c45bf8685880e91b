//! The watchers of one topic: how far each is, and what it gets next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::pending::snapshot_parts;
use crate::presence::{Count, Shown};
use crate::replicator::shard::{Glance, Shards};
use crate::replicator::update::{Listed, Update, UpdateKind, Watcher, Watching};
use crate::types::Topic;

/// What a watcher may have waiting behind its snapshot: more ticks than this, or more entries, and it begins anew. They are shared,
/// so what a slow one pins is bounded by what all watchers of the topic got.
const BEHIND_UPDATES_MAX: usize = 128;
const BEHIND_ENTRIES_MAX: usize = 65_536;
/// One that takes no part of its snapshot for so many ticks gives it up, so that it pins none.
const STUCK_TICKS_MAX: u32 = 100;

#[derive(Debug, Default)]
pub(super) struct Audience {
    watches: BTreeMap<u64, Watch>,
    closed: bool,
}

struct Watch {
    watcher: Arc<dyn Watcher>,
    state: State,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.fmt(f)
    }
}

#[derive(Debug)]
enum State {
    /// Admitted at the next tick.
    New { reset: bool },
    /// Its snapshot, and what came after, as far as it has not taken it.
    Receiving { waiting: VecDeque<Arc<Update>>, behind: Behind, stuck: u32 },
    /// Has taken everything.
    Settled,
    /// Had no room. Nothing is pushed until it has.
    Lagging,
    /// Only the counts, and only where they differ from those.
    Counts { told: Option<Count> },
}

/// Behind a snapshot that is not yet taken.
#[derive(Debug, Default)]
struct Behind {
    updates: usize,
    entries: usize,
}

/// The parts of one tick's snapshot, made when the first one needs it.
struct Snapshot {
    whole: Vec<Arc<Update>>,
    /// In place of the first part, for those who had something before.
    reset: Option<Arc<Update>>,
}

impl Audience {
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn enter(&mut self, number: u64, how: Watching, watcher: Arc<dyn Watcher>) {
        let state = if how.counts_only {
            State::Counts { told: None }
        } else {
            State::New { reset: false }
        };
        self.watches.insert(number, Watch { watcher, state });
    }

    pub(super) fn leave(&mut self, number: u64) -> bool {
        self.watches.remove(&number).is_some()
    }

    pub(super) fn close_if_empty(&mut self) -> bool {
        self.closed = self.watches.is_empty();
        self.closed
    }

    /// True: somebody waits for room.
    pub(super) fn tick(&mut self, topic: &Topic, shards: &Shards) -> bool {
        let mut newcomers = false;
        for watch in self.watches.values_mut() {
            if matches!(watch.state, State::Lagging) && watch.watcher.has_room() {
                watch.state = State::New { reset: true };
            }
            newcomers |= matches!(watch.state, State::New { .. });
        }
        let Glance { step, all, count, version } = shards.glance(topic, newcomers);
        let update = |kind| Arc::new(Update::new(topic.clone(), kind, version.clone(), count));
        let updates: Vec<_> = step.into_kinds().into_iter().map(update).collect();
        let mut snapshot = all.map(|all| Snapshot::new(all, update));
        let entries: usize = updates.iter().map(|update| update.entries()).sum();
        let mut counts = None;
        let mut waits = false;
        for watch in self.watches.values_mut() {
            let watcher = &*watch.watcher;
            match &mut watch.state {
                State::Settled => {
                    if !updates.iter().all(|update| watcher.push(update)) {
                        watch.state = State::Lagging;
                    }
                }
                State::New { reset } => {
                    if let Some(snapshot) = &mut snapshot {
                        let waiting = snapshot.parts(*reset);
                        watch.state =
                            State::Receiving { waiting, behind: Behind::default(), stuck: 0 };
                    }
                    watch.pump();
                }
                State::Receiving { waiting, behind, .. } => {
                    behind.updates += updates.len();
                    behind.entries += entries;
                    waiting.extend(updates.iter().cloned());
                    watch.pump();
                }
                State::Lagging => {}
                State::Counts { told } => {
                    if *told != Some(count) {
                        let counts = counts.get_or_insert_with(|| update(UpdateKind::Count));
                        if watcher.push(counts) {
                            *told = Some(count);
                        }
                    }
                    waits |= *told != Some(count);
                }
            }
            waits |= !matches!(watch.state, State::Settled | State::Counts { .. });
        }
        waits
    }

    /// The planted bug: whoever is new gets the list as it is now, and the changes since the last tick once more.
    #[cfg(test)]
    pub(super) fn admit_at_once(&mut self, topic: &Topic, shards: &Shards) {
        let (all, count, version) = shards.peek(topic);
        let update = |kind| Arc::new(Update::new(topic.clone(), kind, version.clone(), count));
        let mut snapshot = Snapshot::new(all, update);
        for watch in self.watches.values_mut() {
            if let State::New { reset } = watch.state {
                let waiting = snapshot.parts(reset);
                watch.state = State::Receiving { waiting, behind: Behind::default(), stuck: 0 };
                watch.pump();
            }
        }
    }
}

impl Watch {
    /// Hands on what waits, as far as there is room.
    fn pump(&mut self) {
        let State::Receiving { waiting, behind, stuck } = &mut self.state else { return };
        let before = waiting.len();
        while let Some(update) = waiting.front() {
            if !self.watcher.push(update) {
                break;
            }
            waiting.pop_front();
        }
        *stuck = if waiting.len() < before { 0 } else { *stuck + 1 };
        let too_far = behind.updates > BEHIND_UPDATES_MAX || behind.entries > BEHIND_ENTRIES_MAX;
        if waiting.is_empty() {
            self.state = State::Settled;
        } else if too_far || *stuck > STUCK_TICKS_MAX {
            self.state = State::Lagging;
        }
    }
}

impl Snapshot {
    fn new(all: Vec<Shown>, update: impl Fn(UpdateKind) -> Arc<Update>) -> Self {
        let parts = snapshot_parts(all);
        let last = parts.len() - 1;
        let mut first: Option<Vec<Listed>> = None;
        let mut whole = Vec::with_capacity(parts.len());
        for (at, entries) in parts.into_iter().enumerate() {
            first.get_or_insert_with(|| entries.clone());
            whole.push(update(UpdateKind::Snapshot { entries, more: at < last, reset: false }));
        }
        let reset = first
            .map(|entries| update(UpdateKind::Snapshot { entries, more: last > 0, reset: true }));
        Self { whole, reset }
    }

    fn parts(&mut self, reset: bool) -> VecDeque<Arc<Update>> {
        let mut parts: VecDeque<_> = self.whole.iter().cloned().collect();
        if let (true, Some(first)) = (reset, &self.reset) {
            parts[0] = first.clone();
        }
        parts
    }
}
