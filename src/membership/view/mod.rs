//! The fold: from what chitchat knows, what was heard directly and what links report, to one row a name. Pure.
//!
//! Invariants: the incarnation shown under a name never falls, nor comes back once forgotten; a name stays with its holder while that
//! one shows life, unless its own address starts anew; nobody is declared down by a node that was asleep itself.

mod asked;
mod seen;
mod terms;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::seen::{Awake, Key, Seen};
use self::terms::member;
pub(super) use self::terms::{Conflict, Folded, Me, Row, Sight, Timing};
use super::LinkEvidence;
use super::member::{Member, MemberState, Members, SharedMembers};
use crate::types::{Incarnation, NodeName, Replica, Time};

/// A tick that comes so much too late shows that this node was stopped or starved.
const LATE: Duration = Duration::from_secs(1);
const FLOORS_MAX: usize = 4_096;
/// Incarnations of one name that are kept track of.
const OF_ONE_NAME_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct View {
    timing: Timing,
    members_max: usize,
    seen: BTreeMap<NodeName, BTreeMap<Key, Seen>>,
    shown: BTreeMap<NodeName, Shown>,
    /// The highest incarnation that was forgotten, and when.
    floors: BTreeMap<NodeName, (Incarnation, Time)>,
    last_tick: Time,
    awake: Awake,
    muted_until: Option<Time>,
}

/// Who has a name.
#[derive(Debug, Clone)]
struct Shown {
    key: Key,
    down_since: Option<Time>,
}

impl View {
    pub(super) fn new(timing: Timing, members_max: usize, now: Time) -> Self {
        Self {
            timing,
            members_max,
            seen: BTreeMap::new(),
            shown: BTreeMap::new(),
            floors: BTreeMap::new(),
            last_tick: now,
            awake: Awake::ZERO,
            muted_until: None,
        }
    }

    pub(super) const fn timing(&self) -> &Timing {
        &self.timing
    }

    fn awake(&self, now: Time) -> Awake {
        self.awake + now.since(self.last_tick).min(self.timing.tick * 2)
    }

    /// This node has slept lately, so it knows too little of the others to judge them.
    pub(super) fn muted(&self, now: Time) -> bool {
        self.muted_until.is_some_and(|until| now < until)
    }

    fn seen_mut(&mut self, replica: &Replica, address: SocketAddr, now: Time) -> &mut Seen {
        let awake = self.awake(now);
        let of_name = self.seen.entry(replica.name.clone()).or_default();
        let key = Key { incarnation: replica.incarnation, address };
        if of_name.len() >= OF_ONE_NAME_MAX && !of_name.contains_key(&key) {
            let shown = self.shown.get(&replica.name).map(|shown| &shown.key);
            let oldest = of_name.keys().find(|key| Some(*key) != shown).cloned();
            oldest.and_then(|oldest| of_name.remove(&oldest));
        }
        of_name.entry(key).or_insert_with(|| Seen::new(now, awake))
    }

    /// A datagram from that node itself was opened.
    pub(super) fn opened(&mut self, replica: &Replica, address: SocketAddr, now: Time) {
        let room = self.seen.len() < self.members_max * 4 || self.seen.contains_key(&replica.name);
        if replica.incarnation.0 > 0 && room {
            let awake = self.awake(now);
            self.seen_mut(replica, address, now).opened(awake);
        }
    }

    pub(super) fn farewell(&mut self, replica: &Replica, address: SocketAddr, now: Time) {
        self.opened(replica, address, now);
        let key = Key { incarnation: replica.incarnation, address };
        let seen = self.seen.get_mut(&replica.name).and_then(|seen| seen.get_mut(&key));
        if let Some(seen) = seen {
            seen.departed = true;
        }
    }

    pub(super) fn evidence(
        &mut self,
        name: &NodeName,
        incarnation: Incarnation,
        evidence: LinkEvidence,
        now: Time,
    ) {
        if evidence == LinkEvidence::OtherIncarnation(incarnation) {
            return;
        }
        for (key, seen) in self.seen.get_mut(name).into_iter().flatten() {
            if key.incarnation == incarnation {
                seen.evidence(evidence, now);
            }
        }
    }

    /// Zero: none.
    pub(super) fn floor(&self, name: &NodeName) -> Incarnation {
        self.floors.get(name).map_or(Incarnation(0), |(floor, _)| *floor)
    }

    fn forget(&mut self, name: &NodeName, incarnation: Incarnation, now: Time) {
        if self.floors.len() >= FLOORS_MAX && !self.floors.contains_key(name) {
            let oldest = self.floors.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.floors.remove(&oldest);
            }
        }
        let floor = self.floor(name).max(incarnation);
        self.floors.insert(name.clone(), (floor, now));
        self.shown.remove(name);
    }

    pub(super) fn tick(&mut self, now: Time, me: &Me, rows: &[Row]) -> Folded {
        self.wake_up(now);
        self.take_rows(now, rows);
        let mut folded = Folded {
            members: SharedMembers::default(),
            outrun: self.outrun(me),
            conflicts: Vec::new(),
            left_out: Vec::new(),
        };
        let mut members = Members::default();
        members.by_name.insert(me.replica.name.clone(), self.my_row(me, &mut folded.conflicts));
        let names: Vec<_> =
            self.seen.keys().filter(|name| **name != me.replica.name).cloned().collect();
        for name in names {
            self.choose_holder(now, &name, &mut folded);
            if let Some(member) = self.judge(now, &name, &folded.conflicts) {
                members.by_name.insert(name, member);
            }
        }
        self.prune();
        folded.members = Arc::new(members);
        folded
    }

    fn wake_up(&mut self, now: Time) {
        let passed = now.since(self.last_tick);
        if passed > self.timing.tick + LATE {
            self.muted_until = Some(now + self.timing.detection);
        }
        self.awake = self.awake(now);
        self.last_tick = now;
    }

    fn take_rows(&mut self, now: Time, rows: &[Row]) {
        self.seen.values_mut().flat_map(BTreeMap::values_mut).for_each(|seen| seen.listed = false);
        for row in rows {
            let awake = self.awake;
            self.seen_mut(&row.replica, row.address, now).row(row, awake);
        }
        let all = self.seen.values_mut().flat_map(BTreeMap::values_mut);
        all.filter(|seen| !seen.listed).for_each(Seen::unlisted);
    }

    fn outrun(&self, me: &Me) -> Option<Incarnation> {
        let mine = self.seen.get(&me.replica.name)?;
        let higher =
            |key: &&Key| key.address == me.address && key.incarnation > me.replica.incarnation;
        mine.keys().filter(higher).map(|key| key.incarnation).max()
    }

    fn my_row(&self, me: &Me, conflicts: &mut Vec<Conflict>) -> Member {
        let namesake = self.fresh_of(&me.replica.name).find(|key| key.address != me.address);
        let mut member = me.member();
        if let Some(other) = namesake {
            conflicts.push(Conflict {
                name: me.replica.name.clone(),
                holder: me.address,
                claimant: other.address,
            });
            member.problem = Some(format!("another node at {} has this name too", other.address));
        }
        member
    }

    fn fresh_of(&self, name: &NodeName) -> impl Iterator<Item = &Key> {
        let floor = self.floor(name);
        self.seen.get(name).into_iter().flatten().filter_map(move |(key, seen)| {
            let alive = seen.facts.is_some() && !seen.departed && key.incarnation > floor;
            (alive && seen.fresh(self.awake, &self.timing)).then_some(key)
        })
    }

    /// Who has the name: the holder while it shows life, a newer run at its address at once, another address only after it.
    fn choose_holder(&mut self, now: Time, name: &NodeName, folded: &mut Folded) {
        let shown = self.shown.get(name);
        let holder = match shown {
            Some(shown) => {
                let key = &shown.key;
                let alive = self.fresh_of(name).any(|fresh| fresh == key);
                let next = self.fresh_of(name).filter(|fresh| {
                    fresh.incarnation > key.incarnation && (fresh.address == key.address || !alive)
                });
                let next = next.max().unwrap_or(key).clone();
                if let Some(claimant) =
                    self.fresh_of(name).find(|fresh| fresh.address != next.address)
                    && (alive || next != *key)
                {
                    folded.conflicts.push(Conflict {
                        name: name.clone(),
                        holder: next.address,
                        claimant: claimant.address,
                    });
                }
                Some(next)
            }
            None => {
                let oldest = self.oldest_fresh(name);
                let holder = oldest.or_else(|| self.hearsay(name).filter(|_| !self.muted(now)));
                let full = self.shown.len() + 1 >= self.members_max;
                if holder.is_some() && full {
                    folded.left_out.push(name.clone());
                }
                holder.filter(|_| !full)
            }
        };
        if let Some(key) = holder
            && shown.is_none_or(|shown| shown.key != key)
        {
            self.shown.insert(name.clone(), Shown { key, down_since: None });
        }
    }

    /// Of a name not shown yet: among living namesakes the oldest came first; every node decides so.
    fn oldest_fresh(&self, name: &NodeName) -> Option<Key> {
        let address = self.fresh_of(name).min()?.address;
        self.fresh_of(name).filter(|key| key.address == address).max().cloned()
    }

    /// One that others know and that has never shown life here is shown, as down, when it has had time to.
    fn hearsay(&self, name: &NodeName) -> Option<Key> {
        let floor = self.floor(name);
        let hearsay = self.seen.get(name)?.iter().filter(|(key, seen)| {
            let stays = seen.state().is_some_and(|state| state != MemberState::Leaving);
            stays
                && seen.listed
                && !seen.departed
                && key.incarnation > floor
                && seen.silent(self.awake) >= self.timing.detection
        });
        hearsay.map(|(key, _)| key).max().cloned()
    }

    /// The row of a name, unless it is gone.
    fn judge(&mut self, now: Time, name: &NodeName, conflicts: &[Conflict]) -> Option<Member> {
        let key = self.shown.get(name)?.key.clone();
        let seen = self.seen.get(name)?.get(&key)?;
        let facts = seen.facts.as_ref()?;
        let silent = seen.silent(self.awake);
        let left = facts.state == MemberState::Leaving && silent >= self.timing.leaving;
        if seen.departed || left {
            self.forget(name, key.incarnation, now);
            return None;
        }
        let muted = self.muted(now);
        let was_down = self.shown.get(name).and_then(|shown| shown.down_since);
        // A node that has just woken up declares nobody down, and lifts nothing without a sign of life.
        let down = seen
            .down(self.awake, &self.timing)
            .filter(|_| facts.state != MemberState::Leaving && (!muted || was_down.is_some()));
        let down_since = down.map(|_| was_down.unwrap_or(now));
        let forgotten =
            down_since.is_some_and(|since| now.since(since) >= self.timing.forget_after);
        if forgotten && !muted {
            self.forget(name, key.incarnation, now);
            return None;
        }
        let replica = Replica { name: name.clone(), incarnation: key.incarnation };
        let mut member = member(&replica, facts, seen.since);
        if let Some(down) = down {
            member.state = MemberState::Down;
            member.problem = Some(down.as_str().to_owned());
        } else if let Some(conflict) = conflicts.iter().find(|conflict| conflict.name == *name) {
            member.problem = Some(format!("a node at {} wants this name too", conflict.claimant));
        }
        if let Some(shown) = self.shown.get_mut(name) {
            shown.down_since = down_since;
        }
        Some(member)
    }

    /// Drops what is neither shown nor in chitchat nor fresh.
    fn prune(&mut self) {
        let (awake, keep_for) = (self.awake, self.timing.detection * 2);
        let shown = &self.shown;
        self.seen.retain(|name, of_name| {
            let holder = shown.get(name).map(|shown| &shown.key);
            of_name.retain(|key, seen| {
                seen.listed || Some(key) == holder || seen.silent(awake) < keep_for
            });
            !of_name.is_empty()
        });
    }
}

#[cfg(test)]
mod tests;
