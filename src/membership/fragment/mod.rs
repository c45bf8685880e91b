//! Puts messages together from their pieces. Pure; bounded in messages, bytes and time, and for each sender too, so that one that
//! never finishes its messages loses only its own.

use std::collections::HashMap;
use std::time::Duration;

use super::envelope::{PIECE_MAX, Piece};
use super::rejected::Rejected;
use crate::types::Time;

const AGE_MAX: Duration = Duration::from_secs(3);
const MESSAGES_MAX: usize = 256;
const MESSAGES_OF_ONE_MAX: usize = 8;
const BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Reassembly {
    partial: HashMap<(u64, u32), Partial>,
    bytes: usize,
}

#[derive(Debug)]
struct Partial {
    began: Time,
    pieces: Vec<Option<Vec<u8>>>,
    missing: usize,
    bytes: usize,
}

/// A message in full, and how many others were given up to make room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) message: Option<Vec<u8>>,
    pub(super) given_up: usize,
}

impl Reassembly {
    /// `size_max`: of a whole message.
    pub(super) fn add(
        &mut self,
        now: Time,
        boot: u64,
        piece: Piece,
        body: &[u8],
        size_max: usize,
    ) -> Result<Added, Rejected> {
        let (index, count) = (usize::from(piece.index), usize::from(piece.count));
        if index >= count || body.len() > PIECE_MAX {
            return Err(Rejected::Fragment);
        }
        // All but the last piece are full, so the count tells the size before anything is kept.
        if (count - 1) * PIECE_MAX >= size_max || body.len() > size_max {
            return Err(Rejected::Size);
        }
        if index + 1 < count && body.len() != PIECE_MAX {
            return Err(Rejected::Fragment);
        }
        if count == 1 {
            return Ok(Added { message: Some(body.to_vec()), given_up: 0 });
        }
        let given_up = self.make_room(now, boot, piece.message);
        let key = (boot, piece.message);
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            began: now,
            pieces: vec![None; count],
            missing: count,
            bytes: 0,
        });
        match partial.pieces.get_mut(index) {
            Some(slot @ None) if partial.missing > 0 => *slot = Some(body.to_vec()),
            _ => return Err(Rejected::Fragment),
        }
        partial.missing -= 1;
        partial.bytes += body.len();
        self.bytes += body.len();
        if partial.missing > 0 {
            return Ok(Added { message: None, given_up });
        }
        let whole = self.drop_partial(key).map(|partial| {
            partial.pieces.into_iter().flatten().fold(Vec::new(), |mut whole, piece| {
                whole.extend_from_slice(&piece);
                whole
            })
        });
        match whole {
            Some(whole) if whole.len() > size_max => Err(Rejected::Size),
            message => Ok(Added { message, given_up }),
        }
    }

    fn drop_partial(&mut self, key: (u64, u32)) -> Option<Partial> {
        let partial = self.partial.remove(&key)?;
        self.bytes -= partial.bytes;
        Some(partial)
    }

    /// Drops what is too old, and the oldest where there is too much; how many were dropped.
    fn make_room(&mut self, now: Time, boot: u64, message: u32) -> usize {
        let before = self.partial.len();
        let mut freed = 0;
        self.partial.retain(|_, partial| {
            let keep = now.since(partial.began) < AGE_MAX;
            freed += if keep { 0 } else { partial.bytes };
            keep
        });
        self.bytes -= freed;
        if self.partial.contains_key(&(boot, message)) {
            return before - self.partial.len();
        }
        while self.of(boot).count() >= MESSAGES_OF_ONE_MAX {
            let oldest = self.of(boot).min_by_key(|(_, began)| *began);
            let Some((oldest, _)) = oldest else { break };
            self.drop_partial(oldest);
        }
        while self.partial.len() >= MESSAGES_MAX || self.bytes + PIECE_MAX > BYTES_MAX {
            let oldest = self.partial.iter().min_by_key(|(_, partial)| partial.began);
            let Some(oldest) = oldest.map(|(key, _)| *key) else { break };
            self.drop_partial(oldest);
        }
        before - self.partial.len()
    }

    fn of(&self, boot: u64) -> impl Iterator<Item = ((u64, u32), Time)> {
        self.partial
            .iter()
            .filter(move |((of, _), _)| *of == boot)
            .map(|(key, partial)| (*key, partial.began))
    }
}

#[cfg(test)]
mod tests;
