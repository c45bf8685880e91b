//! The highest incarnation that this node has used, on disk.
//!
//! Invariant: the number on disk never goes down, and it is durable before the incarnation is used: a node whose clock stepped back
//! still starts above its last life. A file that can't be read as such is an error, never a silent zero.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::membership::IncarnationStore;
use crate::types::Incarnation;

const FILE: &str = "incarnation";
const FIRST_WORD: &str = "waxwing-incarnation";
/// The file is one short line; whatever is longer is something else.
const LEN_MAX: u64 = 128;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("create the data directory {path}")]
    Create { path: PathBuf, source: io::Error },
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// Nothing was changed.
    #[error(
        "{path} does not hold an incarnation (found {found:?}); if this node's past is of no \
         concern, remove the file"
    )]
    Corrupt { path: PathBuf, found: String },
}

/// The file in the data directory. One process at a time owns it.
#[derive(Debug)]
pub struct IncarnationFile {
    path: PathBuf,
    highest: Mutex<Incarnation>,
}

impl IncarnationFile {
    /// Creates the directory where it is missing; a missing file counts as zero.
    pub fn open(data_dir: &Path) -> Result<Self, IdentityError> {
        fs::create_dir_all(data_dir)
            .map_err(|source| IdentityError::Create { path: data_dir.to_owned(), source })?;
        let path = data_dir.join(FILE);
        let highest = read(&path)?;
        Ok(Self { path, highest: Mutex::new(highest) })
    }
}

impl IncarnationStore for IncarnationFile {
    fn highest(&self) -> Incarnation {
        *self.highest.lock()
    }

    fn store(&self, incarnation: Incarnation) -> io::Result<()> {
        // The lock is held over the write, so that two writers can't put the lower number last.
        let mut highest = self.highest.lock();
        if incarnation <= *highest {
            return Ok(());
        }
        replace(&self.path, &format!("{FIRST_WORD} {incarnation}\n"))?;
        *highest = incarnation;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Incarnation, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let corrupt = |found: &str| IdentityError::Corrupt {
        path: path.to_owned(),
        found: found.chars().take(40).collect(),
    };
    match fs::metadata(path) {
        Ok(meta) if meta.len() > LEN_MAX => return Err(corrupt("a file that is too long")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Incarnation(0)),
        Err(error) => return Err(failed(error)),
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    text.strip_suffix('\n')
        .and_then(|line| line.strip_prefix(FIRST_WORD)?.strip_prefix(' '))
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.parse().ok())
        .map(Incarnation)
        .ok_or_else(|| corrupt(&text))
}

/// After a crash at any point the file is the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    match path.parent() {
        // The rename itself is durable only with the directory.
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_survives_and_never_falls() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("deep/er");
        let file = IncarnationFile::open(&at).unwrap();
        assert_eq!(file.highest(), Incarnation(0));
        for (store, then) in [(7, 7), (3, 7), (u64::MAX, u64::MAX)] {
            file.store(Incarnation(store)).unwrap();
            assert_eq!(file.highest(), Incarnation(then));
            assert_eq!(IncarnationFile::open(&at).unwrap().highest(), Incarnation(then));
        }
        assert!(!at.join("incarnation.tmp").exists());
    }

    #[test]
    fn a_corrupt_file_is_an_error_that_names_it() {
        let long = "9".repeat(500);
        for text in [
            "",
            "7",
            "waxwing-incarnation",
            "waxwing-incarnation 7",
            "waxwing-incarnation +7\n",
            "waxwing-incarnation -7\n",
            "waxwing-incarnation 99999999999999999999\n",
            "waxwing-incarnation 7\n\n",
            "\u{0}\u{0}\u{0}",
            &long,
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = IncarnationFile::open(dir.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Corrupt { .. }), "{text:?}: {error}");
            assert!(error.to_string().contains("incarnation"), "{error}");
        }
    }

    #[test]
    fn a_directory_that_can_t_be_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(IncarnationFile::open(&file), Err(IdentityError::Create { .. })));
    }
}
