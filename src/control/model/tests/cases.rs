//! Single asks and their answers.

use super::super::bounds::{
    AUDIT_LINES_MAX, COMMANDS_MAX, ITEMS_MAX, LEASES_PER_NAMESPACE_MAX, TTL_MS_MAX,
};
use super::super::command::{Due, Refusal, SessionReport, SessionWord};
use super::super::facts::{Held, OwnerId, QuotaFacts};
use super::*;
use crate::control::codec::CodecError;

fn done(answer: &Answer) -> bool {
    !matches!(answer, Answer::Refused(_))
}

fn report(id: u8, epoch: u64, at: MemberAt, what: SessionWord) -> Change {
    let session = SessionId([id; 16]);
    Change::Sessions(vec![SessionReport { session, epoch, at, what }])
}

fn token(answer: &Answer) -> u64 {
    match answer {
        Answer::Granted { token, .. } => *token,
        other => panic!("{other:?} grants nothing"),
    }
}

#[test]
fn nothing_is_done_before_the_founding_and_a_group_is_founded_once() {
    let mut state = State::default();
    let create = || Change::CreateNamespace { name: "acme".into(), quota: QuotaFacts::default() };
    assert_eq!(ask(&mut state, create()), Answer::Refused(Refusal::NotFounded));
    for _ in 0..2 {
        let found = Change::Found { group: GROUP, at_s: 100 };
        assert_eq!(ask(&mut state, found), Answer::Done { revision: 0 });
    }
    let other = Change::Found { group: GroupId([8; 16]), at_s: 200 };
    assert_eq!(ask(&mut state, other), Answer::Refused(Refusal::OtherGroup(GROUP)));
    assert!(!state.is_written());
    assert_eq!(ask(&mut state, create()), Answer::Done { revision: 1 });
    assert!(state.is_written());
}

#[test]
fn a_group_ends_for_another_only_if_nothing_was_written_to_it() {
    let other = GroupId([1; 16]);
    let dissolve = || Change::Dissolve { into: other };
    let mut written = founded();
    ask(&mut written, acquire("x", session(1, 1, at("a", 1))));
    assert_eq!(ask(&mut written, dissolve()), Answer::Refused(Refusal::Written));
    let mut state = founded();
    let itself = ask(&mut state, Change::Dissolve { into: GROUP });
    assert!(matches!(itself, Answer::Refused(Refusal::Unlawful(_))));
    assert!(done(&ask(&mut state, dissolve())));
    assert_eq!(state.dissolved(), Some(other));
    let ended = Answer::Refused(Refusal::Dissolved(other));
    for change in [dissolve(), acquire("x", session(1, 1, at("a", 1)))] {
        assert_eq!(ask(&mut state, change), ended);
    }
}

#[test]
fn a_group_from_a_copy_gives_no_token_again_and_lets_leases_run() {
    let mut state = founded();
    let first = token(&ask(&mut state, acquire("x", session(1, 1, at("a", 1)))));
    let again = Change::FoundAgain { group: GroupId([9; 16]), at_s: 0 };
    assert!(done(&ask(&mut state, again.clone())));
    assert!(done(&ask(&mut state, again)));
    assert_eq!(state.lease(&lease("x")).unwrap().held, Held::Runs);
    let next = token(&ask(&mut state, acquire("y", session(1, 1, at("a", 1)))));
    assert_eq!(next, first + 1 + (1 << 32));
    let never = Change::FoundAgain { group: GROUP, at_s: 0 };
    assert_eq!(ask(&mut State::default(), never), Answer::Refused(Refusal::NotFounded));
}

#[test]
fn unlawful_asks_are_refused_whoever_lets_them_through() {
    let namespace =
        |name: &str, quota: QuotaFacts| Change::CreateNamespace { name: name.into(), quota };
    let none = QuotaFacts::default;
    let rate = QuotaFacts { publish: Some((0, 5)), ..none() };
    let with = |change: fn(&mut NewKey)| {
        let mut key = key("k", "acme");
        change(&mut key);
        Change::CreateKey(key)
    };
    let named = |name: &str| acquire(name, session(1, 1, at("a", 1)));
    let timed = |ttl_ms| {
        let owner = Owner::Alone { id: [1; 16] };
        Change::Acquire(Acquire { lease: lease("x"), owner, ttl_ms, note: "".into() })
    };
    let report = SessionReport {
        session: SessionId([1; 16]),
        epoch: 1,
        at: at("a b", 1),
        what: SessionWord::Lost,
    };
    for change in [
        namespace("a b", none()),
        namespace("", none()),
        namespace("_own", none()),
        namespace("a/shard", none()),
        namespace("acme", rate),
        namespace(&"a".repeat(65), none()),
        with(|key| key.id = "a b".into()),
        with(|key| key.namespace = "*".into()),
        with(|key| key.note = "a\nb".into()),
        with(|key| key.rights.publish = vec![String::new()]),
        with(|key| key.rights.deny_presence = vec!["x".to_owned(); 257]),
        named(""),
        named("a\nb"),
        named(&"a".repeat(257)),
        timed(0),
        timed(TTL_MS_MAX + 1),
        acquire("x", session(1, 1, at("", 1))),
        Change::Sessions(vec![report]),
    ] {
        let answer = ask(&mut founded(), change.clone());
        assert!(matches!(answer, Answer::Refused(Refusal::Unlawful(_))), "{change:?}: {answer:?}");
    }
}

#[test]
fn namespaces_and_keys() {
    let mut state = founded();
    let quota = |sessions| QuotaFacts { sessions: Some(sessions), ..QuotaFacts::default() };
    let create = |name: &str, sessions| Change::CreateNamespace {
        name: name.into(),
        quota: quota(sessions),
    };
    // None is told apart as long as there are none.
    assert!(done(&ask(&mut state, Change::CreateKey(key("early", "any")))));
    for (name, sessions) in [("acme", 1), ("a*", 2), ("ac*", 3)] {
        assert!(done(&ask(&mut state, create(name, sessions))));
    }
    for (name, expected) in [("acme", Some(1)), ("acne", Some(3)), ("art", Some(2)), ("b", None)] {
        assert_eq!(state.quota_of(name).and_then(|quota| quota.sessions), expected, "{name}");
    }
    let exists = Answer::Refused(Refusal::NamespaceExists);
    assert_eq!(ask(&mut state, create("acme", 1)), exists);
    let no_namespace = Answer::Refused(Refusal::NoNamespace);
    assert_eq!(ask(&mut state, Change::CreateKey(key("k", "shop"))), no_namespace);
    let made = ask(&mut state, Change::CreateKey(key("k", "acme")));
    assert_eq!(made, Answer::Done { revision: 5 });
    assert_eq!(ask(&mut state, Change::CreateKey(key("k", "acme"))), made);
    let other = NewKey { hash: [2; 32], ..key("k", "acme") };
    let answer = ask(&mut state, Change::CreateKey(other));
    assert_eq!(answer, Answer::Refused(Refusal::KeyExists));

    let update =
        |expected| Change::UpdateNamespace { name: "acme".into(), quota: quota(9), expected };
    let moved = Answer::Refused(Refusal::OtherRevision { revision: 2 });
    assert_eq!(ask(&mut state, update(Some(1))), moved);
    assert_eq!(ask(&mut state, update(Some(2))), Answer::Done { revision: 6 });
    assert!(done(&ask(&mut state, update(None))));

    ask(&mut state, acquire("x", session(1, 1, at("a", 1))));
    let delete = |contents| Change::DeleteNamespace { name: "acme".into(), contents };
    let in_use = Answer::Refused(Refusal::NamespaceInUse { keys: 1, leases: 1 });
    assert_eq!(ask(&mut state, delete(false)), in_use);
    assert!(done(&ask(&mut state, delete(true))));
    assert!(state.key("k").is_none() && state.key("early").is_some());
    assert!(state.leases().next().is_none());
    assert_eq!(ask(&mut state, delete(true)), no_namespace);
    assert!(done(&ask(&mut state, Change::RevokeKey { id: "early".into() })));
    let no_key = Answer::Refused(Refusal::NoKey);
    assert_eq!(ask(&mut state, Change::RevokeKey { id: "early".into() }), no_key);
    let lines: Vec<_> = state.audit().map(|line| (line.number, line.what.to_string())).collect();
    assert_eq!(lines.len(), 10, "{lines:?}");
    assert_eq!(lines[8].1, "deleted the namespace acme, its 1 keys and 1 leases");
    assert_eq!(lines[9], (10, "revoked the key early of any".to_owned()));
}

#[test]
fn a_lease_has_one_holder_and_each_next_a_higher_token() {
    let mut state = founded();
    let (one, other) = (session(1, 1, at("a", 1)), Owner::Alone { id: [2; 16] });
    let first = token(&ask(&mut state, acquire("x", one.clone())));
    assert_eq!(first, FIRST_TOKEN);
    let held = Answer::Refused(Refusal::Held { token: first });
    assert_eq!(ask(&mut state, acquire("x", other.clone())), held);
    // Asked again after an answer that was lost.
    assert_eq!(token(&ask(&mut state, acquire("x", one.clone()))), first);
    let release = |owner, token| Change::Release { lease: lease("x"), owner, token };
    for (owner, token) in [(other.id(), first), (one.id(), first + 1)] {
        let not_held = Answer::Refused(Refusal::NotHeld);
        assert_eq!(ask(&mut state, release(owner, token)), not_held);
    }
    assert!(done(&ask(&mut state, release(one.id(), first))));
    assert_eq!(token(&ask(&mut state, acquire("x", other))), first + 1);
}

#[test]
fn what_is_late_or_of_somebody_else_changes_nothing() {
    let mut state = founded();
    let (a, b) = (at("a", 1), at("b", 1));
    let token = token(&ask(&mut state, acquire("x", session(1, 3, a.clone()))));
    let see = |state: &State| {
        let lease = state.lease(&lease("x"));
        lease.map(|lease| (lease.held, lease.beat))
    };
    let none = Answer::Changed { leases: 0 };
    for late in [
        report(1, 2, a.clone(), SessionWord::Lost),
        report(1, 2, a.clone(), SessionWord::Ended),
        report(1, 3, b.clone(), SessionWord::Lost),
        report(1, 3, a.clone(), SessionWord::Attached),
        report(2, 9, a.clone(), SessionWord::Ended),
        Change::MemberLost(b.clone()),
        Change::MemberLost(at("a", 0)),
        Change::Expire(vec![Due { lease: lease("x"), token, beat: 0 }]),
    ] {
        assert_eq!(ask(&mut state, late.clone()), none, "{late:?}");
        assert_eq!(see(&state), Some((Held::Attached, 0)));
    }
    let heard = |state: &mut State, change| ask(state, change) == Answer::Changed { leases: 1 };
    assert!(heard(&mut state, report(1, 3, a.clone(), SessionWord::Lost)));
    assert_eq!(see(&state), Some((Held::Runs, 1)));
    // Said twice it doesn't run longer.
    assert!(!heard(&mut state, report(1, 3, a.clone(), SessionWord::Lost)));
    // It comes back elsewhere before the expiry stands in the log.
    assert!(heard(&mut state, report(1, 4, b.clone(), SessionWord::Attached)));
    let expire = |beat| Change::Expire(vec![Due { lease: lease("x"), token, beat }]);
    assert!(!heard(&mut state, expire(1)));
    let old = ask(&mut state, acquire("x", session(1, 3, a)));
    assert_eq!(old, Answer::Refused(Refusal::OldEpoch { epoch: 4 }));
    assert!(heard(&mut state, Change::MemberLost(at("b", 2))));
    let owner = OwnerId::Session(SessionId([1; 16]));
    let renew = Change::Renew { lease: lease("x"), owner, token, ttl_ms: Some(20_000) };
    assert_eq!(ask(&mut state, renew), Answer::Granted { token, beat: 4 });
    assert!(!heard(&mut state, expire(3)));
    assert!(heard(&mut state, expire(4)));
    assert_eq!(see(&state), None);
    assert!(!heard(&mut state, report(1, 9, b, SessionWord::Ended)));
}

#[test]
fn what_is_too_much_is_refused_and_the_audit_keeps_the_newest() {
    let mut state = founded();
    let command = Command { by: "test".into(), change: Change::RevokeKey { id: "x".into() } };
    let batch = Batch { at_ms: 0, commands: vec![command.clone(); COMMANDS_MAX + 1] };
    let answers = state.apply(&batch).answers.0;
    assert_eq!(answers.len(), COMMANDS_MAX + 1);
    let is_refused = |answer: &Answer| matches!(answer, Answer::Refused(Refusal::TooMany { .. }));
    assert!(answers.iter().all(is_refused));
    let due = Due { lease: lease("x"), token: 1, beat: 1 };
    assert!(is_refused(&ask(&mut state, Change::Expire(vec![due; ITEMS_MAX + 1]))));
    let by = Command { by: "x".repeat(129).into(), ..command };
    let answer = state.apply(&Batch { at_ms: 0, commands: vec![by] }).answers.0.pop();
    assert!(matches!(answer, Some(Answer::Refused(Refusal::Unlawful(_)))));

    let commands: Vec<_> = (0..=LEASES_PER_NAMESPACE_MAX)
        .map(|n| acquire(&n.to_string(), session(1, 1, at("a", 1))))
        .map(|change| Command { by: "test".into(), change })
        .collect();
    let mut refused = 0;
    for commands in commands.chunks(COMMANDS_MAX) {
        let batch = Batch { at_ms: 0, commands: commands.to_vec() };
        refused += state.apply(&batch).answers.0.iter().filter(|answer| is_refused(answer)).count();
    }
    assert_eq!(refused, 1);

    for n in 0..AUDIT_LINES_MAX {
        let commands = ["a", "b"].map(|name| {
            let change = Change::CreateKey(key(&format!("{name}{n}"), "acme"));
            Command { by: "test".into(), change }
        });
        assert!(state.apply(&Batch { at_ms: 0, commands: commands.into() }).touched.access);
    }
    assert_eq!(state.audit().count(), AUDIT_LINES_MAX);
    assert_eq!(state.audit().last().unwrap().number, 1 + 2 * AUDIT_LINES_MAX as u64);
}

#[test]
fn a_snapshot_that_no_machine_can_have_made_is_refused() {
    let mut state = founded();
    ask(&mut state, acquire("x", session(1, 1, at("a", 1))));
    let snapshot = state.to_snapshot().unwrap();
    assert_eq!(State::from_snapshot(&snapshot).unwrap(), state);
    let changes: [fn(&mut State); 3] = [
        |state| state.next_token = 1,
        |state| state.group = None,
        |state| {
            let line = state.audit[0].clone();
            state.audit.extend(std::iter::repeat_n(line, AUDIT_LINES_MAX));
        },
    ];
    for change in changes {
        let mut wrong = state.clone();
        change(&mut wrong);
        let told = State::from_snapshot(&wrong.to_snapshot().unwrap());
        assert!(matches!(told, Err(CodecError::Malformed { .. })), "{told:?}");
    }
}
