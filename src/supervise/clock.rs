//! The one place where clocks are read: tokio's, which is the operating system's unless a test has stopped it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::types::Time;

/// Monotonic time since this clock was made, and the wall clock. Cheap to clone; clones agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// What the wall clock said at `start`, where it isn't this host's.
    unix_ms: Option<u64>,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    #[expect(clippy::new_without_default, reason = "a clock that starts now is no default value")]
    pub fn new() -> Self {
        Self { start: Instant::now(), unix_ms: None }
    }

    /// A wall clock that says this now and goes as fast as time does, whatever the host's says.
    pub fn at(unix_ms: u64) -> Self {
        Self { unix_ms: Some(unix_ms), ..Self::new() }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    pub fn now(&self) -> Time {
        let us = Instant::now().saturating_duration_since(self.start).as_micros();
        Time::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    /// Milliseconds since 1970, as this host believes. For people and for ids, never for a time limit.
    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    pub fn unix_ms(&self) -> u64 {
        if let Some(at_start) = self.unix_ms {
            return at_start + self.now().as_micros() / 1_000;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
