//! Files that aren't what was written: each is refused with a sentence that says so, or holds exactly what was acknowledged.

use std::fs;
use std::path::Path;

use redb::{Database, TableDefinition};

use super::super::disk::Disk;
use super::super::{FILE, Store, StoreError};
use super::faulty::Faulty;
use super::{Expected, Life, cluster, held, life};
use crate::control::model::GroupId;
use crate::types::ClusterName;

/// Bytes of a file with a life in it, closed or not, and what it holds.
async fn written(closed: bool) -> (Vec<u8>, Expected) {
    let disk = Faulty::default();
    let mut life_of =
        Life::of(Store::judged(Disk::on(disk.clone()).unwrap(), &cluster(), 1).unwrap());
    for step in life() {
        assert!(life_of.take(&step).await);
    }
    let expected = life_of.expected.clone();
    let image = disk.image();
    drop(life_of);
    (if closed { disk.image() } else { image }, expected)
}

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path, &cluster(), 1)
}

#[tokio::test]
async fn a_flipped_bit_is_found_or_was_nobodys() {
    let (image, expected) = written(true).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let used =
        image.chunks(4_096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    // Each byte of the head, and of every page in use some.
    let mut places: Vec<usize> = (0..320).collect();
    for (page, _) in used.skip(1) {
        places.extend((0..4).map(|part| page * 4_096 + part * 1_024 + page * 37 % 1_024));
    }
    let (mut refused, all) = (0, places.len());
    for (turn, place) in places.into_iter().enumerate() {
        let mut flipped = image.clone();
        flipped[place] ^= 1 << (turn % 8);
        fs::write(&path, flipped).unwrap();
        match open(&path) {
            Ok(store) => assert_eq!(held(store).await, expected, "byte {place}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(FILE), "{error}");
            }
        }
    }
    assert!(refused > 100, "{refused} of {all} found");
}

#[tokio::test]
async fn records_changed_by_somebody_who_knows_redb_are_found() {
    let (image, _) = written(true).await;
    let log: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
    let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let check = |change: &dyn Fn(&redb::WriteTransaction), expected: &str| {
        fs::write(&path, &image).unwrap();
        let db = Database::open(&path).unwrap();
        let transaction = db.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
        drop(db);
        let told = open(&path).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    };
    let read = |at: u64| {
        fs::write(&path, &image).unwrap();
        let db = Database::open(&path).unwrap();
        let read = redb::ReadableDatabase::begin_read(&db).unwrap().open_table(log).unwrap();
        redb::ReadableTable::get(&read, at).unwrap().unwrap().value().to_vec()
    };
    let (mut flipped, other) = (read(30), read(31));
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let put = |at: u64, record: Vec<u8>| {
        move |tables: &redb::WriteTransaction| {
            tables.open_table(log).unwrap().insert(at, record.as_slice()).unwrap();
        }
    };
    check(&put(30, flipped), "checksum");
    check(&put(30, other), "entry 31 stands where 30 should");
    check(&put(99, read(30)), "is missing");
    check(&|tables| drop(tables.open_table(log).unwrap().remove(30).unwrap()), "30 is missing");
    check(&|tables| assert!(tables.delete_table(log).unwrap()), "no store of Waxwing");
    check(&|tables| drop(tables.open_table(meta).unwrap().remove("identity").unwrap()), "whose");
}

#[tokio::test]
async fn strange_files_are_refused_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let (image, _) = written(true).await;
    let mut older_primary = image.clone();
    older_primary[9] ^= 1;
    let cut = image[..image.len() / 2].to_vec();
    for (bytes, expected) in [
        (b"SQLite format 3\0".to_vec(), "no store"),
        (vec![b'x'; 10_000], "no store"),
        (image[..100].to_vec(), "corrupt"),
        (cut, "corrupt"),
        (older_primary, "corrupt"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let told = open(&path).unwrap_err().to_string();
        assert!(told.contains(expected) && told.contains(FILE), "{told}");
        assert!(fs::read(&path).unwrap() == bytes, "{expected}: the file was changed");
    }
    fs::remove_file(&path).unwrap();
    let db = Database::create(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    let foreign: TableDefinition<'_, u64, u64> = TableDefinition::new("accounts");
    transaction.open_table(foreign).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(db);
    assert!(matches!(open(&path), Err(StoreError::Foreign { .. })));
    fs::create_dir(dir.path().join("dir")).unwrap();
    assert!(matches!(open(&dir.path().join("dir")), Err(StoreError::Open { .. })));
    assert!(matches!(open(&dir.path().join("no/where")), Err(StoreError::Open { .. })));
}

#[test]
fn a_store_is_one_nodes_of_one_cluster_and_keeps_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let mut store = Store::open(&path, &cluster(), 42).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Busy { .. })));
    let group = GroupId([3; 16]);
    store.join(group).unwrap();
    drop(store);
    let mut store = Store::open(&path, &cluster(), 43).unwrap();
    assert_eq!((store.identity().raft_id, store.identity().group), (42, Some(group)));
    store.forget(44).unwrap();
    drop(store);
    let store = Store::open(&path, &cluster(), 45).unwrap();
    assert_eq!((store.identity().raft_id, store.identity().group), (44, None));
    drop(store);
    let other = ClusterName::parse("other").unwrap();
    let told = Store::open(&path, &other, 1).unwrap_err().to_string();
    assert!(told.contains("cluster \"test\"") && told.contains("\"other\""), "{told}");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_the_power_was_cut_of_while_it_was_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::write(path.with_extension("new"), [0; 5_000]).unwrap();
    assert_eq!(held(open(&path).unwrap()).await, Expected::default());
    assert!(!path.with_extension("new").exists());
    // With its own name it was whole, and an empty one is no new one.
    for lost in [Vec::new(), vec![0; 5_000]] {
        fs::write(&path, lost).unwrap();
        assert!(matches!(open(&path), Err(StoreError::Corrupt { .. })));
    }
}
