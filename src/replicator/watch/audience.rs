//! The watchers of one topic: how far each is, and what it gets next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::snapshot::{Behind, Snapshot};
use crate::presence::Count;
use crate::replicator::shard::{Glance, Shards};
use crate::replicator::update::{Update, UpdateKind, Watcher, Watching};
use crate::types::Topic;

/// One that takes no part of its snapshot for so many ticks gives it up, so that it pins none.
const STUCK_TICKS_MAX: u32 = 100;

#[derive(Debug, Default)]
pub(super) struct Audience {
    watches: BTreeMap<u64, Watch>,
    /// One that is not complete yet.
    snapshot: Option<Snapshot>,
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
    /// Takes part in the snapshot that is being made, and has taken so many of its parts.
    Copying { taken: usize, reset: bool, stuck: u32 },
    /// The rest of its snapshot, and what came after, as far as it has not taken it.
    Receiving { waiting: VecDeque<Arc<Update>>, behind: Behind, stuck: u32 },
    /// Has taken everything.
    Settled,
    /// Had no room. Nothing is pushed until it has.
    Lagging,
    /// Only the counts, and only where they differ from those.
    Counts { told: Option<Count> },
}

/// What a topic has to do after a tick, or after a piece of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::replicator) struct Next {
    /// Somebody waits for room.
    pub(in crate::replicator) waits: bool,
    /// A snapshot is being made.
    pub(in crate::replicator) copies: bool,
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

    /// `piece`: a snapshot is read by so many entries.
    pub(super) fn tick(&mut self, topic: &Topic, shards: &Shards, piece: usize) -> Next {
        let mut newcomers = false;
        for watch in self.watches.values_mut() {
            if matches!(watch.state, State::Lagging) && watch.watcher.has_room() {
                watch.state = State::New { reset: true };
            }
            newcomers |= matches!(watch.state, State::New { .. });
        }
        let begins = newcomers && self.snapshot.is_none();
        let Glance { step, piece: first, count, version } =
            shards.glance(topic, begins.then_some(piece));
        let update = |kind| Arc::new(Update::new(topic.clone(), kind, version.clone(), count));
        let updates: Vec<_> = step.into_kinds().into_iter().map(update).collect();
        let entries: usize = updates.iter().map(|update| update.entries()).sum();
        if let Some(first) = first {
            self.snapshot = Some(Snapshot::new(topic.clone(), version.clone(), count, first));
        } else if let Some(snapshot) = &mut self.snapshot {
            snapshot.go_on(&updates, entries);
        }
        let mut counts = None;
        for watch in self.watches.values_mut() {
            let watcher = &*watch.watcher;
            match &mut watch.state {
                State::Settled => {
                    if !updates.iter().all(|update| watcher.push(update)) {
                        watch.state = State::Lagging;
                    }
                }
                State::New { reset } => {
                    // Those who come while it is being made take part in it, and get what has changed since with all the others.
                    if self
                        .snapshot
                        .as_ref()
                        .is_some_and(|snapshot| !snapshot.behind().is_too_far())
                    {
                        watch.state = State::Copying { taken: 0, reset: *reset, stuck: 0 };
                    }
                }
                State::Receiving { waiting, behind, .. } => {
                    behind.add(updates.len(), entries);
                    waiting.extend(updates.iter().cloned());
                    watch.pump();
                }
                State::Copying { .. } | State::Lagging => {}
                State::Counts { told } => {
                    if *told != Some(count) {
                        let counts = counts.get_or_insert_with(|| update(UpdateKind::Count));
                        if watcher.push(counts) {
                            *told = Some(count);
                        }
                    }
                }
            }
        }
        self.hand_out(topic, shards, true);
        let settled = |watch: &Watch| match watch.state {
            State::Settled => true,
            State::Counts { told } => told == Some(count),
            _ => false,
        };
        Next {
            waits: !self.watches.values().all(settled),
            copies: self.snapshot.as_ref().is_some_and(|snapshot| !snapshot.is_whole()),
        }
    }

    /// Reads on in the snapshot that is being made, unless all who take part have enough to take. True: it is not whole yet.
    pub(super) fn copy_some(&mut self, topic: &Topic, shards: &Shards, piece: usize) -> bool {
        let Some(snapshot) = &mut self.snapshot else { return false };
        let taken = self.watches.values().filter_map(|watch| match watch.state {
            State::Copying { taken, .. } => Some(taken),
            _ => None,
        });
        if !taken.max().is_some_and(|taken| snapshot.should_go_on(taken)) {
            return false;
        }
        match shards.next_piece(topic, piece) {
            Some(piece) => snapshot.add(piece),
            None => self.snapshot = None,
        }
        self.hand_out(topic, shards, false);
        self.snapshot.is_some()
    }

    /// Hands on what there is of the snapshot, as far as there is room. Once it is whole, each has the rest to itself.
    fn hand_out(&mut self, topic: &Topic, shards: &Shards, at_tick: bool) {
        let mut taking_part = false;
        for watch in self.watches.values_mut() {
            watch.take_part(self.snapshot.as_ref(), at_tick);
            taking_part |= matches!(watch.state, State::Copying { .. });
        }
        if !taking_part
            && let Some(snapshot) = self.snapshot.take()
            && !snapshot.is_whole()
        {
            shards.stop_copying(topic);
        }
    }

    /// The planted bug: whoever is new gets the list as it is now, and the changes since the last tick once more.
    #[cfg(test)]
    pub(super) fn admit_at_once(&mut self, topic: &Topic, shards: &Shards) {
        let (entries, count, version) = shards.peek(topic);
        let piece = crate::replicator::watch::copying::Piece { entries, is_last: true };
        let snapshot = Snapshot::new(topic.clone(), version, count, piece);
        for watch in self.watches.values_mut() {
            if let State::New { reset } = watch.state {
                watch.state = State::Copying { taken: 0, reset, stuck: 0 };
                watch.take_part(Some(&snapshot), true);
            }
        }
    }
}

impl Watch {
    /// Hands on what there is of the snapshot, as far as there is room.
    fn take_part(&mut self, snapshot: Option<&Snapshot>, at_tick: bool) {
        let State::Copying { taken, reset, stuck } = &mut self.state else { return };
        let Some(snapshot) = snapshot.filter(|snapshot| !snapshot.behind().is_too_far()) else {
            self.state = State::Lagging;
            return;
        };
        if snapshot.is_whole() {
            let (waiting, behind) = (snapshot.rest(*taken, *reset), snapshot.behind().clone());
            self.state = State::Receiving { waiting, behind, stuck: *stuck };
            self.pump();
            return;
        }
        let before = *taken;
        while let Some(part) = snapshot.part(*taken, *reset) {
            if !self.watcher.push(part) {
                break;
            }
            *taken += 1;
        }
        let moves = *taken > before || snapshot.part(*taken, *reset).is_none();
        *stuck = if moves { 0 } else { *stuck + u32::from(at_tick) };
        if *stuck > STUCK_TICKS_MAX {
            self.state = State::Lagging;
        }
    }

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
        if waiting.is_empty() {
            self.state = State::Settled;
        } else if behind.is_too_far() || *stuck > STUCK_TICKS_MAX {
            self.state = State::Lagging;
        }
    }
}
