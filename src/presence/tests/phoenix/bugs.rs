//! The bugs that Phoenix's users found over the years, by the numbers of their issues.

use super::*;

/// phoenix_pubsub#55, #60, #111, phoenix#2306: presences of a node that has restarted come back through a third that was not looking.
#[test]
fn no_zombies_through_third_nodes() {
    let mut nodes = Nodes::new(3);
    ["alice", "bob"].iter().for_each(|key| join(&mut nodes, 0, key));
    nodes.sync();
    // c is cut off, while a stops and starts again.
    [(2, 0), (2, 1), (1, 2)].into_iter().for_each(|(at, of)| down(&mut nodes, at, of));
    let old = nodes.all[0].me().clone();
    nodes.all[0] = Tracker::new(replica("a", 2));
    up(&mut nodes, 0, 1);
    up(&mut nodes, 1, 0);
    nodes.sleep(11_000);
    assert_eq!(nodes.all[1].counter_of(&old), None, "b has forgotten it");
    (0..3).for_each(|at| drop(nodes.told(at)));
    // c is back, and has kept all of the old one: it is heard of by c, and nobody takes it from c.
    [(2, 0), (2, 1), (1, 2), (0, 2)].into_iter().for_each(|(at, of)| up(&mut nodes, at, of));
    for _ in 0..3 {
        for (to, from) in [(0, 2), (1, 2), (2, 1), (2, 0)] {
            compare(&mut nodes, to, from);
        }
    }
    nodes.sleep(11_000);
    for at in 0..3 {
        assert!(nodes.list(at).is_empty(), "at {at}");
        assert!(nodes.told(at).is_empty(), "at {at}");
        assert_eq!(nodes.all[at].report().claims, 0, "at {at}");
    }
}

/// phoenix_pubsub#74: "desync when both sides have more than 50 presences".
#[test]
fn two_nodes_first_meet_with_over_a_thousand_presences_each() {
    const EACH: usize = 1_200;
    let mut nodes = Nodes::new(2);
    for at in 0..2 {
        (0..EACH).for_each(|number| {
            let key = format!("{}{number:04}", ["left", "right"][at]);
            nodes.all[at]
                .track(
                    &owner(at as u8 + 1, 1, 0),
                    &track(&key, "1", "", 0),
                    nodes.now,
                    7,
                    &mut Diff::new(),
                )
                .unwrap();
        });
    }
    for (to, from) in [(0, 1), (1, 0)] {
        // Its own link brings it; here the second look asks, as if that had not.
        assert_eq!(compare(&mut nodes, to, from).0, 0);
        assert_eq!(compare(&mut nodes, to, from), (1, EACH));
    }
    assert_eq!(nodes.list(0), nodes.list(1));
    assert_eq!(nodes.all[0].count(&topic("room")).presences, 2 * EACH);
    assert_eq!(nodes.all[0].row_hash(), nodes.all[1].row_hash());
    assert_eq!((compare(&mut nodes, 0, 1), compare(&mut nodes, 1, 0)), ((0, 0), (0, 0)));
    // And afterwards one change is one change.
    leave(&mut nodes, 0, "left0007");
    nodes.sync();
    assert_eq!(nodes.all[1].count(&topic("room")).presences, 2 * EACH - 1);
}

/// phoenix_pubsub#80: what was forgotten comes back as a ghost that nothing takes away.
#[test]
fn no_ghosts_after_forgetting() {
    let mut nodes = Nodes::new(3);
    join(&mut nodes, 0, "alice");
    nodes.sync();
    // b holds a for dead and forgets it; c does not, and a lives on behind a cut.
    let a = nodes.all[0].me().clone();
    down(&mut nodes, 1, 0);
    nodes.on(1, |node, now, diff| node.forget(&a, now, diff));
    // Meanwhile alice leaves, where only c hears of it.
    leave(&mut nodes, 0, "alice");
    nodes.told(1);
    compare(&mut nodes, 1, 2);
    compare(&mut nodes, 1, 2);
    assert!(nodes.list(1).is_empty() && nodes.told(1).is_empty());
    // a is told that it is forgotten, and goes on as somebody new.
    let new = replica("a", 2);
    nodes.on(0, |node, now, diff| node.reincarnate(&new, now, diff));
    join(&mut nodes, 0, "bob");
    (1..3).for_each(|at| up(&mut nodes, at, 0));
    nodes.sync();
    nodes.sleep(11_000);
    nodes.sync();
    for at in 0..3 {
        assert_eq!(nodes.list(at), ["bob/1="], "at {at}");
        assert_eq!(nodes.all[at].report().claims, 1, "at {at}");
    }
}

/// phoenix_pubsub#103: the last update before an exit is never seen elsewhere.
#[test]
fn update_then_exit() {
    // Together in one delta, and each in its own.
    for apart in [false, true] {
        let mut nodes = Nodes::new(3);
        let ann = owner(1, 1, 0);
        nodes.track(0, &ann, &track("alice", "1", "here", 0));
        nodes.sync();
        nodes.told(1);
        nodes.track(0, &ann, &track("alice", "1", "typing", 0));
        nodes.track(0, &ann, &track("alice", "1", "bye", 0));
        if apart {
            nodes.pull_all(1, 0);
            assert_eq!(nodes.told(1), ["~alice/1=bye"]);
        }
        nodes.on(0, |node, now, diff| node.ended(session(1), now, diff));
        nodes.sync();
        assert_eq!(
            nodes.told(1).last().map(String::as_str),
            Some(if apart { "-alice/1=bye" } else { "-alice/1=here" })
        );
        for at in 0..3 {
            assert_eq!(nodes.all[at].report().claims, 0, "at {at}");
        }
    }
    // What the node said last before it died, only b has heard: c has it from b, and it goes with its linger.
    let mut nodes = Nodes::new(3);
    let ann = owner(1, 1, 5_000);
    nodes.track(0, &ann, &track("alice", "1", "here", 0));
    nodes.sync();
    nodes.track(0, &ann, &track("alice", "1", "last", 0));
    nodes.pull_all(1, 0);
    down(&mut nodes, 1, 0);
    down(&mut nodes, 2, 0);
    assert_eq!(compare(&mut nodes, 2, 1), (1, 1));
    nodes.sleep(6_000);
    assert_eq!(nodes.told(2), ["+alice/1=here", "~alice/1=last", "-alice/1=last"]);
}

/// phoenix_pubsub#175: the list grows with every update.
#[test]
fn no_list_growth_on_update() {
    let mut nodes = Nodes::new(2);
    let ann = owner(1, 1, 0);
    for revision in 0..500 {
        nodes.track(0, &ann, &track("alice", "1", &revision.to_string(), 0));
        if revision % 3 == 0 {
            nodes.pull_all(1, 0);
        }
        for node in &nodes.all[..1] {
            assert_eq!((node.report().claims, node.count(&topic("room")).presences), (1, 1));
        }
    }
    nodes.sync();
    for at in 0..2 {
        assert_eq!(nodes.list(at), ["alice/1=499"]);
        assert_eq!(nodes.all[at].report().claims, 1);
    }
    // Whoever comes now is sent one entry, not 500.
    let a = nodes.all[0].me().clone();
    let Answer::Interval(delta) = nodes.all[0].interval(&a, 0, 1_000, nodes.now) else { panic!() };
    assert_eq!(delta.adds.len(), 1);
}

/// phoenix_pubsub#135: traffic goes up for 20 minutes after each restart.
#[test]
fn no_traffic_after_a_restart() {
    let mut nodes = Nodes::new(3);
    for at in 0..3 {
        (0..20).for_each(|number| join(&mut nodes, at, &format!("user{at}-{number}")));
    }
    nodes.sync();
    restart(&mut nodes, 0);
    (0..20).for_each(|number| join(&mut nodes, 0, &format!("user0-{number}")));
    let round = |nodes: &mut Nodes| {
        let pairs = (0..3).flat_map(|to| (0..3).map(move |from| (to, from)));
        let each = pairs.filter(|(to, from)| to != from);
        each.map(|(to, from)| compare(nodes, to, from))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    // The restarted node catches up, the others with it: no entry goes to anybody twice, the dead one's included.
    let mut entries = 0;
    for _ in 0..4 {
        entries += round(&mut nodes).1;
    }
    assert!(entries <= 2 * 20 + 20 + 2 * 20, "{entries} entries were sent");
    let hashes: Vec<u64> = nodes.all.iter().map(Tracker::row_hash).collect();
    // From then on there is nothing to say, also while the dead incarnation is still kept and when it is forgotten.
    for _ in 0..15 {
        assert_eq!(round(&mut nodes), (0, 0));
        nodes.sleep(1_000);
    }
    assert_eq!(
        nodes.all.iter().map(Tracker::row_hash).collect::<std::collections::BTreeSet<_>>().len(),
        1,
        "{hashes:?}"
    );
    (0..3).for_each(|at| assert_eq!(nodes.list(at).len(), 60));
}
