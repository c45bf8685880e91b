//! What is in the file: tables, records, and the look at all of it when it is opened.

use redb::{
    ReadTransaction, ReadableTable as _, TableDefinition, TableError, TableHandle as _,
    WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::types::{Ballot, Position, RaftId, SnapshotMeta, TypeConfig};
use super::error::KeepError;
use crate::control::codec::{Kind, open, seal};
use crate::control::model::{GroupId, State};

pub(super) type Entry = openraft::Entry<TypeConfig>;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");

const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "meta";
const SNAPSHOT_STATE: &str = "state";

/// Who a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster: String,
    pub raft_id: RaftId,
    /// The one that it has joined.
    pub group: Option<GroupId>,
}

/// What the two halves begin with.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) committed: Option<Position>,
    pub(super) snapshot: Option<(SnapshotMeta, State)>,
    pub(super) is_blank: bool,
}

/// All of it, whether it makes sense. `None`: nothing was ever written.
pub(super) fn look(tables: &ReadTransaction) -> Result<Option<(Identity, Kept)>, KeepError> {
    let names: Vec<String> = tables.list_tables()?.map(|table| table.name().to_owned()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let known = [META.name(), LOG.name(), SNAPSHOT.name()];
    if !known.iter().all(|name| names.iter().any(|there| there == name)) {
        return Err(KeepError::Foreign);
    }
    let identity: Option<Identity> = meta(tables, IDENTITY, Kind::Identity)?;
    let Some(identity) = identity else {
        return Err(KeepError::Nonsense("it does not say whose it is".to_owned()));
    };
    let vote: Option<Ballot> = vote(tables)?;
    let committed = meta(tables, COMMITTED, Kind::Committed)?;
    let purged: Option<Position> = purged(tables)?;
    let first = purged.map_or(0, |purged| purged.index + 1);
    let mut is_blank = vote.is_none() && purged.is_none();
    for (next, entry) in (first..).zip(tables.open_table(LOG)?.range::<u64>(..)?) {
        let (index, record) = entry?;
        if index.value() != next {
            let why = format!("entry {next} is missing: the next is {}", index.value());
            return Err(KeepError::Nonsense(why));
        }
        entry_of(index.value(), record.value())?;
        is_blank = false;
    }
    let snapshot = match snapshot(tables)? {
        Some((meta, bytes)) => Some((meta, State::from_snapshot(&bytes)?)),
        None => None,
    };
    is_blank &= snapshot.is_none();
    Ok(Some((identity, Kept { committed, snapshot, is_blank })))
}

/// A store with nothing in it but who it is.
pub(super) fn make(tables: &WriteTransaction, identity: &Identity) -> Result<(), KeepError> {
    tables.open_table(META)?.retain(|_, _| false)?;
    tables.open_table(LOG)?.retain(|_, _| false)?;
    tables.open_table(SNAPSHOT)?.retain(|_, _| false)?;
    put_identity(tables, identity)
}

pub(super) fn put_identity(
    tables: &WriteTransaction,
    identity: &Identity,
) -> Result<(), KeepError> {
    put_meta(tables, IDENTITY, Kind::Identity, identity)
}

pub(super) fn vote(tables: &ReadTransaction) -> Result<Option<Ballot>, KeepError> {
    meta(tables, VOTE, Kind::Vote)
}

pub(super) fn put_vote(tables: &WriteTransaction, vote: &Ballot) -> Result<(), KeepError> {
    put_meta(tables, VOTE, Kind::Vote, vote)
}

pub(super) fn put_committed(
    tables: &WriteTransaction,
    committed: Option<Position>,
) -> Result<(), KeepError> {
    match committed {
        Some(committed) => put_meta(tables, COMMITTED, Kind::Committed, &committed),
        None => Ok(()),
    }
}

pub(super) fn purged(tables: &ReadTransaction) -> Result<Option<Position>, KeepError> {
    meta(tables, PURGED, Kind::Purged)
}

/// Everything up to there goes.
pub(super) fn purge(tables: &WriteTransaction, upto: &Position) -> Result<(), KeepError> {
    tables.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
    put_meta(tables, PURGED, Kind::Purged, upto)
}

/// Everything from there on goes.
pub(super) fn truncate(tables: &WriteTransaction, from: u64) -> Result<(), KeepError> {
    tables.open_table(LOG)?.retain_in(from.., |_, _| false)?;
    Ok(())
}

pub(super) fn append(
    tables: &WriteTransaction,
    records: &[(u64, Vec<u8>)],
) -> Result<(), KeepError> {
    let mut log = tables.open_table(LOG)?;
    for (index, record) in records {
        log.insert(index, record.as_slice())?;
    }
    Ok(())
}

pub(super) fn record_of(entry: &Entry) -> Result<(u64, Vec<u8>), KeepError> {
    Ok((entry.log_id.index, seal(Kind::Entry, entry)?))
}

/// Those that there are of `from..until`.
pub(super) fn entries(
    tables: &ReadTransaction,
    range: impl std::ops::RangeBounds<u64>,
) -> Result<Vec<Entry>, KeepError> {
    let log = tables.open_table(LOG)?;
    let range = log.range::<u64>(range)?;
    range
        .map(|record| {
            let (index, record) = record?;
            entry_of(index.value(), record.value())
        })
        .collect()
}

pub(super) fn last(tables: &ReadTransaction) -> Result<Option<Position>, KeepError> {
    let log = tables.open_table(LOG)?;
    let last = log.last()?;
    let entry = last.map(|(index, record)| entry_of(index.value(), record.value())).transpose()?;
    Ok(entry.map(|entry| entry.log_id))
}

fn entry_of(index: u64, record: &[u8]) -> Result<Entry, KeepError> {
    let entry: Entry = open(Kind::Entry, record)?;
    if entry.log_id.index != index {
        let why = format!("entry {} stands where {index} should", entry.log_id.index);
        return Err(KeepError::Nonsense(why));
    }
    Ok(entry)
}

/// Its state is still to be opened.
pub(super) fn snapshot(
    tables: &ReadTransaction,
) -> Result<Option<(SnapshotMeta, Vec<u8>)>, KeepError> {
    let table = tables.open_table(SNAPSHOT)?;
    match (table.get(SNAPSHOT_META)?, table.get(SNAPSHOT_STATE)?) {
        (Some(meta), Some(state)) => {
            Ok(Some((open(Kind::SnapshotMeta, meta.value())?, state.value().to_vec())))
        }
        (None, None) => Ok(None),
        _ => Err(KeepError::Nonsense("half a snapshot".to_owned())),
    }
}

pub(super) fn put_snapshot(
    tables: &WriteTransaction,
    meta: &SnapshotMeta,
    state: &[u8],
) -> Result<(), KeepError> {
    let meta = seal(Kind::SnapshotMeta, meta)?;
    let mut table = tables.open_table(SNAPSHOT)?;
    table.insert(SNAPSHOT_META, meta.as_slice())?;
    table.insert(SNAPSHOT_STATE, state)?;
    Ok(())
}

fn meta<T: DeserializeOwned>(
    tables: &ReadTransaction,
    key: &str,
    kind: Kind,
) -> Result<Option<T>, KeepError> {
    let table = match tables.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let record = table.get(key)?;
    record.map(|record| Ok(open(kind, record.value())?)).transpose()
}

fn put_meta(
    tables: &WriteTransaction,
    key: &str,
    kind: Kind,
    value: &impl Serialize,
) -> Result<(), KeepError> {
    tables.open_table(META)?.insert(key, seal(kind, value)?.as_slice())?;
    Ok(())
}
