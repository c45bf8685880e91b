//! A whole on its way to a peer: read from its shard piece by piece, then sent part by part. So neither the shard nor the link waits long for it,
//! however large it is.

use super::lane::Log;
use super::shard::Shards;
use crate::presence::{Delta, Parts, Read, Reading};
use crate::types::Time;

/// Entries that are read while the shard is locked.
const PIECE_ENTRIES: usize = 2_000;
const PART_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) log: Log,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reading(Reading),
    Sending(Parts),
}

#[derive(Debug)]
pub(super) enum Step {
    /// There is more to be read before there is anything to send.
    Reads,
    /// It is the whole up to there; its parts come next.
    Read {
        to: u64,
    },
    Part {
        delta: Delta,
        is_last: bool,
    },
    /// There is nothing to send after all.
    Nothing,
}

impl Transfer {
    pub(super) fn new(log: Log) -> Self {
        let stage = Stage::Reading(Reading::new(&log.0));
        Self { log, stage }
    }

    pub(super) fn go_on(&mut self, shards: &Shards, now: Time) -> Step {
        match &mut self.stage {
            Stage::Reading(reading) => {
                let read = shards.lock(self.log.1).tracker.read_whole(reading, PIECE_ENTRIES, now);
                match read {
                    Read::More => Step::Reads,
                    Read::Nothing => Step::Nothing,
                    Read::Whole(whole) => {
                        let to = whole.to;
                        self.stage = Stage::Sending(whole.into_parts(PART_BYTES));
                        Step::Read { to }
                    }
                }
            }
            Stage::Sending(parts) => match parts.next() {
                Some(delta) => Step::Part { delta, is_last: parts.is_done() },
                None => Step::Nothing,
            },
        }
    }
}
