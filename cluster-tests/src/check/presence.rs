//! Judges what watchers of presence saw. Each checker is a pure function from a watcher's history to what is wrong with it; `judge` looks at
//! everybody's together, beside what clients asked for and what was done to the nodes.

mod asked;
mod calm;
mod judge;
mod mark;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waxwing::client::{PresenceEntry, PresenceEvent};
use waxwing::types::Time;

pub(super) use judge::judge;
pub use judge::met;

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

/// A list or a tick of more than this may come in several events, which all count the whole.
const WHOLE: usize = 32;

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
    /// Which of the history's sightings told it.
    told: usize,
}

/// Replays a history: the list in the end, every net change after the first snapshot, and what can't be.
struct Replay {
    list: List,
    steps: Vec<Step>,
    /// When the first snapshot was complete, and what was in it.
    first: Option<(Time, List)>,
    /// A whole snapshot of where it watches now has come.
    is_known: bool,
    wrong: Vec<String>,
}

fn replay(history: &[Sighting]) -> Replay {
    let mut replay = Replay {
        list: List::new(),
        steps: Vec::new(),
        first: None,
        is_known: false,
        wrong: Vec::new(),
    };
    let mut arriving: Option<List> = None;
    let mut may_begin_anew = true;
    let mut last = None;
    for (told, Sighting { at, what }) in history.iter().enumerate() {
        let event = match what {
            Seen::Elsewhere => {
                arriving = None;
                may_begin_anew = true;
                replay.is_known = false;
                continue;
            }
            Seen::Event(event) => event,
        };
        last = Some((*at, event));
        if event.snapshot {
            if arriving.is_none() && !may_begin_anew && !event.reset {
                replay.wrong.push(format!("{at:?}: a snapshot that nobody asked for"));
            }
            let whole = arriving.is_none() && !event.more && event.joins.len() < WHOLE;
            let parts = arriving.get_or_insert_default();
            let before = parts.last_key_value().map(|((key, _), _)| key.clone());
            replay.wrong.extend(mark::wrong_in_snapshot(event, before.as_deref(), *at));
            for entry in &event.joins {
                if parts.insert(name(entry), entry.reference.clone()).is_some() {
                    replay.wrong.push(format!("{at:?}: {:?} twice in a snapshot", name(entry)));
                }
            }
            if !event.more {
                may_begin_anew = false;
                let list = arriving.take().unwrap_or_default();
                replay.snapshot(*at, told, list);
                if whole {
                    replay.counted(*at, event);
                }
            }
            continue;
        }
        if replay.first.is_none() || arriving.is_some() || may_begin_anew {
            replay.wrong.push(format!("{at:?}: changes where a snapshot should stand"));
        }
        let had = mark::keys(&replay.list);
        replay.diff(*at, told, event);
        let has = mark::keys(&replay.list);
        replay.wrong.extend(mark::wrong_in_changes(event, &had, &has, *at));
        if event.joins.len() + event.updates.len() + event.leaves.len() < WHOLE {
            replay.counted(*at, event);
        }
    }
    if let Some((at, event)) = last
        && arriving.is_none()
    {
        replay.counted(at, event);
    }
    replay.wrong.dedup();
    replay
}

impl Replay {
    /// What the event counts is the list as it is then.
    fn counted(&mut self, at: Time, event: &PresenceEvent) {
        let keys: BTreeSet<&String> = self.list.keys().map(|(key, _)| key).collect();
        let (presences, keys) = (self.list.len() as u64, keys.len() as u64);
        let count = event.count;
        if (count.presences, count.keys) != (presences, keys) {
            self.wrong.push(format!("{at:?}: {count:?} counted of {presences} and {keys} keys"));
        }
    }

    fn snapshot(&mut self, at: Time, told: usize, list: List) {
        self.is_known = true;
        if self.first.is_none() {
            self.first = Some((at, list.clone()));
        } else {
            let names: BTreeSet<Name> = self.list.keys().chain(list.keys()).cloned().collect();
            for name in names {
                let (before, after) = (self.list.get(&name).cloned(), list.get(&name).cloned());
                if before != after {
                    self.steps.push(Step { at, name, before, after, told });
                }
            }
        }
        self.list = list;
    }

    fn diff(&mut self, at: Time, told: usize, event: &PresenceEvent) {
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
            self.steps.push(Step { at, name, before, after, told });
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
