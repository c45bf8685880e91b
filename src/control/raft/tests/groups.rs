//! What a group does as a whole.

use std::time::Duration;

use super::super::calls::NotDone;
use super::super::seats::Standing;
use super::world::{World, id_of};
use crate::control::model::{Acquire, Answer, Change, LeaseKey, MemberAt, Owner, Refusal};
use crate::types::{SessionId, Time};

fn lease(name: &str) -> LeaseKey {
    LeaseKey { namespace: "acme".into(), name: name.into() }
}

fn acquire(name: &str, id: u8) -> Change {
    let owner = Owner::Alone { id: [id; 16] };
    Change::Acquire(Acquire { lease: lease(name), owner, ttl_ms: 5_000, note: "".into() })
}

fn token(done: Result<super::super::calls::Done, NotDone>) -> u64 {
    match done.expect("done").answers.0.first() {
        Some(Answer::Granted { token, .. }) => *token,
        other => panic!("{other:?} grants nothing"),
    }
}

#[tokio::test(start_paused = true)]
async fn three_agree_whoever_is_asked() {
    let world = World::founded("abc", None).await;
    world.tend("abc").await;
    let mut last = 0;
    for (turn, at) in "abcabc".chars().enumerate() {
        let token = token(world.propose(at, acquire(&turn.to_string(), 1)).await);
        assert!(token > last);
        last = token;
        // Who asked sees it at the same member.
        let there =
            world.groups[&at].copy().look(|state| state.lease(&lease(&turn.to_string())).is_some());
        assert!(there, "{at} has not applied what it proposed");
    }
    world.agree("abc").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_the_others_go_on() {
    let world = World::founded("abc", None).await;
    world.tend("abc").await;
    let old = world.leader("abc").await;
    let first = token(world.propose(old, acquire("x", 1)).await);
    world.cut(&old.to_string());
    let rest: String = "abc".chars().filter(|name| *name != old).collect();
    let began = world.clock.now();
    let new = world.leader(&rest).await;
    let took = world.clock.now() - began;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let held = world.propose(new, acquire("x", 2)).await.unwrap().answers.0;
    assert_eq!(held, [Answer::Refused(Refusal::Held { token: first })]);
    let told = world.propose(old, acquire("y", 3)).await;
    assert!(matches!(told, Err(NotDone::NoQuorum | NotDone::Unknown(_))), "{told:?}");
    assert!(token(world.propose(new, acquire("y", 2)).await) > first);
    world.cut("");
    world.agree("abc").await;
    let of_y = |state: &crate::control::model::State| state.lease(&lease("y")).cloned();
    let there = world.groups[&old].copy().look(of_y).expect("y is held");
    assert_eq!(there.owner, Owner::Alone { id: [2; 16] });
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_asks_fail_with_that_reason_and_work_again_with_it() {
    let mut world = World::founded("abc", None).await;
    world.tend("abc").await;
    let leader = world.leader("abc").await;
    let others: Vec<char> = "abc".chars().filter(|name| *name != leader).collect();
    world.cut(&others.iter().collect::<String>());
    world.until("no quorum", |world| !world.groups[&leader].report().quorum).await;
    assert_eq!(world.propose(leader, acquire("x", 1)).await, Err(NotDone::NoQuorum));
    world.cut("");
    let leader = world.leader("abc").await;
    token(world.propose(leader, acquire("x", 1)).await);
    world.agree("abc").await;
    for other in others {
        world.kill(other).await;
    }
}

#[tokio::test]
async fn all_killed_at_once_come_back_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::founded("abc", Some(dir.path().to_owned())).await;
    world.tend("abc").await;
    let leader = world.leader("abc").await;
    let mut last = 0;
    for turn in 0..20 {
        last = token(world.propose(leader, acquire(&turn.to_string(), 1)).await);
    }
    for name in "abc".chars() {
        world.kill(name).await;
    }
    for name in "abc".chars() {
        world.start(name).await;
    }
    let leader = world.leader("abc").await;
    assert!(token(world.propose(leader, acquire("more", 1)).await) > last);
    world.agree("abc").await;
    assert_eq!(world.groups[&leader].copy().state().leases().count(), 21);
}

#[tokio::test(start_paused = true)]
async fn leases_run_out_by_the_leaders_clock_and_with_their_members() {
    let world = World::founded("abc", None).await;
    let mut tender = world.tender(world.leader("abc").await);
    tender.once().await;
    let leader = world.leader("abc").await;
    token(world.propose(leader, acquire("alone", 1)).await);
    let at = MemberAt { name: "c".into(), incarnation: 1 };
    let owner = Owner::Session { id: SessionId([1; 16]), epoch: 1, at };
    let of_session = Acquire { lease: lease("session"), owner, ttl_ms: 5_000, note: "".into() };
    token(world.propose(leader, Change::Acquire(of_session)).await);
    let held =
        |name: &str| world.groups[&leader].copy().look(|state| state.lease(&lease(name)).is_some());
    tender.once().await;
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    tender.once().await;
    assert!(held("alone") && held("session"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    tender.once().await;
    assert!(!held("alone") && held("session"));
    world.see('c', Standing::Down { since: Time::ZERO });
    tender.once().await;
    tender.once().await;
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    tender.once().await;
    assert!(!held("session"));
}

#[tokio::test(start_paused = true)]
async fn who_comes_learns_and_votes_where_one_goes() {
    let mut world = World::founded("abc", None).await;
    world.tend("abc").await;
    let leader = world.leader("abc").await;
    for turn in 0..50 {
        token(world.propose(leader, acquire(&turn.to_string(), 1)).await);
    }
    // What the log has no more a newcomer gets as a snapshot.
    while !world.groups[&leader].compact().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.start('d').await;
    world.tend("abc").await;
    world.agree("abcd").await;
    assert!(world.groups[&'d'].has_snapshot() && !world.groups[&'d'].report().voter);
    let going = "abc".chars().find(|name| *name != leader).unwrap();
    world.see(going, Standing::Going);
    let mut turns = 0;
    while !world.groups[&'d'].report().voter || world.groups[&leader].seats().members.len() > 3 {
        world.tend("abcd").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        turns += 1;
        assert!(turns < 50, "{:?}", world.groups[&leader].seats());
    }
    assert!(!world.groups[&leader].seats().members.contains_key(&id_of(going)));
}
