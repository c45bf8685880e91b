//! Notices that files of certificates have changed, so that a renewed one is shown without anybody saying so.
//!
//! They are looked at, and not watched: mounts that swap a link, network file systems and editors that rename all look the same to it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, TlsConfig};

const LOOK_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Certificates {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
}

/// What tells two states of a file apart. Behind a link: of what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    /// Of its owner and mode too: one that could not be read may be readable now.
    changed: (i64, i64),
}

impl Certificates {
    pub(super) fn of(config: &Config) -> Self {
        let TlsConfig { cert, key, client_ca, peer_ca, .. } = &config.tls;
        let files: Vec<PathBuf> =
            [cert, key, client_ca, peer_ca].into_iter().flatten().cloned().collect();
        let seen = look(&files);
        Self { files, seen }
    }

    /// Ends when one is another. Never, where there is no TLS.
    pub(super) async fn changed(&mut self, is_on: bool) {
        loop {
            if !is_on {
                return std::future::pending().await;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = look(&self.files);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    /// What has been seen does not count: it is looked at again.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

fn look(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(file).ok()?;
    Some(Stamp {
        inode: found.ino(),
        len: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_replaced_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.pem");
        std::fs::write(&file, "one").unwrap();
        let mut config = Config::for_test("a");
        config.tls.cert = Some(file.clone());
        let mut certificates = Certificates::of(&config);
        let quiet = Duration::from_secs(60);
        assert!(tokio::time::timeout(quiet, certificates.changed(true)).await.is_err());
        std::fs::write(dir.path().join("new"), "two").unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        certificates.changed(true).await;
        assert!(tokio::time::timeout(quiet, certificates.changed(true)).await.is_err());
        certificates.forget();
        certificates.changed(true).await;
        assert!(tokio::time::timeout(quiet, certificates.changed(false)).await.is_err());
    }
}
