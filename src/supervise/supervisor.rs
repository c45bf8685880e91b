//! Spawns tasks, catches their panics, restarts them, and knows how each is doing.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::backoff::Backoff;
use super::{OnExit, Shutdown, Task};
use crate::metrics::names;

/// Cheap to clone; clones share the tasks.
#[derive(Debug, Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shutdown: Shutdown,
    tracker: TaskTracker,
    rows: Mutex<BTreeMap<u64, TaskReport>>,
    next: AtomicU64,
    /// Why the node must stop; the first reason stands.
    fatal: Mutex<Option<String>>,
}

/// A row of status.
#[derive(Debug, Clone)]
pub struct TaskReport {
    pub name: String,
    pub kind: &'static str,
    pub state: TaskState,
    pub restarts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    Running,
    /// Failed, and waiting to be started again.
    BackingOff,
}

/// Aborts nothing when dropped; `abort` does.
#[derive(Debug)]
pub struct TaskHandle {
    join: JoinHandle<()>,
}

impl TaskHandle {
    pub fn abort(&self) {
        self.join.abort();
    }

    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// Ends when the task has ended, however it ended.
    pub async fn ended(self) {
        let _ = self.join.await;
    }
}

impl Supervisor {
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shared: Arc::new(Shared {
                shutdown,
                tracker: TaskTracker::new(),
                rows: Mutex::default(),
                next: AtomicU64::new(0),
                fatal: Mutex::default(),
            }),
        }
    }

    /// Cancelled when the node stops, by its own will or since a task that it needs has ended.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shared.shutdown
    }

    /// Runs `future` once. Its end is a failure only for tasks that the node can't do without.
    pub fn spawn(
        &self,
        task: Task,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        self.launch(&task.clone(), async move |this, row| {
            let panicked = std::panic::AssertUnwindSafe(future).catch_unwind().await.is_err();
            this.ended(&task, panicked);
            this.shared.rows.lock().remove(&row);
        })
    }

    /// As `spawn`, for one of very many that serve a client each: without a row in status, which nobody could read, and without the room
    /// for one.
    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    pub fn spawn_one_of_many(
        &self,
        task: Task,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        let this = self.clone();
        // No async block: it would keep room for a second copy of the future.
        let caught = std::panic::AssertUnwindSafe(future).catch_unwind();
        let body = caught.map(move |ended| this.ended(&task, ended.is_err()));
        TaskHandle { join: tokio::spawn(self.shared.tracker.track_future(body)) }
    }

    /// As `spawn`, on a thread of its own with a runtime of its own: the operating system shares the processors out between it and all
    /// other tasks, so that neither side waits for the other's work. What it has spawned there ends with it. Ends when it has ended.
    pub fn spawn_apart<M, F>(
        &self,
        task: Task,
        make: M,
    ) -> io::Result<impl Future<Output = ()> + Send + use<M, F>>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (this, guard) = (self.clone(), self.row(&task));
        let (ended, until_ended) = tokio::sync::oneshot::channel::<()>();
        let token = self.shared.tracker.token();
        std::thread::Builder::new().name(task.kind().to_owned()).spawn(move || {
            let run =
                std::panic::AssertUnwindSafe(move || runtime.block_on(async { make().await }));
            let panicked = std::panic::catch_unwind(run).is_err();
            this.ended(&task, panicked);
            drop((guard, token, ended));
        })?;
        Ok(async move {
            let _ = until_ended.await;
        })
    }

    /// Runs what `make` makes; when it ends while the node runs, makes it anew by the rule of `task`.
    pub fn spawn_restarting<F>(
        &self,
        task: Task,
        mut make: impl FnMut() -> F + Send + 'static,
    ) -> TaskHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.launch(&task.clone(), async move |this, row| {
            let OnExit::Restart { first, most } = task.on_exit() else {
                panic!("{task} has no rule for restarting");
            };
            let mut backoff = Backoff::new(first, most);
            while !this.shared.shutdown.is_cancelled() {
                let panicked = std::panic::AssertUnwindSafe(make()).catch_unwind().await.is_err();
                if this.shared.shutdown.is_cancelled() {
                    break;
                }
                this.ended(&task, panicked);
                this.update(row, |row| {
                    row.state = TaskState::BackingOff;
                    row.restarts += 1;
                });
                metrics::counter!(names::TASK_RESTARTS, "task" => task.kind()).increment(1);
                let wait = backoff.next(row.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = this.shared.shutdown.cancelled() => break,
                }
                this.update(row, |row| row.state = TaskState::Running);
            }
            this.shared.rows.lock().remove(&row);
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    fn launch<G, F>(&self, task: &Task, run: G) -> TaskHandle
    where
        G: FnOnce(Self, u64) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.row(task);
        let body = run(self.clone(), guard.row);
        let join = tokio::spawn(self.shared.tracker.track_future(async move {
            let _guard = guard;
            body.await;
        }));
        TaskHandle { join }
    }

    /// A row in status, as long as the guard lives.
    fn row(&self, task: &Task) -> RowGuard {
        let row = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let report = TaskReport {
            name: task.to_string(),
            kind: task.kind(),
            state: TaskState::Running,
            restarts: 0,
        };
        self.shared.rows.lock().insert(row, report);
        RowGuard { supervisor: self.clone(), row }
    }

    fn ended(&self, task: &Task, panicked: bool) {
        if self.shared.shutdown.is_cancelled() {
            return;
        }
        if panicked {
            tracing::error!(%task, "a task panicked");
        }
        match task.on_exit() {
            OnExit::StopNode => {
                let how = if panicked { "panicked" } else { "ended" };
                self.fail(format!("{task} {how}"));
            }
            OnExit::Restart { .. } => tracing::warn!(%task, "a task ended; it is started again"),
            OnExit::Forget => {}
        }
    }

    /// Stops the node, with a reason that `fatal` tells.
    pub fn fail(&self, reason: String) {
        tracing::error!(reason, "the node stops");
        self.shared.fatal.lock().get_or_insert(reason);
        self.shared.shutdown.cancel();
    }

    pub fn fatal(&self) -> Option<String> {
        self.shared.fatal.lock().clone()
    }

    fn update(&self, row: u64, change: impl FnOnce(&mut TaskReport)) {
        if let Some(row) = self.shared.rows.lock().get_mut(&row) {
            change(row);
        }
    }

    /// All rows, oldest task first.
    pub fn report(&self) -> Vec<TaskReport> {
        self.shared.rows.lock().values().cloned().collect()
    }

    /// Ends when every task has ended. Call after cancelling `shutdown`.
    pub async fn all_ended(&self) {
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
    }
}

/// Takes the row away when the task is aborted too.
#[derive(Debug)]
struct RowGuard {
    supervisor: Supervisor,
    row: u64,
}

impl Drop for RowGuard {
    fn drop(&mut self) {
        self.supervisor.shared.rows.lock().remove(&self.row);
    }
}
