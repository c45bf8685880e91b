//! The judge of leases on histories that are good, and on histories that break exactly the promise it is there for.

use super::super::Promise::{self, Fenced, LeaseAnswers, LeaseKept, OneHolder, TokensRise};
use super::judge;
use super::story::history;

#[track_caller]
fn check(story: &str, broken: &[Promise]) {
    let violations = judge(&history(story));
    let mut found: Vec<Promise> = violations.iter().map(|violation| violation.promise).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, broken, "{story}: {violations:#?}");
}

#[test]
fn a_good_history_breaks_nothing() {
    check("a get x 1; a renew x 1; a write x 1; a free x 1; b get x 2; b write x 2", &[]);
    check("a get x 1; b busy x 1; a free x 1; b get x 2; a denied x 1; a rejected x 1", &[]);
    // Whoever holds it already has the same token.
    check("a get x 1; b get y 2; a get x 1; a free x 1", &[]);
    // It runs out a TTL after the last renewal was asked for.
    check("a get x 1; wait 3; a renew x 1; wait 10; b get x 2; a denied x 1", &[]);
    check("a get x 1; wait 15; a denied x 1; a get x 2", &[]);
    // Nobody needs to take it over.
    check("a get x 1; wait 100; a renew x 1; a write x 1", &[]);
}

#[test]
fn what_is_not_known_may_have_happened_or_not() {
    check("a lost x; b get x 1", &[]);
    check("a lost x; b busy x 1; a get x 1", &[]);
    check("a lost x; b busy x 1; wait 10; b get x 2", &[]);
    check("a lost x; b get y 2; a get x 1", &[]);
    check("a get x 1; a unfree x 1; b get x 2", &[]);
    check("a get x 1; a unfree x 1; b busy x 1; a renew x 1", &[]);
    check("a get x 1; a unfree x 1; a denied x 1; b get x 2", &[]);
}

#[test]
fn calls_at_the_same_time_come_in_any_order() {
    check("a begin get x; b begin get y; b end get y 1; a end get x 2", &[]);
    check("a begin get x; b begin get y; b end get y 2; a end get x 1", &[]);
    check("a get x 1; b begin get x; a free x 1; b end get x 2", &[]);
    check("a get x 1; b begin busy x; a free x 1; b end busy x 1", &[]);
    check("a get x 1; wait 9; a begin renew x 1; b get x 2; a end renew x 1", &[LeaseKept]);
    check("a get x 1; a begin renew x 1; wait 9; b get x 2; a end renew x 1", &[]);
    check("a begin write x 1; a get x 1; a free x 1; b get x 2; a end write x 1", &[]);
}

#[test]
fn two_holders_of_one_token() {
    check("a get x 1; a free x 1; b get x 1", &[OneHolder, LeaseAnswers]);
    check("a get x 1; b get y 1", &[OneHolder]);
    check("a get x 1; b renew x 1", &[OneHolder]);
}

#[test]
fn tokens_that_fall() {
    check("a get x 2; b get y 1", &[TokensRise]);
    check("a get x 2; a free x 2; b get x 1", &[TokensRise, Fenced]);
    check("a get x 2; b lost y; b get y 1", &[TokensRise]);
    // What b was granted unheard came before.
    check("b lost y; a get x 2; b get y 1", &[]);
}

#[test]
fn a_lease_that_is_taken_away_too_early() {
    check("a get x 1; wait 5; b get x 2", &[LeaseKept]);
    check("a get x 1; wait 5; a renew x 1; wait 6; b get x 2", &[LeaseKept]);
    check("a get x 1; wait 5; a denied x 1", &[LeaseKept]);
    check("a get x 1; wait 2; a get x 2", &[LeaseKept]);
    // Another's giving back is none of its own.
    check("a get x 1; b unfree x 7; b get x 2", &[LeaseKept]);
}

#[test]
fn a_token_that_is_taken_after_a_higher_one() {
    check("a get x 1; wait 10; b get x 2; a renew x 1", &[Fenced]);
    check("a get x 1; wait 10; b get x 2; a write x 1", &[Fenced]);
    check("a get x 1; a free x 1; b get x 2; b write x 2; a write x 1", &[Fenced]);
    check("a get x 1; wait 10; b get x 2; a free x 1", &[Fenced]);
    // Of another name it may be taken.
    check("a get x 1; b get y 2; a write x 1", &[]);
}

#[test]
fn answers_that_were_never_true() {
    // Given back, and renewed.
    check("a get x 1; a free x 1; a renew x 1", &[LeaseAnswers]);
    check("a get x 1; a free x 1; b busy x 1", &[LeaseAnswers]);
    // Held by nobody who could have it.
    check("b busy x 1", &[LeaseAnswers]);
    check("b busy x 1; a get x 1", &[LeaseAnswers]);
    check("a get x 1; a busy x 1", &[LeaseAnswers]);
    check("a free x 1", &[LeaseAnswers]);
    // A holder from before.
    check("a get x 1; wait 10; b get x 2; c busy x 1", &[LeaseAnswers]);
}
