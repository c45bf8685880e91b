//! Where clients may go: this node, and the other ready ones in random order, so that none is everybody's second choice.

use crate::membership::{Member, MemberState, Members};

/// Randomness that nobody needs to be unable to guess.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(getrandom::u64().expect("the operating system has randomness"))
    }

    /// splitmix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, without it.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// This node first.
pub(super) fn all(members: &Members) -> Vec<String> {
    let me = members.me().map(|me| me.addresses.grpc.clone()).filter(|grpc| !grpc.is_empty());
    me.into_iter().chain(others(members, &mut Random::new())).collect()
}

pub(super) fn others(members: &Members, random: &mut Random) -> Vec<String> {
    let takes_clients = |member: &&Member| !member.me && member.state == MemberState::Ready;
    let mut others: Vec<_> = members
        .iter()
        .filter(takes_clients)
        .map(|member| member.addresses.grpc.clone())
        .filter(|grpc| !grpc.is_empty())
        .collect();
    random.shuffle(&mut others);
    others
}

#[cfg(test)]
mod tests {
    use super::{Random, all, others};
    use crate::membership::{Addresses, Load, Member, MemberState, Members};
    use crate::types::{Incarnation, NodeName, Time};

    fn members(rows: &[(&str, MemberState, bool)]) -> Members {
        let by_name = rows.iter().map(|(name, state, me)| {
            let name = NodeName::parse(name).unwrap();
            let grpc = format!("{name}:7400");
            let member = Member {
                name: name.clone(),
                incarnation: Incarnation(1),
                addresses: Addresses { grpc, ..Addresses::default() },
                version: String::new(),
                state: *state,
                load: Load::default(),
                control: None,
                me: *me,
                since: Time::ZERO,
                problem: None,
            };
            (name, member)
        });
        Members { by_name: by_name.collect() }
    }

    #[test]
    fn this_node_comes_first_and_only_ready_ones_follow() {
        let members = members(&[
            ("a", MemberState::Ready, false),
            ("b", MemberState::Draining, false),
            ("c", MemberState::Joining, true),
            ("d", MemberState::Down, false),
            ("e", MemberState::Ready, false),
        ]);
        let mut seen = all(&members);
        assert_eq!(seen.remove(0), "c:7400");
        seen.sort();
        assert_eq!(seen, ["a:7400", "e:7400"]);
    }

    #[test]
    fn each_other_member_is_first_about_as_often() {
        let members = members(&[
            ("a", MemberState::Ready, false),
            ("b", MemberState::Ready, false),
            ("c", MemberState::Ready, false),
        ]);
        let mut random = Random(7);
        let mut first = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..3_000 {
            *first.entry(others(&members, &mut random).remove(0)).or_default() += 1;
        }
        assert!(first.values().all(|times| (900..1_100).contains(times)), "{first:?}");
    }
}
