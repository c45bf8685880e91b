//! ● Whether to found a group, to wait for one, or to leave the one that there is.
//!
//! Invariants: nobody founds while it sees somebody with a group, or has one itself; who has seeds and wasn't told how many there will be
//! never founds by itself; a group that was written to is never left, but by a member whose group has lost its majority for good and whose
//! copy is empty, or that another group was founded to go on from. Two that found at once can't both get a majority of the same members, since a store joins one group only; where they
//! don't share any (two lone nodes), the groups meet later and one of them ends.

use std::collections::BTreeSet;
use std::time::Duration;

use super::types::RaftId;
use crate::control::model::GroupId;
use crate::types::{NodeName, Time};

/// The view must have been the same for so long.
pub const SETTLED: Duration = Duration::from_secs(1);
/// No election takes so long: a group that has had no quorum for it, and that another one goes on from, was given up by somebody's word.
pub const GIVEN_UP: Duration = Duration::from_secs(5);
const VOTERS_MAX: usize = 5;

/// What this node was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub has_seeds: bool,
    /// 0: nothing.
    pub expect: usize,
    /// `control init` was asked of this node.
    pub init: bool,
}

/// A member that is here, oneself among them: joining, ready or draining, as gossip says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    pub name: NodeName,
    pub me: bool,
    /// None: it has no store, or an older program.
    pub id: Option<RaftId>,
    pub group: Option<GroupSeen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSeen {
    pub id: GroupId,
    /// Was anything ever written to it?
    pub written: bool,
    /// The lost group that it was founded from a copy of.
    pub continues: Option<GroupId>,
}

/// This member's part in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    pub group: GroupSeen,
    pub leads: bool,
    /// For how long it has had no quorum, as far as this member knows.
    pub without_quorum: Duration,
    /// For which group it ended.
    pub dissolved: Option<GroupId>,
    /// Names and ids of those who vote in it.
    pub voters: Vec<(NodeName, RaftId)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// All is well.
    Stay,
    Wait(Why),
    /// With these as its voters at once.
    Found(BTreeSet<RaftId>),
    /// By whoever leads: this group is to end for that one.
    Dissolve(GroupId),
    /// Drop what the store has, take another id, and wait.
    Forget,
    /// Both were written to. Somebody has to choose.
    Clash(GroupId),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Somebody has a group, and its leader will see this node.
    ToBeSeated,
    /// So many of `expect` are there.
    Others(usize),
    Settling,
    /// Another one founds.
    Founder,
    /// Nobody ever will: a problem for status.
    Nobody,
}

/// `settled`: since when the view is as it is.
pub fn decide(
    told: Told,
    here: &[Here],
    mine: Option<&Mine>,
    settled: Time,
    now: Time,
) -> Decision {
    match mine {
        Some(mine) => with_group(here, mine),
        None => without_group(told, here, now.since(settled) >= SETTLED),
    }
}

fn with_group(here: &[Here], mine: &Mine) -> Decision {
    if mine.dissolved.is_some() {
        return Decision::Forget;
    }
    let others = here.iter().filter(|here| !here.me).filter_map(|here| here.group);
    // What this one goes on from has ended, or says so itself.
    let is_other =
        |group: &GroupSeen| group.id != mine.group.id && mine.group.continues != Some(group.id);
    let others: Vec<GroupSeen> = others.filter(is_other).collect();
    let goes_on = others.iter().any(|group| group.continues == Some(mine.group.id));
    if goes_on && mine.without_quorum >= GIVEN_UP {
        return Decision::Forget;
    }
    // The written before the others, then the lowest id.
    let rank = |group: &GroupSeen| (!group.written, group.id);
    let Some(best) = others.iter().copied().min_by_key(rank) else { return Decision::Stay };
    if is_lost(here, mine) && !mine.group.written {
        return Decision::Forget;
    }
    if best.written && mine.group.written {
        return Decision::Clash(best.id);
    }
    if mine.leads && rank(&best) < rank(&mine.group) {
        return Decision::Dissolve(best.id);
    }
    Decision::Stay
}

/// Most of those who voted are others now, or have another group: an id never comes back, nor does a store to a group that it left, so it
/// has no majority ever again.
fn is_lost(here: &[Here], mine: &Mine) -> bool {
    let is_another = |(name, id): &&(NodeName, RaftId)| {
        let is_other = |here: &Here| here.id.is_some_and(|now| now != *id);
        let has_other = |here: &Here| here.group.is_some_and(|group| group.id != mine.group.id);
        here.iter().any(|here| here.name == *name && (is_other(here) || has_other(here)))
    };
    let gone = mine.voters.iter().filter(is_another).count();
    gone * 2 >= mine.voters.len() && gone > 0
}

fn without_group(told: Told, here: &[Here], is_settled: bool) -> Decision {
    if here.iter().any(|here| !here.me && here.group.is_some()) {
        return Decision::Wait(Why::ToBeSeated);
    }
    let able: BTreeSet<(&NodeName, RaftId)> =
        here.iter().filter_map(|here| Some((&here.name, here.id?))).collect();
    let voters = || able.iter().take(odd(able.len())).map(|(_, id)| *id).collect();
    let me = here.iter().find(|here| here.me);
    let Some(me) = me.filter(|me| me.id.is_some()) else { return Decision::Wait(Why::Settling) };
    if told.init {
        // Asked by somebody who looked: it is a voter itself, whoever else is.
        let mut voters: BTreeSet<RaftId> = voters();
        if let Some(id) = me.id
            && !voters.contains(&id)
        {
            voters.pop_last();
            voters.insert(id);
        }
        return Decision::Found(voters);
    }
    if told.expect > 1 {
        return match able.len() {
            there if there < told.expect => Decision::Wait(Why::Others(there)),
            _ if able.first().is_some_and(|(first, _)| **first != me.name) => {
                Decision::Wait(Why::Founder)
            }
            _ if !is_settled => Decision::Wait(Why::Settling),
            _ => Decision::Found(voters()),
        };
    }
    let is_alone = here.iter().all(|here| here.me);
    match (told.has_seeds, is_alone) {
        (true, _) => Decision::Wait(Why::Nobody),
        (false, _) if !is_settled => Decision::Wait(Why::Settling),
        (false, true) => Decision::Found(voters()),
        // Somebody came before it had founded: one of them has to be without seeds and first.
        (false, false) => Decision::Found(me.id.into_iter().collect()),
    }
}

/// The greatest odd number of voters that so many members give.
const fn odd(members: usize) -> usize {
    let most = if members < VOTERS_MAX { members } else { VOTERS_MAX };
    if most == 0 { 0 } else { (most - 1) / 2 * 2 + 1 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Decision, GIVEN_UP, GroupSeen, Here, Mine, SETTLED, Told, Why, decide};
    use crate::control::model::GroupId;
    use crate::types::{NodeName, Time};

    const ALONE: Told = Told { has_seeds: false, expect: 0, init: false };
    const THREE: Told = Told { has_seeds: true, expect: 3, init: false };
    const SEEDED: Told = Told { has_seeds: true, expect: 0, init: false };

    fn name(name: char) -> NodeName {
        NodeName::parse(&name.to_string()).unwrap()
    }

    fn group(id: u8, written: bool) -> GroupSeen {
        GroupSeen { id: GroupId([id; 16]), written, continues: None }
    }

    fn id(name: char) -> u64 {
        u64::from(name)
    }

    /// The first is oneself.
    fn here(names: &str) -> Vec<Here> {
        let member = |(at, letter): (usize, char)| Here {
            name: name(letter),
            me: at == 0,
            id: Some(id(letter)),
            group: None,
        };
        names.chars().enumerate().map(member).collect()
    }

    fn settled(told: Told, here: &[Here], mine: Option<&Mine>) -> Decision {
        decide(told, here, mine, Time::ZERO, Time::ZERO + SETTLED)
    }

    fn found(names: &str) -> Decision {
        Decision::Found(names.chars().map(id).collect())
    }

    #[test]
    fn who_founds_and_who_waits() {
        let wait = Decision::Wait;
        for (told, names, expected) in [
            (ALONE, "a", found("a")),
            (SEEDED, "a", wait(Why::Nobody)),
            (SEEDED, "abc", wait(Why::Nobody)),
            (THREE, "a", wait(Why::Others(1))),
            (THREE, "ab", wait(Why::Others(2))),
            (THREE, "abc", found("abc")),
            (THREE, "bac", wait(Why::Founder)),
            (THREE, "abcd", found("abc")),
            (Told { expect: 6, ..THREE }, "abcdef", found("abcde")),
            (Told { init: true, ..SEEDED }, "abc", found("abc")),
            (Told { init: true, ..SEEDED }, "cab", found("abc")),
            (Told { init: true, ..SEEDED }, "bd", found("b")),
            (Told { init: true, ..SEEDED }, "db", found("d")),
            (Told { init: true, ..SEEDED }, "fabcde", found("abcdf")),
        ] {
            assert_eq!(settled(told, &here(names), None), expected, "{told:?} {names}");
        }
        let early = decide(THREE, &here("abc"), None, Time::ZERO, Time::from_millis(999));
        assert_eq!(early, wait(Why::Settling));
        // Never while somebody has a group.
        for told in [ALONE, THREE, Told { init: true, ..SEEDED }] {
            let mut all = here("abc");
            all[2].group = Some(group(1, false));
            assert_eq!(settled(told, &all, None), wait(Why::ToBeSeated));
        }
        // One that can't vote yet doesn't count.
        let mut all = here("abc");
        all[1].id = None;
        assert_eq!(settled(THREE, &all, None), wait(Why::Others(2)));
    }

    /// Mine and the other's id and whether written, who leads, and what follows.
    #[test]
    fn two_groups_meet() {
        let other = |decision: fn(GroupId) -> Decision, id| decision(GroupId([id; 16]));
        for (mine, theirs, leads, expected) in [
            ((2, false), (1, false), true, other(Decision::Dissolve, 1)),
            ((2, false), (1, false), false, Decision::Stay),
            ((1, false), (2, false), true, Decision::Stay),
            ((1, false), (2, true), true, other(Decision::Dissolve, 2)),
            ((2, true), (1, false), true, Decision::Stay),
            ((1, true), (2, true), true, other(Decision::Clash, 2)),
            ((2, true), (1, true), false, other(Decision::Clash, 1)),
            ((1, true), (1, true), true, Decision::Stay),
        ] {
            let mut all = here("ab");
            all[1].group = Some(group(theirs.0, theirs.1));
            let group = group(mine.0, mine.1);
            let voters = vec![(name('a'), id('a'))];
            let without_quorum = Duration::ZERO;
            let mine = Mine { group, leads, without_quorum, dissolved: None, voters };
            assert_eq!(settled(ALONE, &all, Some(&mine)), expected, "{mine:?} {theirs:?}");
            let ended = Mine { dissolved: Some(GroupId([9; 16])), ..mine };
            assert_eq!(settled(ALONE, &all, Some(&ended)), Decision::Forget);
        }
    }

    #[test]
    fn a_group_that_was_founded_again_takes_the_rest_of_the_lost_one() {
        let mut all = here("ab");
        let again = GroupSeen { continues: Some(GroupId([1; 16])), ..group(2, true) };
        all[1].group = Some(again);
        let voters = "acd".chars().map(|letter| (name(letter), id(letter))).collect();
        let mine = |without_quorum| Mine {
            group: group(1, true),
            leads: false,
            without_quorum,
            dissolved: None,
            voters: Vec::clone(&voters),
        };
        assert_eq!(settled(THREE, &all, Some(&mine(GIVEN_UP))), Decision::Forget);
        // It was no lost one: somebody has to choose.
        let clash = Decision::Clash(GroupId([2; 16]));
        assert_eq!(settled(THREE, &all, Some(&mine(Duration::from_secs(4)))), clash);
        // The other side waits for them.
        all[1].group = Some(group(1, true));
        let founder = Mine { group: again, ..mine(Duration::ZERO) };
        assert_eq!(settled(THREE, &all, Some(&founder)), Decision::Stay);
    }

    #[test]
    fn who_was_away_when_its_group_ended_leaves_it_only_if_it_is_gone_and_empty() {
        let mut all = here("abc");
        for other in &mut all[1..] {
            (other.id, other.group) = (Some(1), Some(group(1, true)));
        }
        let voters = "abc".chars().map(|letter| (name(letter), id(letter))).collect();
        let mine = Mine {
            group: group(2, false),
            leads: false,
            without_quorum: Duration::ZERO,
            dissolved: None,
            voters,
        };
        assert_eq!(settled(THREE, &all, Some(&mine)), Decision::Forget);
        let written = Mine { group: group(2, true), ..mine.clone() };
        assert_eq!(settled(THREE, &all, Some(&written)), Decision::Clash(GroupId([1; 16])));
        // One that still may be of it: its id is the same, and it has no other group.
        (all[1].id, all[1].group) = (Some(id('b')), None);
        assert_eq!(settled(THREE, &all, Some(&mine)), Decision::Stay);
        all[1].group = Some(group(1, true));
        assert_eq!(settled(THREE, &all, Some(&mine)), Decision::Forget);
    }
}
