//! How many datagrams a source may have opened: looked at before any cryptography. Pure; the tables are bounded.
//!
//! Sources that have proved themselves (a datagram from there opened) have buckets of their own. All others share one besides their
//! own small ones: a flood from sources made up one by one slows strangers down, and members not at all.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::types::Time;

const SOURCES_MAX: usize = 1_024;

const PROVEN: Rate = Rate { per_second: 1_000, burst: 2_000 };
const STRANGER: Rate = Rate { per_second: 100, burst: 200 };
const CROWD: Rate = Rate { per_second: 1_000, burst: 2_000 };

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u64,
    burst: u64,
}

#[derive(Debug)]
struct Bucket {
    /// In millionths.
    tokens: u64,
    at: Time,
}

#[derive(Debug, Default)]
pub(super) struct Buckets {
    proven: HashMap<SocketAddr, Bucket>,
    strangers: HashMap<SocketAddr, Bucket>,
    crowd: Option<Bucket>,
}

const ONE: u64 = 1_000_000;

impl Bucket {
    fn full(rate: Rate, at: Time) -> Self {
        Self { tokens: rate.burst * ONE, at }
    }

    fn take(&mut self, rate: Rate, now: Time) -> bool {
        let us = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let more = us.saturating_mul(rate.per_second);
        self.tokens = self.tokens.saturating_add(more).min(rate.burst * ONE);
        self.at = now;
        let enough = self.tokens >= ONE;
        self.tokens -= if enough { ONE } else { 0 };
        enough
    }
}

impl Buckets {
    pub(super) fn take(&mut self, source: SocketAddr, now: Time) -> bool {
        if let Some(bucket) = self.proven.get_mut(&source) {
            return bucket.take(PROVEN, now);
        }
        let known = self.strangers.get_mut(&source);
        let new = known.is_none();
        if known.is_some_and(|own| !own.take(STRANGER, now)) {
            return false;
        }
        // The crowd's bucket comes before the table, so that a flood doesn't even turn that over.
        if !self.crowd.get_or_insert_with(|| Bucket::full(CROWD, now)).take(CROWD, now) {
            return false;
        }
        if new {
            make_room(&mut self.strangers, source);
            let own = self.strangers.entry(source);
            own.or_insert_with(|| Bucket::full(STRANGER, now)).take(STRANGER, now);
        }
        true
    }

    /// A datagram from there opened, for the first time.
    pub(super) fn proved(&mut self, source: SocketAddr, now: Time) {
        if self.proven.contains_key(&source) {
            return;
        }
        self.strangers.remove(&source);
        make_room(&mut self.proven, source);
        self.proven.insert(source, Bucket::full(PROVEN, now));
    }
}

/// The source that was quiet for longest goes.
fn make_room(table: &mut HashMap<SocketAddr, Bucket>, source: SocketAddr) {
    if table.len() < SOURCES_MAX || table.contains_key(&source) {
        return;
    }
    let quietest = table.iter().min_by_key(|(_, bucket)| bucket.at).map(|(source, _)| *source);
    if let Some(quietest) = quietest {
        table.remove(&quietest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> SocketAddr {
        SocketAddr::from((n.to_be_bytes(), 7))
    }

    fn taken(buckets: &mut Buckets, source: SocketAddr, tries: usize, at_ms: u64) -> usize {
        (0..tries).filter(|_| buckets.take(source, Time::from_millis(at_ms))).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut buckets = Buckets::default();
        assert_eq!(taken(&mut buckets, source(1), 1_000, 0), 200);
        assert_eq!(taken(&mut buckets, source(1), 1_000, 500), 50);
        buckets.proved(source(1), Time::from_millis(500));
        assert_eq!(taken(&mut buckets, source(1), 5_000, 500), 2_000);
        assert_eq!(taken(&mut buckets, source(1), 5_000, 1_000), 500);
    }

    #[test]
    fn a_flood_from_made_up_sources_leaves_members_alone() {
        let mut buckets = Buckets::default();
        buckets.proved(source(1), Time::ZERO);
        let strangers: usize = (10..100_000).map(|n| taken(&mut buckets, source(n), 1, 1)).sum();
        assert_eq!(strangers, 2_000);
        assert!(buckets.strangers.len() <= SOURCES_MAX);
        assert_eq!(taken(&mut buckets, source(1), 100, 1), 100);
    }
}
