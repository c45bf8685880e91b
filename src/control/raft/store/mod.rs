//! What a member of the group keeps: who it is, its vote, the log, the last snapshot, and its copy of the facts.
//!
//! One redb file, or the same in memory. Invariants: whatever was acknowledged is durable first, in a transaction of two phases, each with
//! its own fsync; the last whole transaction is the file's state by construction, so what does not verify was changed by something else,
//! and is refused, never rolled back; what stands in the file is looked at as a whole before anything of it is used. `disk` knows redb,
//! `records` what is in it, `log` and `machine` are openraft's two halves.

mod disk;
mod error;
mod log;
mod machine;
mod recent;
mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

pub use error::{KeepError, StoreError};
pub use log::LogStore;
pub use machine::{Changed, CopyHandle, Machine, News};
pub use records::Identity;

use disk::Disk;
use records::Kept;

use openraft::CommittedLeaderId;

use super::types::{Ballot, Membership, Position, RaftId, RaftMember, SnapshotMeta};
use crate::control::model::{GroupId, State};
use crate::types::ClusterName;

/// In the data directory.
pub const FILE: &str = "control.redb";

/// Opened, looked at, and whole.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    identity: Identity,
    kept: Kept,
}

impl Store {
    /// Makes the file where there is none. `new_id`: chance, for a store that is made now.
    pub fn open(path: &Path, cluster: &ClusterName, new_id: RaftId) -> Result<Self, StoreError> {
        if !path.try_exists().is_ok_and(|exists| exists) {
            Self::make_file(path, cluster, new_id)?;
        }
        let disk = Disk::open(path)?;
        // It has stood there whole since it got its name. Nothing in it is no beginning, but a loss.
        let empty =
            || StoreError::Corrupt { path: path.to_owned(), what: "it is empty".to_owned() };
        Self::look(&disk, cluster)?.ok_or_else(empty)
    }

    /// Under another name until it is whole: redb can't read a file that the power was cut of while it was made.
    fn make_file(path: &Path, cluster: &ClusterName, new_id: RaftId) -> Result<(), StoreError> {
        let failed =
            |error: io::Error| StoreError::Open { path: path.to_owned(), why: error.to_string() };
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        drop(Self::judged(Disk::create(&new)?, cluster, new_id)?);
        fs::rename(&new, path).map_err(failed)?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The name is durable with the directory.
            Some(parent) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed),
            None => Ok(()),
        }
    }

    /// Gone with the process.
    pub fn in_memory(cluster: &ClusterName, new_id: RaftId) -> Result<Self, StoreError> {
        Self::judged(Disk::in_memory()?, cluster, new_id)
    }

    fn judged(disk: Disk, cluster: &ClusterName, new_id: RaftId) -> Result<Self, StoreError> {
        if let Some(store) = Self::look(&disk, cluster)? {
            return Ok(store);
        }
        let cluster = cluster.as_str().to_owned();
        let identity = Identity { cluster, raft_id: new_id, group: None };
        let made = disk.write_now(|tables| records::make(tables, &identity));
        made.map_err(|error| StoreError::of(disk.place(), error))?;
        Ok(Self { disk, identity, kept: Kept::default() })
    }

    /// `None`: nothing was ever written.
    fn look(disk: &Disk, cluster: &ClusterName) -> Result<Option<Self>, StoreError> {
        let at = disk.place();
        let looked = disk.read_now(records::look).map_err(|error| StoreError::of(at, error))?;
        let Some((identity, kept)) = looked else { return Ok(None) };
        if identity.cluster != cluster.as_str() {
            return Err(StoreError::OtherCluster {
                path: at.to_owned(),
                found: identity.cluster,
                expected: cluster.as_str().to_owned(),
            });
        }
        Ok(Some(Self { disk: disk.clone(), identity, kept }))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// From now on the member is of this group, and of no other.
    pub fn join(&mut self, group: GroupId) -> Result<(), KeepError> {
        let identity = Identity { group: Some(group), ..self.identity.clone() };
        self.disk.write_now(|tables| records::put_identity(tables, &identity))?;
        self.identity = identity;
        Ok(())
    }

    /// The group dissolves: nothing of it is left, and the member is another one.
    pub fn forget(&mut self, new_id: RaftId) -> Result<(), KeepError> {
        // What the halves still have under way is not of the new one.
        self.disk.close();
        self.disk = self.disk.reopened();
        let cluster = self.identity.cluster.clone();
        let identity = Identity { cluster, raft_id: new_id, group: None };
        self.disk.write_now(|tables| records::make(tables, &identity))?;
        self.identity = identity;
        self.kept = Kept::default();
        Ok(())
    }

    /// The store is another member's, the only voter of a new group that begins with this state; what it had is gone. All at once: a crash
    /// leaves the one or the other.
    pub fn found_again(
        &mut self,
        (id, member): (RaftId, RaftMember),
        group: GroupId,
        state: &State,
    ) -> Result<(), KeepError> {
        let cluster = self.identity.cluster.clone();
        let identity = Identity { cluster, raft_id: id, group: Some(group) };
        let bytes = state.to_snapshot()?;
        // As if the group had written one entry before, its configuration, and put it into a snapshot.
        let at = Position::new(CommittedLeaderId::new(1, id), 1);
        let voters = [BTreeSet::from([id])].to_vec();
        let membership = openraft::Membership::new(voters, BTreeMap::from([(id, member)]));
        let meta = SnapshotMeta {
            last_log_id: Some(at),
            last_membership: Membership::new(Some(at), membership),
            snapshot_id: format!("founded-again-{group}"),
        };
        self.disk.close();
        self.disk = self.disk.reopened();
        self.disk.write_now(|tables| {
            records::make(tables, &identity)?;
            records::put_snapshot(tables, &meta, &bytes)?;
            records::purge(tables, &at)?;
            records::put_committed(tables, Some(at))?;
            records::put_vote(tables, &Ballot::new(1, id))
        })?;
        self.identity = identity;
        let snapshot = Some((meta, state.clone()));
        self.kept = Kept { committed: Some(at), snapshot, is_blank: false };
        Ok(())
    }

    /// Has it joined a group that nothing is known of yet: no vote, no entry? It has promised nothing to anybody.
    pub fn is_blank(&self) -> bool {
        self.kept.is_blank
    }

    /// Openraft's two halves, and what others read. Once for a group: what was found when the store was opened goes with them.
    pub fn split(&mut self, changed: Changed) -> (LogStore, Machine, CopyHandle) {
        let kept = std::mem::take(&mut self.kept);
        let log = LogStore::new(self.disk.clone(), kept.committed);
        let (machine, copy) = Machine::new(self.disk.clone(), kept.snapshot, changed);
        (log, machine, copy)
    }
}
