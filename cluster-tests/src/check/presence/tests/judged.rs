//! Whole histories that are good, and some that were made bad by hand.

use super::super::judge::{judge, met};
use super::super::story::history;
use crate::check::Promise::{self, *};

/// `o` has x and is attached at a, `w` watches at b; both for long.
const THERE: &str = "o@a in 2; o@a has x1; w@b in 0; w@b watch; w@b snap x1; +20; ";

#[track_caller]
fn check(story: &str, expected: &[Promise]) {
    let found = judge(&history(story));
    let promises: Vec<Promise> = found.iter().map(|one| one.promise).collect();
    assert_eq!(promises, expected, "{story}: {found:#?}");
}

fn after(story: &str, expected: &[Promise]) {
    check(&format!("{THERE}{story}"), expected);
}

#[test]
fn lists_at_the_end_must_be_right() {
    after("a lists x1; b lists x1", &[]);
    after("a lists; b lists", &[WatchWithoutHole, PresenceConverges]);
    after("a lists x1; b lists", &[WatchWithoutHole, PresenceConverges]);
    after("a lists x1; b lists x2", &[WatchWithoutHole, PresenceConverges]);
    // Nobody ever asked for y, or not for this x.
    after("w@b diff +y1; a lists x1 y1; b lists x1 y1", &[NoGhosts]);
    after("w@b diff ~x2; a lists x2; b lists x2", &[OnlyWhatWasPublished, PresenceConverges]);
    // One that was asked for, without an answer.
    after("o@a asks y1; a lists x1; b lists x1", &[]);
    after("o@a asks y1; w@b diff +y1; a lists x1 y1; b lists x1 y1", &[]);
    // What was refused never shows.
    let refused = "o@a fails y1; w@b diff +y1; a lists x1 y1; b lists x1 y1";
    after(refused, &[NoGhosts, OnlyWhatWasPublished, NoGhosts]);
}

#[test]
fn whoever_has_left_is_not_listed() {
    for leaves in ["o@a drops x", "o@a drops x 3", "o@a bye", "o@a keeps", "o@a ends", "kill a"] {
        after(&format!("{leaves}; +3; w@b diff -x; +10; b lists"), &[]);
        after(&format!("{leaves}; +10; b lists x1"), &[NoGhosts]);
    }
    after("o@a drops x; w@b diff -x; +20; w@b diff +x1; b lists x1", &[NoGhosts, NoGhosts]);
    after("o@a drops x; +20; w@b diff -x; b lists", &[NoGhosts]);
    // Still on its way out: nobody can say.
    after("o@a ends; +3; b lists x1", &[]);
    after("o@a ends; +3; w@b diff -x; b lists", &[]);
}

#[test]
fn whoever_is_there_does_not_leave() {
    after("w@b diff -x; w@b diff +x1; b lists x1", &[NoFalseLeaves]);
    // Of a watcher that came elsewhere.
    after("w@c in 0; w@c watch; w@c snap; w@c diff +x1; c lists x1", &[NoFalseLeaves]);
    // It came back in time, here or elsewhere; it moved; another session took it over.
    let blink = "w@b diff -x; w@b diff +x1; b lists x1";
    for how in [
        "o@a ends; o@a in 2; o@a has x1",
        "o@a ends; o@c in 2; o@c has x1",
        "o@c in 2; o@c has x1",
        "kill a; o@c in 2; o@c has x1",
        "o@a ends; p@c in 2; p@c has x1",
    ] {
        after(&format!("{how}; {blink}"), &[NoFalseLeaves]);
        after(&format!("{how}; b lists x1"), &[]);
        after(&format!("{how}; +1; {blink}"), &[NoFalseLeaves]);
    }
    // It came back too late, or never; or it is only just there.
    after(&format!("o@a ends; +3; {blink}"), &[]);
    after(&format!("o@a ends; +3; o@a in 2; o@a has x1; {blink}"), &[]);
    after(&format!("o@a drops x; o@a has x1; {blink}"), &[]);
}

#[test]
fn what_faults_excuse() {
    let blink = "w@b diff -x; w@b diff +x1; b lists x1";
    after(&format!("cut a b; +1; {blink}"), &[]);
    after(&format!("cut a b; +1; heal a b; +3; {blink}"), &[]);
    after(&format!("cut a b; +1; heal a b; +9; {blink}"), &[NoFalseLeaves]);
    after(&format!("cut a b; cut a b; +1; heal a b; +9; {blink}"), &[]);
    after(&format!("cut a b; cut a b; +1; heal; +9; {blink}"), &[NoFalseLeaves]);
    after(&format!("cut a c; cut c; +1; {blink}"), &[NoFalseLeaves]);
    after(&format!("cut a; +1; {blink}"), &[]);
    after(&format!("cut; +1; {blink}"), &[]);
    after(&format!("kill b; start b; +1; {blink}"), &[]);
    // A ghost may stay for as long as somebody can't know better.
    after("cut a b; o@a drops x; +20; w@b diff -x; b lists", &[]);
    after("cut a b; o@a drops x; heal a b; +20; w@b diff -x; b lists", &[NoGhosts]);
}

#[test]
fn what_several_want_is_only_compared() {
    let contested = "p@c in 2; p@c has x2; w@b diff ~x2; p@c drops x; w@b diff -x; ";
    after(&format!("{contested} a lists; b lists; c lists"), &[]);
    after(&format!("{contested} a lists; b lists; c lists x1"), &[PresenceConverges]);
    // Not known whether it had got it when another took over.
    after("o@a asks x3; o@a ends; p@c in 2; p@c has x2; w@b diff -x; +9; b lists", &[]);
}

#[test]
fn watches_are_judged() {
    after("w@b diff -y; b lists x1", &[WatchWithoutHole]);
    after("w@b snap x1; b lists x1", &[WatchWithoutHole]);
    after("w@b in 0; w@b watch; b lists x1", &[WatchWithoutHole]);
    after("w@b in 0; w@b watch; w@b snap x1; b lists x1", &[]);
    after("w@b ends; b lists x1", &[]);
    after("o@a drops x; b lists", &[WatchWithoutHole]);
}

#[test]
fn what_is_rare_is_counted() {
    let check = |story: &str, expected: &[(&str, u64)]| {
        let mut met = met(&history(&format!("{THERE}{story}")));
        met.retain(|_, count| *count > 0);
        assert_eq!(met.into_iter().collect::<Vec<_>>(), expected, "{story}");
    };
    check("o@a ends; o@c in 2; o@c has x1", &[("moved", 1)]);
    check("o@a ends", &[("linger ended", 1)]);
    check("kill a", &[("orphan left", 1)]);
    check("o@a ends; p@c in 2; p@c has x1", &[("taken over", 1)]);
    check("o@a drops x", &[]);
    check("o@a bye", &[]);
}
