//! ○ How long a task has worked without giving way to others.
//!
//! Bodies of HTTP/2 cost none of the runtime's own budget: a client that always has more would keep its task, and everybody else behind
//! it, for as long as its window lasts.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use super::Clock;
use crate::types::Time;

/// What others wait for behind one task.
const TURN_MAX: Duration = Duration::from_micros(200);

#[derive(Debug)]
pub struct Turn {
    clock: Clock,
    since: Time,
}

impl Turn {
    pub fn new(clock: Clock) -> Self {
        Self { clock, since: clock.now() }
    }

    /// Awaits what the task goes on with. Where it has been long enough, everybody else who can go on goes first; one that waits anyway
    /// begins a new turn.
    pub async fn next<F: Future>(&mut self, future: F) -> F::Output {
        if self.clock.now() - self.since >= TURN_MAX {
            tokio::task::yield_now().await;
            self.since = self.clock.now();
        }
        let mut future = pin!(future);
        let mut waited = false;
        let done = poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            waited |= polled.is_pending();
            polled
        });
        let done = done.await;
        if waited {
            self.since = self.clock.now();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Turn;
    use crate::supervise::Clock;

    #[tokio::test(start_paused = true)]
    async fn others_come_in_between_and_not_at_every_step() {
        let clock = Clock::new();
        let others = Arc::new(AtomicU64::new(0));
        let counting = others.clone();
        let other = async move {
            loop {
                counting.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        let busy = async {
            let mut turn = Turn::new(clock);
            for _ in 0..100 {
                turn.next(std::future::ready(())).await;
            }
            assert!(others.load(Ordering::Relaxed) <= 1);
            for _ in 0..10 {
                tokio::time::advance(super::TURN_MAX).await;
                turn.next(std::future::ready(())).await;
            }
            assert!(others.load(Ordering::Relaxed) >= 10);
        };
        tokio::select! {
            () = busy => {}
            () = other => {}
        }
    }
}
