//! A disk whose power fails: what was synced is there, and of the rest any part, in any order.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Faulty(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    synced: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<Op>,
    /// None: it never fails.
    left: Option<u64>,
    done: u64,
}

#[derive(Debug, Clone)]
enum Op {
    Len(usize),
    Sector(usize, Vec<u8>),
}

fn perform(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Len(len) => image.resize(*len, 0),
        Op::Sector(at, bytes) => {
            if let Some(part) = image.get_mut(*at..*at + bytes.len()) {
                part.copy_from_slice(bytes);
            }
        }
    }
}

impl Faulty {
    /// Does so many writes and syncs, and then nothing any more.
    pub(super) fn failing_after(ops: u64) -> Self {
        let this = Self::default();
        this.0.lock().left = Some(ops);
        this
    }

    pub(super) fn holding(image: Vec<u8>) -> Self {
        let this = Self::default();
        this.refill(image);
        this
    }

    /// Holds this, however often it may still be written to.
    pub(super) fn refill(&self, image: Vec<u8>) {
        let mut inner = self.0.lock();
        inner.synced.clone_from(&image);
        inner.now = image;
    }

    pub(super) fn ops(&self) -> u64 {
        self.0.lock().done
    }

    pub(super) fn image(&self) -> Vec<u8> {
        self.0.lock().now.clone()
    }

    /// What is there when the power comes back. `dice`: any numbers.
    pub(super) fn after_power_cut(&self, mut dice: impl FnMut() -> u64) -> Vec<u8> {
        let inner = self.0.lock();
        let mut image = inner.synced.clone();
        // The length is the file system's, and journaled: in order. Of the sectors any are there.
        let every = dice() % 4;
        for op in &inner.unsynced {
            let is_there = match every {
                0 => true,
                1 => false,
                _ => dice().is_multiple_of(2),
            };
            if is_there || matches!(op, Op::Len(_)) {
                perform(&mut image, op);
            }
        }
        image
    }

    fn act(&self, ops: Vec<Op>) -> Result<(), io::Error> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        inner.alive()?;
        for op in ops {
            perform(&mut inner.now, &op);
            inner.unsynced.push(op);
        }
        Ok(())
    }
}

impl Inner {
    fn alive(&mut self) -> Result<(), io::Error> {
        self.done += 1;
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return Err(io::Error::other("the power is off"));
            }
            *left -= 1;
        }
        Ok(())
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let inner = self.0.lock();
        let at = usize::try_from(offset).unwrap();
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let part = inner.now.get(at..at + out.len()).ok_or_else(end)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.act(vec![Op::Len(usize::try_from(len).unwrap())])
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut inner = self.0.lock();
        inner.alive()?;
        inner.unsynced.clear();
        inner.synced = inner.now.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut at = usize::try_from(offset).unwrap();
        let mut rest = data;
        let mut ops = Vec::new();
        while !rest.is_empty() {
            let len = (SECTOR - at % SECTOR).min(rest.len());
            let (part, after) = rest.split_at(len);
            ops.push(Op::Sector(at, part.to_vec()));
            (at, rest) = (at + len, after);
        }
        self.act(ops)
    }
}
