//! ● A rate with a burst, as a token bucket: plain numbers in, plain numbers out, time as an argument.
//!
//! Invariants: over any span of time no more is let through than the burst and what the span brings; what is refused costs nothing; time
//! that goes backwards brings nothing and breaks nothing.

/// So much a second, and so much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u64,
    pub burst: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// In millionths of a token, so that no time is too short to bring its part. Below nothing: taken before it was there.
    filled: i128,
    at_us: u64,
}

const PARTS: i128 = 1_000_000;

impl Bucket {
    pub const fn full(rate: Rate, now_us: u64) -> Self {
        Self { filled: rate.burst as i128 * PARTS, at_us: now_us }
    }

    /// Takes as many, or none. `Err`: so many microseconds until there are as many; `None`: there never are.
    pub fn take(&mut self, rate: Rate, tokens: u64, now_us: u64) -> Result<(), Option<u64>> {
        self.fill(rate, now_us);
        let wanted = i128::from(tokens) * PARTS;
        if wanted <= self.filled {
            self.filled -= wanted;
            return Ok(());
        }
        if tokens > rate.burst || rate.per_second == 0 {
            return Err(None);
        }
        let missing = wanted - self.filled;
        Err(Some(time_for(rate, missing)))
    }

    /// Is there one at least? `Err`: so many microseconds until there is.
    pub fn has_any(&mut self, rate: Rate, now_us: u64) -> Result<(), u64> {
        self.fill(rate, now_us);
        if self.filled >= PARTS { Ok(()) } else { Err(time_for(rate, PARTS - self.filled)) }
    }

    /// Is nothing of what was taken still to come back?
    pub fn is_full(&mut self, rate: Rate, now_us: u64) -> bool {
        self.fill(rate, now_us);
        self.filled >= i128::from(rate.burst) * PARTS
    }

    /// Takes as many, whether they are there or not: what is missing is paid for before `has_any` says yes again.
    pub const fn charge(&mut self, tokens: u64) {
        self.filled = self.filled.saturating_sub(tokens as i128 * PARTS);
    }

    /// The rate may have changed since.
    fn fill(&mut self, rate: Rate, now_us: u64) {
        let passed = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        // Less than 2^128, and more than i128 has room for only where it fills anything.
        let brought = u128::from(passed) * u128::from(rate.per_second);
        let brought = i128::try_from(brought).unwrap_or(i128::MAX);
        self.filled = self.filled.saturating_add(brought).min(i128::from(rate.burst) * PARTS);
    }
}

/// Microseconds; each brings a millionth of `per_second`.
fn time_for(rate: Rate, parts: i128) -> u64 {
    let parts = u128::try_from(parts).unwrap_or(0);
    let wait = parts.div_ceil(u128::from(rate.per_second.max(1)));
    u64::try_from(wait).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Rate};

    /// Deterministic, and enough for numbers.
    fn random(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn no_span_lets_through_more_than_its_burst_and_its_time() {
        for seed in 1..400_u64 {
            let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let rate =
                Rate { per_second: random(&mut chance) % 5_000, burst: random(&mut chance) % 300 };
            let mut bucket = Bucket::full(rate, 0);
            let (mut now, mut let_through) = (0_u64, Vec::new());
            for _ in 0..200 {
                now += random(&mut chance) % 20_000;
                let tokens = random(&mut chance) % 40;
                let before = bucket;
                match bucket.take(rate, tokens, now) {
                    Ok(()) => let_through.push((now, tokens)),
                    Err(None) => {
                        assert!(tokens > rate.burst || rate.per_second == 0, "seed {seed}")
                    }
                    Err(Some(wait)) => {
                        // As soon as it said, and not a microsecond earlier.
                        assert!(wait > 0, "seed {seed}");
                        let (mut early, mut late) = (before, before);
                        assert!(early.take(rate, tokens, now + wait - 1).is_err(), "seed {seed}");
                        assert!(late.take(rate, tokens, now + wait).is_ok(), "seed {seed}");
                    }
                }
            }
            for (i, (from, _)) in let_through.iter().enumerate() {
                let mut sum = 0;
                for (to, tokens) in &let_through[i..] {
                    sum += tokens;
                    let most = u128::from(rate.burst) * 1_000_000
                        + u128::from(to - from) * u128::from(rate.per_second);
                    assert!(u128::from(sum) * 1_000_000 <= most, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn what_was_taken_before_it_was_there_is_paid_for() {
        for seed in 1..400_u64 {
            let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let per_second = 1 + random(&mut chance) % 5_000;
            let rate = Rate { per_second, burst: 1 + random(&mut chance) % 300 };
            let mut bucket = Bucket::full(rate, 0);
            let (mut now, mut sum, mut largest) = (0_u64, 0_u64, 0_u64);
            for _ in 0..200 {
                now += random(&mut chance) % 20_000;
                let tokens = random(&mut chance) % 1_000;
                let mut early = bucket;
                match bucket.has_any(rate, now) {
                    Ok(()) => {
                        bucket.charge(tokens);
                        (sum, largest) = (sum + tokens, largest.max(tokens));
                    }
                    Err(wait) => {
                        assert!(early.has_any(rate, now + wait - 1).is_err(), "seed {seed}");
                        assert!(early.has_any(rate, now + wait).is_ok(), "seed {seed}");
                    }
                }
                // Over by one run at the most.
                let brought = u128::from(now) * u128::from(per_second) / 1_000_000;
                let most = u128::from(rate.burst) + brought + u128::from(largest);
                assert!(u128::from(sum) <= most, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_steady_rate_is_let_through_for_ever() {
        let rate = Rate { per_second: 1_000, burst: 1 };
        let mut bucket = Bucket::full(rate, 0);
        for i in 0..100_000 {
            assert_eq!(bucket.take(rate, 1, i * 1_000), Ok(()));
            assert!(
                !bucket.is_full(rate, i * 1_000 + 999) && bucket.is_full(rate, i * 1_000 + 1_000)
            );
        }
    }

    #[test]
    fn the_ends_of_numbers_break_nothing() {
        let rate = Rate { per_second: u64::MAX, burst: u64::MAX };
        let mut bucket = Bucket::full(rate, u64::MAX);
        assert_eq!(bucket.take(rate, u64::MAX, 0), Ok(()));
        assert_eq!(bucket.take(rate, 1, 0), Err(Some(1)));
        assert_eq!(bucket.take(rate, 0, 0), Ok(()));
        let nothing = Rate { per_second: 0, burst: 0 };
        assert_eq!(bucket.take(nothing, 1, u64::MAX), Err(None));
        // A rate that was lowered takes what was saved.
        let mut bucket = Bucket::full(rate, 0);
        let low = Rate { per_second: 1, burst: 2 };
        assert_eq!(bucket.take(low, 3, 0), Err(None));
        assert_eq!(bucket.take(low, 2, 0), Ok(()));
        assert_eq!(bucket.take(low, 1, 0), Err(Some(1_000_000)));
    }
}
