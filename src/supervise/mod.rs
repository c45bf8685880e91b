//! Every task has a name, a rule for failing and a rule for stopping, and a row in status. Nothing else may spawn.

pub mod backoff;
pub mod clock;
mod commands;
pub mod descriptors;
mod policy;
mod supervisor;
mod turn;

pub use clock::Clock;
pub use commands::{DrainStep, NodeCommands, SharedCommands};
pub use policy::{OnExit, Task};
pub use supervisor::{Supervisor, TaskHandle, TaskReport, TaskState};
/// Told to stop: `cancelled().await`, `is_cancelled()`. A child is stopped with its parent.
pub use tokio_util::sync::CancellationToken as Shutdown;
pub use turn::Turn;
