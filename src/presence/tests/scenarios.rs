//! What Phoenix's tracker asserts of itself, the bugs its users found over the years, and the same for what only we have:
//! sessions that move and presences that change hands.

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
