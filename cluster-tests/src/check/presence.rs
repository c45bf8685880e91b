//! Judges what watchers of presence saw. Each checker is a pure function from a watcher's history to what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waxwing::client::{PresenceEntry, PresenceEvent};
use waxwing::types::Time;

/// Key and id.
pub type Name = (String, String);
/// References by name.
pub type List = BTreeMap<Name, String>;

/// What a watcher's client was told, and when.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub at: Time,
    pub what: Seen,
}

#[derive(Debug, Clone)]
pub enum Seen {
    Event(PresenceEvent),
    /// It watches another node from here on; the next event is a snapshot.
    Elsewhere,
}

fn name(entry: &PresenceEntry) -> Name {
    (entry.key.clone(), entry.id.clone())
}

/// One change of the list as a watcher knows it, snapshots taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    at: Time,
    name: Name,
    before: Option<String>,
    after: Option<String>,
}

/// Replays a history: the list in the end, every net change after the first snapshot, and what can't be.
struct Replay {
    list: List,
    steps: Vec<Step>,
    /// When the first snapshot was complete, and what was in it.
    first: Option<(Time, List)>,
    wrong: Vec<String>,
}

fn replay(history: &[Sighting]) -> Replay {
    let mut replay =
        Replay { list: List::new(), steps: Vec::new(), first: None, wrong: Vec::new() };
    let mut arriving: Option<List> = None;
    let mut may_begin_anew = true;
    let mut last_count = None;
    for Sighting { at, what } in history {
        let event = match what {
            Seen::Elsewhere => {
                arriving = None;
                may_begin_anew = true;
                continue;
            }
            Seen::Event(event) => event,
        };
        last_count = Some(event.count);
        if event.snapshot {
            if arriving.is_none() && !may_begin_anew && !event.reset {
                replay.wrong.push(format!("{at:?}: a snapshot that nobody asked for"));
            }
            let parts = arriving.get_or_insert_default();
            for entry in &event.joins {
                if parts.insert(name(entry), entry.reference.clone()).is_some() {
                    replay.wrong.push(format!("{at:?}: {:?} twice in a snapshot", name(entry)));
                }
            }
            if !event.more {
                may_begin_anew = false;
                let list = arriving.take().unwrap_or_default();
                replay.snapshot(*at, list);
            }
            continue;
        }
        if replay.first.is_none() || arriving.is_some() || may_begin_anew {
            replay.wrong.push(format!("{at:?}: changes where a snapshot should stand"));
        }
        replay.diff(*at, event);
    }
    if let Some(count) = last_count
        && arriving.is_none()
    {
        let keys: BTreeSet<&String> = replay.list.keys().map(|(key, _)| key).collect();
        let (presences, keys) = (replay.list.len() as u64, keys.len() as u64);
        if (count.presences, count.keys) != (presences, keys) {
            replay.wrong.push(format!("{count:?} counted of {presences} and {keys} keys"));
        }
    }
    replay
}

impl Replay {
    fn snapshot(&mut self, at: Time, list: List) {
        if self.first.is_none() {
            self.first = Some((at, list.clone()));
        } else {
            let names: BTreeSet<Name> = self.list.keys().chain(list.keys()).cloned().collect();
            for name in names {
                let (before, after) = (self.list.get(&name).cloned(), list.get(&name).cloned());
                if before != after {
                    self.steps.push(Step { at, name, before, after });
                }
            }
        }
        self.list = list;
    }

    fn diff(&mut self, at: Time, event: &PresenceEvent) {
        let mut touched = BTreeSet::new();
        let joins = event.joins.iter().map(|entry| ("join", entry));
        let updates = event.updates.iter().map(|entry| ("update", entry));
        let leaves = event.leaves.iter().map(|entry| ("leave", entry));
        for (what, entry) in joins.chain(updates).chain(leaves) {
            let name = name(entry);
            let mut wrong = |why: &str| {
                self.wrong.push(format!("{at:?}: a {what} of {name:?} {why}"));
            };
            if !touched.insert(name.clone()) {
                wrong("beside another change of it in one event");
            }
            let before = self.list.get(&name).cloned();
            match (what, &before) {
                ("join", Some(_)) => wrong("that is there"),
                ("update" | "leave", None) => wrong("that isn't there"),
                ("update", Some(before)) if entry.reference_before != *before => {
                    wrong("that was otherwise before");
                }
                ("update", Some(before)) if entry.reference == *before => {
                    wrong("that changes nothing");
                }
                _ => {}
            }
            let after = (what != "leave").then(|| entry.reference.clone());
            match &after {
                Some(after) => self.list.insert(name.clone(), after.clone()),
                None => self.list.remove(&name),
            };
            self.steps.push(Step { at, name, before, after });
        }
    }
}

/// The list as the history leaves it.
pub fn list(history: &[Sighting]) -> List {
    replay(history).list
}

/// Joins, updates and leaves take turns as they must, snapshots stand where they may, and the counts are right in the end.
pub fn alternation(history: &[Sighting]) -> Vec<String> {
    replay(history).wrong
}

/// For a time in which nothing happens: after the first snapshot no change, references included, whatever moved.
pub fn stillness(history: &[Sighting]) -> Vec<String> {
    let replay = replay(history);
    replay.steps.iter().map(|step| format!("a change: {step:?}")).collect()
}

/// Of each of `names` exactly one leave after `since`, and no return. Nothing leaves but these.
pub fn one_leave_each(history: &[Sighting], names: &BTreeSet<Name>, since: Time) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut left: BTreeMap<&Name, u32> = BTreeMap::new();
    let replay = replay(history);
    for step in replay.steps.iter().filter(|step| step.at >= since) {
        match (&step.before, &step.after) {
            (Some(_), None) => *left.entry(&step.name).or_default() += 1,
            (None, Some(_)) => wrong.push(format!("a join: {step:?}")),
            _ => wrong.push(format!("an update: {step:?}")),
        }
    }
    for name in names {
        match left.remove(name) {
            Some(1) => {}
            times => wrong.push(format!("{name:?} left {} times", times.unwrap_or(0))),
        }
    }
    wrong.extend(left.keys().map(|name| format!("{name:?} left, and lives")));
    wrong
}

/// What lives all the time is never seen to leave.
pub fn no_false_leaves(history: &[Sighting], living: &BTreeSet<Name>) -> Vec<String> {
    let replay = replay(history);
    let left = |step: &&Step| step.after.is_none() && living.contains(&step.name);
    replay.steps.iter().filter(left).map(|step| format!("a false leave: {step:?}")).collect()
}

/// What died is not shown later than `within` after that, and never comes back.
pub fn no_ghosts(
    history: &[Sighting],
    died: &BTreeMap<Name, Time>,
    within: Duration,
) -> Vec<String> {
    let replay = replay(history);
    let mut wrong = Vec::new();
    for (name, at) in died {
        if replay.list.contains_key(name) {
            wrong.push(format!("{name:?} is still there"));
        }
        for step in replay.steps.iter().filter(|step| step.name == *name) {
            let late = step.at > *at + within;
            let comes = step.before.is_none() && step.at > *at;
            if late || comes {
                wrong.push(format!("of the dead at {at:?}: {step:?}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use waxwing::client::PresenceCount;

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
                list = event.joins.iter().map(|e| (name(e), e.reference.clone())).collect();
            } else {
                for word in word.split(' ') {
                    let mut one = entry(&word[1..]);
                    match &word[..1] {
                        "+" => {
                            list.insert(name(&one), one.reference.clone());
                            event.joins.push(one);
                        }
                        "~" => {
                            one.reference_before =
                                list.get(&name(&one)).cloned().unwrap_or_default();
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
}
