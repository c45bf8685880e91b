//! ● When which topic has its next tick: at once where it has been quiet, else a whole interval after the last one.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{Next, Watches};
use crate::replicator::shard::Shards;
use crate::types::{Time, Topic};

/// So that one that is told to tick all the time still lets others run.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(in crate::replicator) struct Ticker {
    interval: Duration,
    due: BTreeSet<(Time, u64)>,
    /// Topics with a tick to come, or whose last one is not an interval ago.
    topics: HashMap<Topic, Entry>,
    by_number: HashMap<u64, Topic>,
    next: u64,
    asked: Vec<Topic>,
    /// Topics of which a snapshot is being made.
    copying: Vec<Topic>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// It has something to tell; else the entry only stands for the time of its last tick.
    wanted: bool,
}

impl Ticker {
    pub(in crate::replicator) fn new(interval: Duration) -> Self {
        Self {
            interval: interval.max(INTERVAL_MIN),
            due: BTreeSet::new(),
            topics: HashMap::new(),
            by_number: HashMap::new(),
            next: 0,
            asked: Vec::new(),
            copying: Vec::new(),
        }
    }

    /// Does what is due, and a piece of each snapshot that is being made; returns when the next is due: now, while there is more to do.
    pub(in crate::replicator) fn run(
        &mut self,
        shards: &Shards,
        watches: &Watches,
        now: Time,
    ) -> Option<Time> {
        let mut asked = std::mem::take(&mut self.asked);
        shards.take_to_tick(&mut asked);
        for topic in asked.drain(..) {
            self.want(&topic, now);
        }
        self.asked = asked;
        self.copying.retain(|topic| watches.copy_some(shards, topic));
        while let Some(topic) = self.pop(now) {
            let Next { waits, copies } = watches.tick(shards, &topic);
            self.ticked(&topic, now, waits);
            if copies && !self.copying.contains(&topic) {
                self.copying.push(topic);
            }
        }
        if self.copying.is_empty() { self.due.first().map(|(at, _)| *at) } else { Some(now) }
    }

    /// The topic has news, or a newcomer.
    fn want(&mut self, topic: &Topic, now: Time) {
        if let Some(entry) = self.topics.get_mut(topic) {
            entry.wanted = true;
            return;
        }
        self.next += 1;
        let number = self.next;
        self.topics.insert(topic.clone(), Entry { number, wanted: true });
        self.by_number.insert(number, topic.clone());
        self.due.insert((now, number));
    }

    /// A topic whose tick is due. Those that were quiet for an interval are let go of.
    fn pop(&mut self, now: Time) -> Option<Topic> {
        while let Some((at, number)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, number));
            let Some(topic) = self.by_number.get(&number).cloned() else { continue };
            if self.topics.get(&topic).is_some_and(|entry| entry.wanted) {
                return Some(topic);
            }
            self.topics.remove(&topic);
            self.by_number.remove(&number);
        }
        None
    }

    fn ticked(&mut self, topic: &Topic, now: Time, again: bool) {
        if let Some(entry) = self.topics.get_mut(topic) {
            entry.wanted = again;
            self.due.insert((now + self.interval, entry.number));
        }
    }
}
