//! redb, as the store uses it: whole transactions, two phases each, and a file that is looked at before it is believed.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageError,
    WriteTransaction,
};

use super::error::{KeepError, StoreError};

/// Pages kept in memory; the whole file is a few megabytes in most clusters.
const CACHE_BYTES: usize = 8 << 20;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    db: Arc<Database>,
    /// Empty: in memory.
    path: Arc<PathBuf>,
    /// Nothing is written by whoever has this one any more.
    closed: Arc<AtomicBool>,
}

impl Disk {
    /// A file that is not there yet.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        // It holds hashes of keys, and who holds what.
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| open_failed(path, &error))?;
        Self::opened(path, |builder| builder.create_with_backend(FileBackend::new(file)?))
    }

    /// A file that was made before.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: io::Error| open_failed(path, &error);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut head = Vec::new();
        file.by_ref().take(HEAD_LEN as u64).read_to_end(&mut head).map_err(failed)?;
        judge_head(&head).map_err(|what| match what {
            BadHead::Foreign => StoreError::Foreign { path: path.to_owned() },
            BadHead::Corrupt(what) => {
                StoreError::Corrupt { path: path.to_owned(), what: what.to_owned() }
            }
        })?;
        Self::opened(path, |builder| builder.create_with_backend(FileBackend::new(file)?))
    }

    pub(super) fn in_memory() -> Result<Self, StoreError> {
        let open = |builder: &mut Builder| builder.create_with_backend(InMemoryBackend::new());
        Self::opened(Path::new(""), open)
    }

    /// For tests: a disk that misbehaves. As if it was a file.
    #[cfg(test)]
    pub(super) fn on(backend: impl redb::StorageBackend) -> Result<Self, StoreError> {
        let open = |builder: &mut Builder| builder.create_with_backend(backend);
        Self::opened(Path::new("test"), open)
    }

    fn opened(
        path: &Path,
        open: impl FnOnce(&mut Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        // Between the first and the second of three scans redb falls back to the transaction before the last. All of ours are in two
        // phases, so there is no crash after which that is right.
        builder.set_repair_callback(|repair| {
            if (0.2..0.5).contains(&repair.progress()) {
                repair.abort();
            }
        });
        let opened = catch_unwind(AssertUnwindSafe(|| open(&mut builder)));
        let corrupt = |what: &str| StoreError::Corrupt { path: path.to_owned(), what: what.into() };
        match opened {
            Ok(Ok(db)) => Ok(Self {
                db: Arc::new(db),
                path: Arc::new(path.to_owned()),
                closed: Arc::default(),
            }),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                Err(StoreError::Busy { path: path.to_owned() })
            }
            Ok(Err(DatabaseError::RepairAborted)) => Err(corrupt("its last transaction")),
            Ok(Err(DatabaseError::Storage(StorageError::Corrupted(what)))) => Err(corrupt(&what)),
            Ok(Err(DatabaseError::UpgradeRequired(format))) => Err(StoreError::Newer {
                path: path.to_owned(),
                what: format!("the file's own format is {format}"),
            }),
            Ok(Err(error)) => {
                Err(StoreError::Open { path: path.to_owned(), why: error.to_string() })
            }
            Err(_) => Err(corrupt("its pages make no sense")),
        }
    }

    /// The same, closed for itself.
    pub(super) fn reopened(&self) -> Self {
        Self { closed: Arc::default(), ..self.clone() }
    }

    /// For this one and its clones: what they still have to write is of no concern any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn place(&self) -> &Path {
        &self.path
    }

    fn is_in_memory(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// When it returns, all of it is durable, or nothing of it is there.
    pub(super) fn write_now<T>(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<T, KeepError>,
    ) -> Result<T, KeepError> {
        // One writes at a time: whoever closes and then writes comes after all that was let through.
        let mut transaction = self.db.begin_write()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(KeepError::Closed);
        }
        transaction.set_two_phase_commit(true);
        let written = write(&transaction)?;
        transaction.commit()?;
        Ok(written)
    }

    pub(super) fn read_now<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, KeepError>,
    ) -> Result<T, KeepError> {
        let transaction = self.db.begin_read()?;
        read(&transaction)
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<T, KeepError> + Send + 'static,
    ) -> Result<T, KeepError> {
        self.run(move |this| this.write_now(write)).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, KeepError> + Send + 'static,
    ) -> Result<T, KeepError> {
        self.run(move |this| this.read_now(read)).await
    }

    /// On a thread that may wait for a disk; memory is waited for here, so that a simulated world has one order of things.
    async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Self) -> Result<T, KeepError> + Send + 'static,
    ) -> Result<T, KeepError> {
        if self.is_in_memory() {
            return run(self);
        }
        let this = self.clone();
        let ran = tokio::task::spawn_blocking(move || run(&this)).await;
        ran.unwrap_or_else(|error| Err(KeepError::Ended(error.to_string())))
    }
}

fn open_failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), why: error.to_string() }
}

/// The head of redb's format 3: a magic number, flags, and two slots, each with a transaction's number.
const HEAD_LEN: usize = 320;
const HEAD_MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";
const FLAGS_AT: usize = 9;
const SECOND_IS_PRIMARY: u8 = 1;
const NOT_CLOSED: u8 = 2;
const SLOTS_AT: [usize; 2] = [64, 192];
const NUMBER_AT: usize = 104;

#[derive(Debug, PartialEq, Eq)]
enum BadHead {
    Foreign,
    Corrupt(&'static str),
}

/// redb believes the flag that says which slot is the file's. In a file that was closed it must be that of the later transaction; in one that
/// was not, a flipped flag looks exactly as a crash a moment before the flag was written.
fn judge_head(head: &[u8]) -> Result<(), BadHead> {
    // It had its name only when it was whole, so it lost what it had.
    if head.iter().all(|byte| *byte == 0) {
        return Err(BadHead::Corrupt("it is empty"));
    }
    if !head.starts_with(HEAD_MAGIC) {
        return Err(BadHead::Foreign);
    }
    let (Some(flags), Some(first), Some(second)) =
        (head.get(FLAGS_AT), number(head, SLOTS_AT[0]), number(head, SLOTS_AT[1]))
    else {
        return Err(BadHead::Corrupt("it ends in its head"));
    };
    let (primary, other) =
        if flags & SECOND_IS_PRIMARY == 0 { (first, second) } else { (second, first) };
    if flags & NOT_CLOSED == 0 && primary < other {
        return Err(BadHead::Corrupt("its head names the older of two transactions"));
    }
    Ok(())
}

fn number(head: &[u8], slot: usize) -> Option<u64> {
    let bytes = head.get(slot + NUMBER_AT..slot + NUMBER_AT + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
