//! What a watcher gets and what a reader asks for: plain values, shared by all who get the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::presence::{Count, Reference, Shown};
use crate::types::{NodeName, Time, Topic};

/// Entries of one update at most; what is more follows in another one.
pub const ENTRIES_MAX: usize = 1_000;
/// About so many bytes of keys and metadata in one update, a single large entry excepted.
pub const UPDATE_BYTES_MAX: usize = 256 << 10;

/// One step of one watched topic. Built once, shared by all who watch.
pub struct Update {
    pub topic: Topic,
    pub kind: UpdateKind,
    /// Of the whole step: its parts share it. Comparable on one node only.
    pub version: Arc<str>,
    /// After the step.
    pub count: Count,
    frame: OnceLock<Bytes>,
    event: OnceLock<Bytes>,
}

#[derive(Debug)]
pub enum UpdateKind {
    /// Everything, in order of (key, id). `more`: another part follows. `reset`: what the watcher had is void.
    Snapshot { entries: Vec<Listed>, more: bool, reset: bool },
    /// Net changes, to be applied in this order: joins, updates, leaves. Those of a large step come in several updates.
    Diff { joins: Vec<Listed>, updates: Vec<(Listed, Reference)>, leaves: Vec<Listed> },
    /// For those who watch the counts only.
    Count,
}

/// A presence as a watcher or a reader gets it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub shown: Shown,
    /// Of a join: its key had no presence before this step. Of a snapshot: the first entry of its key.
    pub first_of_key: bool,
    /// Of a leave: its key has no presence after this step.
    pub last_of_key: bool,
}

impl Update {
    pub fn new(topic: Topic, kind: UpdateKind, version: Arc<str>, count: Count) -> Self {
        Self { topic, kind, version, count, frame: OnceLock::new(), event: OnceLock::new() }
    }

    /// As a session gets it: encoded by the first who asks.
    pub fn frame(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.frame.get_or_init(|| encode(self))
    }

    /// As a call that watches gets it: encoded by the first who asks.
    pub fn event(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.event.get_or_init(|| encode(self))
    }

    /// How many entries it names.
    pub fn entries(&self) -> usize {
        match &self.kind {
            UpdateKind::Snapshot { entries, .. } => entries.len(),
            UpdateKind::Diff { joins, updates, leaves } => {
                joins.len() + updates.len() + leaves.len()
            }
            UpdateKind::Count => 0,
        }
    }
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("topic", &self.topic)
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// One watcher of one topic. Called with locks of the replicator held: it must not block, and must not call the replicator.
pub trait Watcher: Send + Sync + 'static {
    /// False: there is no room, and it was not taken.
    fn push(&self, update: &Arc<Update>) -> bool;
    /// Whether it is worth to begin anew with a watcher that had none.
    fn has_room(&self) -> bool;
}

/// How to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watching {
    pub counts_only: bool,
}

/// Which watch to end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatchId {
    pub(super) topic: Topic,
    pub(super) number: u64,
}

/// What to list of a topic.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub key: Option<String>,
    /// Entries of the page at most; 0: as many as a page may have.
    pub limit: usize,
    pub after: Option<PageToken>,
}

/// The last entry of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    pub key: String,
    pub id: String,
}

/// A run of entries in order of (key, id), as they were at one moment. Pages are not one cut.
#[derive(Debug, Clone)]
pub struct Page {
    pub entries: Vec<Listed>,
    /// There is more: ask again with it.
    pub next: Option<PageToken>,
    pub count: Count,
    pub version: Arc<str>,
    /// When it was read, on this node's clock.
    pub at: Time,
}

/// For status and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PresenceReport {
    /// Shown here, whoever owns them.
    pub presences: u64,
    pub keys: u64,
    /// Among them, of nodes that are down.
    pub orphaned: u64,
    /// All claims that are kept, those that do not show too.
    pub claims: u64,
    /// Rows that this node knows it lacks something of, and withdrawals that wait for a successor.
    pub pending_repairs: u64,
    pub watches: u64,
    /// Held of wholes that peers have begun to send.
    pub transfer_bytes: u64,
    /// The nodes whose presences are orphaned.
    pub orphans: BTreeMap<NodeName, Orphans>,
}

/// The presences of a node that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orphans {
    pub presences: u64,
    /// Until the last of them leaves, at the most.
    pub left: Duration,
}
