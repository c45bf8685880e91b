//! Which datagrams have been opened already. Pure.
//!
//! Invariant: of one run of a sender, each number is admitted at most once, however often the datagram is sent again. A run that was
//! pushed out of the table (there are more than any cluster has nodes) is protected by its datagrams' age alone.

use std::collections::HashMap;

use crate::types::Time;

const BOOTS_MAX: usize = 2_048;
const WORDS: usize = 16;
const WIDTH: u64 = WORDS as u64 * 64;

#[derive(Debug, Default)]
pub(super) struct Replay {
    boots: HashMap<u64, Window>,
}

#[derive(Debug)]
struct Window {
    highest: u64,
    /// Bit `n % WIDTH`: number `n` was seen, for the `WIDTH` numbers up to `highest`.
    seen: [u64; WORDS],
    used: Time,
}

impl Replay {
    /// Was it admitted before, or is it too far back to know?
    pub(super) fn seen(&self, boot: u64, number: u64) -> bool {
        self.boots.get(&boot).is_some_and(|window| window.seen(number))
    }

    /// False: `seen`.
    pub(super) fn admit(&mut self, boot: u64, number: u64, now: Time) -> bool {
        if !self.boots.contains_key(&boot) && self.boots.len() >= BOOTS_MAX {
            let oldest = self.boots.iter().min_by_key(|(_, window)| window.used);
            if let Some(oldest) = oldest.map(|(boot, _)| *boot) {
                self.boots.remove(&oldest);
            }
        }
        let fresh = || Window { highest: number, seen: [0; WORDS], used: now };
        let window = self.boots.entry(boot).or_insert_with(fresh);
        window.used = now;
        window.admit(number)
    }
}

impl Window {
    const fn bit(number: u64) -> (usize, u64) {
        let at = number % WIDTH;
        ((at / 64) as usize, 1 << (at % 64))
    }

    fn seen(&self, number: u64) -> bool {
        if number > self.highest {
            return false;
        }
        let (word, bit) = Self::bit(number);
        self.highest - number >= WIDTH || self.seen[word] & bit != 0
    }

    fn admit(&mut self, number: u64) -> bool {
        if self.seen(number) {
            return false;
        }
        if number > self.highest {
            if number - self.highest >= WIDTH {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..=number {
                    let (word, bit) = Self::bit(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = number;
        }
        let (word, bit) = Self::bit(number);
        self.seen[word] |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set that forgets nothing: never twice; and only what is far behind is refused without having been there.
        #[test]
        fn each_number_once(steps in proptest::collection::vec((0u64..3, 0u64..4 * WIDTH), 1..400)) {
            let mut replay = Replay::default();
            let mut model: HashSet<(u64, u64)> = HashSet::new();
            let mut highest = [0; 3];
            for (boot, number) in steps {
                let admitted = replay.admit(boot, number, Time::ZERO);
                let new = model.insert((boot, number));
                prop_assert!(new || !admitted);
                let far_behind = highest[boot as usize] >= number + WIDTH;
                prop_assert_eq!(admitted, new && !far_behind);
                prop_assert!(replay.seen(boot, number));
                highest[boot as usize] = highest[boot as usize].max(number);
            }
        }
    }

    #[test]
    fn the_table_is_bounded_and_drops_the_stalest() {
        let mut replay = Replay::default();
        for boot in 0..=BOOTS_MAX as u64 {
            assert!(replay.admit(boot, 1, Time::from_millis(boot)));
        }
        assert_eq!(replay.boots.len(), BOOTS_MAX);
        assert!(!replay.seen(0, 1));
        assert!(replay.seen(1, 1));
    }

    #[test]
    fn the_last_number_is_a_number() {
        let mut replay = Replay::default();
        assert!(replay.admit(1, u64::MAX - 1, Time::ZERO));
        assert!(replay.admit(1, u64::MAX, Time::ZERO));
        assert!(!replay.admit(1, u64::MAX, Time::ZERO));
        assert!(!replay.admit(1, 0, Time::ZERO));
    }
}
