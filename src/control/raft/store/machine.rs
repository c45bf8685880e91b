//! openraft's state machine: the member's copy of the facts, and snapshots of it in the store.
//!
//! The copy is in memory: after a start it is the last snapshot, and openraft applies again what the log has from there to where it is
//! known to be committed. A snapshot is durable before it is told of, and before any entry that it stands for may be purged.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::super::types::{Membership, Position, RaftId, SnapshotMeta, StorageError, TypeConfig};
use super::disk::Disk;
use super::error::KeepError;
use super::log::any;
use super::recent::Recent;
use super::records::{self, Entry};
use crate::control::model::{Answers, LeaseKey, State};

/// The facts as this member has applied them.
#[derive(Debug, Clone, Default)]
pub(super) struct Copy {
    state: Arc<State>,
    applied: Option<Position>,
    membership: Membership,
}

/// What others read, without waiting for the group. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CopyHandle {
    shared: Arc<Shared>,
}

/// What changed since somebody last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Look at everything.
    pub all: bool,
    /// Namespaces or keys.
    pub access: bool,
    pub leases: BTreeSet<LeaseKey>,
}

#[derive(Debug)]
struct Shared {
    copy: RwLock<Copy>,
    news: Mutex<News>,
    /// Changed with the copy locked for writing only.
    recent: Mutex<Recent>,
    /// The index of what was applied last; wakes whoever waits for it.
    index: watch::Sender<u64>,
    changed: Changed,
}

/// Wakes those who follow a member's copy, also from one group to the next.
pub type Changed = watch::Sender<()>;

#[derive(Debug)]
pub struct Machine {
    disk: Disk,
    shared: Arc<Shared>,
}

/// A snapshot of the copy as it was.
#[derive(Debug)]
pub struct Builder {
    disk: Disk,
    copy: Copy,
}

impl CopyHandle {
    pub fn state(&self) -> Arc<State> {
        self.shared.copy.read().state.clone()
    }

    /// A short look; applying waits for its end.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.copy.read().state)
    }

    /// Of the last entry that was applied; 0 before any.
    pub fn applied(&self) -> u64 {
        *self.shared.index.borrow()
    }

    #[cfg(test)]
    pub(super) fn applied_position(&self) -> Option<Position> {
        self.shared.copy.read().applied
    }

    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.index.subscribe()
    }

    /// Which leases that `concerns` have changed, for any number of readers; and where to go on. None: look at everything.
    pub fn leases_since(
        &self,
        from: u64,
        concerns: impl Fn(&LeaseKey) -> bool,
    ) -> (Option<BTreeSet<LeaseKey>>, u64) {
        let recent = self.shared.recent.lock();
        (recent.since(from, concerns), recent.next())
    }

    /// For one reader, who follows what changes. It holds no more than there are leases, and those that ended since.
    pub fn take_news(&self) -> News {
        std::mem::take(&mut self.shared.news.lock())
    }
}

impl Machine {
    pub(super) fn new(
        disk: Disk,
        snapshot: Option<(SnapshotMeta, State)>,
        changed: Changed,
    ) -> (Self, CopyHandle) {
        let copy = snapshot.map_or_else(Copy::default, |(meta, state)| Copy {
            state: Arc::new(state),
            applied: meta.last_log_id,
            membership: meta.last_membership,
        });
        let index = watch::Sender::new(index(copy.applied));
        let news = Mutex::new(News { all: true, ..News::default() });
        let (copy, recent) = (RwLock::new(copy), Mutex::default());
        let shared = Arc::new(Shared { copy, news, recent, index, changed });
        (Self { disk, shared: shared.clone() }, CopyHandle { shared })
    }
}

fn index(applied: Option<Position>) -> u64 {
    applied.map_or(0, |position| position.index)
}

impl Shared {
    fn apply(&self, entries: impl Iterator<Item = Entry>) -> Vec<Answers> {
        let mut copy = self.copy.write();
        let mut news = self.news.lock();
        let mut recent = self.recent.lock();
        let mut answers = Vec::new();
        for entry in entries {
            copy.applied = Some(entry.log_id);
            answers.push(match entry.payload {
                EntryPayload::Blank => Answers::default(),
                EntryPayload::Membership(membership) => {
                    copy.membership = Membership::new(Some(entry.log_id), membership);
                    Answers::default()
                }
                EntryPayload::Normal(batch) => {
                    // Copies it where a snapshot of it is being made: once a snapshot.
                    let applied = Arc::make_mut(&mut copy.state).apply(&batch);
                    news.access |= applied.touched.access;
                    recent.note(&applied.touched.leases);
                    if !news.all {
                        news.leases.extend(applied.touched.leases);
                        news.forget_many();
                    }
                    applied.answers
                }
            });
        }
        self.index.send_replace(index(copy.applied));
        self.changed.send_replace(());
        answers
    }

    fn replace(&self, new: Copy) {
        let mut copy = self.copy.write();
        *copy = new;
        *self.news.lock() = News { all: true, ..News::default() };
        self.recent.lock().lose();
        self.index.send_replace(index(copy.applied));
        self.changed.send_replace(());
    }
}

impl News {
    /// Nobody reads them, or hardly: looking at all leases costs no more then.
    fn forget_many(&mut self) {
        if self.leases.len() > crate::control::model::bounds::LEASES_MAX {
            *self = Self { all: true, access: self.access, leases: BTreeSet::new() };
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<Position>, Membership), StorageError> {
        let copy = self.shared.copy.read();
        Ok((copy.applied, copy.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(self.shared.apply(entries.into_iter()))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { disk: self.disk.clone(), copy: self.shared.copy.read().clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let bytes = snapshot.into_inner();
        let (of_disk, at) = (self.disk.clone(), meta.clone());
        let installed = async move {
            let state = State::from_snapshot(&bytes)?;
            of_disk.write(move |tables| records::put_snapshot(tables, &at, &bytes)).await?;
            Ok::<_, KeepError>(state)
        };
        let state = installed.await.map_err(|error| {
            StorageIOError::<RaftId>::write_snapshot(Some(meta.signature()), any(&error))
        })?;
        self.shared.replace(Copy {
            state: Arc::new(state),
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let read = self.disk.read(records::snapshot).await;
        let read = read.and_then(|read| {
            // Nobody is sent what the disk has changed.
            if let Some((_, bytes)) = &read {
                State::from_snapshot(bytes)?;
            }
            Ok(read)
        });
        let read = read.map_err(|error| StorageIOError::read_snapshot(None, any(&error)))?;
        Ok(read.map(|(meta, bytes)| told(meta, bytes)))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let Copy { state, applied, membership } = self.copy.clone();
        let id = match &applied {
            Some(at) => format!("{}-{}-{}", at.leader_id.term, at.leader_id.node_id, at.index),
            None => "nothing".to_owned(),
        };
        let meta =
            SnapshotMeta { last_log_id: applied, last_membership: membership, snapshot_id: id };
        let at = meta.clone();
        let built = self
            .disk
            .write(move |tables| {
                let bytes = state.to_snapshot()?;
                records::put_snapshot(tables, &at, &bytes)?;
                Ok(bytes)
            })
            .await;
        let bytes = built
            .map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), any(&error)))?;
        Ok(told(meta, bytes))
    }
}

fn told(meta: SnapshotMeta, bytes: Vec<u8>) -> Snapshot<TypeConfig> {
    Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }
}
