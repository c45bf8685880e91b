//! What the parts said at one moment: plain data, from which the report is made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{DoorReport, SessionCounts};
use crate::config::{Config, Limits};
use crate::control::part::ControlReport;
use crate::link::{Direction, LinkReport, LinkState};
use crate::membership::{Member, MemberState, Problem, SharedMembers};
use crate::replicator::PresenceReport;
use crate::router::RouterReport;
use crate::supervise::TaskReport;
use crate::types::{ClusterName, NodeName, Time};

/// What does not change while the node runs.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    pub name: NodeName,
    pub cluster: ClusterName,
    pub version: String,
    pub allow_plaintext: bool,
    pub allow_anonymous: bool,
    /// How many nodes there will be; 0: not told.
    pub expect: usize,
    pub forget_after: Duration,
}

impl NodeFacts {
    pub fn of(config: &Config) -> Self {
        Self {
            name: config.node.name.clone(),
            cluster: config.cluster.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            allow_plaintext: config.security.allow_plaintext,
            allow_anonymous: config.security.allow_anonymous,
            expect: config.cluster.expect,
            forget_after: config.cluster.forget_after,
        }
    }

    pub const fn insecure(&self) -> bool {
        self.allow_plaintext || self.allow_anonymous
    }
}

#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub node: NodeFacts,
    pub started: Time,
    pub now: Time,
    pub me: Member,
    pub members: SharedMembers,
    pub links: Vec<LinkReport>,
    /// Linked both ways with the incarnation in `members`.
    pub linked: BTreeSet<NodeName>,
    /// Interests are exchanged with every live member.
    pub interests_exchanged: bool,
    pub isolated: Option<String>,
    pub membership_problems: Vec<Problem>,
    pub router: RouterReport,
    pub presence: PresenceReport,
    pub control: ControlReport,
    pub door: DoorReport,
    pub own: OwnTraffic,
    /// Messages, a part of what the router counts.
    pub published_by_http: u64,
    pub published_by_redis: u64,
    pub sessions: SessionCounts,
    pub limits: Arc<Limits>,
    pub tasks: Vec<TaskReport>,
    /// Why the node stops, when it must.
    pub fatal: Option<String>,
    pub process: ProcessFacts,
    /// None: no TLS.
    pub certificate: Option<CertificateFacts>,
    /// Of the wall clock.
    pub unix_s: i64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct CertificateFacts {
    /// Seconds since 1970.
    pub not_after: i64,
    /// Links show it, too.
    pub is_for_peers: bool,
}

/// What the node itself published, to be taken off what clients see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OwnTraffic {
    pub published: u64,
    pub forwarded: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProcessFacts {
    pub cpu: Duration,
    pub rss_bytes: u64,
    pub open_fds: Option<u64>,
    /// None: no limit, or unknown.
    pub max_fds: Option<u64>,
}

impl Facts {
    /// Live members, this node among them.
    pub(super) fn live(&self) -> usize {
        1 + self.members.live_peers().count()
    }

    pub(super) fn link(&self, peer: &NodeName, direction: Direction) -> Option<&LinkReport> {
        self.links.iter().find(|link| link.peer == *peer && link.direction == direction)
    }

    pub(super) fn not_ready(&self) -> Option<String> {
        let unlinked: Vec<_> = self
            .members
            .live_peers()
            .filter(|peer| !self.linked.contains(&peer.name))
            .map(|peer| &peer.name)
            .collect();
        not_ready(&Readiness {
            fatal: self.fatal.as_deref(),
            isolated: self.isolated.as_deref(),
            state: self.me.state,
            expect: self.node.expect,
            live: self.live(),
            unlinked: &unlinked,
        })
    }
}

/// What readiness hangs on.
#[derive(Debug)]
pub(super) struct Readiness<'a> {
    pub fatal: Option<&'a str>,
    pub isolated: Option<&'a str>,
    pub state: MemberState,
    pub expect: usize,
    pub live: usize,
    /// Live peers that are not linked both ways.
    pub unlinked: &'a [&'a NodeName],
}

/// Why this node may not take clients; None: it may. Mere silence of peers never makes a node unready.
pub(super) fn not_ready(facts: &Readiness<'_>) -> Option<String> {
    if let Some(reason) = facts.fatal {
        return Some(format!("this node stops: {reason}"));
    }
    if let Some(reason) = facts.isolated {
        return Some(format!("this node is isolated: {reason}"));
    }
    match facts.state {
        MemberState::Ready => None,
        MemberState::Draining => Some("this node is draining".to_owned()),
        MemberState::Leaving => Some("this node is leaving the cluster".to_owned()),
        MemberState::Down => Some("this node is told to be down".to_owned()),
        MemberState::Joining if facts.live < facts.expect => {
            Some(format!("{} of {} expected members are there", facts.live, facts.expect))
        }
        MemberState::Joining if facts.unlinked.is_empty() => {
            Some("this node is joining the cluster".to_owned())
        }
        MemberState::Joining => Some(format!("not linked yet with {}", listed(facts.unlinked))),
    }
}

/// The first few, and how many more.
fn listed(names: &[&NodeName]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<_> = names.iter().take(SHOWN).map(|name| name.as_str()).collect();
    let more = format!("{} more", names.len().saturating_sub(SHOWN));
    if names.len() > SHOWN {
        text.push(&more);
    }
    text.join(", ")
}

pub(super) const fn link_state(state: LinkState) -> &'static str {
    match state {
        LinkState::Connecting => "connecting",
        LinkState::Up => "up",
        LinkState::Down => "down",
        LinkState::Refused => "refused",
    }
}
