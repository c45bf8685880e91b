//! Beside an implementation that is not ours: the observed-remove set without tombstones of the crate `crdts`. What the two have in common is
//! adds and removes under dots, merged from anywhere; it knows no sessions, so here nobody takes anything over.

use std::collections::BTreeSet;

use crdts::{CmRDT, CvRDT, Orswot};
use proptest::prelude::{Strategy, prop, prop_assert_eq, prop_oneof, proptest};

use super::super::{Nodes, owner, topic, track, untrack};
use super::cases;

const NODES: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// A node's own session: so no two nodes ever have the same presence.
    Track {
        node: usize,
        key: usize,
        meta: usize,
    },
    Untrack {
        node: usize,
        key: usize,
    },
    /// All that one node has, own and heard, to another.
    Merge {
        to: usize,
        from: usize,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let node = 0..NODES;
    let op = prop_oneof![
        3 => (node.clone(), 0..3_usize, 0..3_usize)
            .prop_map(|(node, key, meta)| Op::Track { node, key, meta }),
        2 => (node.clone(), 0..3_usize).prop_map(|(node, key)| Op::Untrack { node, key }),
        3 => (node.clone(), node).prop_map(|(to, from)| Op::Merge { to, from }),
    ];
    prop::collection::vec(op, 0..50)
}

/// Key, id and metadata: other metadata is another member.
type Member = (String, String, String);

/// What is listed as `key/id=meta`.
fn members(listed: &[String]) -> BTreeSet<Member> {
    let member = |text: &String| {
        let (name, meta) = text.split_once('=').unwrap();
        let (key, id) = name.split_once('/').unwrap();
        (key.to_owned(), id.to_owned(), meta.to_owned())
    };
    listed.iter().map(member).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_set_of_crdts_holds_the_same(ops in ops()) {
        let mut nodes = Nodes::new(NODES);
        let mut sets: Vec<Orswot<Member, usize>> = vec![Orswot::new(); NODES];
        for op in ops {
            match op {
                Op::Track { node, key, meta } => {
                    let (key, id, meta) = (format!("key{key}"), node.to_string(), meta.to_string());
                    let new: Member = (key.clone(), id.clone(), meta.clone());
                    nodes.track(node, &owner(node as u8 + 1, 1, 5_000), &track(&key, &id, &meta, 0));
                    let set = &mut sets[node];
                    let same = |member: &Member| member.0 == key && member.1 == id;
                    for old in set.read().val.into_iter().filter(same).filter(|old| *old != new) {
                        let gone = set.rm(old.clone(), set.contains(&old).derive_rm_ctx());
                        set.apply(gone);
                    }
                    if !set.contains(&new).val {
                        let added = set.add(new, set.read_ctx().derive_add_ctx(node));
                        set.apply(added);
                    }
                }
                Op::Untrack { node, key } => {
                    let (key, id) = (format!("key{key}"), node.to_string());
                    let session = super::super::session(node as u8 + 1);
                    let gone = untrack(&key, &id, 0);
                    nodes.on(node, |node, now, diff| node.untrack(session, &gone, now, diff));
                    let set = &mut sets[node];
                    let same = |member: &Member| member.0 == key && member.1 == id;
                    for old in set.read().val.into_iter().filter(same) {
                        let gone = set.rm(old.clone(), set.contains(&old).derive_rm_ctx());
                        set.apply(gone);
                    }
                }
                Op::Merge { to, from } if to != from => {
                    nodes.pull_all(to, from);
                    let other = sets[from].clone();
                    sets[to].merge(other);
                }
                Op::Merge { .. } => (),
            }
            for (at, set) in sets.iter().enumerate() {
                let listed = nodes.list(at);
                prop_assert_eq!(members(&listed), set.read().val.into_iter().collect());
                prop_assert_eq!(nodes.all[at].count(&topic("room")).presences, listed.len());
            }
        }
    }
}
