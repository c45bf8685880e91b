//! Starting: find out what the others know of this node's name, take an incarnation above it, then gossip.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::config::{MembershipConfig, MembershipError};
use super::driver::{next_incarnation, store_incarnation};
use super::envelope::INCARNATION_MAX;
use super::member::{Load, MemberState};
use super::row::Facts;
use super::seal::Keyring;
use super::seeds::Own;
use super::shared::{Core, Reply, Shared};
use super::view::{Me, Timing, View};
use super::wire::{Wire, WireConfig};
use super::{MembershipHandle, driver, receiver};
use crate::net::Datagrams;
use crate::supervise::{Clock, Supervisor, Task};
use crate::types::{Incarnation, NodeName, Replica};

const QUERY_WITHIN: Duration = Duration::from_secs(1);
/// A holder that has just died is still "seen 0.3 s ago": a node that comes back at another address asks again.
const QUERIES: usize = 4;
const QUERY_AGAIN: Duration = Duration::from_millis(500);

/// The running membership of one node. Its tasks belong to the supervisor, and end with it.
#[derive(Debug)]
pub struct Membership {
    handle: MembershipHandle,
}

impl Membership {
    /// `socket`: bound to the peer port. Takes up to a second per try for the seeds to answer.
    pub async fn start(
        config: MembershipConfig,
        socket: impl Into<Datagrams>,
        supervisor: &Supervisor,
        clock: Clock,
    ) -> Result<Self, MembershipError> {
        config.check()?;
        let shared = Arc::new(prepare(config, socket.into(), clock).await?);
        let (taken, shutdown) = (shared.clone(), supervisor.shutdown().clone());
        let make = move || receiver::run(taken.clone(), shutdown.clone());
        let receiver = supervisor.spawn_restarting(Task::GossipReceiver, make);
        if let Err(error) = settle(&shared).await {
            receiver.abort();
            return Err(error);
        }
        let (driven, shutdown) = (shared.clone(), supervisor.shutdown().clone());
        let make = move || driver::run(driven.clone(), shutdown.clone());
        supervisor.spawn_restarting(Task::Membership, make);
        Ok(Self { handle: MembershipHandle::new(shared) })
    }

    pub fn handle(&self) -> MembershipHandle {
        self.handle.clone()
    }
}

async fn prepare(
    config: MembershipConfig,
    socket: Datagrams,
    clock: Clock,
) -> Result<Shared, MembershipError> {
    let bound = socket.local_addr().map_err(|source| MembershipError::Socket { source })?;
    let advertised = resolve_own(&config.advertised.peer, bound).await?;
    let boot = getrandom::u64().map_err(|error| MembershipError::Random(error.to_string()))?;
    let keyring = Keyring::new(&config.cluster, &config.secrets);
    let wire = WireConfig {
        name: config.name.clone(),
        own: Own { bound, advertised },
        boot,
        message_max: config.message_max,
        peers_max: config.members_max * 4,
        dial: config.dial.clone(),
    };
    let wire = Wire::new(socket, clock, keyring, wire);
    let now = clock.now();
    let me = Me {
        replica: Replica { name: config.name.clone(), incarnation: Incarnation(0) },
        address: advertised,
        facts: Facts {
            addresses: config.advertised.clone(),
            version: config.version.clone(),
            state: MemberState::Joining,
            load: Load::default(),
            control: None,
        },
        since: now,
    };
    let timing = Timing::new(config.gossip_interval, config.forget_after);
    let view = View::new(timing, config.members_max, now);
    Ok(Shared::new(config, clock, wire, Own { bound, advertised }, me, view))
}

/// The address to which others send: of the socket's family, and one that means the same on every host.
async fn resolve_own(advertised: &str, bound: SocketAddr) -> Result<SocketAddr, MembershipError> {
    let failed = |source| MembershipError::Resolve { address: advertised.to_owned(), source };
    let found = tokio::net::lookup_host(advertised).await.map_err(failed)?;
    let address = found.into_iter().find(|address| address.is_ipv4() == bound.is_ipv4());
    let none = || std::io::Error::other("no address of the peer listener's family");
    let address = address.ok_or_else(none).map_err(failed)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(MembershipError::Unreachable { address });
    }
    Ok(address)
}

/// Gives this node its incarnation, and a first view with itself alone.
async fn settle(shared: &Shared) -> Result<(), MembershipError> {
    let heard = find_out(shared).await?;
    let store = shared.config.incarnations.as_ref();
    let incarnation = next_incarnation(heard, store, shared.clock.unix_ms());
    store_incarnation(store, incarnation)
        .await
        .map_err(|source| MembershipError::Store { incarnation, source })?;
    let mut core = shared.core.lock();
    core.me.replica.incarnation = incarnation;
    core.me.since = shared.clock.now();
    shared.wire.set_incarnation(incarnation);
    let Core { view, me, .. } = &mut *core;
    shared.members.send_replace(view.tick(shared.clock.now(), me, &[]).members);
    Ok(())
}

/// The highest incarnation of this node's name that any seed has heard of.
async fn find_out(shared: &Shared) -> Result<Incarnation, MembershipError> {
    let mut highest = Incarnation(0);
    for left in (0..QUERIES).rev() {
        let seeds = shared.resolve(&shared.config.seeds).await;
        let replies = shared.ask(&seeds, QUERY_WITHIN, seeds.len()).await;
        let heard = replies.iter().map(|reply| reply.answer.highest);
        let lawful = heard.filter(|heard| *heard < INCARNATION_MAX).max().unwrap_or(0);
        highest = highest.max(Incarnation(lawful));
        match in_use(&replies, shared.wire.address(), &shared.config.name) {
            Some(error) if left == 0 => return Err(error),
            Some(error) => tracing::warn!(%error, "the name is asked for again"),
            None => break,
        }
        tokio::time::sleep(QUERY_AGAIN).await;
    }
    Ok(highest)
}

/// Somebody at another address has the name and heartbeats.
pub(super) fn in_use(
    replies: &[Reply],
    address: SocketAddr,
    name: &NodeName,
) -> Option<MembershipError> {
    let holders = replies.iter().filter_map(|reply| reply.answer.holder);
    let other = holders.filter(|holder| holder.address != address);
    let holder = other.min_by_key(|holder| holder.silent_ms)?;
    Some(MembershipError::NameInUse {
        name: name.clone(),
        holder: holder.address,
        seen: Duration::from_millis(holder.silent_ms.into()),
    })
}
