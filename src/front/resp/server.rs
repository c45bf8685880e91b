//! Who comes is met by the greeter; who stays, until the node stops, by a task of the node's own runtime.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::Shared;
use super::greeter::Greeter;
use crate::supervise::descriptors::Descriptor;
use crate::supervise::{Shutdown, Task};

/// How long clients have, once the node stops, to take what is still to be said to them.
const STOP_GRACE: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: &Arc<Shared>, listener: TcpListener, shutdown: Shutdown) {
    let supervisor = &shared.deps.supervisor;
    // It is registered anew, where it will be listened to.
    let listening = listener.into_std().and_then(|listener| {
        let greeter = Arc::new(Greeter::new(shared.clone(), Handle::current(), shutdown));
        supervisor.spawn_apart(Task::RedisGreeter, move || greeter.run(listener))
    });
    match listening {
        Ok(ended) => ended.await,
        Err(error) => return tracing::error!(%error, "nobody can be received on the Redis port"),
    }
    shared.deps.broker.close_all("the node stops");
    let all_gone = async {
        while shared.connections.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(STOP_GRACE, all_gone).await;
}

/// Given back when the connection has ended, however it ended.
pub(super) struct Place {
    shared: Arc<Shared>,
    /// How many there are with it.
    pub(super) number: usize,
    _descriptor: Descriptor,
}

impl Place {
    pub(super) fn take(shared: &Arc<Shared>, descriptor: Descriptor) -> Self {
        let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Self { shared: shared.clone(), number, _descriptor: descriptor }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
