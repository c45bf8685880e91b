//! One report assembled from every part; `/status`, the admin service and the command line all show this one.
//!
//! The parts are asked (`gather`), the answers are plain `Facts`, and everything that is decided (what is a problem, how bad it is,
//! whether the cluster has converged) is decided from facts alone.

mod assemble;
mod document;
mod facts;
mod gauges;
mod limits;
mod probe;
mod problems;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub use document::{
    AddressesStatus, ClusterStatus, ControlStatus, LimitStatus, LinkStatus, MemberStatus,
    NodeStatus, PresenceStatus, ProblemStatus, PubsubStatus, SessionsStatus, StatusReport,
    TaskStatus,
};
pub use facts::NodeFacts;
pub use probe::{Probe, ProbeDeps};

use crate::broker::Broker;
use crate::config::limits::LimitsHandle;
use crate::control::part::ControlHandle;
use crate::link::LinksHandle;
use crate::membership::MembershipHandle;
use crate::replicator::ReplicatorHandle;
use crate::router::RouterHandle;
use crate::supervise::{Clock, Supervisor};
use crate::tls::Tls;
use crate::types::Time;

use facts::{CertificateFacts, Facts, ProcessFacts, Readiness};
use problems::ProblemLog;

#[derive(Debug, Clone)]
pub struct StatusDeps {
    pub node: NodeFacts,
    pub membership: MembershipHandle,
    pub links: LinksHandle,
    pub router: RouterHandle,
    pub replicator: ReplicatorHandle,
    pub broker: Broker,
    pub limits: LimitsHandle,
    pub supervisor: Supervisor,
    pub clock: Clock,
    pub tls: Option<Tls>,
    pub control: ControlHandle,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    deps: StatusDeps,
    started: Time,
    problems: Mutex<ProblemLog>,
    tally: probe::Tally,
    published_by_http: AtomicU64,
    published_by_redis: AtomicU64,
}

impl StatusHandle {
    /// Uptime counts from here.
    pub fn new(deps: StatusDeps) -> Self {
        let started = deps.clock.now();
        let problems = Mutex::default();
        let tally = probe::Tally::default();
        let published_by_http = AtomicU64::new(0);
        let published_by_redis = AtomicU64::new(0);
        let shared =
            Shared { deps, started, problems, tally, published_by_http, published_by_redis };
        Self { shared: Arc::new(shared) }
    }

    pub fn report(&self) -> StatusReport {
        self.report_of(&self.gather())
    }

    /// May this node take clients? The reason, when not.
    pub fn ready(&self) -> Result<(), String> {
        let deps = &self.shared.deps;
        let members = deps.membership.members();
        let unlinked: Vec<_> = members
            .live_peers()
            .filter(|peer| !deps.links.connected(&peer.name, peer.incarnation))
            .map(|peer| &peer.name)
            .collect();
        let reason = facts::not_ready(&Readiness {
            fatal: deps.supervisor.fatal().as_deref(),
            isolated: deps.membership.isolated().as_deref(),
            state: deps.membership.me().state,
            expect: deps.node.expect,
            live: 1 + members.live_peers().count(),
            unlinked: &unlinked,
        });
        reason.map_or(Ok(()), Err)
    }

    /// Sets the gauges of `/metrics`.
    pub fn set_gauges(&self) {
        let facts = self.gather();
        gauges::set(&facts, &self.report_of(&facts));
    }

    /// The router can't tell fronts apart; the one that has no sessions says what is its own. Before it publishes, so that no look in
    /// between takes it for another's.
    pub fn count_published_by_http(&self, messages: u64) {
        self.shared.published_by_http.fetch_add(messages, Ordering::Relaxed);
    }

    /// As `count_published_by_http`.
    pub fn count_published_by_redis(&self, messages: u64) {
        self.shared.published_by_redis.fetch_add(messages, Ordering::Relaxed);
    }

    /// It was refused after all.
    pub fn uncount_published_by_http(&self, messages: u64) {
        self.shared.published_by_http.fetch_sub(messages, Ordering::Relaxed);
    }

    /// Looks, so that a problem's beginning is known though nobody asks for the report.
    fn look_for_problems(&self) {
        let facts = self.gather();
        self.shared.problems.lock().observe(problems::find(&facts), facts.now);
    }

    fn tally(&self) -> &probe::Tally {
        &self.shared.tally
    }

    fn report_of(&self, facts: &Facts) -> StatusReport {
        let found = problems::find(facts);
        let problems = self.shared.problems.lock().observe(found, facts.now);
        assemble::assemble(facts, problems)
    }

    fn gather(&self) -> Facts {
        let deps = &self.shared.deps;
        let members = deps.membership.members();
        let linked = members
            .live_peers()
            .filter(|peer| deps.links.connected(&peer.name, peer.incarnation))
            .map(|peer| peer.name.clone())
            .collect();
        Facts {
            node: deps.node.clone(),
            started: self.shared.started,
            now: deps.clock.now(),
            me: deps.membership.me(),
            linked,
            members,
            links: deps.links.report(),
            interests_exchanged: deps.router.connected_to_all(),
            isolated: deps.membership.isolated(),
            membership_problems: deps.membership.problems(),
            // The own traffic first: what comes in between shows for a moment as a client's, and never less than nothing.
            own: self.shared.tally.traffic(),
            published_by_http: self.shared.published_by_http.load(Ordering::Relaxed),
            published_by_redis: self.shared.published_by_redis.load(Ordering::Relaxed),
            router: deps.router.report(),
            presence: deps.replicator.report(),
            control: deps.control.report(),
            door: deps.broker.door().report(),
            sessions: deps.broker.session_counts(),
            limits: deps.limits.get(),
            tasks: deps.supervisor.report(),
            fatal: deps.supervisor.fatal(),
            process: process(),
            certificate: deps.tls.as_ref().map(|tls| CertificateFacts {
                not_after: tls.material().not_after(),
                is_for_peers: tls.material().is_for_peers(),
            }),
            unix_s: i64::try_from(deps.clock.unix_ms() / 1_000).unwrap_or(i64::MAX),
        }
    }
}

fn process() -> ProcessFacts {
    let process = metrics_process::collector::collect();
    ProcessFacts {
        cpu: Duration::try_from_secs_f64(process.cpu_seconds_total.unwrap_or(0.0))
            .unwrap_or_default(),
        rss_bytes: process.resident_memory_bytes.unwrap_or(0),
        open_fds: process.open_fds,
        max_fds: process.max_fds.filter(|max| *max > 0),
    }
}
