//! A file that nodes read, changed by commands: one at a time, and in one step.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};

/// While this is held, no other command changes the file. It is the folder that is locked: the file is another one after each change,
/// and may not be there yet.
#[derive(Debug)]
pub(super) struct Editing {
    path: PathBuf,
    _folder: Flock<File>,
}

impl Editing {
    /// Waits for whoever changes it now.
    pub(super) fn begin(path: &Path) -> anyhow::Result<Self> {
        // What the path leads to, so that a link stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new(".")).to_owned();
        let lock = || {
            let open = File::open(&folder)?;
            Flock::lock(open, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
        };
        let locked: std::io::Result<_> = lock();
        let folder = locked.with_context(|| format!("lock {}", folder.display()))?;
        Ok(Self { path, _folder: folder })
    }

    /// In one step: a node that reads it finds the one or the other.
    pub(super) fn write(self, text: &str) -> anyhow::Result<()> {
        let path = &self.path;
        let temporary = path.with_extension("new");
        let write = || {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // Whoever the nodes run as may own it, and not who makes keys.
            if let Ok(found) = fs::metadata(path) {
                std::os::unix::fs::chown(&temporary, Some(found.uid()), Some(found.gid()))?;
                fs::set_permissions(&temporary, found.permissions())?;
            }
            fs::rename(&temporary, path)
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}
