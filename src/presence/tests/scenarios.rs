//! What only we have (Phoenix's own scenarios are in `phoenix`):
//! sessions that move and presences that change hands.

use std::collections::HashMap;

use super::*;

#[test]
fn what_one_tracks_the_others_list_and_untracking_takes_it_away() {
    let mut nodes = Nodes::new(3);
    let ann = owner(1, 1, 5_000);
    assert_eq!(nodes.track(0, &ann, &track("ann", "1", "x", 1)).outcome, Outcome::Joined);
    nodes.sync();
    for at in 0..3 {
        assert_eq!(nodes.list(at), ["ann/1=x"]);
        assert_eq!(nodes.told(at), ["+ann/1=x"]);
    }
    assert_eq!(nodes.track(0, &ann, &track("ann", "1", "y", 2)).outcome, Outcome::Updated);
    nodes.sync();
    for at in 0..3 {
        assert_eq!(nodes.told(at), ["~ann/1=y"]);
    }
    nodes.on(0, |node, now, diff| node.untrack(ann.session, &untrack("ann", "1", 0), now, diff));
    nodes.sync();
    for at in 0..3 {
        assert_eq!(nodes.told(at), ["-ann/1=y"]);
        assert!(nodes.list(at).is_empty());
    }
}

#[test]
fn a_session_that_moves_is_not_seen_to() {
    let mut nodes = Nodes::new(3);
    nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "x", 1));
    nodes.sync();
    let reference = nodes.all[2].snapshot(&topic("room"))[0].reference();
    (0..3).for_each(|at| drop(nodes.told(at)));
    let moved = owner(1, 2, 5_000);
    nodes.on(1, |node, now, diff| node.attached(&moved, now, diff));
    nodes.on(0, |node, now, _| node.moved(moved.session, 2, now));
    // c hears of the withdrawal before it hears of the new claim.
    let a = nodes.all[0].me().clone();
    nodes.pull_all(0, 1);
    nodes.pull(2, 0, &a);
    assert_eq!(nodes.all[2].report().waiting, 1);
    nodes.sync();
    nodes.sleep(20_000);
    nodes.sync();
    for at in 0..3 {
        assert_eq!(nodes.list(at), ["ann/1=x"]);
        assert!(nodes.told(at).is_empty());
        let shown = &nodes.all[at].snapshot(&topic("room"))[0];
        assert_eq!((shown.node().as_str(), shown.reference()), ("b", reference));
        assert_eq!(nodes.all[at].report().claims, 1);
    }
}

/// b still lists what another had, and counts its revisions on; a began anew.
#[test]
fn what_a_session_said_later_counts_whatever_revision_a_node_has_come_to() {
    let mut nodes = Nodes::new(2);
    let other = owner(2, 1, 5_000);
    nodes.track(0, &other, &track("ann", "1", "x", 12));
    nodes.sync();
    nodes.on(0, |node, now, diff| node.untrack(other.session, &untrack("ann", "1", 0), now, diff));
    nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "y", 5));
    nodes.track(1, &owner(1, 2, 5_000), &track("ann", "1", "y", 5));
    let back = owner(1, 3, 5_000);
    nodes.on(0, |node, now, diff| node.attached(&back, now, diff));
    assert_eq!(nodes.track(0, &back, &track("ann", "1", "z", 6)).outcome, Outcome::Updated);
    nodes.on(1, |node, now, _| node.moved(back.session, 3, now));
    let reference = nodes.all[0].snapshot(&topic("room"))[0].reference();
    nodes.sync();
    nodes.sleep(20_000);
    nodes.sync();
    for at in 0..2 {
        assert_eq!(nodes.list(at), ["ann/1=z"]);
        let shown = &nodes.all[at].snapshot(&topic("room"))[0];
        assert_eq!((shown.node().as_str(), shown.reference()), ("a", reference));
        assert_eq!(nodes.all[at].report().claims, 1);
    }
}

#[test]
fn another_session_takes_over_and_the_first_can_no_longer_update() {
    let mut nodes = Nodes::new(2);
    nodes.track(0, &owner(1, 1, 0), &track("ann", "1", "x", 4));
    nodes.sync();
    let taken = nodes.track(1, &owner(2, 1, 0), &track("ann", "1", "x", 1));
    assert_eq!(taken.outcome, Outcome::Adopted);
    nodes.sync();
    assert!(nodes.told(0).len() == 1 && nodes.told(1).len() == 1);
    let late = nodes.on(0, |node, now, diff| {
        node.update(&owner(1, 1, 0), &track("ann", "1", "y", 5), now, diff)
    });
    assert_eq!(late, Err(TrackError::NotOwner));
    // The new owner's client counts from its own beginning.
    let updated = nodes.track(1, &owner(2, 1, 0), &track("ann", "1", "z", 2));
    assert_eq!(updated.outcome, Outcome::Updated);
    let stale = nodes.track(1, &owner(2, 1, 0), &track("ann", "1", "x", 1));
    assert_eq!((stale.outcome, stale.reference), (Outcome::Ignored, updated.reference));
    nodes.on(0, |node, now, diff| node.ended(session(1), now, diff));
    nodes.sync();
    assert_eq!(nodes.list(0), ["ann/1=z"]);
}

#[test]
fn a_dead_nodes_presences_linger_and_leave_once() {
    let mut nodes = Nodes::new(3);
    nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "", 1));
    nodes.track(0, &owner(2, 1, 0), &track("bob", "1", "", 1));
    nodes.track(0, &owner(3, 1, 5_000), &track("cid", "1", "", 1));
    nodes.sync();
    let a = nodes.all[0].me().clone();
    let now = nodes.now;
    for at in 1..3 {
        nodes.told(at);
        nodes.on(at, |node, _, diff| node.replica_down(&a, now, now, diff));
        assert_eq!(nodes.told(at), ["-bob/1="]);
    }
    nodes.sleep(4_900);
    // One comes back elsewhere in time.
    nodes.on(1, |node, now, diff| node.attached(&owner(1, 2, 5_000), now, diff));
    nodes.sleep(800);
    nodes.pull_all(2, 1);
    nodes.sleep(5_000);
    for at in 1..3 {
        assert_eq!(nodes.told(at), ["-cid/1="]);
        assert_eq!(nodes.list(at), ["ann/1="]);
    }
    // And the node with its claims: only what nobody took over shows again.
    for at in 1..3 {
        nodes.on(at, |node, now, diff| node.replica_up(&a, now, diff));
        assert_eq!(nodes.told(at), ["+bob/1=", "+cid/1="]);
    }
    nodes.sync();
    for at in 0..3 {
        assert_eq!(nodes.list(at), ["ann/1=", "bob/1=", "cid/1="]);
        let shown = &nodes.all[at].snapshot(&topic("room"))[0];
        assert_eq!(shown.node().as_str(), "b");
    }
}

/// A session untracks at one node and attaches to another before the news are there: what that one adopts, it lets go.
#[test]
fn what_was_untracked_is_not_adopted_back() {
    for by_whole in [false, true] {
        for updated in [false, true] {
            for asked_again in [false, true] {
                let mut nodes = Nodes::new(3);
                nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "x", 1));
                nodes.sync();
                let a = nodes.all[0].me().clone();
                if updated {
                    nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "y", 2));
                }
                let gone = untrack("ann", "1", 0);
                let done =
                    nodes.on(0, |node, now, diff| node.untrack(session(1), &gone, now, diff));
                assert_eq!(done, Untracked::Done);
                let next = owner(1, 2, 5_000);
                nodes.on(1, |node, now, diff| node.attached(&next, now, diff));
                nodes.on(0, |node, now, _| node.moved(session(1), 2, now));
                if asked_again {
                    nodes.track(1, &next, &track("ann", "1", "x", 1));
                }
                assert_eq!(nodes.list(1), ["ann/1=x"], "it has not heard yet");
                if by_whole {
                    let Answer::Whole(whole) = nodes.all[0].whole(&a, nodes.now) else { panic!() };
                    nodes.on(1, |node, now, diff| node.merge(&a.name, whole, now, diff)).unwrap();
                }
                nodes.sync();
                let left: &[&str] = if asked_again { &["ann/1=x"] } else { &[] };
                for at in 0..3 {
                    assert_eq!(nodes.list(at), left, "at {at}, {by_whole} {updated} {asked_again}");
                }
            }
        }
    }
}

/// On both sides of a cut somebody tracks the same, neither knowing of the other. When they meet again, the one whose connection is
/// gone by then doesn't take it from the one who is there.
#[test]
fn who_is_there_outlives_who_never_knew_of_it() {
    // With equal numbers, and with more changes of hands on the side that goes.
    for hands in [1, 2, 5] {
        let mut nodes = Nodes::new(3);
        nodes.track(0, &owner(9, 1, 0), &track("old", "1", "", 1));
        nodes.sync();
        // a is alone; b and c go on.
        nodes.track(0, &owner(1, 1, 5_000), &track("ann", "1", "", 1));
        for hand in 0..hands {
            nodes.track(1, &owner(2 + hand, 1, 5_000), &track("ann", "1", "", 1));
        }
        nodes.pull_all(2, 1);
        for (to, from) in [(0, 1), (1, 0)] {
            let (rows, peer) = (nodes.all[from].rows(), nodes.all[from].me().name.clone());
            nodes.on(to, |node, now, _| node.wants(&rows, &peer, now));
        }
        nodes.sync();
        (0..3).for_each(|at| drop(nodes.told(at)));
        let last = session(1 + hands);
        nodes.on(1, |node, now, diff| node.ended(last, now, diff));
        nodes.sync();
        for at in 0..3 {
            assert_eq!(nodes.list(at), ["ann/1=", "old/1="], "{hands} hands, at {at}");
            assert!(nodes.told(at).is_empty(), "{hands} hands, at {at}");
        }
        // And when that one goes too, it leaves.
        nodes.on(0, |node, now, diff| node.ended(session(1), now, diff));
        nodes.sync();
        assert_eq!(nodes.list(2), ["old/1="]);
        // Whoever knew of it has taken it over, and takes it along.
        nodes.track(0, &owner(1, 2, 5_000), &track("ann", "1", "", 1));
        nodes.sync();
        nodes.track(1, &owner(7, 1, 5_000), &track("ann", "1", "", 1));
        nodes.sync();
        nodes.on(1, |node, now, diff| node.ended(session(7), now, diff));
        nodes.sync();
        assert_eq!(nodes.list(0), ["old/1="]);
    }
}

/// A drain gives no time again that has run already.
#[test]
fn what_is_handed_over_has_what_is_left_of_its_time() {
    let mut nodes = Nodes::new(3);
    for number in 1..=3 {
        nodes.track(0, &owner(number, 1, 5_000), &track("ann", &number.to_string(), "", 1));
    }
    nodes.sync();
    // The first is attached; the second has lost its connection and has 2 s left; the third is a writer's, with a time of its own.
    let lingering = [(session(2), nodes.now + Duration::from_secs(2))].into();
    nodes.on(0, |node, now, _| node.expire(session(3), now + Duration::from_secs(9)));
    let handed = nodes.on(0, |node, now, _| node.hand_over(&lingering, now));
    let left: Vec<u64> = handed.iter().map(|one| one.remaining.as_secs()).collect();
    assert_eq!(left, [5, 2, 9]);
    nodes.on(1, |node, now, diff| node.adopt(handed, now, diff));
    nodes.sync();
    // Handed on a second later, each has a second less.
    nodes.sleep(1_000);
    let handed = nodes.on(1, |node, now, _| node.hand_over(&HashMap::new(), now));
    let left: Vec<u64> = handed.iter().map(|one| one.remaining.as_secs()).collect();
    assert_eq!(left, [4, 1, 8]);
    nodes.on(2, |node, now, diff| node.adopt(handed, now, diff));
    nodes.sync();
    for (ms, listed) in [(900, 3), (200, 2), (2_800, 2), (200, 1), (3_800, 1), (200, 0)] {
        nodes.sleep(ms);
        nodes.sync();
        assert_eq!(nodes.list(2).len(), listed, "{ms} ms later");
    }
}

/// A node that has heard of many operations at once doesn't know which of them took what away. Whoever asks it for a part of them, and
/// somebody else for the rest, must not be left with what is gone.
#[test]
fn a_part_from_one_and_the_rest_from_another_is_the_whole() {
    let mut nodes = Nodes::new(3);
    let (a, ann) = (nodes.all[0].me().clone(), owner(1, 1, 5_000));
    for at in 0..4 {
        nodes.track(0, &ann, &track("ann", &at.to_string(), "", 1));
    }
    nodes.pull(2, 0, &a);
    for at in 0..4 {
        let gone = untrack("ann", &at.to_string(), 0);
        nodes.on(0, |node, now, diff| node.untrack(session(1), &gone, now, diff));
    }
    nodes.pull(1, 0, &a);
    let now = nodes.now;
    let Answer::Interval(part) = nodes.all[1].interval(&a, 4, 1, now) else { panic!() };
    nodes.on(2, |node, now, diff| node.merge(&a.name, part, now, diff)).unwrap();
    nodes.pull(2, 0, &a);
    assert!(nodes.list(2).is_empty());
    assert_eq!(nodes.all[2].rows()[0], nodes.all[0].rows()[0]);
}

/// A writer without a session may renew on any node. The one that it came to last has it, whatever the names of the others; what ends there, by
/// time or by its pass, takes nothing.
#[test]
fn a_writer_is_where_it_put_last() {
    let mut nodes = Nodes::new(3);
    let writer = session(1);
    let put = |nodes: &mut Nodes, at: usize, ttl_s: u64| {
        let epoch = nodes.all[at].epoch_here(writer);
        let owner = Owner { session: writer, epoch, linger: Duration::from_secs(5) };
        nodes.track(at, &owner, &track("ann", "1", "x", 0));
        nodes.on(at, |node, now, _| node.expire(writer, now + Duration::from_secs(ttl_s)));
        epoch
    };
    let owning = |nodes: &Nodes| -> Vec<String> {
        let shown = nodes.all.iter().map(|node| node.snapshot(&topic("room")));
        shown.flatten().map(|shown| shown.node().to_string()).collect()
    };
    for (at, name) in [(1, "b"), (0, "a"), (2, "c"), (1, "b"), (0, "a")] {
        let epoch = put(&mut nodes, at, 10);
        nodes.sync();
        assert_eq!(owning(&nodes), [name; 3]);
        assert_eq!(put(&mut nodes, at, 10), epoch, "what it has it renews, and tells nobody");
    }
    assert_eq!(nodes.told[0], ["+ann/1=x"], "nobody sees who has it");
    assert_eq!([1, 2].map(|at| nodes.all[at].sessions_known()), [0, 0], "nothing is kept of it");
    nodes.on(1, |node, now, diff| node.ended(writer, now, diff));
    nodes.sleep(8_000);
    put(&mut nodes, 0, 10);
    nodes.sync();
    nodes.sleep(8_000);
    nodes.sync();
    assert_eq!(owning(&nodes), ["a"; 3], "the times at the others are over");
    nodes.on(0, |node, now, diff| node.ended(writer, now, diff));
    nodes.sync();
    assert_eq!(owning(&nodes), Vec::<String>::new());
}
