//! The replicas a tracker knows: how far it has come with each, and whether it is up, down, gone or forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{Incarnation, NodeName, Replica, Time};

use super::Dot;
use super::log::Log;
use super::slab::Slab;
use super::sorted::Sorted;

/// How much longer than adoptable an orphan shows (at most; its linger if that is less): so long an adoption may travel.
pub(super) const ADOPTION_TRAVELS: Duration = Duration::from_millis(800);

/// A replica that can't return is kept at least so long, for what third nodes still have to tell of it.
pub(super) const GONE_KEPT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Up,
    /// May come back.
    Down {
        since: Time,
    },
    /// Can't come back.
    Gone {
        since: Time,
    },
    /// Its floor is set and its rows are on their way out.
    Forgotten,
}

impl Life {
    pub(super) fn down_since(self) -> Option<Time> {
        match self {
            Self::Down { since } | Self::Gone { since } => Some(since),
            Self::Up | Self::Forgotten => None,
        }
    }

    #[cfg(test)]
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Up => 0,
            Self::Down { .. } => 1,
            Self::Gone { .. } => 2,
            Self::Forgotten => 3,
        }
    }

    /// Until when a claim of it may be adopted; `None`: as long as it likes.
    pub(super) fn adoptable_until(self, linger: Duration) -> Option<Time> {
        self.down_since().map(|since| since + linger)
    }

    /// From when on a claim of it is hidden.
    pub(super) fn hidden_from(self, linger: Duration) -> Option<Time> {
        self.down_since().map(|since| since + linger + linger.min(ADOPTION_TRAVELS))
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Known {
    pub(super) replica: Replica,
    pub(super) life: Life,
    /// It was up, as seen from here: so this node's own observation says since when it is down, not what others tell.
    pub(super) seen_up: bool,
    /// All its operations up to this one are known.
    pub(super) counter: u64,
    /// As `counter`; ahead of it only while a whole is half applied, whose adds are all there.
    pub(super) covered: u64,
    /// Its claims, in the order of their counters.
    pub(super) dots: Sorted,
    pub(super) hidden: usize,
    /// Of all claims that it ever had here.
    pub(super) longest_linger: Duration,
    /// When it had done so many operations it had heard of so many of this node's: what it did until then it did without knowing the
    /// rest.
    pub(super) knew: Option<(u64, u64)>,
    /// The exclusive or of the hashes of its claims' counters, those that wait to be removed left out: whoever has
    /// removed them has the same digest as whoever still has to.
    pub(super) digest: u64,
    pub(super) log: Log,
    /// How many wholes of it have been applied.
    pub(super) wholes: u64,
    /// Its digest differed from its origin's: the next whole is believed also where it contradicts what is known.
    pub(super) repairing: bool,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Replicas {
    known: Slab<Known>,
    by_name: BTreeMap<Replica, u32>,
    /// The highest forgotten incarnation of a name. A name costs a few bytes, and names of nodes are few.
    floors: BTreeMap<NodeName, Incarnation>,
}

/// Spread, so that exclusive or over counters in a row says something.
pub(super) fn hash_of_counter(counter: u64) -> u64 {
    let mut x = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Replicas {
    pub(super) fn find(&self, replica: &Replica) -> Option<u32> {
        self.by_name.get(replica).copied()
    }

    pub(super) fn insert(&mut self, replica: &Replica, life: Life) -> u32 {
        let known = Known {
            replica: replica.clone(),
            life,
            seen_up: life == Life::Up,
            counter: 0,
            covered: 0,
            dots: Sorted::default(),
            hidden: 0,
            longest_linger: Duration::ZERO,
            knew: None,
            digest: 0,
            log: Log::default(),
            wholes: 0,
            repairing: false,
        };
        let id = self.known.insert(known);
        self.by_name.insert(replica.clone(), id);
        id
    }

    /// Once nothing refers to it.
    pub(super) fn remove(&mut self, id: u32) {
        if let Some(known) = self.known.remove(id) {
            self.by_name.remove(&known.replica);
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&Known> {
        self.known.get(id)
    }

    /// In the order of replicas.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Known)> {
        self.by_name.values().map(|id| (*id, &self.known[*id]))
    }

    pub(super) fn of_name<'a>(
        &'a self,
        name: &'a NodeName,
    ) -> impl Iterator<Item = (u32, &'a Known)> {
        let first = Replica { name: name.clone(), incarnation: Incarnation(0) };
        let of = self.by_name.range(first..).take_while(move |(replica, _)| replica.name == *name);
        of.map(|(_, id)| (*id, &self.known[*id]))
    }

    pub(super) fn set_floor(&mut self, replica: &Replica) {
        let floor = self.floors.entry(replica.name.clone()).or_default();
        *floor = replica.incarnation.max(*floor);
    }

    #[cfg(test)]
    pub(super) fn floors(&self) -> &BTreeMap<NodeName, Incarnation> {
        &self.floors
    }

    pub(super) fn is_forgotten(&self, replica: &Replica) -> bool {
        self.floors.get(&replica.name).is_some_and(|floor| replica.incarnation <= *floor)
    }

    /// A newer incarnation of its name is known, or was.
    pub(super) fn is_outdated(&self, replica: &Replica) -> bool {
        let newer = |(_, known): (u32, &Known)| known.replica.incarnation > replica.incarnation;
        self.is_forgotten(replica) || self.of_name(&replica.name).any(newer)
    }

    /// What that operation made is here, or was; or nothing of its replica can come any more.
    pub(super) fn covers(&self, dot: &Dot) -> bool {
        match self.find(&dot.replica) {
            Some(id) => {
                let known = &self.known[id];
                known.life == Life::Forgotten || known.covered >= dot.counter
            }
            None => self.is_forgotten(&dot.replica),
        }
    }
}

impl std::ops::Index<u32> for Replicas {
    type Output = Known;

    fn index(&self, id: u32) -> &Known {
        &self.known[id]
    }
}

impl std::ops::IndexMut<u32> for Replicas {
    fn index_mut(&mut self, id: u32) -> &mut Known {
        &mut self.known[id]
    }
}
