//! What can go wrong with what is kept, and what to do about it.

use std::path::{Path, PathBuf};

use crate::control::codec::CodecError;

/// The store can't be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("open {path}: {why}")]
    Open { path: PathBuf, why: String },
    #[error("{path} is in use by another process; is this node running already?")]
    Busy { path: PathBuf },
    #[error("{path} is no store of Waxwing's control; move it away, or set another node.data_dir")]
    Foreign { path: PathBuf },
    #[error(
        "{path} is corrupt: {what}. Something changed it after it was written. Keep a copy and remove it: the node then joins as a \
         new one and learns what the others know; where it is the only one, restore a backup"
    )]
    Corrupt { path: PathBuf, what: String },
    #[error(
        "{path} was written by a newer Waxwing: {what}; start that version, or remove the file and let the node join anew"
    )]
    Newer { path: PathBuf, what: String },
    #[error(
        "{path} is of the cluster {found:?}, and this node is of {expected:?}; set cluster.name, or another node.data_dir"
    )]
    OtherCluster { path: PathBuf, found: String, expected: String },
}

/// Reading or writing failed, or what was read is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error(transparent)]
    Redb(Box<redb::Error>),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("{0}")]
    Nonsense(String),
    #[error("a file with other tables in it")]
    Foreign,
    #[error("the member has left this group")]
    Closed,
    #[error("the task that wrote has ended: {0}")]
    Ended(String),
}

impl<E: Into<redb::Error>> From<E> for KeepError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

impl StoreError {
    pub(super) fn of(path: &Path, error: KeepError) -> Self {
        let path = path.to_owned();
        match error {
            KeepError::Foreign => Self::Foreign { path },
            KeepError::Codec(CodecError::Newer { .. }) => {
                Self::Newer { path, what: error.to_string() }
            }
            KeepError::Codec(_) | KeepError::Nonsense(_) => {
                Self::Corrupt { path, what: error.to_string() }
            }
            KeepError::Redb(redb) => match *redb {
                redb::Error::Corrupted(what) => Self::Corrupt { path, what },
                redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_) => {
                    Self::Foreign { path }
                }
                other => Self::Open { path, why: other.to_string() },
            },
            KeepError::Closed | KeepError::Ended(_) => Self::Open { path, why: error.to_string() },
        }
    }
}
