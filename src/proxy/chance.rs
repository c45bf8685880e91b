//! Chance that can be repeated: the same seed gives the same fate to the same datagrams.

/// How likely, and which row of numbers decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Odds {
    p: f64,
    seed: u64,
    /// Differs each time odds are set: the same odds set again start their row again.
    setting: u64,
}

impl Odds {
    pub(super) const NEVER: Self = Self { p: 0.0, seed: 0, setting: 0 };

    pub(super) const fn new(p: f64, seed: u64, setting: u64) -> Self {
        Self { p, seed, setting }
    }
}

/// Thrown once a datagram.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    odds: Odds,
    state: u64,
}

impl Dice {
    pub(super) const fn new(odds: Odds) -> Self {
        Self { odds, state: odds.seed }
    }

    /// Starts its row anew, if these are another setting.
    pub(super) fn set(&mut self, odds: Odds) {
        if self.odds != odds {
            *self = Self::new(odds);
        }
    }

    pub(super) fn hits(&mut self) -> bool {
        // 53 bits: as many as an f64 holds exactly.
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < self.odds.p
    }

    /// From 1 to `most`.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        1 + self.next() % most.max(1)
    }

    /// SplitMix64: every seed, 0 too, gives a good row.
    const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::{Dice, Odds};

    fn row(p: f64, seed: u64) -> Vec<bool> {
        let mut dice = Dice::new(Odds::new(p, seed, 1));
        (0..1_000).map(|_| dice.hits()).collect()
    }

    #[test]
    fn a_seed_repeats_its_row_and_another_gives_another() {
        assert_eq!(row(0.3, 7), row(0.3, 7));
        assert_ne!(row(0.3, 7), row(0.3, 8));
    }

    #[test]
    fn hits_are_as_likely_as_asked() {
        assert!(row(0.0, 1).iter().all(|hit| !hit));
        assert!(row(1.0, 1).iter().all(|hit| *hit));
        let hits = row(0.3, 1).iter().filter(|hit| **hit).count();
        assert!((240..=360).contains(&hits), "{hits} of 1000 at 0.3");
    }

    #[test]
    fn only_setting_odds_anew_starts_the_row_again() {
        let mut dice = Dice::new(Odds::new(0.5, 3, 1));
        let whole: Vec<bool> = (0..20).map(|_| dice.hits()).collect();
        let mut dice = Dice::new(Odds::new(0.5, 3, 1));
        let again: Vec<bool> = (0..20)
            .map(|_| {
                dice.set(Odds::new(0.5, 3, 1));
                dice.hits()
            })
            .collect();
        assert_eq!(whole, again);
        dice.set(Odds::new(0.5, 3, 2));
        let anew: Vec<bool> = (0..20).map(|_| dice.hits()).collect();
        assert_eq!(whole, anew, "the same odds set again start again");
    }
}
