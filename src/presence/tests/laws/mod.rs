//! The laws of merging, as properties over generated histories: three nodes at which three sessions track, move, untrack and take over, and
//! observers that hear of it in different ways.
//!
//! What an observer knows depends on which operations it has heard of and on nothing else: not on their order, their grouping, how often
//! they came, or whether they came as deltas or as wholes. The oracles: a naive model in two plain maps (`naive`), and the observed-remove set of the
//! crate `crdts` on the part that they share (`oracle`).
//!
//! A few dozen cases by default; `PROPTEST_CASES=5000 cargo test --release --lib laws` for more.

mod naive;
mod oracle;
mod world;

use proptest::prelude::{
    ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest,
};

use super::super::*;
use naive::Naive;
use world::{Heard, History, NODES, Observer};

fn cases() -> ProptestConfig {
    let few = std::env::var_os("PROPTEST_CASES").is_none();
    let all = ProptestConfig::default();
    ProptestConfig { cases: if few { 24 } else { all.cases }, ..all }
}

/// How much of each node's log an observer has heard, and in which order.
fn listening() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 0..60)
}

/// Deltas of all nodes, each node's in their order, the nodes interleaved as `choices` say.
fn interleaved(logs: &[Vec<Delta>], choices: &[u16]) -> Vec<Delta> {
    let mut left: Vec<std::slice::Iter<'_, Delta>> = logs.iter().map(|log| log.iter()).collect();
    let mut all = Vec::new();
    let mut choices = choices.iter().cycle();
    while left.iter().any(|log| log.len() > 0) {
        let first = choices.next().map_or(0, |choice| usize::from(*choice)) % NODES;
        let log = (first..first + NODES).find_map(|at| left[at % NODES].next());
        all.extend(log.cloned());
    }
    all
}

/// The first so many deltas of each.
fn cut(logs: &[Vec<Delta>], lengths: [usize; NODES]) -> Vec<Vec<Delta>> {
    let part = |(log, length): (&Vec<Delta>, usize)| log[..length.min(log.len())].to_vec();
    logs.iter().zip(lengths).map(part).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn merging_is_commutative(history in world::history(), lengths in [0..20_usize, 0..20, 0..20], order in listening()) {
        let logs = cut(&History::of(&history).logs, lengths);
        let mut one = Observer::new("x");
        let mut other = Observer::new("x");
        for delta in logs.iter().flatten() {
            one.hears(delta.clone());
        }
        for delta in interleaved(&logs, &order) {
            other.hears(delta);
        }
        prop_assert_eq!(one.knows(), other.knows());
    }

    #[test]
    fn merging_is_idempotent(history in world::history(), order in listening()) {
        let mut x = Observer::new("x");
        for delta in interleaved(&History::of(&history).logs, &order) {
            x.hears(delta.clone());
            let before = (x.tracker.fingerprint(), x.tracker.version());
            prop_assert_eq!(x.hears(delta), Heard::Nothing);
            prop_assert_eq!((x.tracker.fingerprint(), x.tracker.version()), before);
        }
    }

    /// (a · b) · c = a · (b · c), where what was merged somewhere else first comes from there.
    #[test]
    fn merging_is_associative(history in world::history(), small in 1..5_usize) {
        let logs = History::of(&history).logs;
        let mut all = Observer::new("x");
        for delta in logs.iter().flatten() {
            all.hears(delta.clone());
        }
        let mut between = Observer::new("y");
        for delta in logs[1..].iter().flatten() {
            between.hears(delta.clone());
        }
        let mut other = Observer::new("x");
        for delta in &logs[0] {
            other.hears(delta.clone());
        }
        other.pulls(&between.tracker, small);
        prop_assert_eq!(all.knows(), other.knows());
    }

    #[test]
    fn deltas_give_what_the_state_gives(history in world::history(), order in listening(), early in 0..40_usize, size in 100..2_000_usize) {
        let history = History::of(&history);
        let mut by_deltas = Observer::new("x");
        let mut by_state = Observer::new("x");
        for (at, delta) in interleaved(&history.logs, &order).into_iter().enumerate() {
            by_deltas.hears(delta.clone());
            // It may have heard of the beginning before it misses the rest.
            if at < early {
                by_state.hears(delta);
            }
        }
        for node in &history.nodes {
            by_state.takes_whole(&node.tracker, size);
        }
        prop_assert_eq!(by_deltas.knows(), by_state.knows());
    }

    /// Any order, any loss, any duplication: then both compare with the nodes until nothing is lacking.
    #[test]
    fn what_was_lost_doubled_or_late_is_repaired(history in world::history(), order in listening(), small in 1..5_usize) {
        let history = History::of(&history);
        let mut complete = Observer::new("x");
        for delta in history.logs.iter().flatten() {
            complete.hears(delta.clone());
        }
        let all: Vec<&Delta> = history.logs.iter().flatten().collect();
        let mut other = Observer::new("x");
        for choice in &order {
            if !all.is_empty() {
                other.hears(all[usize::from(*choice) % all.len()].clone());
            }
        }
        let nodes: Vec<&Tracker> = history.nodes.iter().map(|node| &node.tracker).collect();
        let rounds = other.repairs(&nodes, small);
        prop_assert!(rounds.is_some(), "it never has everything");
        prop_assert_eq!(complete.knows(), other.knows());
    }

    #[test]
    fn what_shows_is_what_the_naive_model_says(history in world::history(), lengths in [0..20_usize, 0..20, 0..20], order in listening()) {
        let logs = cut(&History::of(&history).logs, lengths);
        let mut x = Observer::new("x");
        let mut naive = Naive::default();
        for delta in interleaved(&logs, &order) {
            naive.hears(&delta);
            x.hears(delta);
            prop_assert_eq!(x.list(), naive.list());
        }
    }
}
