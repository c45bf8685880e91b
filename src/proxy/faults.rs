//! Which faults are on: plain data, replaced as a whole and watched by everything that forwards.

use std::time::Duration;

use super::Lane;
use super::chance::Odds;

#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    there: LaneFaults,
    back: LaneFaults,
    datagrams: LaneFaults,
}

#[derive(Debug, Clone)]
pub(super) struct LaneFaults {
    pub(super) cut: bool,
    /// Cuts so far: a cut that was healed before anybody looked still resets what was open.
    pub(super) cuts: u64,
    pub(super) half_open: bool,
    pub(super) held: bool,
    pub(super) delay: Duration,
    pub(super) loss: Odds,
    pub(super) duplication: Odds,
    pub(super) reordering: Odds,
}

impl Default for LaneFaults {
    fn default() -> Self {
        Self {
            cut: false,
            cuts: 0,
            half_open: false,
            held: false,
            delay: Duration::ZERO,
            loss: Odds::NEVER,
            duplication: Odds::NEVER,
            reordering: Odds::NEVER,
        }
    }
}

impl LaneFaults {
    /// Nothing may leave at present.
    pub(super) const fn still(&self) -> bool {
        self.half_open || self.held
    }
}

impl Faults {
    pub(super) const fn lane(&self, lane: Lane) -> &LaneFaults {
        match lane {
            Lane::There => &self.there,
            Lane::Back => &self.back,
            Lane::Datagrams => &self.datagrams,
        }
    }

    pub(super) const fn lane_mut(&mut self, lane: Lane) -> &mut LaneFaults {
        match lane {
            Lane::There => &mut self.there,
            Lane::Back => &mut self.back,
            Lane::Datagrams => &mut self.datagrams,
        }
    }

    /// Connections are cut as a whole.
    pub(super) const fn connections_cut(&self) -> bool {
        self.there.cut || self.back.cut
    }

    pub(super) const fn connection_cuts(&self) -> u64 {
        self.there.cuts + self.back.cuts
    }
}
