//! Planted bugs that need more than chance: each scenario goes well without its bug and ill with it. The seventh bug, a watcher admitted
//! in the middle of a tick, is planted and found where watchers are (`replicator`).

use std::collections::HashMap;

use super::super::Plant;
use super::*;

/// A withdrawal has waited for so long that no log knows of it any more. Whoever is told of the whole by the one that waits must
/// hear that it waits, or sees the presence leave.
fn a_long_wait(plant: Option<Plant>) -> Vec<String> {
    let mut nodes = Nodes::planted(4, plant);
    let (a, b) = (nodes.all[0].me().clone(), nodes.all[1].me().clone());
    nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "", 1));
    nodes.sync();
    nodes.on(1, |node, now, diff| node.attached(&owner(1, 2, 5_000), now, diff));
    nodes.pull(0, 1, &b);
    // c hears from a that it went for b's claim, and can't hear of that.
    nodes.pull(2, 0, &a);
    assert_eq!(nodes.all[2].report().waiting, 1);
    nodes.sleep(70_000);
    nodes.sleep(20_000);
    nodes.told(3);
    nodes.pull(3, 2, &a);
    nodes.sync();
    assert_eq!(nodes.list(3), ["ann/1="]);
    nodes.told(3)
}

/// No bug is planted that nothing has to find.
#[test]
fn every_planted_bug_has_its_finder() {
    let here = [Plant::WaitingLeftOut, Plant::ClaimBeforeEpoch];
    let found: Vec<Plant> = walks::FOUND.iter().map(|(plant, _)| *plant).chain(here).collect();
    assert_eq!(found.len(), Plant::ALL.len());
    assert!(Plant::ALL.iter().all(|plant| found.contains(plant)));
}

#[test]
fn a_waiting_withdrawal_is_part_of_the_whole() {
    assert!(a_long_wait(None).is_empty());
    assert_eq!(a_long_wait(Some(Plant::WaitingLeftOut)), ["-ann/1=", "+ann/1="]);
}

/// A session moves to a node that has not heard how often its presence changed hands at the old one, and that node is drained: the
/// claim of the later attachment stands, whatever the numbers say.
fn a_low_number(plant: Option<Plant>) -> Vec<String> {
    let mut nodes = Nodes::planted(3, plant);
    nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "", 1));
    nodes.sync();
    for _ in 0..3 {
        nodes.track(0, &owner(2, 1, 5_000), &track("ann", "1", "", 1));
        nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "", 1));
    }
    nodes.on(1, |node, now, diff| node.attached(&owner(1, 2, 20_000), now, diff));
    nodes.on(0, |node, now, _| node.moved(session(1), 2, now));
    nodes.sleep(3_000);
    let handed = nodes.on(1, |node, now, _| node.hand_over(&HashMap::new(), now));
    nodes.on(2, |node, now, diff| node.adopt(handed, now, diff));
    let [a, b, c] = [0, 1, 2].map(|at| nodes.all[at].me().clone());
    nodes.pull(2, 1, &b);
    nodes.pull(1, 2, &c);
    nodes.pull(2, 0, &a);
    nodes.told(2);
    // What was not taken over goes at a; what was handed to c has still time.
    nodes.sleep(2_500);
    nodes.sync();
    nodes.told(2)
}

#[test]
fn the_epoch_counts_before_the_number() {
    assert!(a_low_number(None).is_empty());
    assert_eq!(a_low_number(Some(Plant::ClaimBeforeEpoch)), ["-ann/1="]);
}
