//! ● What one receiver has got of each publisher: nothing missing in silence, nothing twice, nothing out of order.

use crate::client::Gap;

/// Before the padding: a mark, the publisher, the sequence number, and when it was to be sent.
pub(super) const STAMP_LEN: usize = 24;
const MARK: [u8; 4] = *b"wxb1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) publisher: u32,
    pub(super) seq: u64,
    pub(super) time_us: u64,
}

impl Stamp {
    /// Overwrites the beginning of `payload`, which has room for it.
    pub(super) fn write(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&MARK);
        payload[4..8].copy_from_slice(&self.publisher.to_le_bytes());
        payload[8..16].copy_from_slice(&self.seq.to_le_bytes());
        payload[16..24].copy_from_slice(&self.time_us.to_le_bytes());
    }

    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let stamp: &[u8; STAMP_LEN] = payload.first_chunk()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| stamp[at + i]));
        let publisher = u32::from_le_bytes(std::array::from_fn(|i| stamp[4 + i]));
        (stamp[..4] == MARK).then_some(Self { publisher, seq: word(8), time_us: word(16) })
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    /// The next sequence number of each publisher.
    next: Vec<u64>,
    tally: Tally,
}

/// What was found, by one receiver or by many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) received: u64,
    /// Messages that never came.
    pub(super) missing: u64,
    /// Messages that came after a later one of their publisher, or again.
    pub(super) astray: u64,
    /// Payloads that no bench wrote.
    pub(super) foreign: u64,
    pub(super) gaps: u64,
    /// Missing, and told so.
    pub(super) told: u64,
    /// Missing, and nobody said so.
    pub(super) silent: u64,
    /// Some gap did not say how much.
    uncounted: bool,
}

impl Ledger {
    pub(super) fn new(publishers: usize) -> Self {
        Self { next: vec![0; publishers], tally: Tally::default() }
    }

    #[inline]
    pub(super) fn payload(&mut self, payload: &[u8]) -> Option<Stamp> {
        let stamp = Stamp::read(payload);
        let next = stamp.and_then(|stamp| self.next.get_mut(stamp.publisher as usize));
        let (Some(stamp), Some(next)) = (stamp, next) else {
            self.tally.foreign += 1;
            return None;
        };
        if stamp.seq < *next {
            self.tally.astray += 1;
        } else {
            self.tally.received += 1;
            self.tally.missing += stamp.seq - *next;
            *next = stamp.seq + 1;
        }
        Some(stamp)
    }

    pub(super) fn gap(&mut self, gap: &Gap) {
        self.tally.gaps += 1;
        match gap.missing {
            Some(missing) if gap.certain => self.tally.told += missing,
            _ => self.tally.uncounted = true,
        }
    }

    /// Messages that it has got or will never get.
    pub(super) fn position(&self) -> u64 {
        self.tally.received + self.tally.missing
    }

    pub(super) fn received(&self) -> u64 {
        self.tally.received
    }

    pub(super) fn gaps(&self) -> u64 {
        self.tally.gaps
    }

    /// `sent` by each publisher that this receiver listens to; 0 for the others.
    pub(super) fn close(mut self, sent: &[u64]) -> Tally {
        for (next, sent) in self.next.iter().zip(sent) {
            self.tally.missing += sent.saturating_sub(*next);
        }
        if !self.tally.uncounted {
            self.tally.silent = self.tally.missing.saturating_sub(self.tally.told);
        }
        self.tally
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.received += other.received;
        self.missing += other.missing;
        self.astray += other.astray;
        self.foreign += other.foreign;
        self.gaps += other.gaps;
        self.told += other.told;
        self.silent += other.silent;
    }

    /// What no node may do, in words.
    pub(super) fn verdict(&self) -> Result<(), anyhow::Error> {
        let mut faults = Vec::new();
        if self.silent > 0 {
            faults.push(format!("{} messages were lost in silence", self.silent));
        }
        if self.astray > 0 {
            faults.push(format!("{} messages came twice or out of order", self.astray));
        }
        if self.foreign > 0 {
            faults.push(format!("{} messages came that nobody published", self.foreign));
        }
        anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequence numbers of publisher 0 as they came, the sum of certain gaps, and what was sent.
    fn tally(came: &[u64], told: Option<u64>, sent: u64) -> Tally {
        let mut ledger = Ledger::new(2);
        let mut payload = [0; STAMP_LEN + 3];
        for &seq in came {
            let stamp = Stamp { publisher: 0, seq, time_us: 7 };
            stamp.write(&mut payload);
            assert_eq!(ledger.payload(&payload), Some(stamp));
        }
        if let Some(missing) = told {
            let missing = Some(missing).filter(|missing| *missing > 0);
            ledger.gap(&Gap { missing, certain: missing.is_some(), ..Gap::default() });
        }
        ledger.close(&[sent, 0])
    }

    #[test]
    fn what_is_missing_must_have_been_told() {
        for (came, told, sent, missing, silent, astray) in [
            (&[0, 1, 2][..], None, 3, 0, 0, 0),
            (&[0, 1], None, 3, 1, 1, 0),
            (&[0, 3], None, 4, 2, 2, 0),
            (&[0, 3], Some(2), 4, 2, 0, 0),
            (&[0, 3], Some(1), 4, 2, 1, 0),
            // A gap that doesn't say how much covers anything.
            (&[0, 3], Some(0), 9, 7, 0, 0),
            (&[0, 1, 1, 2], None, 3, 0, 0, 1),
            (&[1, 0, 2], None, 3, 1, 1, 1),
        ] {
            let tally = tally(came, told, sent);
            assert_eq!(
                (tally.missing, tally.silent, tally.astray),
                (missing, silent, astray),
                "{came:?}"
            );
            assert_eq!(tally.verdict().is_ok(), silent == 0 && astray == 0);
        }
    }

    #[test]
    fn payloads_of_others_are_foreign() {
        let mut ledger = Ledger::new(1);
        assert_eq!(ledger.payload(b"hi"), None);
        let mut payload = [0; STAMP_LEN];
        Stamp { publisher: 1, seq: 0, time_us: 0 }.write(&mut payload);
        assert_eq!(ledger.payload(&payload), None);
        assert_eq!(ledger.close(&[0]).foreign, 2);
    }
}
