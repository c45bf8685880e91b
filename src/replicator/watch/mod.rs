//! Who watches which topic, and what they get at its ticks.
//!
//! A watcher is admitted at a tick's edge: in one look at the shard the net changes since the last tick are taken and, where somebody
//! is new, a copy of the list is begun. The copy is the list after those changes, however long it takes to make (`copying`), and the next
//! tick's changes begin where it ends.

mod audience;
pub(super) mod copying;
pub(super) mod pending;
mod snapshot;
mod ticker;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use self::audience::{Audience, Next};
pub(super) use self::ticker::Ticker;
use super::shard::Shards;
use super::update::{ENTRIES_MAX, WatchId, Watcher, Watching};
use crate::presence::{SHARDS, shard_of};
use crate::types::Topic;

/// Lock order: a topic's audience, then its shard. The maps' locks are held for a look only, with nothing below them but an audience
/// that has just been made.
#[derive(Debug)]
pub(super) struct Watches {
    topics: [Mutex<HashMap<Topic, Arc<Watched>>>; SHARDS],
    numbers: AtomicU64,
    count: AtomicU64,
    /// Entries that are read of a list while its shard is locked.
    piece: usize,
    /// A bug on purpose, which the tests must find: a watcher is admitted at once, between two ticks.
    #[cfg(test)]
    pub(super) planted_mid_tick: std::sync::atomic::AtomicBool,
}

/// One topic that somebody watches.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) topic: Topic,
    audience: Mutex<Audience>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            topics: std::array::from_fn(|_| Mutex::default()),
            numbers: AtomicU64::new(1),
            count: AtomicU64::new(0),
            piece: ENTRIES_MAX,
            #[cfg(test)]
            planted_mid_tick: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// As `new`, but for how much is read at once.
    #[cfg(test)]
    pub(super) fn in_pieces(piece: usize) -> Self {
        Self { piece, ..Self::new() }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn find(&self, topic: &Topic) -> Option<Arc<Watched>> {
        self.topics[shard_of(topic)].lock().get(topic).cloned()
    }

    /// It gets its snapshot at the topic's next tick.
    pub(super) fn watch(
        &self,
        shards: &Shards,
        topic: &Topic,
        how: Watching,
        watcher: Arc<dyn Watcher>,
    ) -> WatchId {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        loop {
            let watched = self.topics[shard_of(topic)]
                .lock()
                .entry(topic.clone())
                .or_insert_with(|| {
                    let audience = Mutex::new(Audience::default());
                    Arc::new(Watched { topic: topic.clone(), audience })
                })
                .clone();
            let mut audience = watched.audience.lock();
            if audience.is_closed() {
                // The last one has just left; whoever closed it is about to take it out of the map.
                drop(audience);
                self.remove(&watched);
                continue;
            }
            audience.enter(number, how, watcher);
            shards.look_at(topic);
            #[cfg(test)]
            if self.planted_mid_tick.load(Ordering::Relaxed) {
                audience.admit_at_once(topic, shards);
            }
            self.count.fetch_add(1, Ordering::Relaxed);
            return WatchId { topic: topic.clone(), number };
        }
    }

    pub(super) fn unwatch(&self, shards: &Shards, id: &WatchId) {
        let Some(watched) = self.find(&id.topic) else { return };
        let mut audience = watched.audience.lock();
        if !audience.leave(id.number) {
            return;
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        if audience.close_if_empty() {
            shards.look_away(&id.topic);
            drop(audience);
            self.remove(&watched);
        }
    }

    fn remove(&self, watched: &Arc<Watched>) {
        let mut topics = self.topics[shard_of(&watched.topic)].lock();
        if topics.get(&watched.topic).is_some_and(|there| Arc::ptr_eq(there, watched)) {
            topics.remove(&watched.topic);
        }
    }

    /// One tick of one topic.
    pub(super) fn tick(&self, shards: &Shards, topic: &Topic) -> Next {
        let Some(watched) = self.find(topic) else { return Next::default() };
        let mut audience = watched.audience.lock();
        if audience.is_closed() {
            return Next::default();
        }
        audience.tick(topic, shards, self.piece)
    }

    /// One piece of the snapshot that its newcomers are given. True: another one should follow soon.
    pub(super) fn copy_some(&self, shards: &Shards, topic: &Topic) -> bool {
        let Some(watched) = self.find(topic) else { return false };
        let mut audience = watched.audience.lock();
        !audience.is_closed() && audience.copy_some(topic, shards, self.piece)
    }
}
