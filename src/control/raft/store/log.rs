//! openraft's log and vote, in the store.
//!
//! Every write is durable before it returns, so the callback of an append comes at once. How far the log is committed needs no fsync of its
//! own: it is written with the next thing that does, and after a crash it is only older.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;

use super::super::types::{Ballot, Position, RaftId, StorageError, TypeConfig};
use super::disk::Disk;
use super::error::KeepError;
use super::records::{self, Entry};

/// Cheap to clone; clones are the same log.
#[derive(Debug, Clone)]
pub struct LogStore {
    disk: Disk,
    committed: Arc<Mutex<Option<Position>>>,
}

impl LogStore {
    pub(super) fn new(disk: Disk, committed: Option<Position>) -> Self {
        Self { disk, committed: Arc::new(Mutex::new(committed)) }
    }

    /// With how far is committed, as it is known by now.
    async fn write(
        &self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), KeepError> + Send + 'static,
    ) -> Result<(), KeepError> {
        let committed = *self.committed.lock();
        self.disk
            .write(move |tables| {
                write(tables)?;
                records::put_committed(tables, committed)
            })
            .await
    }
}

pub(super) fn any(error: &KeepError) -> AnyError {
    AnyError::new(error)
}

fn read_failed(error: &KeepError) -> StorageError {
    StorageIOError::read_logs(any(error)).into()
}

fn write_failed(error: &KeepError) -> StorageError {
    StorageIOError::write_logs(any(error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        // redb panics at a range that ends before it begins.
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        if first >= end {
            return Ok(Vec::new());
        }
        let read = self.disk.read(move |tables| records::entries(tables, first..end)).await;
        read.map_err(|error| read_failed(&error))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let read =
            |tables: &redb::ReadTransaction| Ok((records::purged(tables)?, records::last(tables)?));
        let (purged, last) = self.disk.read(read).await.map_err(|error| read_failed(&error))?;
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Ballot) -> Result<(), StorageError> {
        let vote = *vote;
        let written = self.write(move |tables| records::put_vote(tables, &vote)).await;
        written.map_err(|error| StorageIOError::<RaftId>::write_vote(any(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Ballot>, StorageError> {
        let read = self.disk.read(records::vote).await;
        read.map_err(|error| StorageIOError::<RaftId>::read_vote(any(&error)).into())
    }

    async fn save_committed(&mut self, committed: Option<Position>) -> Result<(), StorageError> {
        *self.committed.lock() = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<Position>, StorageError> {
        Ok(*self.committed.lock())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Result<Vec<_>, _> =
            entries.into_iter().map(|entry| records::record_of(&entry)).collect();
        let records = records.map_err(|error| write_failed(&error))?;
        let written = self.write(move |tables| records::append(tables, &records)).await;
        written.map_err(|error| write_failed(&error))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: Position) -> Result<(), StorageError> {
        let written = self.write(move |tables| records::truncate(tables, from.index)).await;
        written.map_err(|error| write_failed(&error))
    }

    async fn purge(&mut self, upto: Position) -> Result<(), StorageError> {
        let written = self.write(move |tables| records::purge(tables, &upto)).await;
        written.map_err(|error| write_failed(&error))
    }
}
