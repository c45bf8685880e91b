//! The socket of a connection and what is on its way to it: written to by the connection's task, and by whoever publishes to it while
//! that sleeps. Whoever writes holds the output from taking out of the mailbox to writing, so that the order stays.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::io::Io;
use super::output::Output;
use crate::metrics::names;
use crate::pubsub::mailbox::{Entry, Mailbox};
use crate::pubsub::{DirectWriter, Gap, GapReason, Resp};

/// Written in one go; then other connections have their turn.
pub(super) const WRITE_BYTES_MAX: usize = 256 << 10;

/// A client that is told to go is read no more often than this.
const FAREWELL_READS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Line {
    pub(super) io: Io,
    pub(super) output: Mutex<Output>,
    /// What messages are encoded for. Changes under the output's lock.
    is_three: AtomicBool,
}

impl Line {
    pub(super) fn new(io: Io) -> Self {
        Self { io, output: Mutex::default(), is_three: AtomicBool::new(false) }
    }

    pub(super) fn resp(&self) -> Resp {
        if self.is_three.load(Ordering::Relaxed) { Resp::Three } else { Resp::Two }
    }

    pub(super) fn set_resp(&self, resp: Resp) {
        self.is_three.store(resp == Resp::Three, Ordering::Relaxed);
    }
}

impl DirectWriter for Line {
    fn write(&self, mailbox: &Mailbox) -> bool {
        // Else somebody writes already, who may have looked into the mailbox before.
        let Some(mut output) = self.output.try_lock() else { return false };
        let mut written = 0;
        while written < WRITE_BYTES_MAX {
            if output.is_empty() {
                let mut entries: SmallVec<[Entry; 4]> = SmallVec::new();
                mailbox.take_entries(WRITE_BYTES_MAX, &mut |entry| entries.push(entry));
                if entries.is_empty() {
                    // What waits in records is the task's to write.
                    return self.io.flush().is_ok();
                }
                for entry in entries {
                    match run_of(entry, self.resp()) {
                        Ok(run) => output.push(run),
                        Err(gap) => count_gap(&gap),
                    }
                }
                if output.is_empty() {
                    continue;
                }
            }
            match output.write(&self.io) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// Closes this side and waits for the other: closing with something unread would take back what the client has not read yet. One that goes
/// on talking instead is not listened to for long.
pub(super) async fn shut(io: &Io) {
    let mut nowhere = [0; 4096];
    let mut is_shut = false;
    let mut reads = 0;
    while reads < FAREWELL_READS_MAX {
        match io.try_discard(&mut nowhere) {
            Ok(0) => return,
            Ok(_) => reads += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !std::mem::replace(&mut is_shut, true) && io.shut_writing().is_err() {
                    return;
                }
                if io.arrived().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// The bytes for a client; a gap has none.
pub(super) fn run_of(entry: Entry, resp: Resp) -> Result<bytes::Bytes, Gap> {
    match entry {
        Entry::Batch(batch) => Ok(batch.resp(resp).clone()),
        Entry::Match(run) => Ok(run.resp(resp).clone()),
        Entry::Event(run) => Ok(run),
        Entry::Gap(gap) => Err(gap),
        // Links alone have these.
        Entry::InterestPlace(_) => Ok(bytes::Bytes::new()),
    }
}

pub(super) fn count_gap(gap: &Gap) {
    let reason = match gap.reason {
        GapReason::SlowSubscriber => "slow_subscriber",
        GapReason::Link => "link",
        GapReason::MemberLost => "member_lost",
        GapReason::Reconnected => "reconnected",
    };
    metrics::counter!(names::GAPS, "reason" => reason).increment(1);
}
