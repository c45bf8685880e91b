//! What has been read and not yet understood. A connection in use borrows a large buffer from its thread; one that waits keeps no more
//! than the beginning of a command.

use std::cell::Cell;
use std::fmt;
use std::io;

use super::io::Io;

/// One read takes as much; more gained nothing.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of a connection, from the first that hasn't been dealt with.
#[derive(Default)]
pub(super) struct Input {
    /// All of it is initialized; what counts is `at..filled`.
    bytes: Vec<u8>,
    filled: usize,
    at: usize,
}

/// Without what it holds: keys are among it.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("unread", &self.unread().len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// The client will send no more.
    End,
    /// Nothing is there; a wake-up comes.
    Nothing,
    /// Some has come. Without `more`, that was all, and a wake-up comes.
    Some { more: bool },
}

impl Input {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.at..self.filled]
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.filled);
    }

    /// Room to read into, at most `most` bytes of it.
    fn make_room(&mut self) {
        let unread = self.filled - self.at;
        if self.bytes.len() - self.filled >= READ_BYTES / 2 {
            return;
        }
        if unread <= READ_BYTES / 2 {
            let mut large = SPARE.take();
            large.resize(READ_BYTES, 0);
            large[..unread].copy_from_slice(self.unread());
            self.bytes = large;
        } else {
            self.bytes.copy_within(self.at..self.filled, 0);
            // As much again as has come already: nobody sets aside memory by announcing a length.
            self.bytes.resize(self.bytes.len().max(2 * unread), 0);
        }
        (self.at, self.filled) = (0, unread);
    }

    /// Reads once.
    pub(super) fn read(&mut self, io: &Io, most: usize) -> io::Result<Read> {
        self.make_room();
        let end = self.bytes.len().min(self.filled.saturating_add(most));
        let free = &mut self.bytes[self.filled..end];
        match io.receive(free) {
            (Some(0), _) => Ok(Read::End),
            (Some(read), _) => {
                let more = read == free.len();
                self.filled += read;
                Ok(Read::Some { more })
            }
            (None, Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(Read::Nothing)
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(Read::Nothing),
        }
    }

    /// Gives the large buffer back, and keeps what is unread.
    pub(super) fn rest(&mut self) {
        let unread = self.filled - self.at;
        if unread > READ_BYTES / 2 {
            return;
        }
        let kept = Self { bytes: self.unread().to_vec(), filled: unread, at: 0 };
        let large = std::mem::replace(self, kept).bytes;
        if large.len() == READ_BYTES {
            SPARE.set(large);
        }
    }
}
