//! What has been taken from the mailbox and not yet been written: shared runs, written together, copied by nobody.

use std::io::{self, IoSlice};

use bytes::Bytes;
use smallvec::SmallVec;

use super::io::Io;

/// Runs in one call; more of them gained nothing.
const SLICES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Output {
    runs: Vec<Bytes>,
    /// The first run that isn't wholly written, and how much of it is.
    next: usize,
    written: usize,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn push(&mut self, run: Bytes) {
        if !run.is_empty() {
            self.runs.push(run);
        }
    }

    /// One call; how much was written. Owns nothing when all is written.
    pub(super) fn write(&mut self, io: &Io) -> io::Result<usize> {
        let mut slices: SmallVec<[IoSlice<'_>; SLICES_MAX]> = SmallVec::new();
        for (i, run) in self.runs[self.next..].iter().take(SLICES_MAX).enumerate() {
            slices.push(IoSlice::new(if i == 0 { &run[self.written..] } else { run }));
        }
        let written = io.write(&slices)?;
        drop(slices);
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(run) = self.runs.get(self.next) {
            let left = run.len() - self.written;
            if written < left {
                self.written += written;
                return;
            }
            written -= left;
            self.written = 0;
            // What is written need not be kept until the rest is.
            self.runs[self.next] = Bytes::new();
            self.next += 1;
        }
        *self = Self::default();
    }
}
