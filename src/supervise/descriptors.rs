//! Who may take a file descriptor: clients never get the last ones, which links, probes and whoever operates the node need.
//!
//! The number is of the process, so one count stands for all fronts. What no front counts (listeners, links, files) lives in the reserve.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use super::Clock;

const RESERVE_MIN: usize = 32;
/// A burst of refusals is one line of the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The descriptors that clients of this process may have. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Descriptors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clients_max: usize,
    reserve: usize,
    taken: AtomicUsize,
    clock: Clock,
    /// When it may be told again that there are none, in microseconds.
    quiet_until: AtomicU64,
}

/// One that is taken, until it is dropped.
#[derive(Debug)]
pub struct Descriptor {
    shared: Arc<Shared>,
}

impl Descriptors {
    /// By the soft limit as it was when this was first asked.
    pub fn of_process() -> Self {
        static OF_PROCESS: OnceLock<Descriptors> = OnceLock::new();
        let read = || {
            let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
            Self::new(usize::try_from(soft).unwrap_or(usize::MAX))
        };
        OF_PROCESS.get_or_init(read).clone()
    }

    /// Of a process that may have so many open.
    pub fn new(soft_limit: usize) -> Self {
        let reserve = RESERVE_MIN.max(soft_limit / 10);
        let shared = Shared {
            clients_max: soft_limit.saturating_sub(reserve),
            reserve,
            taken: AtomicUsize::new(0),
            clock: Clock::new(),
            quiet_until: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn clients_max(&self) -> usize {
        self.shared.clients_max
    }

    /// None: those that are left are not for clients.
    pub fn take(&self) -> Option<Descriptor> {
        let max = self.shared.clients_max;
        let one_more = |taken| (taken < max).then_some(taken + 1);
        let taken = self.shared.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Descriptor { shared: self.shared.clone() })
    }

    /// For a front that probes come by too, and that has `mine` already: a quarter of the reserve is its own.
    pub fn take_reserved(&self, mine: usize) -> Option<Descriptor> {
        if mine < self.shared.reserve / 4 {
            self.shared.taken.fetch_add(1, Ordering::Relaxed);
            return Some(Descriptor { shared: self.shared.clone() });
        }
        self.take()
    }

    /// Whether a refusal is to be logged: not each of a burst.
    pub fn is_to_be_told(&self) -> bool {
        let now = self.shared.clock.now();
        let next = (now + TELL_EVERY).as_micros();
        let due = |quiet_until| (quiet_until <= now.as_micros()).then_some(next);
        self.shared.quiet_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.shared.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Descriptors;

    #[test]
    fn clients_leave_the_reserve() {
        for (soft, clients) in [(0, 0), (32, 0), (200, 168), (320, 288), (1_024, 922)] {
            assert_eq!(Descriptors::new(soft).clients_max(), clients, "{soft}");
        }
        assert!(Descriptors::new(usize::MAX).take().is_some());
    }

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let descriptors = Descriptors::new(34);
        let first = descriptors.take().expect("one of two");
        let _second = descriptors.take().expect("the other");
        assert!(descriptors.take().is_none());
        drop(first);
        assert!(descriptors.take().is_some());
    }

    #[test]
    fn probes_get_in_when_clients_do_not() {
        let descriptors = Descriptors::new(33);
        let _client = descriptors.take().expect("the only one");
        let mut probes = Vec::new();
        while let Some(probe) = descriptors.take_reserved(probes.len()) {
            probes.push(probe);
        }
        assert_eq!(probes.len(), 8);
    }

    #[test]
    fn a_burst_is_told_once() {
        let descriptors = Descriptors::new(32);
        assert!(descriptors.is_to_be_told());
        assert!(!descriptors.is_to_be_told());
    }
}
