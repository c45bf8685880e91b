//! The report, from facts alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{
    AddressesStatus, ClusterStatus, ControlStatus, LinkStatus, MemberStatus, NodeStatus,
    PresenceStatus, ProblemStatus, PubsubStatus, SessionsStatus, StatusReport, TaskStatus,
};
use super::facts::{Facts, link_state};
use super::problems::rank;
use crate::link::{Direction, LinkState};
use crate::membership::{Member, MemberState, SEEDS_UNREACHABLE};
use crate::supervise::{TaskReport, TaskState};
use crate::tls::certificate::date;

pub(super) fn assemble(facts: &Facts, problems: Vec<ProblemStatus>) -> StatusReport {
    StatusReport {
        node: node(facts),
        cluster: cluster(facts),
        members: facts.members.iter().map(|member| self::member(facts, member)).collect(),
        sessions: SessionsStatus {
            grpc: facts.sessions.attached.saturating_sub(facts.sessions.redis),
            redis: facts.sessions.redis,
            lingering: facts.sessions.lingering,
        },
        pubsub: pubsub(facts),
        presence: presence(facts),
        control: control(facts),
        limits: super::limits::rows(facts),
        tasks: tasks(&facts.tasks),
        problems,
    }
}

fn control(facts: &Facts) -> ControlStatus {
    let report = &facts.control;
    let group = report.group.as_ref();
    let role = match group {
        None => "none",
        Some(group) if group.leads => "leader",
        Some(group) if group.voter => "voter",
        Some(_) => "learner",
    };
    let leader = group.and_then(|group| group.leader.as_ref());
    ControlStatus {
        role: role.to_owned(),
        leader: leader.map(|leader| leader.name.clone()).unwrap_or_default(),
        term: group.map_or(0, |group| group.term),
        quorum: group.is_some_and(|group| group.quorum),
        durable: report.durable,
        group: group.map(|group| group.group.to_string()).unwrap_or_default(),
        applied: group.map_or(0, |group| group.applied),
        namespaces: report.namespaces,
        keys: report.keys,
        leases: report.leases,
    }
}

fn node(facts: &Facts) -> NodeStatus {
    let state = match (&facts.isolated, facts.me.state) {
        (Some(_), MemberState::Ready | MemberState::Joining) => "isolated",
        (_, state) => state.as_str(),
    };
    NodeStatus {
        name: facts.node.name.to_string(),
        id: facts.me.replica().to_string(),
        incarnation: facts.me.incarnation.0,
        version: facts.node.version.clone(),
        state: state.to_owned(),
        uptime_s: facts.now.since(facts.started).as_secs_f64(),
        insecure: facts.node.insecure(),
        certificate_expires: facts
            .certificate
            .map(|certificate| date(certificate.not_after))
            .unwrap_or_default(),
        cpu_s: facts.process.cpu.as_secs_f64(),
        rss_bytes: facts.process.rss_bytes,
    }
}

fn cluster(facts: &Facts) -> ClusterStatus {
    let live = facts.live();
    let peers = facts.members.live_peers();
    let ready_peers = peers.filter(|peer| peer.state == MemberState::Ready).count();
    let me_ready = facts.not_ready().is_none();
    let ready = ready_peers + usize::from(me_ready);
    let found_nobody =
        facts.membership_problems.iter().any(|problem| problem.code == SEEDS_UNREACHABLE);
    let linked = facts.members.live_peers().all(|peer| facts.linked.contains(&peer.name));
    ClusterStatus {
        name: facts.node.cluster.to_string(),
        members: live,
        ready,
        converged: !found_nobody && ready == live && linked && facts.interests_exchanged,
    }
}

fn member(facts: &Facts, member: &Member) -> MemberStatus {
    // Its own row is told by the node itself at once; gossip tells the others'.
    let state = if member.me { node(facts).state } else { member.state.to_string() };
    let up = match member.state {
        MemberState::Down => Duration::ZERO,
        _ if member.me => facts.now.since(facts.started),
        _ => facts.now.since(member.since),
    };
    let sessions = if member.me { facts.sessions.attached } else { member.load.sessions };
    let mut problems: Vec<_> = member.problem.iter().cloned().collect();
    if let Some(orphaned) = facts.presence.orphans.get(&member.name) {
        let left = orphaned.left.as_millis().div_ceil(1_000);
        problems.push(format!("{} presences orphaned, {left} s left", orphaned.presences));
    }
    // One cause shows at both links, in other words: the worse one is told, of two equals the one that this node dials.
    let links = [Direction::In, Direction::Out].map(|way| facts.link(&member.name, way));
    let failing = links.into_iter().flatten().filter(|link| link.problem.is_some());
    let worst = failing.max_by_key(|link| rank(link.state));
    if let Some(link) = worst.filter(|link| link.state != LinkState::Up) {
        problems.extend(
            link.problem.iter().filter(|why| !is_told(&problems, why)).cloned().collect::<Vec<_>>(),
        );
    }
    MemberStatus {
        name: member.name.to_string(),
        state,
        me: member.me,
        incarnation: member.incarnation.0,
        version: member.version.clone(),
        addresses: AddressesStatus {
            grpc: member.addresses.grpc.clone(),
            peer: member.addresses.peer.clone(),
            http: member.addresses.http.clone(),
        },
        up_s: up.as_secs_f64(),
        link: if member.me { LinkStatus::default() } else { link(facts, member) },
        sessions,
        presences: member.load.presences,
        problems,
    }
}

/// "silent" tells "silent for 3 s" too.
fn is_told(problems: &[String], why: &str) -> bool {
    problems.iter().any(|told| told.split("; ").any(|told| why.starts_with(told)))
}

fn link(facts: &Facts, member: &Member) -> LinkStatus {
    let [out, inward] = [Direction::Out, Direction::In].map(|way| facts.link(&member.name, way));
    let unknown = if member.state.is_live() { LinkState::Connecting } else { LinkState::Down };
    let state = |link: Option<&crate::link::LinkReport>| {
        match link.map_or(unknown, |link| link.state) {
            // Its connection has not ended; nothing comes out of it.
            LinkState::Up if member.state == MemberState::Down => "silent".to_owned(),
            state => link_state(state).to_owned(),
        }
    };
    let lags = [out, inward].into_iter().flatten().filter_map(|link| link.lag);
    LinkStatus {
        out: state(out),
        inward: state(inward),
        rtt_ms: out.and_then(|link| link.rtt).or_else(|| inward.and_then(|link| link.rtt)).map(ms),
        unacked_bytes: out.map_or(0, |link| link.unacked_bytes),
        lag_ms: lags.max().map(ms),
        retransmitted: out.map_or(0, |link| link.retransmitted),
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn pubsub(facts: &Facts) -> PubsubStatus {
    let (router, own) = (&facts.router, &facts.own);
    PubsubStatus {
        topics: router.topics,
        subscriptions: router.subscriptions,
        patterns: router.patterns,
        published_total: router.published.saturating_sub(own.published),
        delivered_total: router.delivered,
        forwarded_total: router.forwarded.saturating_sub(own.forwarded),
        dropped_total: router.dropped,
        gaps_total: router.gaps.iter().sum(),
    }
}

fn presence(facts: &Facts) -> PresenceStatus {
    let presence = &facts.presence;
    PresenceStatus {
        presences: presence.presences,
        keys: presence.keys,
        orphaned: presence.orphaned,
        pending_repairs: presence.pending_repairs,
        watches: presence.watches,
    }
}

/// Of which there may be as many as there are clients.
const FOLDED: [&str; 2] = ["session", "client"];
/// More rows of one kind than this are folded too: a large cluster has a link reader for each peer and direction.
const ROWS_OF_A_KIND_MAX: usize = 16;

fn tasks(tasks: &[TaskReport]) -> Vec<TaskStatus> {
    let mut kinds: BTreeMap<&str, Vec<&TaskReport>> = BTreeMap::new();
    for task in tasks {
        kinds.entry(task.kind).or_default().push(task);
    }
    let mut rows = Vec::new();
    for (kind, tasks) in kinds {
        if FOLDED.contains(&kind) || tasks.len() > ROWS_OF_A_KIND_MAX {
            rows.push(task_row(kind, &tasks));
        } else {
            rows.extend(tasks.iter().map(|task| task_row(&task.name, &[task])));
        }
    }
    rows
}

fn task_row(name: &str, tasks: &[&TaskReport]) -> TaskStatus {
    let backing_off = tasks.iter().filter(|task| task.state == TaskState::BackingOff).count();
    let state = match (backing_off, tasks.len()) {
        (0, _) => "running".to_owned(),
        (some, all) if some == all => "backing off".to_owned(),
        (some, _) => format!("{some} backing off"),
    };
    TaskStatus {
        name: name.to_owned(),
        state,
        restarts: tasks.iter().map(|task| task.restarts).sum(),
        count: tasks.len() as u64,
    }
}
