//! What is wrong, from facts alone; and since when, from having looked before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::ProblemStatus;
use super::facts::{Facts, link_state};
use crate::control::part::Standing;
use crate::control::part::Why;
use crate::link::{Direction, LinkState};
use crate::membership::MemberState;
use crate::supervise::TaskState;
use crate::tls::certificate::date;
use crate::types::{NodeName, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Something does not work.
    Error,
    /// Something will not work if it goes on, or works for fewer than it should.
    Warning,
    Info,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub severity: Severity,
    pub code: &'static str,
    /// Which of several of this code: a peer's name, a limit's. Two problems differ in code or subject.
    pub subject: String,
    pub message: String,
    pub hint: String,
    /// Where the part that found it knows.
    pub since: Option<Time>,
}

fn found(
    severity: Severity,
    code: &'static str,
    subject: &str,
    message: String,
    hint: &str,
) -> Found {
    let (subject, hint) = (subject.to_owned(), hint.to_owned());
    Found { severity, code, subject, message, hint, since: None }
}

/// A limit is near when this share of it is used.
const NEAR_PERCENT: u64 = 90;

pub(super) fn find(facts: &Facts) -> Vec<Found> {
    let mut all = Vec::new();
    of_node(facts, &mut all);
    of_certificate(facts, &mut all);
    of_members(facts, &mut all);
    of_load(facts, &mut all);
    of_membership(facts, &mut all);
    of_control(facts, &mut all);
    of_door(facts, &mut all);
    all
}

fn of_node(facts: &Facts, all: &mut Vec<Found>) {
    if let Some(reason) = &facts.fatal {
        let hint = "see the log; start the node again";
        all.push(found(
            Severity::Error,
            "stopping",
            "",
            format!("this node stops: {reason}"),
            hint,
        ));
    }
    if let Some(reason) = &facts.isolated {
        let hint =
            "see that the other nodes can reach this one's advertised peer address, UDP and TCP";
        all.push(found(Severity::Error, "isolated", "", reason.clone(), hint));
    }
    if facts.fatal.is_none()
        && facts.isolated.is_none()
        && let Some(reason) = facts.not_ready()
    {
        let (severity, code) = match facts.me.state {
            MemberState::Draining | MemberState::Leaving => (Severity::Info, "draining"),
            _ => (Severity::Warning, "not_ready"),
        };
        all.push(found(severity, code, "", reason, ""));
    }
    if facts.node.insecure() {
        let open = match (facts.node.allow_plaintext, facts.node.allow_anonymous) {
            (true, true) => "without TLS and without keys",
            (true, false) => "without TLS",
            _ => "without keys",
        };
        let hint = "keep the client ports within a network that you trust";
        all.push(found(
            Severity::Warning,
            "insecure",
            "",
            format!("clients may come {open}"),
            hint,
        ));
    }
    let backing_off = facts.tasks.iter().filter(|task| task.state == TaskState::BackingOff);
    let kinds: BTreeMap<_, _> = backing_off.map(|task| (task.kind, task)).collect();
    for (kind, task) in kinds {
        let message =
            format!("{} failed and is started again ({} times)", task.name, task.restarts);
        all.push(found(Severity::Warning, "task_failing", kind, message, "see the log"));
    }
}

/// A group begins, or is found, sooner than that.
const NO_GROUP_WITHIN: Duration = Duration::from_secs(10);
const STILL_GOES_ON: &str =
    "publish, subscribe and presence go on; namespaces, keys and leases can't be changed";

fn of_door(facts: &Facts, all: &mut Vec<Found>) {
    let door = &facts.door;
    let mut tell = |severity, code, message: String, hint: &str| {
        all.push(found(severity, code, "", message, hint));
    };
    if door.lets_nobody_in() {
        let message = "nobody is let in: there is no key, neither in an access file nor agreed on";
        let hint = "make the first into a file: waxwing key create --admin --file access.toml; start this node anew with --access-file access.toml";
        tell(Severity::Error, "no_keys", message.to_owned(), hint);
    } else if door.is_closed && door.agreed_keys > 0 {
        let message = format!(
            "control has no leader: nobody is let in by the {} keys that are agreed on (security.stale_keys)",
            door.agreed_keys
        );
        let hint = "keys of the access file are let in; bring the other voters back: waxwing control status";
        tell(Severity::Error, "stale_keys", message, hint);
    }
    if door.overridden > 0 {
        let message = format!(
            "{} keys of control are not looked at here: the access file has the same ids",
            door.overridden
        );
        let hint = "see: waxwing key list; take one of the two away: waxwing key revoke ID, or with --file FILE";
        tell(Severity::Warning, "keys_overridden", message, hint);
    }
}

fn of_control(facts: &Facts, all: &mut Vec<Found>) {
    let mut tell = |severity, code, message, hint: &str| {
        all.push(found(severity, code, "", message, hint));
    };
    if let Standing::Clash(other) = facts.control.standing {
        let message = format!(
            "another group of control is here, {other}; both were written to, so neither ends"
        );
        let hint = "keep one: on a node of the other one, waxwing control backup FILE; stop its nodes, remove their control.redb, start them";
        tell(Severity::Error, "control_two_groups", message, hint);
    }
    let Some(group) = &facts.control.group else {
        let since = facts.now.since(facts.started);
        if facts.me.state == MemberState::Ready && since >= NO_GROUP_WITHIN {
            let why = match facts.control.standing {
                Standing::Waiting(Why::Others(there)) => {
                    format!("{there} of {} nodes are there", facts.node.expect)
                }
                Standing::Waiting(Why::Nobody) => {
                    "no node has one, and none may begin one by itself".to_owned()
                }
                Standing::Waiting(Why::ToBeSeated) => "its leader has not called yet".to_owned(),
                _ => "it is about to begin".to_owned(),
            };
            let hint =
                "start the nodes with --expect N, or once, on any node: waxwing control init";
            let message = format!("control has no group: {why}; {STILL_GOES_ON}");
            tell(Severity::Warning, "control_no_group", message, hint);
        }
        return;
    };
    if let Some(why) = &group.stopped {
        let message = format!("control has stopped on this node: {why}");
        let hint = "see the log and the disk; start the node again";
        tell(Severity::Error, "control_stopped", message, hint);
    } else if !group.quorum {
        let message = format!("control has no quorum: {STILL_GOES_ON}");
        let hint = "bring the other voters back: waxwing control status; where they are lost for good: waxwing control init --from-copy";
        tell(Severity::Warning, "control_no_quorum", message, hint);
    }
}

/// A certificate is near its end when it has so long left.
const EXPIRES_WITHIN_S: i64 = 14 * 86_400;

fn of_certificate(facts: &Facts, all: &mut Vec<Found>) {
    let Some(certificate) = facts.certificate else { return };
    let (left, at) = (certificate.not_after - facts.unix_s, date(certificate.not_after));
    let hint = "make another (waxwing certs node NAME --replace) and put it in its place; it is read again at once on SIGHUP";
    if left < 0 {
        let message = format!("the node's certificate has expired: {at}");
        all.push(found(Severity::Error, "certificate_expired", "", message, hint));
    } else if left < EXPIRES_WITHIN_S {
        let message = format!("the node's certificate expires in {} days: {at}", left / 86_400);
        all.push(found(Severity::Warning, "certificate_expiring", "", message, hint));
    }
}

fn of_members(facts: &Facts, all: &mut Vec<Found>) {
    if facts.live() < facts.node.expect {
        let message =
            format!("{} of {} expected members are there", facts.live(), facts.node.expect);
        let hint = "start the others, or see why they don't find this node: waxwing join ADDR";
        all.push(found(Severity::Warning, "members_missing", "", message, hint));
    }
    for member in facts.members.iter().filter(|member| !member.me) {
        if member.state == MemberState::Down {
            let why = member.problem.as_deref().unwrap_or("silent");
            let message = format!("{} is down: {why}", member.name);
            let hint = format!(
                "it is forgotten after {}",
                humantime::format_duration(facts.node.forget_after)
            );
            all.push(found(Severity::Warning, "member_down", member.name.as_str(), message, &hint));
        }
        if member.state.is_live() {
            of_link(facts, &member.name, all);
            if member.version != facts.node.version {
                let message = format!("{} runs version {}", member.name, member.version);
                let hint = "fine while an upgrade goes on";
                all.push(found(
                    Severity::Info,
                    "versions_differ",
                    member.name.as_str(),
                    message,
                    hint,
                ));
            }
        }
    }
}

/// At most one problem a peer: the worse of its two links; of two equals the one that this node dials.
fn of_link(facts: &Facts, peer: &NodeName, all: &mut Vec<Found>) {
    let worst = [(Direction::In, "from"), (Direction::Out, "to")]
        .into_iter()
        .map(|(direction, word)| {
            let link = facts.link(peer, direction);
            let state = link.map_or(LinkState::Connecting, |link| link.state);
            (rank(state), state, word, link.and_then(|link| link.problem.as_deref()))
        })
        .max_by_key(|(rank, ..)| *rank);
    let Some((_, state, word, why)) = worst else { return };
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let message = format!("the link {word} {peer} is {}{why}", link_state(state));
    let (severity, code, hint) = match state {
        LinkState::Up => return,
        LinkState::Refused => (
            Severity::Error,
            "link_refused",
            "both nodes need the same cluster name and secret, and versions that understand each other",
        ),
        LinkState::Down => (
            Severity::Warning,
            "link_down",
            "see that the peer address can be reached: waxwing members",
        ),
        LinkState::Connecting => (Severity::Info, "link_connecting", ""),
    };
    all.push(found(severity, code, peer.as_str(), message, hint));
}

pub(super) const fn rank(state: LinkState) -> u8 {
    match state {
        LinkState::Up => 0,
        LinkState::Connecting => 1,
        LinkState::Down => 2,
        LinkState::Refused => 3,
    }
}

fn of_load(facts: &Facts, all: &mut Vec<Found>) {
    if facts.router.slow_mailboxes > 0 {
        let message = format!("{} sessions read too slowly", facts.router.slow_mailboxes);
        let hint = "see: waxwing sessions list --slow";
        all.push(found(Severity::Warning, "slow_sessions", "", message, hint));
    }
    let fds = facts
        .process
        .open_fds
        .zip(facts.process.max_fds)
        .map(|(used, max)| ("descriptors", used, max));
    let limits = super::limits::rows(facts);
    let limits =
        limits.iter().filter_map(|limit| Some((limit.name.as_str(), limit.used?, limit.max)));
    for (name, used, max) in limits.chain(fds) {
        if used.saturating_mul(100) >= max.saturating_mul(NEAR_PERCENT) {
            let message = format!("{used} of {max} {name} are used");
            let hint = match name {
                "descriptors" => "raise the limit of open files (ulimit -n)".to_owned(),
                _ => format!("raise limits.{name}, or add a node"),
            };
            all.push(found(Severity::Warning, "limit_near", name, message, &hint));
        }
    }
}

/// What membership found by itself, unless it is said already.
fn of_membership(facts: &Facts, all: &mut Vec<Found>) {
    for problem in &facts.membership_problems {
        if all.iter().any(|found| found.code == problem.code && found.subject.is_empty()) {
            continue;
        }
        let severity = match problem.code {
            "isolated" | "name_in_use" => Severity::Error,
            _ => Severity::Warning,
        };
        all.push(Found {
            severity,
            code: problem.code,
            subject: problem.message.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            since: Some(problem.since),
        });
    }
}

/// Remembers when each problem was first seen. Holds only those that were there at the last look.
#[derive(Debug, Default)]
pub(super) struct ProblemLog {
    first_seen: BTreeMap<(&'static str, String), Time>,
}

impl ProblemLog {
    /// The worst first, then the oldest.
    pub(super) fn observe(&mut self, found: Vec<Found>, now: Time) -> Vec<ProblemStatus> {
        let mut before = std::mem::take(&mut self.first_seen);
        let mut rows: Vec<_> = found
            .into_iter()
            .map(|found| {
                let key = (found.code, found.subject.clone());
                let seen = before.remove(&key).or(found.since).unwrap_or(now);
                let since = found.since.unwrap_or(seen);
                self.first_seen.insert(key, since);
                (found.severity, since, found)
            })
            .collect();
        rows.sort_by_key(|(severity, since, _)| (*severity, *since));
        rows.into_iter()
            .map(|(severity, since, found)| ProblemStatus {
                since_s: now.since(since).as_secs_f64(),
                severity: severity.as_str().to_owned(),
                code: found.code.to_owned(),
                message: found.message,
                hint: found.hint,
            })
            .collect()
    }
}
