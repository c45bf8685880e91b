//! What Phoenix's tracker asserts of itself (its names, our words); in `bugs`, what its users found over the years.
//!
//! Where Phoenix hides a silent node's presences at once, ours stay for their linger; the sessions here have none unless it matters.

mod bugs;

use super::*;

/// Silent since now, as seen from a node.
fn down(nodes: &mut Nodes, at: usize, of: usize) {
    let gone = nodes.all[of].me().clone();
    nodes.on(at, |node, now, diff| node.replica_down(&gone, now, now, diff));
}

fn up(nodes: &mut Nodes, at: usize, of: usize) {
    let back = nodes.all[of].me().clone();
    nodes.on(at, |node, now, diff| node.replica_up(&back, now, diff));
}

fn join(nodes: &mut Nodes, at: usize, key: &str) {
    nodes.track(at, &owner(at as u8 + 1, 1, 0), &track(key, "1", "", 0));
}

fn leave(nodes: &mut Nodes, at: usize, key: &str) {
    let gone = untrack(key, "1", 0);
    nodes.on(at, |node, now, diff| node.untrack(session(at as u8 + 1), &gone, now, diff));
}

/// A node starts again under its name, and knows the others and is known to them. Its old incarnation, gone, is returned.
fn restart(nodes: &mut Nodes, at: usize) -> Replica {
    let old = nodes.all[at].me().clone();
    let new = Replica { incarnation: Incarnation(old.incarnation.0 + 1), ..old.clone() };
    nodes.all[at] = Tracker::new(new);
    for other in (0..nodes.all.len()).filter(|other| *other != at) {
        up(nodes, at, other);
        up(nodes, other, at);
    }
    old
}

/// One comparison: what `to` asks `from` for, and gets. How many questions, and how many entries came.
fn compare(nodes: &mut Nodes, to: usize, from: usize) -> (usize, usize) {
    let (rows, peer) = (nodes.all[from].rows(), nodes.all[from].me().name.clone());
    let wants = nodes.on(to, |node, now, _| node.wants(&rows, &peer, now));
    let mut entries = 0;
    for want in &wants {
        let now = nodes.now;
        let answer = if want.whole {
            nodes.all[from].whole(&want.replica, now)
        } else {
            nodes.all[from].interval(&want.replica, want.from, 10_000, now)
        };
        if let Answer::Interval(delta) | Answer::Whole(delta) = answer {
            entries += delta.adds.len();
            nodes.on(to, |node, now, diff| node.merge(&peer, delta, now, diff)).unwrap();
        }
    }
    (wants.len(), entries)
}

#[test]
fn that_this_is_set_up_correctly() {
    let nodes = Nodes::new(2);
    for node in &nodes.all {
        assert!(node.rows().iter().all(|row| row.counter == 0));
        assert_eq!(node.interval(node.me(), 0, 10, nodes.now), Answer::UpToDate);
        assert_eq!(node.report(), Report::default());
    }
}

#[test]
fn users_from_other_servers_merge() {
    let mut nodes = Nodes::new(2);
    join(&mut nodes, 0, "alice");
    join(&mut nodes, 1, "bob");
    let (a, b) = (nodes.all[0].me().clone(), nodes.all[1].me().clone());
    // The same delta twice tells of nothing twice.
    let Answer::Interval(delta) = nodes.all[0].interval(&a, 0, 10, nodes.now) else { panic!() };
    for _ in 0..2 {
        let delta = delta.clone();
        nodes.on(1, |node, now, diff| node.merge(&a.name, delta, now, diff)).unwrap();
    }
    assert_eq!(nodes.told(1), ["+bob/1=", "+alice/1="]);
    nodes.pull(0, 1, &b);
    assert_eq!(nodes.list(0), nodes.list(1));
    leave(&mut nodes, 0, "alice");
    nodes.pull(1, 0, &a);
    assert_eq!(nodes.told(1), ["-alice/1="]);
    // Phoenix tells of an update as a leave and a join; ours is one thing.
    nodes.track(1, &owner(2, 1, 0), &track("bob", "1", "away", 0));
    nodes.told(0);
    nodes.pull(0, 1, &b);
    assert_eq!(nodes.told(0), ["~bob/1=away"]);
}

#[test]
fn basic_netsplit() {
    let mut nodes = Nodes::new(2);
    ["alice", "carol"].iter().for_each(|key| join(&mut nodes, 0, key));
    ["bob", "david"].iter().for_each(|key| join(&mut nodes, 1, key));
    nodes.sync();
    (0..2).for_each(|at| drop(nodes.told(at)));
    down(&mut nodes, 0, 1);
    down(&mut nodes, 1, 0);
    assert_eq!(nodes.told(0), ["-bob/1=", "-david/1="]);
    assert_eq!(nodes.told(1), ["-alice/1=", "-carol/1="]);
    // Both sides go on.
    leave(&mut nodes, 0, "alice");
    join(&mut nodes, 0, "eve");
    join(&mut nodes, 1, "frank");
    assert_eq!(nodes.list(0), ["carol/1=", "eve/1="]);
    // What a third may still bring of it stays hidden as long as it is down.
    (0..2).for_each(|at| drop(nodes.told(at)));
    nodes.pull_all(1, 0);
    assert!(nodes.told(1).is_empty());
    assert_eq!(nodes.list(1), ["bob/1=", "david/1=", "frank/1="]);
    up(&mut nodes, 1, 0);
    up(&mut nodes, 0, 1);
    nodes.sync();
    assert_eq!(nodes.told(1), ["+carol/1=", "+eve/1="]);
    for at in 0..2 {
        assert_eq!(nodes.list(at), ["bob/1=", "carol/1=", "david/1=", "eve/1=", "frank/1="]);
    }
}

#[test]
fn joins_and_removes_are_observed_via_other_node() {
    let mut nodes = Nodes::new(3);
    join(&mut nodes, 0, "alice");
    nodes.sync();
    // a and c can't reach each other, and don't hold each other for down either.
    join(&mut nodes, 0, "bob");
    leave(&mut nodes, 0, "alice");
    nodes.pull_all(1, 0);
    nodes.told(2);
    nodes.pull_all(2, 1);
    let mut told = nodes.told(2);
    told.sort();
    assert_eq!(told, ["+bob/1=", "-alice/1="]);
}

#[test]
fn lists_and_counts_hide_down_replicas() {
    for gone in 0..3 {
        let mut nodes = Nodes::new(3);
        for (at, key) in ["alice", "bob", "carol"].into_iter().enumerate() {
            join(&mut nodes, at, key);
        }
        nodes.sync();
        (1..=gone).for_each(|of| down(&mut nodes, 0, of));
        let left = ["alice/1=", "bob/1=", "carol/1="];
        let left: Vec<&str> = left
            .into_iter()
            .enumerate()
            .filter(|(at, _)| *at == 0 || *at > gone)
            .map(|(_, one)| one)
            .collect();
        assert_eq!(nodes.list(0), left);
        assert_eq!(nodes.all[0].count(&topic("room")).presences, left.len());
        let shows = usize::from(gone == 0);
        assert_eq!(nodes.all[0].count_of_key(&topic("room"), "bob"), shows);
    }
}

#[test]
fn remove_down_replicas() {
    let mut nodes = Nodes::new(2);
    ["alice", "carol"].iter().for_each(|key| join(&mut nodes, 1, key));
    nodes.sync();
    let b = nodes.all[1].me().clone();
    down(&mut nodes, 0, 1);
    nodes.on(0, |node, now, diff| node.forget(&b, now, diff));
    assert_eq!(nodes.all[0].report().claims, 0);
    // It can't come back as what it was, whoever tells of it.
    assert!(!nodes.on(0, |node, now, diff| node.replica_up(&b, now, diff)));
    nodes.told(0);
    let Answer::Whole(whole) = nodes.all[1].whole(&b, nodes.now) else { panic!() };
    let refused = nodes.on(0, |node, now, diff| node.merge(&b.name, whole, now, diff));
    assert_eq!(refused, Err(MergeError::Forgotten(b)));
    assert!(nodes.told(0).is_empty() && nodes.list(0).is_empty());
}

#[test]
fn deltas_are_not_merged_for_non_contiguous_ranges() {
    let mut nodes = Nodes::new(2);
    let a = nodes.all[0].me().clone();
    let mut deltas = Vec::new();
    for (at, key) in ["alice", "bob", "carol"].into_iter().enumerate() {
        join(&mut nodes, 0, key);
        let Answer::Interval(delta) = nodes.all[0].interval(&a, at as u64, 10, nodes.now) else {
            panic!()
        };
        deltas.push(delta);
    }
    for (at, known) in [(2, 0), (1, 0), (0, 1), (2, 1), (1, 2), (2, 3), (0, 3)] {
        let delta = deltas[at].clone();
        let merged = nodes.on(1, |node, now, diff| node.merge(&a.name, delta, now, diff));
        let before = nodes.all[1].counter_of(&a).unwrap();
        assert_eq!(before, known, "after delta {at}");
        assert_eq!(merged.is_ok(), (at as u64) < known, "delta {at}: {merged:?}");
    }
    assert_eq!(nodes.list(1).len(), 3);
}

#[test]
fn extracted_state_contains_only_replicas_known_to_remote_replica() {
    let mut nodes = Nodes::new(2);
    let stranger = replica("z", 1);
    nodes.on(0, |node, now, diff| node.replica_up(&stranger, now, diff));
    let claim = Claim::new(&Fields {
        key: "zoe",
        id: "1",
        meta: b"",
        session: session(9),
        epoch: 1,
        number: 1,
        revision: 1,
        base: 0,
        since_ms: 0,
        asked: Asked { epoch: 1, counter: 1 },
        linger: Duration::ZERO,
    });
    let entry = Entry { counter: 1, topic: topic("room"), claim: claim.unwrap() };
    let delta = Delta {
        replica: stranger.clone(),
        from: 0,
        to: 1,
        adds: vec![entry],
        removes: Vec::new(),
        kind: Kind::Interval,
        down_for: None,
    };
    let name = nodes.all[1].me().name.clone();
    let taken = delta.clone();
    nodes.on(0, |node, now, diff| node.merge(&name, taken, now, diff)).unwrap();
    // b doesn't know z as a member: it asks for nothing of it, and takes nothing.
    assert_eq!(compare(&mut nodes, 1, 0).0, 0);
    let refused = nodes.on(1, |node, now, diff| node.merge(&name, delta, now, diff));
    assert_eq!(refused, Err(MergeError::Unknown(stranger)));
}

/// Phoenix: "concurrent add wins".
#[test]
fn merging_deltas_with_removes() {
    let mut nodes = Nodes::new(2);
    join(&mut nodes, 0, "alice");
    nodes.sync();
    (0..2).for_each(|at| drop(nodes.told(at)));
    // On one side it leaves, on the other somebody tracks the same.
    leave(&mut nodes, 0, "alice");
    join(&mut nodes, 1, "alice");
    nodes.sync();
    for at in 0..2 {
        assert_eq!(nodes.list(at), ["alice/1="]);
        assert_eq!(nodes.all[at].report().claims, 1);
    }
    // And an observed one goes.
    leave(&mut nodes, 1, "alice");
    nodes.sync();
    assert!(nodes.list(0).is_empty() && nodes.list(1).is_empty());
}

/// Phoenix: "old pids from a node are permdowned when the node comes back up".
#[test]
fn old_presences_of_a_node_go_when_it_comes_back_up() {
    let mut nodes = Nodes::new(3);
    join(&mut nodes, 0, "alice");
    nodes.sync();
    let old = restart(&mut nodes, 0);
    join(&mut nodes, 0, "bob");
    nodes.sync();
    nodes.sleep(11_000);
    nodes.sync();
    for at in 0..3 {
        assert_eq!(nodes.list(at), ["bob/1="], "at {at}");
        assert!(nodes.all[at].rows().iter().all(|row| row.replica != old), "at {at}");
    }
}

#[test]
fn tempdowns_with_nodeups_of_new_incarnation_and_permdowns() {
    let mut nodes = Nodes::new(2);
    join(&mut nodes, 1, "alice");
    nodes.sync();
    nodes.told(0);
    down(&mut nodes, 0, 1);
    up(&mut nodes, 0, 1);
    assert_eq!(nodes.told(0), ["-alice/1=", "+alice/1="]);
    let old = restart(&mut nodes, 1);
    assert_eq!(nodes.told(0), ["-alice/1="]);
    join(&mut nodes, 1, "bob");
    nodes.pull_all(0, 1);
    assert_eq!(nodes.told(0), ["+bob/1="]);
    nodes.sleep(11_000);
    assert_eq!(nodes.all[0].counter_of(&old), None, "it is still kept");
    assert!(nodes.told(0).is_empty());
}

/// Phoenix: "graceful exits with permdown", "graceful_permdown then restart is empty".
#[test]
fn graceful_exits() {
    let mut nodes = Nodes::new(2);
    join(&mut nodes, 1, "alice");
    nodes.sync();
    nodes.told(0);
    let b = nodes.all[1].me().clone();
    nodes.on(0, |node, now, diff| node.replica_gone(&b, now, now, diff));
    assert_eq!(nodes.told(0), ["-alice/1="]);
    nodes.sleep(11_000);
    assert_eq!(nodes.all[0].counter_of(&b), None);
    restart(&mut nodes, 1);
    nodes.sync();
    assert!(nodes.list(0).is_empty() && nodes.list(1).is_empty());
}

/// Phoenix: "gossip from unseen node triggers nodeup and transfer request", "requests for transfer collapses clocks": a newcomer that
/// compares with two who both have everything asks each log once.
#[test]
fn requests_for_transfer_collapse() {
    let mut nodes = Nodes::new(3);
    (0..50).for_each(|at| join(&mut nodes, 0, &format!("user{at}")));
    nodes.pull_all(1, 0);
    // c has missed it all. What a third node has of a live one is mostly on its way: only the second look asks, and only once.
    assert_eq!(compare(&mut nodes, 2, 1), (0, 0));
    assert_eq!(compare(&mut nodes, 2, 1), (1, 50));
    assert_eq!(compare(&mut nodes, 2, 0), (0, 0));
    assert_eq!(nodes.list(2).len(), 50);
}

/// Phoenix: "rolling node update": a node that joined after another went down asks once for what that one had, and no more.
#[test]
fn rolling_node_update() {
    let mut nodes = Nodes::new(3);
    nodes.track(0, &owner(1, 1, 5_000), &track("alice", "1", "", 0));
    nodes.pull_all(1, 0);
    down(&mut nodes, 1, 0);
    // c starts now, and knows from membership that a was there.
    let c = replica("c", 2);
    nodes.all[2] = Tracker::new(c.clone());
    up(&mut nodes, 2, 1);
    nodes.on(1, |node, now, diff| node.replica_up(&c, now, diff));
    down(&mut nodes, 2, 0);
    let mut questions = 0;
    for _ in 0..10 {
        questions += compare(&mut nodes, 2, 1).0;
        nodes.sleep(250);
    }
    assert_eq!(questions, 1);
    assert_eq!(nodes.list(2), ["alice/1="]);
    nodes.sleep(6_000);
    assert!(nodes.list(1).is_empty() && nodes.list(2).is_empty());
    assert_eq!(compare(&mut nodes, 2, 1), (0, 0));
}

#[test]
fn tracking_twice_updating_nothing_and_untracking_nothing() {
    let mut nodes = Nodes::new(1);
    let ann = owner(1, 1, 0);
    let gone = untrack("alice", "1", 0);
    let left = nodes.on(0, |node, now, diff| node.untrack(session(1), &gone, now, diff));
    assert_eq!(left, Untracked::Nothing);
    let updated =
        nodes.on(0, |node, now, diff| node.update(&ann, &track("alice", "1", "", 0), now, diff));
    assert_eq!(updated, Err(TrackError::NotTracked));
    let first = nodes.track(0, &ann, &track("alice", "1", "x", 0));
    let again = nodes.track(0, &ann, &track("alice", "1", "x", 0));
    assert_eq!((again.outcome, again.reference), (Outcome::Unchanged, first.reference));
    nodes.track(0, &ann, &track("alice", "2", "x", 0));
    assert_eq!(nodes.told(0), ["+alice/1=x", "+alice/2=x"]);
}
