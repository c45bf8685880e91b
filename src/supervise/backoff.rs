//! How long to wait before the next try.

use std::time::Duration;

/// Doubles from `first` to `most`, each with up to half of it taken off at random, so that those who failed together don't try
/// again together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// `random`: any number, all values equally likely.
    pub fn next(&mut self, random: u64) -> Duration {
        let full = self.first.saturating_mul(1 << self.tries.min(20)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        let half = full / 2;
        half + half.mul_f64((random % 1024) as f64 / 1023.0)
    }

    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}
