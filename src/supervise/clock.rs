//! The one place where the real clock is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::types::Time;

/// Monotonic time since this clock was made, and the wall clock. Cheap to clone; clones agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    #[expect(clippy::new_without_default, reason = "a clock that starts now is no default value")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    pub fn now(&self) -> Time {
        let us = Instant::now().saturating_duration_since(self.start).as_micros();
        Time::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    /// Milliseconds since 1970, as this host believes. For people and for ids, never for a time limit.
    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    pub fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
