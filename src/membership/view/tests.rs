//! The fold, driven by hand: what is told to it at which time, and what it shows then.

use std::collections::BTreeMap;

use super::*;
use crate::membership::envelope::{Holder, Refusal};
use crate::membership::member::{Addresses, Load};
use crate::membership::row::Facts;

/// A view whose clock is moved by hand, and a cluster told by hand.
struct World {
    view: View,
    now: u64,
    me: Me,
    rows: BTreeMap<(String, u64, u16), Row>,
    folded: Folded,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn facts(state: MemberState) -> Facts {
    let peer = "127.0.0.1:1".to_owned();
    Facts {
        addresses: Addresses { peer, ..Addresses::default() },
        version: "0.1.0".to_owned(),
        state,
        load: Load::default(),
        control: None,
    }
}

fn replica(name: &str, incarnation: u64) -> Replica {
    Replica { name: NodeName::parse(name).unwrap(), incarnation: Incarnation(incarnation) }
}

const FORGET_AFTER: Duration = Duration::from_secs(60);

impl World {
    fn new() -> Self {
        let me = Me {
            replica: replica("me", 5),
            address: address(1),
            facts: facts(MemberState::Ready),
            since: Time::ZERO,
        };
        let mut view =
            View::new(Timing::new(Duration::from_millis(200), FORGET_AFTER), 4, Time::ZERO);
        let folded = view.tick(Time::ZERO, &me, &[]);
        Self { view, now: 0, me, rows: BTreeMap::new(), folded }
    }

    /// A node that heartbeats from now on: `(name, incarnation, port)`.
    fn lives(&mut self, name: &str, incarnation: u64, port: u16) -> &mut Self {
        self.known(name, incarnation, port, MemberState::Ready);
        self.row(name, incarnation, port).live = true;
        self
    }

    /// Known by hearsay.
    fn known(&mut self, name: &str, incarnation: u64, port: u16, state: MemberState) -> &mut Self {
        let row = Row {
            replica: replica(name, incarnation),
            address: address(port),
            heartbeat: 7,
            live: false,
            facts: Some(facts(state)),
        };
        self.rows.insert((name.to_owned(), incarnation, port), row);
        self
    }

    fn row(&mut self, name: &str, incarnation: u64, port: u16) -> &mut Row {
        self.rows.get_mut(&(name.to_owned(), incarnation, port)).unwrap()
    }

    /// It heartbeats no more; phi sees it soon.
    fn dies(&mut self, name: &str, incarnation: u64, port: u16) -> &mut Self {
        self.row(name, incarnation, port).live = false;
        self
    }

    fn says(&mut self, name: &str, incarnation: u64, port: u16, state: MemberState) -> &mut Self {
        self.row(name, incarnation, port).facts = Some(facts(state));
        self
    }

    /// Time passes in ticks, and the living heartbeat.
    fn pass(&mut self, ms: u64) -> &mut Self {
        let until = self.now + ms;
        while self.now < until {
            self.now += 100.min(until - self.now);
            self.rows.values_mut().filter(|row| row.live).for_each(|row| row.heartbeat += 1);
            self.tick();
        }
        self
    }

    /// This node is stopped; the others aren't.
    fn sleep(&mut self, ms: u64) -> &mut Self {
        self.now += ms;
        self.tick();
        self
    }

    fn tick(&mut self) {
        let rows: Vec<_> = self.rows.values().cloned().collect();
        self.folded = self.view.tick(Time::from_millis(self.now), &self.me, &rows);
    }

    fn evidence(&mut self, name: &str, incarnation: u64, evidence: LinkEvidence) -> &mut Self {
        let Replica { name, incarnation } = replica(name, incarnation);
        self.view.evidence(&name, incarnation, evidence, Time::from_millis(self.now));
        self
    }

    /// `name@incarnation state`, this node left out.
    fn shows(&self) -> String {
        let others = self.folded.members.iter().filter(|member| !member.me);
        let rows = others.map(|it| format!("{}@{} {}", it.name, it.incarnation, it.state));
        rows.collect::<Vec<_>>().join(", ")
    }

    #[track_caller]
    fn expect(&mut self, shows: &str) -> &mut Self {
        assert_eq!(self.shows(), shows, "at {} ms", self.now);
        self
    }
}

#[test]
fn a_member_comes_goes_down_and_comes_back() {
    let mut world = World::new();
    world.lives("b", 1, 2).pass(100).expect("b@1 ready");
    world.dies("b", 1, 2).pass(1_100).expect("b@1 ready");
    world.pass(200).expect("b@1 down");
    world.pass(10_000).expect("b@1 down");
    world.row("b", 1, 2).live = true;
    world.pass(100).expect("b@1 ready");
}

#[test]
fn phi_and_silence_must_agree() {
    let mut world = World::new();
    world.lives("b", 1, 2).pass(1_000);
    // chitchat has given it up, but its heartbeats go on rising: a starved host.
    for _ in 0..50 {
        world.row("b", 1, 2).live = false;
        world.row("b", 1, 2).heartbeat += 1;
        world.pass(100).expect("b@1 ready");
    }
    // Silent, but not for phi, which has learned how slow this one is.
    for _ in 0..50 {
        world.row("b", 1, 2).live = true;
        world.row("b", 1, 2).heartbeat -= 1;
        world.pass(100).expect("b@1 ready");
    }
}

#[test]
fn datagrams_are_signs_of_life_too() {
    let mut world = World::new();
    world.lives("b", 1, 2).pass(1_000).dies("b", 1, 2);
    for _ in 0..10 {
        world.pass(1_000).expect("b@1 ready");
        let now = Time::from_millis(world.now);
        world.view.opened(&replica("b", 1), address(2), now);
    }
    world.pass(1_300).expect("b@1 down");
}

/// What links saw, what state it was in, how long it is silent: is it down?
#[test]
fn dead_early() {
    use LinkEvidence::{Ended, OtherIncarnation, Refused, Up};
    use MemberState::{Draining, Ready};
    let other = OtherIncarnation(Incarnation(9));
    for (what, state, evidence, silent, down) in [
        ("refused twice", Ready, &[(0, Ended), (0, Refused), (200, Refused)][..], 800, true),
        (
            "not silent for long enough",
            Ready,
            &[(0, Ended), (0, Refused), (200, Refused)],
            700,
            false,
        ),
        (
            "refused at one time only",
            Ready,
            &[(0, Ended), (0, Refused), (199, Refused)],
            1_000,
            false,
        ),
        ("refused once", Ready, &[(0, Ended), (300, Refused)], 1_000, false),
        ("the link never ended", Ready, &[(0, Refused), (300, Refused)], 1_000, false),
        ("only the link ended", Ready, &[(0, Ended)], 1_000, false),
        ("another run answers", Ready, &[(0, Ended), (0, other)], 800, true),
        ("another run, link not ended", Ready, &[(0, other)], 1_000, false),
        (
            "the link came back",
            Ready,
            &[(0, Ended), (0, Refused), (300, Refused), (300, Up)],
            1_000,
            false,
        ),
        ("draining", Draining, &[(0, Ended), (0, Refused), (300, Refused)], 1_000, false),
        ("draining, but phi", Draining, &[(0, Ended), (0, Refused), (300, Refused)], 1_300, true),
    ] {
        let mut world = World::new();
        world.lives("b", 1, 2).pass(100).says("b", 1, 2, state).pass(100).dies("b", 1, 2);
        let died = world.now;
        for (at, evidence) in evidence {
            world.pass(died + at - world.now).evidence("b", 1, *evidence);
        }
        // Evidence about another incarnation says nothing of this one.
        world.evidence("b", 2, Ended).evidence("b", 2, other);
        world.pass(died + silent - world.now);
        let expected = if down { "b@1 down".to_owned() } else { format!("b@1 {state}") };
        assert_eq!(world.shows(), expected, "{what}");
        let confirmed = world.view.confirmed_dead(&replica("b", 1), Time::from_millis(world.now));
        assert_eq!(confirmed, down && state != Draining, "{what}");
        // The next heartbeat undoes it.
        world.row("b", 1, 2).live = true;
        world.pass(100);
        assert_eq!(world.shows(), format!("b@1 {state}"), "{what}");
    }
}

#[test]
fn one_that_was_asleep_calls_nobody_dead() {
    let mut world = World::new();
    world.lives("b", 1, 2).lives("c", 1, 3).pass(1_000);
    // All that chitchat knows is 10 s old when it wakes up, and phi gives everybody up.
    world.dies("b", 1, 2).dies("c", 1, 3).sleep(10_000).expect("b@1 ready, c@1 ready");
    world.pass(2_000).expect("b@1 ready, c@1 ready");
    world.row("b", 1, 2).live = true;
    // One of them is in truth dead, which shows after one detection time.
    world.pass(800).expect("b@1 ready, c@1 ready").pass(400).expect("b@1 ready, c@1 down");
    // Sleeping lifts nothing either.
    world.sleep(10_000).expect("b@1 ready, c@1 down");
}

#[test]
fn a_slow_tick_is_nobody_elses_silence() {
    let mut world = World::new();
    world.lives("b", 1, 2).pass(1_000).dies("b", 1, 2);
    // 900 ms between ticks, six times: this node is starved, and may not have read what came.
    for _ in 0..5 {
        world.sleep(900).expect("b@1 ready");
    }
    world.sleep(900).sleep(900).expect("b@1 down");
}

#[test]
fn leaving_is_no_failure() {
    let mut world = World::new();
    world.lives("b", 1, 2).pass(1_000).says("b", 1, 2, MemberState::Leaving);
    world.pass(100).expect("b@1 leaving").dies("b", 1, 2);
    world.pass(500).expect("b@1 leaving").pass(200).expect("");
    // It has left for good; only a new run of it comes back.
    world.row("b", 1, 2).live = true;
    world.pass(5_000).expect("");
    world.lives("b", 2, 2).pass(100).expect("b@2 ready");
}

#[test]
fn a_farewell_is_taken_at_once() {
    let mut world = World::new();
    world.lives("b", 1, 2).pass(1_000);
    world.view.farewell(&replica("b", 1), address(2), Time::from_millis(world.now));
    world.pass(100).expect("");
    assert_eq!(world.view.floor(&replica("b", 1).name), Incarnation(1));
}

#[test]
fn who_is_down_for_long_is_forgotten_and_stays_so() {
    let mut world = World::new();
    world.lives("b", 3, 2).pass(1_000).dies("b", 3, 2).pass(2_000).expect("b@3 down");
    world.pass(60_000).expect("");
    // After a long partition it gossips again, and is told.
    world.row("b", 3, 2).live = true;
    world.lives("b", 2, 2).pass(5_000).expect("");
    let me = world.me.clone();
    let now = Time::from_millis(world.now);
    for (incarnation, expected) in
        [(2, Some(Refusal::Floor(3))), (3, Some(Refusal::Floor(3))), (4, None)]
    {
        let refusal = world.view.refusal(&replica("b", incarnation), address(2), &me, now);
        assert_eq!(refusal, expected, "{incarnation}");
    }
    world.lives("b", 4, 2).pass(100).expect("b@4 ready");
}

#[test]
fn a_new_run_at_the_same_address_replaces_the_old_at_once() {
    let mut world = World::new();
    world.lives("b", 1, 2).pass(1_000).lives("b", 7, 2).pass(100).expect("b@7 ready");
    // Late news of the old one change nothing.
    world.pass(5_000).expect("b@7 ready");
    world.dies("b", 7, 2).pass(2_000).expect("b@7 down");
    assert!(world.view.confirmed_dead(&replica("b", 1), Time::from_millis(world.now)));
    assert!(!world.view.confirmed_dead(&replica("b", 7), Time::from_millis(world.now)));
}

#[test]
fn a_name_stays_with_its_holder_while_that_one_lives() {
    let mut world = World::new();
    world.lives("b", 5, 2).pass(1_000);
    for newcomer in [9, 3] {
        world.lives("b", newcomer, 3).pass(5_000).expect("b@5 ready");
        let conflict =
            Conflict { name: replica("b", 5).name, holder: address(2), claimant: address(3) };
        assert_eq!(world.folded.conflicts[0], conflict);
        let me = world.me.clone();
        let now = Time::from_millis(world.now);
        let refusal = world.view.refusal(&replica("b", newcomer), address(3), &me, now);
        assert!(
            matches!(refusal, Some(Refusal::NameInUse(Holder { address: at, .. })) if at == address(2))
        );
        assert_eq!(world.view.refusal(&replica("b", 5), address(2), &me, now), None);
        let problem = world.folded.members.get(&replica("b", 5).name).unwrap().problem.clone();
        assert_eq!(problem.unwrap(), "a node at 127.0.0.1:3 wants this name too");
    }
    // When it falls silent, the higher of the two has the name; the lower must rise.
    world.dies("b", 5, 2).pass(1_500).expect("b@9 ready");
    world.dies("b", 9, 3).pass(1_500).expect("b@9 down");
    let me = world.me.clone();
    let now = Time::from_millis(world.now);
    let refusal = world.view.refusal(&replica("b", 3), address(3), &me, now);
    assert_eq!(refusal, Some(Refusal::Floor(9)));
}

#[test]
fn of_namesakes_met_together_the_older_is_let_in() {
    let mut world = World::new();
    world.lives("b", 9, 2).lives("b", 5, 3).pass(300).expect("b@5 ready");
    assert_eq!(world.folded.conflicts.len(), 1);
}

#[test]
fn hearsay_is_shown_as_down_when_it_had_time_to_be_heard() {
    let mut world = World::new();
    world.known("b", 1, 2, MemberState::Ready).known("c", 1, 3, MemberState::Leaving);
    world.pass(2_900).expect("").pass(200).expect("b@1 down");
    let problem = world.folded.members.get(&replica("b", 1).name).unwrap().problem.clone();
    assert_eq!(problem.unwrap(), "silent since before this node knew of it");
    // A namesake with an older incarnation that lives at that address must rise first.
    world.lives("b", 7, 2).pass(100).expect("b@7 ready");
}

#[test]
fn a_row_without_its_keys_is_no_member_yet() {
    let mut world = World::new();
    world.lives("b", 1, 2).row("b", 1, 2).facts = None;
    world.pass(1_000).expect("").says("b", 1, 2, MemberState::Joining);
    world.pass(100).expect("b@1 joining");
}

#[test]
fn the_cluster_has_a_limit() {
    let mut world = World::new();
    world.lives("b", 1, 2).lives("c", 1, 3).lives("d", 1, 4).pass(100);
    world.lives("e", 1, 5).pass(100).expect("b@1 ready, c@1 ready, d@1 ready");
    let e = replica("e", 1);
    assert_eq!(world.folded.left_out, std::slice::from_ref(&e.name));
    let (me, now) = (world.me.clone(), Time::from_millis(world.now));
    assert_eq!(world.view.refusal(&e, address(5), &me, now), Some(Refusal::Full { max: 4 }));
    // Room is made by one that leaves.
    world.view.farewell(&replica("c", 1), address(3), now);
    world.pass(200).expect("b@1 ready, d@1 ready, e@1 ready");
}

#[test]
fn news_of_oneself() {
    let mut world = World::new();
    world.known("me", 4, 1, MemberState::Ready).pass(200);
    assert_eq!(world.folded.outrun, None);
    world.known("me", 8, 1, MemberState::Ready).pass(200);
    assert_eq!(world.folded.outrun, Some(Incarnation(8)));
    // A namesake elsewhere is a problem of both.
    let mut world = World::new();
    world.lives("me", 8, 9).pass(200);
    assert_eq!(world.folded.outrun, None);
    assert_eq!(world.folded.conflicts[0].claimant, address(9));
    let (me, now) = (world.me.clone(), Time::from_millis(world.now));
    let mine = Refusal::NameInUse(Holder { address: address(1), silent_ms: 0 });
    assert_eq!(world.view.refusal(&replica("me", 8), address(9), &me, now), Some(mine));
    assert_eq!(world.view.refusal(&replica("me", 3), address(9), &me, now), None);
    assert_eq!(world.view.holder(&me.replica.name, &me, now).0, Incarnation(8));
}

#[test]
fn what_is_told_of_a_name() {
    let mut world = World::new();
    world.lives("b", 4, 2).pass(1_000);
    let me = world.me.clone();
    let ask =
        |world: &World| world.view.holder(&replica("b", 0).name, &me, Time::from_millis(world.now));
    let holder = Some(Holder { address: address(2), silent_ms: 0 });
    assert_eq!(ask(&world), (Incarnation(4), holder));
    world.dies("b", 4, 2).pass(1_300);
    assert_eq!(ask(&world), (Incarnation(4), None));
    world.pass(70_000).rows.clear();
    world.pass(10_000);
    assert_eq!(ask(&world), (Incarnation(4), None));
}

#[test]
fn memory_is_bounded() {
    let mut world = World::new();
    for incarnation in 1..200 {
        for name in 0..50 {
            let now = Time::from_millis(world.now);
            world.view.opened(&replica(&format!("n{name}"), incarnation), address(2), now);
        }
    }
    assert!(world.view.seen.len() <= 16);
    assert!(world.view.seen.values().all(|of_name| of_name.len() <= OF_ONE_NAME_MAX));
    world.pass(20_000);
    assert!(world.view.seen.is_empty());
}
