//! ○ A lease that renews itself, and says when it is lost.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::codec::{Calls, Holder};
use super::count::Count;
use super::words::{LeaseError, LeaseOwner};
use crate::supervise::{Clock, Shutdown, Supervisor, Task};
use crate::types::Time;

/// How long a release is tried for.
const RELEASE_MAX: Duration = Duration::from_secs(5);
const RELEASE_AGAIN: Duration = Duration::from_millis(200);

/// Renews its lease at a third of the TTL until it is dropped or released, or the lease is lost. Dropped, the lease runs out by itself;
/// a session's lasts as long as the session.
#[derive(Debug)]
pub struct HeldLease {
    name: String,
    token: u64,
    ttl: Duration,
    holder: Holder,
    calls: Arc<Calls>,
    state: watch::Receiver<State>,
    stop: Shutdown,
}

#[derive(Debug, Clone)]
struct State {
    /// It is surely held until then, unless it is renewed.
    until: Time,
    lost: Option<LeaseLost>,
}

/// Why a lease is not surely held any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseLost {
    /// The cluster says so: it has ended, or somebody else has it.
    Gone,
    /// It could not be renewed in time; what the last try came to.
    Unrenewed(String),
}

impl fmt::Display for LeaseLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it has ended, or somebody else has it"),
            Self::Unrenewed(why) if why.is_empty() => f.write_str("it was not renewed in time"),
            Self::Unrenewed(why) => write!(f, "it could not be renewed in time: {why}"),
        }
    }
}

impl HeldLease {
    /// `sent`: when what the cluster said yes to was.
    pub(super) fn new(
        calls: Arc<Calls>,
        name: String,
        holder: Holder,
        token: u64,
        ttl: Duration,
        sent: Time,
    ) -> Self {
        let count = Count::new(ttl, sent);
        let (told, state) = watch::channel(State { until: count.until(), lost: None });
        let stop = Shutdown::new();
        let keeper = Keeper {
            calls: Arc::clone(&calls),
            name: name.clone(),
            holder: holder.clone(),
            token,
            count,
            told,
        };
        let task = Task::Client(format!("lease {name}"));
        Supervisor::new(Shutdown::new()).spawn(task, keeper.run(stop.clone()));
        Self { name, token, ttl, holder, calls, state, stop }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fencing token: higher than any that was given before, for any name. Whatever is written under the lease should carry it, and
    /// whoever takes it in refuse one below the highest that it has seen.
    pub const fn token(&self) -> u64 {
        self.token
    }

    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// None: it is a session's.
    pub const fn owner(&self) -> Option<&LeaseOwner> {
        match &self.holder {
            Holder::Owner(owner) => Some(owner),
            Holder::Session => None,
        }
    }

    /// How much longer it is surely held without being renewed, by this host's clock; zero: it may be somebody else's.
    pub fn held_for(&self) -> Duration {
        let state = self.state.borrow();
        match state.lost {
            Some(_) => Duration::ZERO,
            None => state.until.since(self.clock().now()),
        }
    }

    pub fn is_held(&self) -> bool {
        !self.held_for().is_zero()
    }

    /// Ends when the lease has `reserve` left, or nothing: time to stop what was done under it. Renewed meanwhile, it goes on.
    pub async fn runs_low(&self, reserve: Duration) {
        let mut state = self.state.clone();
        loop {
            let (until, is_lost) = {
                let state = state.borrow_and_update();
                (state.until, state.lost.is_some())
            };
            let left = until.since(self.clock().now());
            if is_lost || left <= reserve {
                return;
            }
            tokio::select! {
                _ = state.changed() => {}
                () = tokio::time::sleep(left - reserve) => {}
            }
        }
    }

    /// Ends when the lease isn't surely held any more.
    pub async fn lost(&self) -> LeaseLost {
        self.runs_low(Duration::ZERO).await;
        let lost = self.state.borrow().lost.clone();
        lost.unwrap_or_else(|| LeaseLost::Unrenewed(String::new()))
    }

    /// Why it isn't surely held any more, where it isn't.
    pub fn why_lost(&self) -> Option<LeaseLost> {
        self.state.borrow().lost.clone()
    }

    /// Lets others have it at once. An error: they have to wait for a TTL at the most.
    pub async fn release(self) -> Result<(), LeaseError> {
        self.stop.cancel();
        let clock = self.clock();
        let until = clock.now() + RELEASE_MAX;
        let mut is_first = true;
        loop {
            match self.calls.release(&self.name, &self.holder, self.token).await {
                Ok(()) => return Ok(()),
                // The try before may have done it.
                Err(LeaseError::NotHeld) if !is_first => return Ok(()),
                Err(error) if error.is_passing() && clock.now() < until => {
                    is_first = false;
                    tokio::time::sleep(RELEASE_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn clock(&self) -> Clock {
        self.calls.clock
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Keeper {
    calls: Arc<Calls>,
    name: String,
    holder: Holder,
    token: u64,
    count: Count,
    told: watch::Sender<State>,
}

impl Keeper {
    async fn run(mut self, stop: Shutdown) {
        let lost = tokio::select! {
            () = stop.cancelled() => return,
            lost = self.keep() => lost,
        };
        self.told.send_modify(|state| state.lost = Some(lost));
    }

    /// Until it is lost.
    async fn keep(&mut self) -> LeaseLost {
        let clock = self.calls.clock;
        let mut why = String::new();
        loop {
            let now = clock.now();
            if self.count.is_over(now) {
                return LeaseLost::Unrenewed(why);
            }
            let due = self.count.due().min(self.count.until());
            if now < due {
                tokio::time::sleep(due.since(now)).await;
                continue;
            }
            let renewing = self.calls.renew(
                &self.name,
                &self.holder,
                self.token,
                None,
                self.count.answer_max(),
            );
            let renewed = tokio::select! {
                renewed = renewing => renewed,
                () = tokio::time::sleep(self.count.until().since(now)) => continue,
            };
            match renewed {
                Ok(sent) => {
                    self.count.renewed(sent);
                    why.clear();
                    let until = self.count.until();
                    self.told.send_modify(|state| state.until = until);
                }
                Err(LeaseError::NotHeld) => return LeaseLost::Gone,
                Err(error) => {
                    why = error.to_string();
                    self.count.failed(clock.now());
                }
            }
        }
    }
}
