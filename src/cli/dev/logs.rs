//! A directory with one log for each node: removed at a clean end, kept when somebody may want to read it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::types::NodeName;

/// Of a log that is shown when its node fails.
const TAIL_LINES: usize = 5;
const TAIL_BYTES: u64 = 4_096;
const TRIES_MAX: u32 = 100;

#[derive(Debug)]
pub(super) struct Logs {
    dir: PathBuf,
}

impl Logs {
    pub(super) fn create() -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let name = match tries {
                0 => format!("waxwing-dev-{}", std::process::id()),
                n => format!("waxwing-dev-{}-{n}", std::process::id()),
            };
            let dir = std::env::temp_dir().join(name);
            // Only this user's: logs say what clients do. Never a directory that was there before: it may be a trap.
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Self { dir }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES_MAX => {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// To write on at the end: a restarted node goes on in its log.
    pub(super) fn open(&self, node: &NodeName) -> io::Result<File> {
        File::options().create(true).append(true).open(self.file(node))
    }

    /// The last lines, indented.
    pub(super) fn tail(&self, node: &NodeName) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.file(node))?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
            let mut text = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
        lines.reverse();
        lines.into_iter().map(|line| format!("  {line}\n")).collect()
    }

    pub(super) fn remove(&self) {
        // What can't be removed lies in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }

    fn file(&self, node: &NodeName) -> PathBuf {
        self.dir.join(format!("{node}.log"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::Logs;
    use crate::types::NodeName;

    #[test]
    fn logs_go_on_at_their_end_and_go_away() {
        let logs = Logs::create().unwrap();
        let other = Logs::create().unwrap();
        assert_ne!(logs.path(), other.path());
        let name = NodeName::parse("a").unwrap();
        assert_eq!(logs.tail(&name), "");
        for line in 1..=7 {
            writeln!(logs.open(&name).unwrap(), "line {line}").unwrap();
        }
        assert_eq!(logs.tail(&name), "  line 3\n  line 4\n  line 5\n  line 6\n  line 7\n");
        logs.remove();
        other.remove();
        assert!(!logs.path().exists());
    }
}
