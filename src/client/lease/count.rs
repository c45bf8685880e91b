//! ● The holder's own count: until when a lease is surely held, and when to renew it.
//!
//! The TTL is counted from when the last renewal that succeeded was *sent*: whoever leads counts it from a later moment, so nobody else can
//! have the lease before. Nothing but this host's monotonic clock is asked.

use std::time::Duration;

use crate::types::Time;

/// Two hosts' clocks don't go alike; this part of a TTL is given away for it.
const DRIFT: u32 = 128;
const AGAIN_LEAST: Duration = Duration::from_millis(50);
const AGAIN_MOST: Duration = Duration::from_secs(1);
const ANSWER_LEAST: Duration = Duration::from_millis(250);
const ANSWER_MOST: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    ttl: Duration,
    until: Time,
    due: Time,
}

impl Count {
    /// `sent`: when the acquisition that succeeded was.
    pub(super) fn new(ttl: Duration, sent: Time) -> Self {
        let mut count = Self { ttl, until: Time::ZERO, due: Time::ZERO };
        count.renewed(sent);
        count
    }

    pub(super) fn renewed(&mut self, sent: Time) {
        self.until = self.until.max(sent + (self.ttl - self.ttl / DRIFT));
        self.due = sent + self.ttl / 3;
    }

    /// It is tried again soon: the rest of the TTL has room for several tries.
    pub(super) fn failed(&mut self, now: Time) {
        self.due = now + (self.ttl / 12).clamp(AGAIN_LEAST, AGAIN_MOST);
    }

    /// When it is over unless it is renewed.
    pub(super) const fn until(&self) -> Time {
        self.until
    }

    /// When to renew it.
    pub(super) const fn due(&self) -> Time {
        self.due
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        self.until <= now
    }

    /// How long one node may take to answer a renewal, before another is asked.
    pub(super) fn answer_max(&self) -> Duration {
        (self.ttl / 6).clamp(ANSWER_LEAST, ANSWER_MOST)
    }

    /// The acquisition's answer took so long that it must be renewed before anybody relies on it.
    pub(super) fn is_stale(&self, now: Time) -> bool {
        self.due <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_counted_from_the_sending() {
        let mut count = Count::new(Duration::from_secs(12), Time::from_millis(1_000));
        assert_eq!(count.due(), Time::from_millis(5_000));
        assert!(!count.is_over(Time::from_millis(12_900)));
        assert!(count.is_over(Time::from_millis(13_000)));
        count.failed(Time::from_millis(5_500));
        assert_eq!(count.due(), Time::from_millis(6_500));
        count.renewed(Time::from_millis(6_500));
        assert!(!count.is_over(Time::from_millis(18_000)));
    }

    proptest! {
        /// Whatever the order of answers: never longer than a TTL after the latest sending, and there is always time for another try.
        #[test]
        fn never_longer_than_a_ttl_after_a_sending(
            ttl_ms in 1_000..86_400_000_u64,
            sent_ms in prop::collection::vec(0..1_000_000_u64, 1..20),
        ) {
            let ttl = Duration::from_millis(ttl_ms);
            let mut count = Count::new(ttl, Time::from_millis(sent_ms[0]));
            let mut latest = sent_ms[0];
            for sent in &sent_ms[1..] {
                count.renewed(Time::from_millis(*sent));
                latest = latest.max(*sent);
            }
            let latest = Time::from_millis(latest);
            prop_assert!(count.until() < latest + ttl);
            prop_assert!(latest + ttl / 2 < count.until());
            prop_assert!(count.due() < count.until());
            prop_assert!(count.answer_max() + ttl / 3 < ttl);
        }
    }
}
