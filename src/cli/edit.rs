//! Files that nodes read, changed by commands: one at a time, and in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::supervise::Clock;

/// A change takes milliseconds. Whoever may read the folder can hold its lock for as long as it likes, and must stop nobody for ever.
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// While this is held, no other command changes the file. It is the folder that is locked: the file is another one after each change,
/// and may not be there yet.
#[derive(Debug)]
pub(super) struct Editing {
    path: PathBuf,
    _folder: Flock<File>,
}

impl Editing {
    /// Waits for whoever changes it now, for ten seconds at the most.
    pub(super) fn begin(path: &Path) -> anyhow::Result<Self> {
        Self::begin_within(path, WAIT)
    }

    fn begin_within(path: &Path, wait: Duration) -> anyhow::Result<Self> {
        // What the path leads to, so that a link stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new(".")).to_owned();
        let shown = folder.display();
        let mut open = File::open(&folder).with_context(|| format!("lock {shown}"))?;
        let clock = Clock::new();
        let until = clock.now() + wait;
        loop {
            let (again, errno) = match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
                Ok(folder) => return Ok(Self { path, _folder: folder }),
                Err(failed) => failed,
            };
            match errno {
                Errno::EWOULDBLOCK | Errno::EINTR if clock.now() < until => open = again,
                Errno::EWOULDBLOCK | Errno::EINTR => anyhow::bail!(
                    "another process has held the lock of {shown} for {} s, and nothing was changed; see who it is: lsof {shown}",
                    wait.as_secs()
                ),
                errno => return Err(errno).with_context(|| format!("lock {shown}")),
            }
            pause();
        }
    }

    pub(super) fn write(self, text: &str) -> anyhow::Result<()> {
        // Whoever the nodes run as may own it, and not who makes keys.
        let as_before = |temporary: &Path| match fs::metadata(&self.path) {
            Ok(found) => {
                std::os::unix::fs::chown(temporary, Some(found.uid()), Some(found.gid()))?;
                fs::set_permissions(temporary, found.permissions())
            }
            Err(_) => Ok(()),
        };
        replace(&self.path, text, 0o600, as_before)
    }
}

/// In one step: a node that reads the file finds the one or the other. `finish` may change the new one before it takes the old one's place.
pub(super) fn replace(
    path: &Path,
    text: &str,
    mode: u32,
    finish: impl FnOnce(&Path) -> io::Result<()>,
) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || {
        // What an interrupted run has left may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        finish(&temporary)?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "no lock tells when it is free and also gives up in time"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Editing;

    #[test]
    fn a_lock_that_somebody_keeps_is_waited_for_no_longer_than_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.toml");
        let kept = Editing::begin(&path).unwrap();
        let refused = Editing::begin_within(&path, Duration::ZERO).unwrap_err();
        assert!(refused.to_string().contains("has held the lock of"), "{refused}");
        drop(kept);
        assert!(Editing::begin_within(&path, Duration::ZERO).is_ok());
    }
}
