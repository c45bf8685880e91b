//! The connections of this node's Redis clients, as `CLIENT LIST` shows them and `CLIENT KILL` finds them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::session::{ClientFilter, Shown};
use crate::pubsub::Resp;
use crate::types::{SessionId, Time};

/// Everybody who is no stranger.
#[derive(Debug, Default)]
pub(super) struct Clients {
    next: AtomicU64,
    by_id: Mutex<BTreeMap<u64, Arc<Card>>>,
}

/// One client as others see it.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) id: u64,
    address: Address,
    local: Address,
    since: Time,
    pub(super) seen: Mutex<Seen>,
}

/// A quarter of the size of what the standard library has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl Address {
    fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) => Self::V6(Box::new(address)),
        }
    }

    fn get(&self) -> SocketAddr {
        match self {
            Self::V4(address) => SocketAddr::V4(*address),
            Self::V6(address) => SocketAddr::V6(**address),
        }
    }
}

impl Card {
    pub(super) fn new(id: u64, address: SocketAddr, local: SocketAddr, now: Time) -> Self {
        let seen = Seen { session: SessionId([0; 16]), shown: Shown::default(), at: now };
        let (address, local) = (Address::new(address), Address::new(local));
        Self { id, address, local, since: now, seen: seen.into() }
    }

    pub(super) fn since(&self) -> Time {
        self.since
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address.get()
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local.get()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The broker's; nothing for a stranger.
    pub(super) session: SessionId,
    pub(super) shown: Shown,
    /// When it last asked something.
    pub(super) at: Time,
}

impl Clients {
    /// Ids are never used twice, as in Redis.
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn add(&self, card: Arc<Card>) {
        self.by_id.lock().insert(card.id, card);
    }

    pub(super) fn remove(&self, id: u64) {
        self.by_id.lock().remove(&id);
    }

    pub(super) fn find(&self, filter: &ClientFilter) -> Vec<Arc<Card>> {
        let by_id = self.by_id.lock();
        by_id.values().filter(|card| filter.lets_through(card)).cloned().collect()
    }
}

impl ClientFilter {
    fn lets_through(&self, card: &Card) -> bool {
        let is = |wanted: &Option<String>, address: SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string())
        };
        !self.nobody
            && self.except != Some(card.id)
            && (self.ids.is_empty() || self.ids.contains(&card.id))
            && is(&self.address, card.address())
            && is(&self.local_address, card.local())
            && self.subscribed.is_none_or(|wanted| card.seen.lock().shown.is_subscribed() == wanted)
    }
}

impl Card {
    /// A line of `CLIENT LIST`; what Redis counts and this front doesn't have is left out.
    pub(super) fn line(&self, now: Time) -> String {
        let Seen { shown, at, .. } = self.seen.lock().clone();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut flags = String::new();
        for (is_set, flag) in
            [(shown.is_subscribed(), 'P'), (shown.no_evict, 'e'), (shown.no_touch, 'T')]
        {
            if is_set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let resp = match shown.resp {
            Resp::Two => 2,
            Resp::Three => 3,
        };
        let mut line = String::new();
        let _ = writeln!(
            line,
            "id={} addr={} laddr={} name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi=-1 \
             cmd={} user=default resp={resp} lib-name={} lib-ver={}",
            self.id,
            self.address(),
            self.local(),
            text(shown.name()),
            (now - self.since).as_secs(),
            (now - at).as_secs(),
            shown.db,
            shown.channels,
            shown.patterns,
            shown.sharded,
            if shown.last.is_empty() { "NULL" } else { shown.last },
            text(shown.lib_name()),
            text(shown.lib_ver()),
        );
        line
    }
}
