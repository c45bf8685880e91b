//! Each checker on histories that are good, and on histories that break exactly the promise it is there for.

use super::Promise::{
    CommonOrder, GapFinal, LossExplained, NoDuplicates, OnlyWhatWasPublished, PublisherOrder,
    SubscribedMeansSubscribed,
};
use super::story::history;
use super::{Promise, judge};

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
    check("s sub t; p pub t 1; s got t p 1; p pub t 2; s got t p 2", &[]);
    check("s sub t*; p pub t1 1; p pub t2 2; s got t1 p 1; s got t2 p 2", &[]);
    check("p pub t 1; s sub t; p pub t 2; s got t p 2; s unsub t; p pub t 3", &[]);
    check("p pub t 1", &[]);
}

#[test]
fn what_only_touches_a_subscription_may_come_or_not() {
    check("s ask t; p pub t 1", &[]);
    check("s ask t; p pub t 1; s got t p 1", &[]);
    check("p begin t 1; s sub t; p end t 1", &[]);
    check("s sub t; p begin t 1; s unsub t; p end t 1", &[]);
    check("s half t; p pub t 1", &[]);
    check("s sub t; p pub t 1; s end", &[]);
    check("s sub t; s end; p pub t 1", &[]);
    check("s sub t; p lose t 1", &[]);
    check("s sub t; p lose t 1; s got t p 1", &[]);
    check("s sub t; s unsub t; s sub t; p pub t 1; s got t p 1", &[]);
}

#[test]
fn p1_an_acknowledged_subscription_that_gets_nothing() {
    check("s sub t; p pub t 1", &[SubscribedMeansSubscribed]);
    check("s sub t*; p pub t1 1", &[SubscribedMeansSubscribed]);
    check("s sub t; p pub t 1; p pub t 2; s got t p 2", &[SubscribedMeansSubscribed]);
    // The subscription holds for one origin, not yet for the other.
    check(
        "s sub t; p pub t 1; s got t p 1; q@m pub t 1; q@m pub t 2; s got t q@m 2",
        &[SubscribedMeansSubscribed],
    );
    check("s sub t; s unsub t; s sub t; p pub t 1", &[SubscribedMeansSubscribed]);
}

#[test]
fn p2_a_publisher_whose_messages_change_places() {
    check("s sub t; p pub t 1; p pub t 2; s got t p 2; s got t p 1", &[PublisherOrder]);
    // Over topics too.
    check("s sub t*; p pub t1 1; p pub t2 2; s got t2 p 2; s got t1 p 1", &[PublisherOrder]);
    // Another attachment has its own order.
    check("s sub t; p pub t 1; p pub t 2; s got t p 1; s got t p 2; s.1 sub t; s.1 got t p 1", &[]);
}

#[test]
fn p2_subscribers_who_disagree() {
    let publish = "s sub t; r sub t; p begin t 1; q begin t 1; p end t 1; q end t 1;";
    check(&format!("{publish} s got t p 1; s got t q 1; r got t p 1; r got t q 1"), &[]);
    check(&format!("{publish} s got t p 1; s got t q 1; r got t q 1; r got t p 1"), &[CommonOrder]);
    // Three that disagree only as a whole.
    let three = "s sub t; r sub t; u sub t; p lose t 1; q lose t 1; o lose t 1;";
    check(
        &format!(
            "{three} s got t p 1; s got t q 1; r got t q 1; r got t o 1; u got t o 1; u got t p 1"
        ),
        &[CommonOrder],
    );
    // Messages of different origins, or of different topics, have no common order.
    let origins = "s sub t; r sub t; p@m pub t 1; q pub t 1;";
    check(&format!("{origins} s got t p@m 1; s got t q 1; r got t q 1; r got t p@m 1"), &[]);
}

#[test]
fn p3_a_message_that_comes_twice() {
    check("s sub t; p pub t 1; s got t p 1; s got t p 1", &[NoDuplicates]);
    check(
        "s sub t; p pub t 1; p pub t 2; s got t p 1; s got t p 2; s got t p 1",
        &[PublisherOrder, CommonOrder, NoDuplicates],
    );
    // A client that moved may get it once at each attachment.
    check("s sub t; s.1 sub t; p pub t 1; s got t p 1; s.1 got t p 1", &[]);
}

#[test]
fn p5_loss_without_a_gap() {
    let three = "s sub t; p pub t 1; p pub t 2; p pub t 3;";
    check(&format!("{three} s got t p 1; s got t p 3"), &[LossExplained]);
    check(&format!("{three} s got t p 1; s got t p 3; s end"), &[LossExplained]);
    check(&format!("{three} s got t p 1; s gap t 1; s got t p 3"), &[]);
    check(&format!("{three} s got t p 1; s maybe *; s got t p 3"), &[]);
    check(&format!("{three} s got t p 1; s gap t 2"), &[]);
    // In the wrong place, for another topic, for another origin.
    check(&format!("{three} s got t p 1; s got t p 3; s maybe *"), &[LossExplained]);
    check(&format!("{three} s got t p 1; s maybe u; s got t p 3"), &[LossExplained]);
    check(&format!("{three} s got t p 1; s maybe t m; s got t p 3"), &[LossExplained]);
}

#[test]
fn p5_a_possible_gap_ends_a_stretch_of_its_topic() {
    let begin =
        "s sub *; p pub t 1; s got t p 1; p pub t 2; p pub u 3; p pub t 4; p pub t 5; s got u p 3;";
    // What came on another topic meanwhile was not concerned.
    check(&format!("{begin} s maybe t; s got t p 5"), &[]);
    check(&format!("{begin} s got t p 5; s maybe t"), &[LossExplained]);
    check(&format!("{begin} s maybe u; s got t p 5"), &[LossExplained]);
    // A count has one place.
    check(&format!("{begin} s gap t 2; s got t p 5"), &[LossExplained, GapFinal]);
}

#[test]
fn p5_what_an_old_stream_did_not_get_is_told_in_the_new_one() {
    let moved = "s sub t; p pub t 1; s got t p 1; p pub t 2; p pub t 3; s end; s.1 sub t;";
    let goes_on = "p pub t 4; s.1 got t p 4";
    check(&format!("{moved} {goes_on}"), &[LossExplained]);
    check(&format!("{moved} s.1 back; {goes_on}"), &[]);
    check(&format!("{moved} {goes_on}; s.1 back"), &[LossExplained]);
    // From another node, by another way: older ones may come behind it.
    check(&format!("{moved} s.1 back; s.1 got t p 2; {goes_on}"), &[]);
    check(&format!("{moved} s.1 maybe *; s.1 got t p 2; {goes_on}"), &[LossExplained]);
    // What the old stream told in its place stands, whatever comes to the new one late; a loss in it stays one.
    let late = "s sub t; p pub t 1; p pub t 2; p pub t 3";
    let and_then = "s got t p 3; s end; s.1 ask t; s.1 back; s.1 got t p 1";
    check(&format!("{late}; s maybe t; {and_then}"), &[]);
    check(&format!("{late}; {and_then}; s.1 maybe t"), &[LossExplained]);
    check(&format!("{late}; {and_then}"), &[LossExplained]);
    // Where nothing newer has come, the new stream may go on with the gap of the old one.
    check(&format!("{moved} s.1 maybe t; {goes_on}"), &[]);
    // It says nothing about what is published after it.
    check(
        &format!(
            "{moved} s.1 back; s.1 got t p 2; s.1 got t p 3; p pub t 4; p pub t 5; s.1 got t p 5"
        ),
        &[LossExplained],
    );
}

#[test]
fn p5_gaps_that_count_wrongly() {
    let four = "s sub t; p pub t 1; p pub t 2; p pub t 3; p pub t 4;";
    check(&format!("{four} s got t p 1; s gap t 2; s got t p 4"), &[]);
    check(&format!("{four} s got t p 1; s gap t 1; s got t p 4"), &[LossExplained]);
    check(&format!("{four} s got t p 1; s gap t 3; s got t p 4"), &[GapFinal]);
    // What was on its way from another node when the subscription began would have come.
    check("p@m pub t 1; s sub t; p@m pub t 2; s gap t 1; s got t p@m 2", &[]);
    check("p@m pub t 1; s sub t; p@m pub t 2; s gap t 2; s got t p@m 2", &[GapFinal]);
    check("p pub t 1; s sub t; p pub t 2; s gap t 1; s got t p 2", &[GapFinal]);
    // It had come before: somebody on that node had got it, or one behind it.
    check(
        "r sub t; p@m pub t 1; r got t p@m 1; s sub t; p@m pub t 2; s gap t 1; s got t p@m 2; r got t p@m 2",
        &[GapFinal],
    );
    // What came at another attachment is missing at this one.
    let moved = "s sub t; p@m pub t 1; s got t p@m 1; s.1@k sub t; p@m pub t 2; s got t p@m 2;";
    check(&format!("{moved} s.1@k gap t 1; p@m pub t 3; s.1@k got t p@m 3; s got t p@m 3"), &[]);
    check(&format!("{moved} s.1@k gap t 2; p@m pub t 3; s.1@k got t p@m 3; s got t p@m 3"), &[]);
    check(
        &format!("{moved} s.1@k gap t 3; p@m pub t 3; s.1@k got t p@m 3; s got t p@m 3"),
        &[GapFinal],
    );
    // Two gaps for one loss.
    check(&format!("{four} s got t p 1; s gap t 2; s gap t 2; s got t p 4"), &[GapFinal]);
    check(&format!("{four} s got t p 1; s gap t 1; s gap t 1; s got t p 4"), &[]);
    // A possible gap beside a certain one: the certain one may count less.
    check(&format!("{four} s got t p 1; s gap t 1; s maybe t; s got t p 4"), &[]);
    check("s sub t; p pub t 1; s got t p 1; s gap t 1", &[GapFinal]);
    check("s sub t; p pub t 1; s got t p 1; s maybe *", &[]);
}

#[test]
fn p5_what_a_gap_counted_and_came_after_all() {
    check(
        "s sub t; p pub t 1; p pub t 2; p pub t 3; s got t p 1; s gap t 1; s got t p 2; s got t p 3",
        &[GapFinal],
    );
}

#[test]
fn p5_what_a_possible_gap_stood_for_and_came_after_all() {
    let begin = "s sub t; p pub t 1; q pub t 1;";
    // Somebody else's, and in one order at the origin.
    check(&format!("{begin} s got t q 1; s maybe t; s got t p 1"), &[GapFinal]);
    check(&format!("{begin} s got t q 1; s maybe *; s got t p 1"), &[GapFinal]);
    // Of another topic or origin, or published at the same time: it may have been in flight.
    check(&format!("{begin} s got t q 1; s maybe u; s got t p 1"), &[]);
    check(&format!("{begin} s got t q 1; s maybe t m; s got t p 1"), &[]);
    check("s sub t; p begin t 1; q pub t 1; p end t 1; s got t q 1; s maybe t; s got t p 1", &[]);
    check("s sub *; p pub t 1; q pub u 1; s got u q 1; s maybe *; s got t p 1", &[]);
    check("s sub t; p pub t 1; q@m pub t 1; s got t q@m 1; s maybe *; s got t p 1", &[]);
    // At another attachment.
    check(&format!("{begin} s.1 sub t; s got t q 1; s maybe t; s.1 got t q 1; s.1 got t p 1"), &[]);
}

#[test]
fn p5_a_gap_does_not_stand_for_what_it_cannot_know_of() {
    // What was published after it was told.
    check("s sub t; s maybe t; p pub t 1; s end", &[]);
    check("s sub t; s maybe t; p pub t 1; p pub t 2; s got t p 2", &[SubscribedMeansSubscribed]);
    check(
        "s sub t; p pub t 1; s got t p 1; s maybe *; p pub t 2; p pub t 3; s got t p 3",
        &[LossExplained],
    );
    check(
        "s sub t; p pub t 1; s got t p 1; s gap t 1; p pub t 2; p pub t 3; s got t p 3",
        &[LossExplained, GapFinal],
    );
    // Told to an attachment that had never asked for the topic.
    let moved = "s sub t; p pub t 1; s got t p 1; p pub t 2; p pub t 3; s.1 sub u;";
    check(&format!("{moved} s.1 maybe *"), &[LossExplained]);
    check(&format!("{moved} s.1 sub t; s.1 maybe *"), &[]);
}

#[test]
fn what_failed_or_never_was_is_not_delivered() {
    check("s sub t; p fail t 1", &[]);
    check("s sub t; p fail t 1; s got t p 1", &[OnlyWhatWasPublished]);
    check("s sub t; s got t p 1", &[OnlyWhatWasPublished]);
    check("s sub t; p pub t 1; s got t p 1; p pub u 2; s got u p 2", &[OnlyWhatWasPublished]);
    check("s sub t; p@m pub t 1; s got t p 1", &[OnlyWhatWasPublished]);
}
