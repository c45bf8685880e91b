//! Watchers' histories that are good, and some that were made bad by hand.

mod judged;

use std::collections::BTreeSet;
use std::time::Duration;

use waxwing::client::{PresenceCount, PresenceEntry, PresenceEvent};
use waxwing::types::Time;

use super::*;

/// `[a1 b1]` a snapshot, `[a1 ..` one that goes on, `![a1]` a reset, `+a1` `~a2` `-a` changes, each an event of its own; `>` a move. Each
/// is a second after the one before. Counts are as they should be.
fn history(story: &str) -> Vec<Sighting> {
    let mut list = List::new();
    let mut sightings = Vec::new();
    let entry = |text: &str| PresenceEntry {
        key: text[..1].to_owned(),
        id: "1".to_owned(),
        reference: text[1..].to_owned(),
        ..PresenceEntry::default()
    };
    for (n, word) in story.split("; ").enumerate() {
        let at = Time::from_millis(1_000 * (n as u64 + 1));
        if word == ">" {
            sightings.push(Sighting { at, what: Seen::Elsewhere });
            continue;
        }
        let mut event = PresenceEvent { topic: "t".to_owned(), ..Default::default() };
        let (reset, word) = match word.strip_prefix('!') {
            Some(word) => (true, word),
            None => (false, word),
        };
        if let Some(inside) = word.strip_prefix('[') {
            event.snapshot = true;
            event.reset = reset;
            event.more = inside.ends_with("..");
            let inside = inside.trim_end_matches([']', '.']);
            event.joins = inside.split_whitespace().map(entry).collect();
            let mut before = String::new();
            for one in &mut event.joins {
                one.first_of_key = one.key != before;
                before.clone_from(&one.key);
            }
            list = event.joins.iter().map(|e| (name(e), e.reference.clone())).collect();
        } else {
            let had = mark::keys(&list);
            for word in word.split(' ') {
                let mut one = entry(&word[1..]);
                match &word[..1] {
                    "+" => {
                        list.insert(name(&one), one.reference.clone());
                        one.first_of_key = !had.contains(&one.key);
                        event.joins.push(one);
                    }
                    "~" => {
                        one.reference_before = list.get(&name(&one)).cloned().unwrap_or_default();
                        list.insert(name(&one), one.reference.clone());
                        event.updates.push(one);
                    }
                    _ => {
                        list.remove(&name(&one));
                        event.leaves.push(one);
                    }
                }
            }
        }
        let has = mark::keys(&list);
        for one in &mut event.leaves {
            one.last_of_key = !has.contains(&one.key);
        }
        let count = list.len() as u64;
        event.count = PresenceCount { presences: count, keys: count };
        sightings.push(Sighting { at, what: Seen::Event(event) });
    }
    sightings
}

fn names(keys: &str) -> BTreeSet<Name> {
    keys.chars().map(|key| (key.to_string(), "1".to_owned())).collect()
}

#[test]
fn alternation_is_judged() {
    let check = |story: &str, wrong: usize| {
        let found = alternation(&history(story));
        assert_eq!(found.len(), wrong, "{story}: {found:?}");
    };
    check("[a1 b1]; +c1; ~a2; -b; +b3 -c", 0);
    check("[a1]; >; [a1]; -a", 0);
    check("[a1]; ![a1 b1]; -b", 0);
    check("[]", 0);
    check("[a1]; +a1", 1);
    check("[a1]; -b", 1);
    check("[a1]; -a; -a", 1);
    check("[a1]; ~b2", 1);
    check("[a1]; ~a1", 1);
    check("[a1]; [a1]", 1);
    check("+a1", 1);
    check("[a1]; >; -a", 1);
    check("[a1 a2]", 1);
    check("[a1]; +b1 -b", 1);
}

#[test]
fn a_wrong_count_and_a_wrong_reference_before_are_found() {
    let mut off = history("[a1]; +b1");
    let Some(Seen::Event(event)) = off.last_mut().map(|sighting| &mut sighting.what) else {
        panic!("an event")
    };
    event.count.presences = 3;
    assert_eq!(alternation(&off).len(), 1);
    let mut off = history("[a1]; ~a2");
    let Some(Seen::Event(event)) = off.last_mut().map(|sighting| &mut sighting.what) else {
        panic!("an event")
    };
    event.updates[0].reference_before = "7".to_owned();
    assert_eq!(alternation(&off).len(), 1);
}

#[test]
fn wrong_marks_and_a_count_that_was_wrong_in_between_are_found() {
    let event = |sighting: &mut Sighting, change: fn(&mut PresenceEvent)| match &mut sighting.what {
        Seen::Event(event) => change(event),
        Seen::Elsewhere => panic!("an event"),
    };
    let check = |story: &str, at: usize, change: fn(&mut PresenceEvent)| {
        let mut off = history(story);
        assert_eq!(alternation(&off), Vec::<String>::new(), "{story}");
        event(&mut off[at], change);
        assert_eq!(alternation(&off).len(), 1, "{story}");
    };
    check("[a1 b1]; +c1", 0, |event| event.joins[1].first_of_key = false);
    check("[a1 b1]; +c1", 1, |event| event.joins[0].first_of_key = false);
    check("[a1 b1]; -b", 1, |event| event.leaves[0].last_of_key = false);
    check("[a1 b1]; +c1; +d1", 1, |event| event.count.presences += 1);
    check("[a1 b1]; +c1; +d1", 0, |event| event.count.keys -= 1);
}

#[test]
fn stillness_is_judged() {
    let check = |story: &str, still: bool| {
        let found = stillness(&history(story));
        assert_eq!(found.is_empty(), still, "{story}: {found:?}");
    };
    check("[a1 b1]; >; [a1 b1]; ![b1 a1]", true);
    check("[a1]; >; [a2]", false);
    check("[a1 b1]; >; [a1]", false);
    check("[a1]; +b1", false);
    check("[a1]; -a; +a1", false);
}

#[test]
fn leaves_are_counted() {
    let check = |story: &str, dead: &str, wrong: usize| {
        let found = one_leave_each(&history(story), &names(dead), Time::from_millis(1_500));
        assert_eq!(found.len(), wrong, "{story}: {found:?}");
    };
    check("[a1 b1 c1]; -a; -b", "ab", 0);
    check("[a1 b1]; >; [b1]", "a", 0);
    check("[a1 b1]; -a", "ab", 1);
    check("[a1]; -a; +a1; -a", "a", 2);
    check("[a1 b1]; -a -b", "a", 1);
    check("[a1 b1]; -a; ~b2", "a", 1);
}

#[test]
fn false_leaves_and_ghosts_are_found() {
    assert_eq!(no_false_leaves(&history("[a1 b1]; -b"), &names("a")).len(), 0);
    assert_eq!(no_false_leaves(&history("[a1 b1]; -a; +a1"), &names("a")).len(), 1);
    assert_eq!(no_false_leaves(&history("[a1 b1]; >; [b1]"), &names("a")).len(), 1);
    let check = |story: &str, wrong: usize| {
        let died = [(("a".to_owned(), "1".to_owned()), Time::from_millis(1_500))].into();
        let found = no_ghosts(&history(story), &died, Duration::from_millis(1_000));
        assert_eq!(found.len(), wrong, "{story}: {found:?}");
    };
    check("[a1]; -a", 0);
    check("[b1]; -b", 0);
    check("[a1]; +b1", 1);
    check("[a1]; +b1; -a", 1); // too late
    check("[a1]; -a; +a1; -a", 2); // it comes, and goes too late
}
