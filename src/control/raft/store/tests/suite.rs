//! openraft's suite for stores, against a file and against memory.

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::super::super::types::{StorageError, TypeConfig};
use super::super::{Changed, FILE, LogStore, Machine, Store};
use crate::types::ClusterName;

struct OnDisk;
struct InMemory;

fn cluster() -> ClusterName {
    ClusterName::parse("test").unwrap()
}

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join(FILE), &cluster(), 1).unwrap();
        let (log, machine, _) = store.split(Changed::default());
        Ok((dir, log, machine))
    }
}

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError> {
        let mut store = Store::in_memory(&cluster(), 1).unwrap();
        let (log, machine, _) = store.split(Changed::default());
        Ok(((), log, machine))
    }
}

#[test]
fn a_file_is_a_store_as_openraft_wants_it() {
    Suite::test_all(OnDisk).unwrap();
}

#[test]
fn memory_is_a_store_as_openraft_wants_it() {
    Suite::test_all(InMemory).unwrap();
}
