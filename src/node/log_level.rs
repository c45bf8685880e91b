//! Which log level is in force: the lasting one, or for a time another.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::supervise::{Supervisor, Task};
use crate::telemetry::LogLevel;

/// Longer ones are cut to it.
const TIME_MAX: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Clone)]
pub(super) struct LogLevels {
    log: LogLevel,
    supervisor: Supervisor,
    lasting: Arc<Mutex<Lasting>>,
}

#[derive(Debug)]
struct Lasting {
    level: String,
    /// Rises with every change, so that the end of an earlier time doesn't undo a later change.
    change: u64,
}

impl LogLevels {
    pub(super) fn new(log: LogLevel, level: String, supervisor: Supervisor) -> Self {
        Self { log, supervisor, lasting: Arc::new(Mutex::new(Lasting { level, change: 0 })) }
    }

    pub(super) fn lasting(&self) -> String {
        self.lasting.lock().level.clone()
    }

    /// The level that was in force before. `Err`: it is no level, and nothing has changed.
    pub(super) fn set(&self, level: &str, for_time: Option<Duration>) -> Result<String, String> {
        let mut lasting = self.lasting.lock();
        let before = self.log.set(level).map_err(|error| error.to_string())?;
        lasting.change += 1;
        match for_time {
            None => level.clone_into(&mut lasting.level),
            Some(time) => self.revert_after(time.min(TIME_MAX), lasting.change),
        }
        tracing::info!(level, before, ?for_time, "log level set");
        Ok(before)
    }

    fn revert_after(&self, time: Duration, change: u64) {
        let this = self.clone();
        self.supervisor.clone().spawn(Task::LogLevel, async move {
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = this.supervisor.shutdown().cancelled() => return,
            }
            let lasting = this.lasting.lock();
            if lasting.change != change {
                return;
            }
            match this.log.set(&lasting.level) {
                Ok(_) => tracing::info!(level = lasting.level, "log level set back"),
                Err(error) => tracing::warn!(%error, "the log level could not be set back"),
            }
        });
    }
}
