//! Facts in, report and problems out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::assemble::assemble;
use super::facts::{CertificateFacts, Facts, NodeFacts, OwnTraffic, ProcessFacts};
use super::problems::{self, ProblemLog};
use super::{StatusReport, TaskStatus};
use crate::broker::{DoorReport, SessionCounts};
use crate::config::Limits;
use crate::control::model::GroupId;
use crate::control::part::{ControlReport, Standing, Why};
use crate::control::raft::GroupReport;
use crate::control::raft::types::RaftMember;
use crate::link::{Direction, LinkReport, LinkState};
use crate::membership::{
    Addresses, Load, Member, MemberState, Members, Problem, SEEDS_UNREACHABLE,
};
use crate::replicator::PresenceReport;
use crate::router::RouterReport;
use crate::supervise::{TaskReport, TaskState};
use crate::types::{ClusterName, Incarnation, NodeName, Time};

fn name(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn member(called: &str, state: MemberState) -> Member {
    Member {
        name: name(called),
        incarnation: Incarnation(7),
        addresses: Addresses::default(),
        version: "1.2.3".into(),
        state,
        load: Load { sessions: 5, presences: 0 },
        control: None,
        me: called == "a",
        since: Time::from_millis(40_000),
        problem: None,
    }
}

fn link(peer: &str, direction: Direction, state: LinkState) -> LinkReport {
    LinkReport {
        peer: name(peer),
        direction,
        state,
        rtt: Some(Duration::from_micros(1_500)),
        unacked_bytes: 10,
        retransmitted: 0,
        lag: None,
        reconnects: 0,
        problem: None,
    }
}

/// `a` is ready and linked with `b` and `c`, which are ready too; nothing is wrong. Asked 100 s after the start.
fn healthy() -> Facts {
    let peers = ["b", "c"];
    let rows = ["a", "b", "c"].map(|called| (name(called), member(called, MemberState::Ready)));
    let both = [Direction::Out, Direction::In];
    Facts {
        node: NodeFacts {
            name: name("a"),
            cluster: ClusterName::parse("test").unwrap(),
            version: "1.2.3".into(),
            allow_plaintext: false,
            allow_anonymous: false,
            expect: 3,
            forget_after: Duration::from_secs(600),
        },
        started: Time::ZERO,
        now: Time::from_millis(100_000),
        me: member("a", MemberState::Ready),
        members: Arc::new(Members { by_name: rows.into_iter().collect() }),
        links: peers
            .iter()
            .flat_map(|peer| both.map(|way| link(peer, way, LinkState::Up)))
            .collect(),
        linked: peers.iter().map(|peer| name(peer)).collect(),
        interests_exchanged: true,
        isolated: None,
        membership_problems: Vec::new(),
        router: RouterReport::default(),
        presence: PresenceReport::default(),
        door: DoorReport { is_locked: true, agreed_keys: 2, ..DoorReport::default() },
        control: ControlReport {
            id: 1,
            durable: true,
            standing: Standing::Member,
            group: Some(group()),
            namespaces: 0,
            keys: 0,
            leases: 0,
        },
        own: OwnTraffic::default(),
        published_by_http: 0,
        published_by_redis: 0,
        sessions: SessionCounts { attached: 3, redis: 1, lingering: 1 },
        limits: Arc::new(Limits::default()),
        tasks: Vec::new(),
        fatal: None,
        process: ProcessFacts { open_fds: Some(10), max_fds: Some(1_000), ..Default::default() },
        certificate: None,
        unix_s: 1_800_000_000,
    }
}

fn group() -> GroupReport {
    GroupReport {
        id: 1,
        group: GroupId([7; 16]),
        term: 3,
        leader: Some(RaftMember { name: "b".to_owned(), ..RaftMember::default() }),
        leads: false,
        quorum: true,
        voter: true,
        applied: 12,
        stopped: None,
    }
}

fn set_state(facts: &mut Facts, called: &str, state: MemberState) {
    let mut members = Members::clone(&facts.members);
    members.by_name.get_mut(&name(called)).unwrap().state = state;
    facts.members = Arc::new(members);
    if called == "a" {
        facts.me.state = state;
    }
}

fn set_links(facts: &mut Facts, peer: &str, state: LinkState, problem: Option<&str>) {
    for link in facts.links.iter_mut().filter(|link| link.peer == name(peer)) {
        link.state = state;
        link.problem = problem.map(str::to_owned);
    }
    facts.linked.remove(&name(peer));
}

fn report(facts: &Facts) -> StatusReport {
    assemble(facts, ProblemLog::default().observe(problems::find(facts), facts.now))
}

#[test]
fn whom_the_door_lets_in() {
    let told = |door: DoorReport| {
        let mut facts = healthy();
        facts.door = door;
        codes(&facts)
    };
    let locked = DoorReport { is_locked: true, ..DoorReport::default() };
    assert_eq!(told(DoorReport::default()), [""; 0], "nobody is asked for a key");
    assert_eq!(told(locked), ["error no_keys"]);
    assert_eq!(told(DoorReport { keys: 1, ..locked }), [""; 0]);
    assert_eq!(told(DoorReport { issuers: 1, ..locked }), [""; 0]);
    let agreed = DoorReport { agreed_keys: 1, ..locked };
    assert_eq!(told(agreed), [""; 0]);
    assert_eq!(told(DoorReport { is_closed: true, ..agreed }), ["error stale_keys"]);
    let both = DoorReport { keys: 1, overridden: 1, ..agreed };
    assert_eq!(told(both), ["warning keys_overridden"]);
}

#[test]
fn how_control_stands() {
    let told = |change: fn(&mut Facts)| {
        let mut facts = healthy();
        change(&mut facts);
        (report(&facts).control, codes(&facts))
    };
    let (control, problems) = told(|_| {});
    assert_eq!((&*control.role, &*control.leader, control.quorum), ("voter", "b", true));
    assert_eq!(problems, [""; 0]);
    let change = |change: fn(&mut GroupReport)| {
        let mut facts = healthy();
        change(facts.control.group.as_mut().unwrap());
        (report(&facts).control.role, codes(&facts))
    };
    assert_eq!(change(|group| group.voter = false).0, "learner");
    assert_eq!(change(|group| group.leads = true).0, "leader");
    assert_eq!(change(|group| group.quorum = false).1, ["warning control_no_quorum"]);
    let stopped = |group: &mut GroupReport| group.stopped = Some("disk full".to_owned());
    assert_eq!(change(stopped).1, ["error control_stopped"]);
    let (_, problems) = told(|facts| facts.control.standing = Standing::Clash(GroupId([1; 16])));
    assert_eq!(problems, ["error control_two_groups"]);
    let alone = |facts: &mut Facts| {
        (facts.control.group, facts.control.standing) = (None, Standing::Waiting(Why::Nobody));
    };
    let (control, problems) = told(alone);
    assert_eq!((&*control.role, control.quorum), ("none", false));
    assert_eq!(problems, ["warning control_no_group"]);
    // One that has just begun is given time.
    let mut young = healthy();
    alone(&mut young);
    young.now = Time::from_millis(9_000);
    assert_eq!(codes(&young), [""; 0]);
}

fn codes(facts: &Facts) -> Vec<String> {
    let problems = report(facts).problems;
    problems.iter().map(|problem| format!("{} {}", problem.severity, problem.code)).collect()
}

/// What `change` to a healthy cluster shows as problems, the worst first; and whether the node is ready and the cluster converged.
fn check(change: impl FnOnce(&mut Facts), problems: &[&str], ready: bool, converged: bool) {
    let mut facts = healthy();
    change(&mut facts);
    assert_eq!(codes(&facts), problems);
    assert_eq!(facts.not_ready().is_none(), ready, "{:?}", facts.not_ready());
    assert_eq!(report(&facts).cluster.converged, converged);
}

#[test]
fn problems_are_found() {
    check(|_| (), &[], true, true);
    check(|f| f.isolated = Some("nobody hears it".into()), &["error isolated"], false, false);
    check(|f| f.fatal = Some("front-grpc ended".into()), &["error stopping"], false, false);
    check(|f| f.node.allow_plaintext = true, &["warning insecure"], true, true);
    for (days_left, wanted) in [
        (15, &[][..]),
        (13, &["warning certificate_expiring"]),
        (-1, &["error certificate_expired"]),
    ] {
        let not_after = 1_800_000_000 + days_left * 86_400;
        let certificate = CertificateFacts { not_after, is_for_peers: true };
        check(|f| f.certificate = Some(certificate), wanted, true, true);
    }
    check(|f| f.router.slow_mailboxes = 2, &["warning slow_sessions"], true, true);
    check(|f| f.process.open_fds = Some(950), &["warning limit_near"], true, true);
    check(|f| f.sessions.attached = 99_000, &["warning limit_near"], true, true);
    check(|f| f.interests_exchanged = false, &[], true, false);
    check(|f| set_state(f, "a", MemberState::Joining), &["warning not_ready"], false, false);
    check(|f| set_state(f, "a", MemberState::Draining), &["info draining"], false, false);
    check(|f| set_state(f, "b", MemberState::Joining), &[], true, false);
    // Mere silence of peers never makes a node unready.
    check(
        |f| set_state(f, "b", MemberState::Down),
        &["warning members_missing", "warning member_down"],
        true,
        true,
    );
    check(|f| set_state(f, "b", MemberState::Leaving), &["warning members_missing"], true, true);
    check(
        |f| set_links(f, "b", LinkState::Refused, Some("wrong secret")),
        &["error link_refused"],
        true,
        false,
    );
    check(|f| set_links(f, "b", LinkState::Down, None), &["warning link_down"], true, false);
    check(|f| f.links.clear(), &["info link_connecting", "info link_connecting"], true, true);
}

#[test]
fn readiness_names_its_reason() {
    let mut facts = healthy();
    set_state(&mut facts, "a", MemberState::Joining);
    assert_eq!(facts.not_ready().unwrap(), "this node is joining the cluster");
    facts.linked = BTreeSet::new();
    assert_eq!(facts.not_ready().unwrap(), "not linked yet with b, c");
    facts.node.expect = 4;
    assert_eq!(facts.not_ready().unwrap(), "3 of 4 expected members are there");
    facts.isolated = Some("b and c don't hear it".into());
    assert_eq!(facts.not_ready().unwrap(), "this node is isolated: b and c don't hear it");
    assert_eq!(report(&facts).node.state, "isolated");
}

#[test]
fn a_refused_link_says_why() {
    let mut facts = healthy();
    set_links(&mut facts, "b", LinkState::Refused, Some("wrong secret"));
    let report = report(&facts);
    assert_eq!(report.problems[0].message, "the link to b is refused: wrong secret");
    let b = report.members.iter().find(|member| member.name == "b").unwrap();
    assert_eq!((b.link.out.as_str(), b.link.inward.as_str()), ("refused", "refused"));
    assert_eq!(b.problems, ["wrong secret"]);
}

#[test]
fn what_membership_found_is_told_once_and_with_its_age() {
    let mut facts = healthy();
    let problem = |code, message: &str| Problem {
        code,
        message: message.into(),
        hint: "set the clock".into(),
        since: Time::from_millis(90_000),
    };
    facts.isolated = Some("nobody hears it".into());
    facts.membership_problems =
        vec![problem("isolated", "nobody hears it"), problem("clock_skew", "b is 3 min ahead")];
    assert_eq!(codes(&facts), ["error isolated", "warning clock_skew"]);
    let skew = report(&facts).problems.pop().unwrap();
    assert_eq!((skew.since_s, skew.hint.as_str()), (10.0, "set the clock"));
}

#[test]
fn a_problem_keeps_its_beginning_until_it_is_gone() {
    let mut log = ProblemLog::default();
    let mut facts = healthy();
    facts.node.allow_anonymous = true;
    let mut since = |facts: &Facts, now_s: u64| {
        let found = problems::find(facts);
        let rows = log.observe(found, Time::from_millis(now_s * 1_000));
        rows.iter().map(|row| (row.code.clone(), row.since_s)).collect::<Vec<_>>()
    };
    assert_eq!(since(&facts, 100), [("insecure".into(), 0.0)]);
    set_links(&mut facts, "b", LinkState::Down, None);
    assert_eq!(since(&facts, 103), [("insecure".into(), 3.0), ("link_down".into(), 0.0)]);
    assert_eq!(since(&facts, 105), [("insecure".into(), 5.0), ("link_down".into(), 2.0)]);
    facts = healthy();
    assert_eq!(since(&facts, 106), []);
    facts.node.allow_anonymous = true;
    assert_eq!(since(&facts, 107), [("insecure".into(), 0.0)]);
}

#[test]
fn the_report_tells_the_facts() {
    let mut facts = healthy();
    facts.router = RouterReport {
        topics: 11,
        subscriptions: 21,
        patterns: 2,
        published: 100,
        delivered: 50,
        forwarded: 30,
        dropped: 1,
        gaps: [1, 0, 0, 0],
        ..RouterReport::default()
    };
    facts.own = OwnTraffic { published: 4, forwarded: 4 };
    set_state(&mut facts, "c", MemberState::Down);
    let report = report(&facts);

    let node = &report.node;
    assert_eq!((node.id.as_str(), node.incarnation, node.uptime_s), ("a@7", 7, 100.0));
    assert_eq!((node.state.as_str(), node.insecure), ("ready", false));
    let cluster = &report.cluster;
    assert_eq!((cluster.members, cluster.ready, cluster.converged), (2, 2, true));
    let rows: Vec<_> = report
        .members
        .iter()
        .map(|m| (m.name.as_str(), m.state.as_str(), m.me, m.up_s, m.sessions, m.link.out.as_str()))
        .collect();
    let expected = [
        ("a", "ready", true, 100.0, 3, ""),
        ("b", "ready", false, 60.0, 5, "up"),
        ("c", "down", false, 0.0, 5, "silent"),
    ];
    assert_eq!(rows, expected);
    assert_eq!(report.members[1].link.rtt_ms, Some(1.5));
    let p = &report.pubsub;
    assert_eq!((p.topics, p.subscriptions, p.patterns), (11, 21, 2));
    assert_eq!((p.published_total, p.delivered_total, p.forwarded_total), (96, 50, 26));
    let sessions = &report.sessions;
    assert_eq!((sessions.grpc, sessions.redis, sessions.lingering), (2, 1, 1));
}

#[test]
fn a_members_problems_are_told_once() {
    for (member, out, inward, expected) in [
        (Some("silent"), Some("silent for 3 s"), Some("silent for 3 s"), &["silent"][..]),
        (
            Some("silent"),
            Some("connection refused"),
            Some("the connection broke"),
            &["silent", "connection refused"],
        ),
        (
            Some("silent; connection refused"),
            Some("connection refused"),
            None,
            &["silent; connection refused"],
        ),
        (None, None, Some("the connection broke"), &["the connection broke"]),
        (None, None, None, &[]),
    ] {
        let mut facts = healthy();
        set_links(&mut facts, "b", LinkState::Down, None);
        for link in facts.links.iter_mut().filter(|link| link.peer == name("b")) {
            let why = if link.direction == Direction::Out { out } else { inward };
            link.problem = why.map(str::to_owned);
        }
        let mut members = Members::clone(&facts.members);
        members.by_name.get_mut(&name("b")).unwrap().problem = member.map(str::to_owned);
        facts.members = Arc::new(members);
        assert_eq!(report(&facts).members[1].problems, expected);
    }
}

#[test]
fn while_no_seed_answers_nothing_has_converged() {
    check(
        |facts| {
            facts.membership_problems = vec![Problem {
                code: SEEDS_UNREACHABLE,
                message: "no answer".into(),
                hint: "look".into(),
                since: Time::ZERO,
            }];
        },
        &["warning seeds_unreachable"],
        true,
        false,
    );
}

#[test]
fn limits_tell_what_is_used_where_it_is_counted() {
    let mut facts = healthy();
    facts.router.fullest_outbox = 4_096;
    let rows = report(&facts).limits;
    let used = |name: &str| rows.iter().find(|row| row.name == name).unwrap().used;
    assert_eq!(used("sessions"), Some(3));
    assert_eq!(used("members"), Some(3));
    assert_eq!(used("link_window"), Some(4_096));
    assert_eq!(used("topic"), None);
    assert!(rows.iter().all(|row| row.max > 0 && !row.unit.is_empty()), "{rows:?}");
}

#[test]
fn tasks_of_which_there_are_many_share_a_row() {
    let task = |kind: &'static str, name: &str, state, restarts| TaskReport {
        name: name.into(),
        kind,
        state,
        restarts,
    };
    let mut facts = healthy();
    facts.tasks = vec![
        task("session", "session http 1", TaskState::Running, 0),
        task("session", "session http 2", TaskState::Running, 0),
        task("link-dialer", "link-dialer b", TaskState::Running, 1),
        task("link-dialer", "link-dialer c", TaskState::BackingOff, 2),
    ];
    facts.tasks.extend(
        (0..20).map(|i| task("link-reader", &format!("link-reader {i}"), TaskState::Running, 1)),
    );
    let rows: Vec<_> = report(&facts)
        .tasks
        .into_iter()
        .map(|TaskStatus { name, state, restarts, count }| (name, state, restarts, count))
        .collect();
    let expected = [
        ("link-dialer b", "running", 1, 1),
        ("link-dialer c", "backing off", 2, 1),
        ("link-reader", "running", 20, 20),
        ("session", "running", 0, 2),
    ];
    assert_eq!(rows, expected.map(|(n, s, r, c)| (n.to_owned(), s.to_owned(), r, c)));
    assert_eq!(codes(&facts), ["warning task_failing"]);
}

#[test]
fn the_document_has_the_agreed_shape() {
    let json = serde_json::to_value(report(&healthy())).unwrap();
    let keys = |at: &str| -> Vec<String> {
        json.pointer(at).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    let has = |at: &str, expected: &[&str]| {
        let keys = keys(at);
        assert!(expected.iter().all(|key| keys.iter().any(|k| k == key)), "{at}: {keys:?}");
    };
    has("", &["node", "cluster", "members", "sessions", "pubsub", "limits", "tasks", "problems"]);
    has("/node", &["name", "id", "incarnation", "version", "state", "uptime_s", "insecure"]);
    has("/node", &["cpu_s", "rss_bytes"]);
    has("/cluster", &["name", "members", "ready", "converged"]);
    has("/members/0", &["name", "state", "addresses", "link", "sessions", "presences"]);
    has("/members/0/addresses", &["grpc", "peer", "http"]);
    has("/members/0/link", &["out", "in", "rtt_ms", "unacked_bytes", "lag_ms"]);
    has("/limits/0", &["name", "used", "max", "unit"]);
    let back: StatusReport = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), json);
    let older: StatusReport = serde_json::from_str("{\"node\":{\"name\":\"a\"}}").unwrap();
    assert_eq!(older.node.name, "a");
}
