//! Sessions that come, go, move and die, members that do, leaders that change, and reports that are lost, late, doubled and out of order.
//!
//! At every moment: no lease of a session that has been attached, at the epoch the lease is held at, since it acquired it, is taken away.
//! When everything has come to rest: what is held is held by who is there, and everything else is free a TTL later.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use super::super::command::{SessionReport, SessionWord};
use super::super::deadlines::Deadlines;
use super::super::facts::{Held, Lease};
use super::super::reports::{Known, of_members, of_sessions};
use super::*;
use crate::types::Time;

const TTL: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct World {
    state: State,
    deadlines: Deadlines,
    now: Time,
    members: BTreeMap<&'static str, Member>,
    /// The highest epoch that each session ever had.
    epochs: BTreeMap<SessionId, u64>,
    /// Commands on their way to the leader.
    air: Vec<Change>,
}

#[derive(Debug)]
struct Member {
    at: MemberAt,
    is_up: bool,
    table: BTreeMap<SessionId, Known>,
}

impl World {
    fn new() -> Self {
        let state = founded();
        let deadlines = Deadlines::of(&state, Time::ZERO);
        let member = |name| (name, Member { at: at(name, 1), is_up: true, table: BTreeMap::new() });
        let members = ["a", "b"].into_iter().map(member).collect();
        Self {
            state,
            deadlines,
            now: Time::ZERO,
            members,
            epochs: BTreeMap::new(),
            air: Vec::new(),
        }
    }

    fn apply(&mut self, change: &Change) {
        let before = self.state.clone();
        let command = Command { by: "test".into(), change: change.clone() };
        let applied = self.state.apply(&Batch { at_ms: 0, commands: vec![command] });
        for key in applied.touched.leases {
            let (was, is) = (before.lease(&key), self.state.lease(&key));
            let by_itself = matches!(change, Change::Release { .. });
            assert!(is.is_some() || by_itself || !was.is_some_and(|was| self.is_there(was)));
            self.deadlines.note(&key, is, self.now);
        }
    }

    fn is_there(&self, lease: &Lease) -> bool {
        let Owner::Session { id, epoch, at } = &lease.owner else { return false };
        self.members.get(&*at.name).is_some_and(|member| {
            let known = member.table.get(id);
            member.is_up && member.at == *at && known == Some(&Known::Attached { epoch: *epoch })
        })
    }

    /// The session comes to the member; wherever it was it isn't any more.
    fn attach(&mut self, session: SessionId, name: &str) {
        let highest = self.epochs.entry(session).or_default();
        *highest += 1;
        let known = Known::Attached { epoch: *highest };
        for (other, member) in &mut self.members {
            if *other == name {
                member.table.insert(session, known);
            } else {
                member.table.remove(&session);
            }
        }
    }

    fn step(&mut self, dice: [u8; 4]) {
        let [kind, who, what, chance] = dice;
        let session = SessionId([who % 3; 16]);
        let name = ["a", "b"][usize::from(what) % 2];
        let member = self.members.get_mut(name).unwrap();
        let known = member.table.get(&session).copied();
        match kind % 12 {
            0 | 1 if member.is_up => self.attach(session, name),
            2 | 3 => {
                if let Some(Known::Attached { epoch }) = known.filter(|_| member.is_up) {
                    let owner = Owner::Session { id: session, epoch, at: member.at.clone() };
                    self.air.push(acquire(["x", "y"][usize::from(chance) % 2], owner));
                }
            }
            4 => {
                if let Some(Known::Attached { epoch }) = known {
                    member.table.insert(session, Known::Lingering { epoch });
                }
            }
            5 => {
                let was = member.table.remove(&session);
                if let Some(Known::Attached { epoch } | Known::Lingering { epoch }) = was {
                    let (at, what) = (member.at.clone(), SessionWord::Ended);
                    let report = SessionReport { session, epoch, at, what };
                    self.air.push(Change::Sessions(vec![report]));
                }
            }
            // It takes a higher incarnation and lives on.
            6 if member.is_up && chance.is_multiple_of(4) => member.at.incarnation += 1,
            6 => {
                member.is_up = !member.is_up;
                member.at.incarnation += u64::from(member.is_up);
                member.table.clear();
            }
            7 => self.compare(),
            8 => self.deadlines = Deadlines::of(&self.state, self.now),
            9 => {
                self.now = self.now + Duration::from_millis(u64::from(chance) * 50);
                let due = self.deadlines.due(self.now);
                self.air.push(Change::Expire(due));
            }
            _ if !self.air.is_empty() => {
                let change = self.air.swap_remove(usize::from(chance) % self.air.len());
                if who.is_multiple_of(7) {
                    self.air.push(change.clone());
                }
                if !what.is_multiple_of(9) {
                    self.apply(&change);
                }
            }
            _ => {}
        }
    }

    /// Members report, and who leads looks at the membership.
    fn compare(&mut self) {
        let mut told = Vec::new();
        for member in self.members.values().filter(|member| member.is_up) {
            let known = |session| member.table.get(&session).copied().unwrap_or(Known::Unknown);
            told.push(Change::Sessions(of_sessions(&self.state, &member.at, known)));
        }
        let is_live = |at: &MemberAt| {
            let member = self.members.get(&*at.name);
            member.is_some_and(|member| member.is_up && member.at == *at)
        };
        told.extend(of_members(&self.state, is_live).into_iter().map(Change::MemberLost));
        self.air.extend(told);
    }

    fn rest(&mut self) {
        let air = std::mem::take(&mut self.air);
        air.into_iter().for_each(|change| self.apply(&change));
        for _ in 0..3 {
            self.compare();
            let air = std::mem::take(&mut self.air);
            air.into_iter().for_each(|change| self.apply(&change));
        }
        self.now = self.now + TTL;
        let due = self.deadlines.due(self.now);
        self.apply(&Change::Expire(due));
    }
}

fn cases() -> ProptestConfig {
    let few = std::env::var_os("PROPTEST_CASES").is_none();
    let all = ProptestConfig::default();
    ProptestConfig { cases: if few { 192 } else { all.cases }, ..all }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn leases_follow_their_sessions(steps in prop::collection::vec(any::<[u8; 4]>(), 0..150)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.rest();
        for (key, lease) in world.state.leases() {
            prop_assert!(lease.held == Held::Attached && world.is_there(lease), "{:?} {:?}", key, lease);
        }
    }
}

#[test]
fn a_lease_runs_its_time_from_when_the_leader_saw_it_and_anew_with_each_leader() {
    let mut state = founded();
    ask(&mut state, acquire("x", Owner::Alone { id: [1; 16] }));
    let second = |s: u64| Time::from_millis(s * 1_000);
    let mut one = Deadlines::of(&state, second(5));
    assert_eq!((one.next(), one.due(second(14)).len()), (Some(second(15)), 0));
    // Another leads, and sees it later.
    let mut other = Deadlines::of(&state, second(9));
    assert_eq!((one.due(second(15)).len(), other.due(second(15)).len()), (1, 0));
    // What was proposed may have been lost.
    assert_eq!((one.due(second(15)).len(), one.due(second(16)).len()), (0, 1));
    let expire = Change::Expire(other.due(second(19)));
    assert_eq!(ask(&mut state, expire), Answer::Changed { leases: 1 });
    other.note(&lease("x"), None, second(19));
    assert_eq!(other.next(), None);
}
