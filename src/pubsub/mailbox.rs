//! An attachment's bounded outgoing queue. SKELETON.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::types::SessionId;

/// What a mailbox gives its writer.
#[derive(Debug)]
pub enum Item {
    /// One or more whole gRPC messages, ready to be written; counts `messages` against the client's credit.
    Run { bytes: Bytes, messages: u32 },
}

#[derive(Debug)]
pub struct Mailbox {
    _skeleton: (),
}

#[derive(Debug, Clone, Copy, Default)]
pub struct MailboxReport {
    pub bytes: usize,
    pub limit: usize,
    pub delivered: u64,
    pub dropped: u64,
}

/// Why a mailbox gives nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Said by the broker: moved elsewhere, killed, drained.
    Reason(String),
    /// It took nothing for too long while messages waited.
    Stalled,
}

#[allow(clippy::todo, unused_variables, reason = "skeleton")]
impl Mailbox {
    pub fn session(&self) -> SessionId {
        todo!()
    }

    /// Takes what there is, joined into one run of at most about `bytes_max`, small batches copied together and large ones passed on
    /// as they are. `None`: closed, and all that came before has been taken. Deducts messages from the credit, if the client has
    /// ever given any.
    pub fn poll_take(&self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Result<Bytes, Closed>> {
        todo!()
    }

    /// Puts a ready-made run (a reply, a go-away) behind all that is there; never dropped. False: the mailbox is full; ask `room`.
    pub fn push_event(&self, run: Bytes) -> bool {
        todo!()
    }

    /// Ends when the mailbox is below its limit, or closed. A session awaits this before it reads on, so that replies can't pile up.
    pub async fn room(&self) {
        todo!()
    }

    pub fn add_credit(&self, messages: u32) {
        todo!()
    }

    /// What is in it can still be taken.
    pub fn close(&self, why: Closed) {
        todo!()
    }

    pub fn report(&self) -> MailboxReport {
        todo!()
    }
}
