//! ● Who votes, who learns, and the next step there: what the leader does about the group's configuration.
//!
//! One step at a time, and none while one is going on. Invariants: a step never takes a majority that can be reached and leaves one that
//! can't; an id is never seated for a name that has another one now; at rest the voters are an odd number, 5 at most, and every voter is
//! ready unless there aren't enough who are. Who votes already goes on: nobody is replaced by somebody merely better.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::types::{RaftId, RaftMember};
use crate::types::Time;

const VOTERS_MAX: usize = 5;
/// One that is down may come back; then its seat goes to another.
pub const DOWN_MAX: Duration = Duration::from_secs(600);

/// The group's configuration, as the log has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seats {
    pub members: BTreeMap<RaftId, RaftMember>,
    pub voters: BTreeSet<RaftId>,
    /// A change is going on.
    pub changing: bool,
    /// Learners who lack too much of the log to vote yet.
    pub behind: BTreeSet<RaftId>,
}

/// A member as the leader's membership has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// None: it has no store yet.
    pub id: Option<RaftId>,
    pub member: RaftMember,
    pub standing: Standing,
    pub since: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Joining,
    Ready,
    /// Draining or leaving: its seat goes to another at once.
    Going,
    Down {
        since: Time,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    AddLearner(RaftId, RaftMember),
    /// It has another address or incarnation.
    Update(RaftId, RaftMember),
    SetVoters(BTreeSet<RaftId>),
    Remove(RaftId),
}

/// What to do next, and nothing if all is well or nothing can be done.
pub fn next(seats: &Seats, seen: &[Seen], now: Time) -> Option<Step> {
    if seats.changing {
        return None;
    }
    let view = View::of(seen, now);
    let may_learn = |seen: &&Seen| matches!(seen.standing, Standing::Joining | Standing::Ready);
    for seen in seen.iter().filter(may_learn) {
        let Some(id) = seen.id else { continue };
        match seats.members.get(&id) {
            None => return Some(Step::AddLearner(id, seen.member.clone())),
            Some(seated) if *seated != seen.member => {
                return Some(Step::Update(id, seen.member.clone()));
            }
            Some(_) => {}
        }
    }
    let target = view.voters(seats);
    if target != seats.voters && view.is_reachable(&target) {
        return Some(Step::SetVoters(target));
    }
    let gone = |id: &&RaftId| !seats.voters.contains(id) && !view.stays(seats, **id);
    seats.members.keys().find(gone).map(|id| Step::Remove(*id))
}

struct View<'a> {
    by_id: BTreeMap<RaftId, &'a Seen>,
    by_name: BTreeMap<&'a str, &'a Seen>,
    now: Time,
}

impl<'a> View<'a> {
    fn of(seen: &'a [Seen], now: Time) -> Self {
        let by_id = seen.iter().filter_map(|seen| Some((seen.id?, seen))).collect();
        let by_name = seen.iter().map(|seen| (&*seen.member.name, seen)).collect();
        Self { by_id, by_name, now }
    }

    fn is_ready(&self, id: RaftId) -> bool {
        self.by_id.get(&id).is_some_and(|seen| seen.standing == Standing::Ready)
    }

    fn is_live(&self, id: RaftId) -> bool {
        let down = |seen: &&Seen| matches!(seen.standing, Standing::Down { .. });
        self.by_id.get(&id).is_some_and(|seen| !down(seen))
    }

    /// May it keep the seat it has? Who is not seen at all has been forgotten, which takes longer than `DOWN_MAX`; or, at the beginning of
    /// a leader's life, is not seen yet.
    fn stays(&self, seats: &Seats, id: RaftId) -> bool {
        let Some(seat) = seats.members.get(&id) else { return false };
        match self.by_id.get(&id) {
            Some(seen) => match seen.standing {
                Standing::Joining | Standing::Ready => true,
                Standing::Going => false,
                Standing::Down { since } => self.now.since(since) < DOWN_MAX,
            },
            // Its name has another id: this one can't come back.
            None if self.by_name.get(&*seat.name).is_some_and(|seen| seen.id.is_some()) => false,
            // A leader that has just begun sees members one after another.
            None => self.now.since(Time::ZERO) < DOWN_MAX || self.by_name.contains_key(&*seat.name),
        }
    }

    fn voters(&self, seats: &Seats) -> BTreeSet<RaftId> {
        let mut keep: Vec<RaftId> =
            seats.voters.iter().copied().filter(|id| self.stays(seats, *id)).collect();
        let mut new: Vec<RaftId> = seats.members.keys().copied().collect();
        new.retain(|id| {
            !seats.voters.contains(id) && !seats.behind.contains(id) && self.is_ready(*id)
        });
        new.sort_by_key(|id| {
            let seat = &seats.members[id];
            let since = self.by_id.get(id).map(|seen| seen.since);
            (!seat.durable, since, seat.name.clone(), *id)
        });
        let most = (keep.len() + new.len()).min(VOTERS_MAX);
        let size = if most == 0 { 0 } else { (most - 1) / 2 * 2 + 1 };
        // Of those that vote, the ready first and the live before the down; of the same, as they stand.
        keep.sort_by_key(|id| (Reverse(self.is_ready(*id)), Reverse(self.is_live(*id)), *id));
        keep.truncate(size);
        let missing = size - keep.len();
        keep.into_iter().chain(new.into_iter().take(missing)).collect()
    }

    /// Would a majority of them answer?
    fn is_reachable(&self, voters: &BTreeSet<RaftId>) -> bool {
        let live = voters.iter().filter(|id| self.is_live(**id)).count();
        live * 2 > voters.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

    use super::{DOWN_MAX, RaftMember, Seats, Seen, Standing, Step, next};
    use crate::types::Time;

    const LATE: Time = Time::from_millis(100_000_000);

    fn seen(name: char, id: u64, standing: Standing) -> Seen {
        let member = RaftMember {
            name: name.to_string(),
            incarnation: id,
            address: format!("{name}:1"),
            durable: true,
        };
        Seen { id: Some(id), member, standing, since: Time::from_millis(id) }
    }

    fn apply(seats: &mut Seats, step: &Step) {
        match step {
            Step::AddLearner(id, member) | Step::Update(id, member) => {
                seats.members.insert(*id, member.clone());
            }
            Step::SetVoters(voters) => seats.voters.clone_from(voters),
            Step::Remove(id) => drop(seats.members.remove(id)),
        }
    }

    fn settle(seats: &mut Seats, seen: &[Seen], now: Time) {
        for _ in 0..100 {
            let Some(step) = next(seats, seen, now) else { return };
            apply(seats, &step);
        }
        panic!("it never comes to rest: {seats:?}");
    }

    /// Each case: who is seen (name, id, standing), and who then votes.
    #[test]
    fn who_votes() {
        use Standing::{Down, Going, Joining, Ready};
        let mut seats = Seats::default();
        apply(&mut seats, &Step::AddLearner(1, seen('a', 1, Ready).member));
        apply(&mut seats, &Step::SetVoters(BTreeSet::from([1])));
        let ago = |ago: Duration| Time::from_micros(LATE.as_micros() - ago.as_micros() as u64);
        let (just, long) = (Down { since: LATE }, Down { since: ago(DOWN_MAX) });
        let mut check = |all: &[(char, u64, Standing)], expected: &[u64]| {
            let all: Vec<_> = all.iter().map(|(name, id, how)| seen(*name, *id, *how)).collect();
            settle(&mut seats, &all, LATE);
            assert_eq!(seats.voters, expected.iter().copied().collect(), "{all:?}");
        };
        check(&[('a', 1, Ready), ('b', 2, Ready)], &[1]);
        check(&[('a', 1, Ready), ('b', 2, Ready), ('c', 3, Joining)], &[1]);
        check(&[('a', 1, Ready), ('b', 2, Ready), ('c', 3, Ready)], &[1, 2, 3]);
        let four = |d| [('a', 1, Ready), ('b', 2, Ready), ('c', 3, Ready), ('d', 4, d)];
        check(&four(Ready), &[1, 2, 3]);
        // One that is down keeps its seat for a while, though another waits for it.
        check(&[('a', 1, Ready), ('b', 2, just), ('c', 3, Ready), ('d', 4, Ready)], &[1, 2, 3]);
        check(&[('a', 1, Ready), ('b', 2, long), ('c', 3, Ready), ('d', 4, Ready)], &[1, 3, 4]);
        // One that goes loses it at once, and so does one that came back as another.
        check(&[('a', 1, Going), ('b', 2, Ready), ('c', 3, Ready), ('d', 4, Ready)], &[2, 3, 4]);
        check(&[('b', 5, Ready), ('c', 3, Ready), ('d', 4, Ready)], &[3, 4, 5]);
        // Fewer than three: one, for two would need each other.
        check(&[('c', 3, Ready), ('d', 4, Going)], &[3]);
        // A seat for one that may come back, beside those who answer.
        check(&[('c', 3, Ready), ('e', 6, Ready), ('f', 7, just)], &[3]);
        check(&[('c', 3, Ready), ('e', 6, Ready), ('f', 7, Ready)], &[3, 6, 7]);
        check(&[('c', 3, Ready), ('e', 6, just), ('f', 7, just)], &[3, 6, 7]);
    }

    #[test]
    fn a_change_that_goes_on_is_waited_for_and_a_new_address_is_told() {
        let all = [seen('a', 1, Standing::Ready)];
        let mut seats = Seats::default();
        settle(&mut seats, &all, LATE);
        let mut moved = all.clone();
        moved[0].member.address = "elsewhere:1".to_owned();
        let step = next(&seats, &moved, LATE);
        assert_eq!(step, Some(Step::Update(1, moved[0].member.clone())));
        assert_eq!(next(&Seats { changing: true, ..seats }, &moved, LATE), None);
    }

    fn cases() -> ProptestConfig {
        let few = std::env::var_os("PROPTEST_CASES").is_none();
        let all = ProptestConfig::default();
        ProptestConfig { cases: if few { 256 } else { all.cases }, ..all }
    }

    proptest! {
        #![proptest_config(cases())]

        /// Members come, go, die and come back as others; the leader acts when it can. Whatever it does, a majority that answered
        /// answers still; and when it has nothing more to do, what must hold at rest does.
        #[test]
        fn seats_follow_the_members(turns in prop::collection::vec(any::<[u8; 3]>(), 1..60)) {
            let mut seats = Seats::default();
            let mut all = vec![seen('a', 1, Standing::Ready)];
            settle(&mut seats, &all, LATE);
            let (mut now, mut ids) = (LATE, 1);
            for [who, what, steps] in turns {
                let name = ['a', 'b', 'c', 'd', 'e', 'f', 'g'][usize::from(who) % 7];
                now = now + Duration::from_secs(u64::from(what) * 4);
                let there = all.iter().position(|seen| seen.member.name == name.to_string());
                match (there, what % 6) {
                    (None, 0..3) => {
                        ids += 1;
                        all.push(seen(name, ids, Standing::Ready));
                    }
                    (Some(at), 0) => {
                        ids += 1;
                        all[at] = seen(name, ids, Standing::Joining);
                    }
                    (Some(at), 1) => all[at].standing = Standing::Ready,
                    (Some(at), 2) => all[at].standing = Standing::Down { since: now },
                    (Some(at), 3) => all[at].standing = Standing::Going,
                    (Some(at), 4) if all[at].standing != Standing::Ready => drop(all.remove(at)),
                    _ => {}
                }
                let live = |id: &u64| all.iter().any(|seen| {
                    seen.id == Some(*id) && !matches!(seen.standing, Standing::Down { .. })
                });
                let answers = |voters: &BTreeSet<u64>| {
                    voters.iter().filter(|id| live(id)).count() * 2 > voters.len()
                };
                for _ in 0..steps % 12 {
                    // Without a majority there is no leader that could do anything.
                    if !answers(&seats.voters) {
                        break;
                    }
                    let Some(step) = next(&seats, &all, now) else { break };
                    apply(&mut seats, &step);
                    prop_assert!(answers(&seats.voters), "{:?} by {:?}", seats, step);
                    prop_assert!(seats.voters.iter().all(|id| seats.members.contains_key(id)));
                }
                if !answers(&seats.voters) {
                    continue;
                }
                let mut rested = seats.clone();
                settle(&mut rested, &all, now);
                let ready = |id: &u64| all.iter().any(|seen| {
                    seen.id == Some(*id) && seen.standing == Standing::Ready
                });
                let voters = rested.voters.len();
                let waiting = rested.members.keys().filter(|id| !rested.voters.contains(id) && ready(id));
                prop_assert!(voters <= 5);
                prop_assert!(voters % 2 == 1, "{:?}", rested);
                prop_assert!(voters == 5 || waiting.count() < 2, "{:?}", rested);
                for id in &rested.voters {
                    let going = all.iter().any(|seen| seen.id == Some(*id) && seen.standing == Standing::Going);
                    prop_assert!(!going || rested.voters.len() == 1 || !rested.voters.iter().any(&ready), "{:?}", rested);
                }
            }
        }
    }
}
