//! Leases: at most one holder of a name in the cluster, with a fencing token that only grows.
//!
//! In reading order: `words` (what a user sees), `count` ● (the holder's own count of the TTL), `codec` (the calls, over whichever node
//! answers), `held` ○ (a lease that renews itself), `watch`.

mod codec;
mod count;
mod held;
mod watch;
mod words;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use held::{HeldLease, LeaseLost};
pub use watch::LeaseWatch;
pub use words::{
    Acquire, LeaseChange, LeaseEntry, LeaseError, LeaseList, LeaseOwner, LeaseWatched,
};

use super::driver::Whereabouts;
use super::{Options, connect, session};
pub(super) use codec::Ways;
use codec::{ANSWER_MAX, Answered, Calls, Holder};
use count::Count;

/// How long one call may wait at its node.
const WAIT_OF_A_CALL: Duration = Duration::from_secs(20);
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MOST: Duration = Duration::from_secs(2);

/// Asks about leases, whichever node answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases {
    calls: Arc<Calls>,
}

/// What became of an acquisition.
#[derive(Debug)]
pub enum Acquired {
    /// By whoever asked, for as long as it is kept.
    Held(HeldLease),
    /// By somebody else, all the time.
    Busy(LeaseEntry),
}

/// A lease that nobody renews but who has this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub token: u64,
    /// None: it is a session's.
    pub owner: Option<LeaseOwner>,
}

impl Leases {
    /// Without a session: each acquisition has an owner of its own.
    pub fn new(options: &Options) -> Result<Self, LeaseError> {
        for address in &options.addresses {
            connect::endpoint(address, session::CONNECT_MAX).map_err(LeaseError::Client)?;
        }
        let metadata = connect::metadata(&options.namespace, options.key.as_deref());
        let ways = Ways {
            addresses: options.addresses.clone(),
            metadata: metadata.map_err(LeaseError::Client)?,
            tls: options.tls.clone(),
        };
        Ok(Self { calls: Arc::new(Calls::new(Arc::new(ways), None)) })
    }

    /// Held by the client's session: they end with it at once, and come with it to other nodes.
    pub(super) fn of_session(ways: Arc<Ways>, whereabouts: Arc<Mutex<Whereabouts>>) -> Self {
        Self { calls: Arc::new(Calls::new(ways, Some(whereabouts))) }
    }

    /// Acquires it and keeps it. An error where somebody could have waited for longer: none of the nodes could do it all that time.
    pub async fn hold(&self, ask: &Acquire) -> Result<Acquired, LeaseError> {
        let holder = self.holder(ask)?;
        match self.granted(ask, &holder).await? {
            Answered::Granted { token, sent } => {
                let (calls, name) = (Arc::clone(&self.calls), ask.name.clone());
                Ok(Acquired::Held(HeldLease::new(calls, name, holder, token, ask.ttl, sent)))
            }
            Answered::Busy(entry) => Ok(Acquired::Busy(entry)),
        }
    }

    /// As `hold`, but nobody renews it except by `renew`. `Err`: who has it.
    pub async fn acquire(&self, ask: &Acquire) -> Result<Result<Granted, LeaseEntry>, LeaseError> {
        let holder = self.holder(ask)?;
        let owner = match &holder {
            Holder::Owner(owner) => Some(owner.clone()),
            Holder::Session => None,
        };
        Ok(match self.granted(ask, &holder).await? {
            Answered::Granted { token, .. } => Ok(Granted { token, owner }),
            Answered::Busy(entry) => Err(entry),
        })
    }

    /// Starts the TTL anew. `ttl`: a new one.
    pub async fn renew(
        &self,
        name: &str,
        granted: &Granted,
        ttl: Option<Duration>,
    ) -> Result<(), LeaseError> {
        let holder = holder_of(granted);
        self.calls.renew(name, &holder, granted.token, ttl, ANSWER_MAX).await.map(drop)
    }

    pub async fn release(&self, name: &str, granted: &Granted) -> Result<(), LeaseError> {
        self.calls.release(name, &holder_of(granted), granted.token).await
    }

    /// At most `limit` of those whose name begins with `prefix`, as one node's copy has them.
    pub async fn list(&self, prefix: &str, limit: u32) -> Result<LeaseList, LeaseError> {
        self.calls.list(prefix, limit).await
    }

    /// First every lease that there is, then what changes.
    pub async fn watch(&self, watched: LeaseWatched) -> Result<LeaseWatch, LeaseError> {
        let stream = self.calls.watch(&watched).await?;
        Ok(LeaseWatch::new(Arc::clone(&self.calls), watched, stream))
    }

    fn holder(&self, ask: &Acquire) -> Result<Holder, LeaseError> {
        match &ask.owner {
            Some(owner) => Ok(Holder::Owner(owner.clone())),
            None if self.calls.has_session() => Ok(Holder::Session),
            None => LeaseOwner::new().map(Holder::Owner),
        }
    }

    /// As long as the ask waits. It is one owner all the time, so an answer that got lost costs nothing.
    async fn granted(&self, ask: &Acquire, holder: &Holder) -> Result<Answered, LeaseError> {
        let clock = self.calls.clock;
        let until = clock.now() + ask.wait;
        let mut pause = crate::supervise::backoff::Backoff::new(AGAIN_FIRST, AGAIN_MOST);
        loop {
            let left = until.since(clock.now());
            let asked = self.calls.acquire(ask, holder, left.min(WAIT_OF_A_CALL)).await;
            let answered = match asked {
                Ok(Answered::Granted { token, sent }) => {
                    self.confirmed(ask, holder, token, sent).await
                }
                other => other,
            };
            let is_over = until <= clock.now();
            match answered {
                Ok(Answered::Busy(entry)) if is_over => return Ok(Answered::Busy(entry)),
                Ok(granted @ Answered::Granted { .. }) => return Ok(granted),
                // The node has waited.
                Ok(Answered::Busy(_)) => {}
                Err(LeaseError::NotHeld) if !is_over => {}
                Err(error) if error.is_passing() && !is_over => {
                    let pause = pause.next(clock.now().as_micros());
                    tokio::time::sleep(pause.min(until.since(clock.now()))).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// An answer that was waited for says nothing of how much of the TTL is over: the count begins with a renewal then.
    async fn confirmed(
        &self,
        ask: &Acquire,
        holder: &Holder,
        token: u64,
        sent: crate::types::Time,
    ) -> Result<Answered, LeaseError> {
        let count = Count::new(ask.ttl, sent);
        if !count.is_stale(self.calls.clock.now()) {
            return Ok(Answered::Granted { token, sent });
        }
        let within = count.answer_max();
        let sent = self.calls.renew(&ask.name, holder, token, None, within).await?;
        Ok(Answered::Granted { token, sent })
    }
}

fn holder_of(granted: &Granted) -> Holder {
    match &granted.owner {
        Some(owner) => Holder::Owner(owner.clone()),
        None => Holder::Session,
    }
}
