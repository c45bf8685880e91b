//! Judges presence over a whole history: what every watcher was told and what every node lists in the end, beside what clients asked for
//! and what was done to the nodes.
//!
//! While faults run, only what they can't have caused is judged; the lists at the end, taken when nothing has happened for long, must be
//! exactly right.

use std::collections::{BTreeMap, BTreeSet};

use waxwing::client::{PresenceCount, PresenceEntry, PresenceEvent};
use waxwing::types::Time;

use super::asked::{Asked, End, OPEN, Span};
use super::calm::Calm;
use super::{List, Replay, Seen, Sighting, Step, replay};
use crate::check::{Promise, Violation};
use crate::history::{Entry, Kind, Op, Presence, Record, Told};

/// After so long whatever was done has had its effect on all who can hear each other: the longest linger of a test, the time to notice a
/// death, and a repair.
const SETTLED_US: u64 = 7_000_000;
/// So much later than it may show at the most, a presence has gone where nothing was done meanwhile.
const GONE_US: u64 = 10_000_000;
/// The same at the end, before which everybody has waited.
const GONE_AT_END_US: u64 = 3_000_000;

/// One client's watch of one topic: each sighting, and the node that it is of.
#[derive(Default)]
struct Watch {
    sightings: Vec<Sighting>,
    nodes: Vec<String>,
    attachment: u32,
    /// It was there to the end.
    ends: bool,
}

type Watches = BTreeMap<(String, String), Watch>;

pub(in crate::check) fn judge(history: &[Record]) -> Vec<Violation> {
    if !history.iter().any(|record| matches!(record.op, Op::Presence(_) | Op::Listed { .. })) {
        return Vec::new();
    }
    let (asked, calm) = (Asked::of(history), Calm::of(history));
    let mut all = Vec::new();
    let end = history.iter().rposition(|record| matches!(record.op, Op::Listed { .. }));
    let watches = watches(&history[..end.map_or(history.len(), |end| end + 1)]);
    let lists = lists(history);
    for ((who, topic), watch) in &watches {
        let replay = replay(&watch.sightings);
        let wrong = replay.wrong.iter().map(|wrong| format!("{who} watches {topic}: {wrong}"));
        all.extend(wrong.map(|wrong| Violation::new(Promise::WatchWithoutHole, wrong)));
        let watcher = Watcher { who, topic, watch, replay: &replay };
        watcher.judge_steps(&asked, &calm, &mut all);
        watcher.compare(&lists, &mut all);
    }
    judge_lists(&lists, &asked, &mut all);
    all
}

fn watches(history: &[Record]) -> Watches {
    let mut watches = Watches::new();
    for record in history {
        let at = Time::from_micros(record.t_us);
        let mut begin = |topic: &str| {
            let watch = watches.entry((record.proc.clone(), topic.to_owned())).or_default();
            watch.see(record, at, Seen::Elsewhere);
            (watch.attachment, watch.ends) = (record.attachment, true);
        };
        match &record.op {
            Op::Watch { topic } if record.kind == Kind::Invoke => begin(topic),
            Op::Unwatch { topic } => {
                if let Some(watch) = watches.get_mut(&(record.proc.clone(), topic.clone())) {
                    watch.ends = false;
                }
            }
            Op::Ended { .. } | Op::Bye { .. } => {
                let own = watches.iter_mut().filter(|((who, _), watch)| {
                    *who == record.proc && watch.attachment == record.attachment
                });
                own.for_each(|(_, watch)| watch.ends = false);
            }
            Op::Presence(told) => {
                let key = (record.proc.clone(), told.topic.clone());
                if let Some(watch) = watches.get_mut(&key)
                    && watch.attachment == record.attachment
                {
                    watch.see(record, at, Seen::Event(event(told)));
                }
            }
            _ => {}
        }
    }
    watches
}

impl Watch {
    fn see(&mut self, record: &Record, at: Time, what: Seen) {
        self.sightings.push(Sighting { at, what });
        self.nodes.push(record.node.clone());
    }
}

fn event(told: &Told) -> PresenceEvent {
    let all = |entries: &[Entry]| entries.iter().map(entry).collect();
    PresenceEvent {
        topic: told.topic.clone(),
        snapshot: told.snapshot,
        more: told.more,
        reset: told.reset,
        joins: all(&told.joins),
        updates: all(&told.updates),
        leaves: all(&told.leaves),
        count: PresenceCount { presences: told.presences, keys: told.keys },
        version: String::new(),
    }
}

fn entry(entry: &Entry) -> PresenceEntry {
    PresenceEntry {
        key: entry.key.clone(),
        id: entry.id.clone(),
        reference: entry.reference.clone(),
        reference_before: entry.before.clone(),
        first_of_key: entry.first_of_key,
        last_of_key: entry.last_of_key,
        ..PresenceEntry::default()
    }
}

struct Watcher<'a> {
    who: &'a str,
    topic: &'a str,
    watch: &'a Watch,
    replay: &'a Replay,
}

impl Watcher<'_> {
    fn presence(&self, step: &Step) -> Presence {
        let (key, id) = step.name.clone();
        Presence { topic: self.topic.to_owned(), key, id }
    }

    fn node(&self, step: &Step) -> &str {
        &self.watch.nodes[step.told]
    }

    fn judge_steps(&self, asked: &Asked, calm: &Calm, all: &mut Vec<Violation>) {
        for step in &self.replay.steps {
            let presence = self.presence(step);
            // Of a round before, on its way out.
            if !asked.presences.contains(&presence) {
                continue;
            }
            let at = step.at.as_micros();
            let mut found = |promise, why: String| {
                let what = format!("{} on {}: {why}: {step:?}", self.who, self.node(step));
                all.push(Violation::new(promise, what));
            };
            let leaves = step.after.is_none();
            if leaves && is_false_leave(asked, calm, &presence, self.node(step), at) {
                found(Promise::NoFalseLeaves, "it left, and was there".to_owned());
            }
            if let Some(why) = is_ghost(asked, calm, &presence, at, leaves) {
                found(Promise::NoGhosts, why.to_owned());
            }
            if let Some(after) = &step.after
                && asked.is_unheard_of(&presence, after)
            {
                let why = "nobody was told of this state when asking for it".to_owned();
                found(Promise::OnlyWhatWasPublished, why);
            }
        }
    }

    /// P9, at the end: what the watcher has is what its node lists.
    fn compare(&self, lists: &Lists, all: &mut Vec<Violation>) {
        let listed = self.watch.nodes.last().and_then(|node| lists.get(self.topic)?.get(node));
        let Some((_, listed)) = listed else { return };
        if !self.watch.ends {
            return;
        }
        let what = if !self.replay.is_known {
            "no snapshot came to the end".to_owned()
        } else if self.replay.list != *listed {
            format!("in the end it has {:?}, its node {listed:?}", self.replay.list)
        } else {
            return;
        };
        let what = format!("{} watches {}: {what}", self.who, self.topic);
        all.push(Violation::new(Promise::WatchWithoutHole, what));
    }
}

/// Somebody had it all the time, and could be heard here.
fn is_false_leave(asked: &Asked, calm: &Calm, presence: &Presence, here: &str, at: u64) -> bool {
    let then = Span { from: at.saturating_sub(SETTLED_US), until: at };
    let covers = |span: &Span| span.from <= then.from && span.until >= then.until;
    if at < SETTLED_US || asked.is_contested(presence) || !asked.held(presence).iter().any(covers) {
        return false;
    }
    let heard = |(node, since): &(&str, u64)| {
        // Who came to a node that had just been started tells others through links that must first be made.
        let settled = !calm.born(node, Span { from: then.from, until: *since });
        settled && calm.between(here, node, then)
    };
    !calm.died(here, then) && asked.nodes_of(presence, then).iter().all(heard)
}

/// It shows, or showed until now, when it can't.
fn is_ghost(
    asked: &Asked,
    calm: &Calm,
    presence: &Presence,
    at: u64,
    leaves: bool,
) -> Option<&'static str> {
    let may = asked.may(presence);
    if may.iter().all(|(span, _)| at < span.from) {
        return Some("it shows before anybody asked for it");
    }
    let then = Span { from: at.saturating_sub(GONE_US), until: at };
    let long_gone =
        may.iter().all(|(span, _)| at < span.from || span.until.saturating_add(GONE_US) < at);
    (long_gone && calm.everywhere(then)).then_some(if leaves {
        "it should have left long ago"
    } else {
        "it comes back"
    })
}

/// By topic and node: when, and the last list.
type Lists = BTreeMap<String, BTreeMap<String, (u64, List)>>;

fn lists(history: &[Record]) -> Lists {
    let mut lists = Lists::new();
    for record in history {
        let Op::Listed { topic, entries } = &record.op else { continue };
        let list = entries
            .iter()
            .map(|entry| ((entry.key.clone(), entry.id.clone()), entry.reference.clone()))
            .collect();
        let of_topic = lists.entry(topic.clone()).or_default();
        of_topic.insert(record.node.clone(), (record.t_us, list));
    }
    lists
}

fn judge_lists(lists: &Lists, asked: &Asked, all: &mut Vec<Violation>) {
    for (topic, lists) in lists {
        let mut found = |promise, what: String| {
            all.push(Violation::new(promise, format!("the end of {topic}: {what}")));
        };
        let mut nodes = lists.iter();
        let Some((first, (at, list))) = nodes.next() else { continue };
        for (node, (_, other)) in nodes.filter(|(_, (_, other))| other != list) {
            let differ: BTreeSet<_> = list
                .iter()
                .chain(other)
                .filter(|(name, reference)| {
                    list.get(*name) != Some(*reference) || other.get(*name) != Some(*reference)
                })
                .collect();
            let what = format!("{first} and {node} list otherwise: {differ:?}");
            found(Promise::PresenceConverges, what);
        }
        for presence in asked.presences.iter().filter(|presence| presence.topic == *topic) {
            let name = (presence.key.clone(), presence.id.clone());
            let held = asked.held(presence);
            let holds = held.iter().any(|span| span.from < *at && span.until > *at);
            match list.get(&name) {
                None if holds && !asked.is_contested(presence) => {
                    found(Promise::PresenceConverges, format!("{name:?} is there, and not listed"));
                }
                Some(reference)
                    if holds
                        && !asked.is_contested(presence)
                        && asked.reference(presence).is_some_and(|asked| asked != reference) =>
                {
                    let what = format!("{name:?} is listed as it was before: {reference}");
                    found(Promise::PresenceConverges, what);
                }
                _ => {}
            }
        }
        for name in list.keys() {
            let (key, id) = name.clone();
            let may = asked.may(&Presence { topic: topic.clone(), key, id });
            let still = |span: &Span| span.until.saturating_add(GONE_AT_END_US) >= *at;
            if !may.iter().any(|(span, _)| still(span)) {
                found(Promise::NoGhosts, format!("{name:?} is listed, and nobody has it"));
            }
        }
    }
}

/// What is rare, and how often it was met: sessions that were taken up on another node with what they tracked, presences that another
/// session took over, lingers that ended, orphans that left.
pub fn met(history: &[Record]) -> BTreeMap<&'static str, u64> {
    let asked = Asked::of(history);
    let mut met = BTreeMap::new();
    let moves = |stays: &[super::asked::Stay]| stays[1].resumed && stays[1].node != stays[0].node;
    for session in asked.sessions.values().filter(|session| session.has_asked()) {
        let moved = session.stays.windows(2).filter(|pair| moves(pair)).count();
        *met.entry("moved").or_default() += moved as u64;
    }
    for presence in &asked.presences {
        let sessions = asked.sessions.values().filter(|session| !session.may(presence).is_empty());
        *met.entry("taken over").or_default() += (sessions.count() as u64).saturating_sub(1);
        let may = asked.may(presence);
        let goes_on = |at: u64| may.iter().any(|(span, _)| span.from <= at && span.until > at);
        let left = |span: &Span, end: End| span.until < OPEN && end != End::Asked;
        let gone = may.iter().filter(|(span, end)| left(span, *end) && !goes_on(span.until));
        let ends: BTreeSet<(u64, bool)> =
            gone.map(|(span, end)| (span.until, *end == End::Orphaned)).collect();
        for (_, orphaned) in ends {
            let what = if orphaned { "orphan left" } else { "linger ended" };
            *met.entry(what).or_default() += 1;
        }
    }
    met
}
