//! A watch has no hole: for random changes, ticks and watchers, applying what a watcher got gives the list (P9).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::world::{Random, replica, session, topic};
use crate::presence::{Count, Owner, Reference, Track, Untrack, shard_of};
use crate::replicator::shard::Shards;
use crate::replicator::update::{Listed, Update, UpdateKind, WatchId, Watcher, Watching};
use crate::replicator::watch::{Ticker, Watches};
use crate::types::{Time, Topic};

const INTERVAL: Duration = Duration::from_millis(50);

/// A mailbox for so many updates, and what its owner has made of those it read.
struct Mailbox {
    room: usize,
    waiting: Mutex<VecDeque<Arc<Update>>>,
}

impl Watcher for Mailbox {
    fn push(&self, update: &Arc<Update>) -> bool {
        let mut waiting = self.waiting.lock();
        let takes = waiting.len() < self.room;
        if takes {
            waiting.push_back(update.clone());
        }
        takes
    }

    fn has_room(&self) -> bool {
        self.waiting.lock().len() < self.room
    }
}

/// What one watcher believes.
struct Reader {
    mailbox: Arc<Mailbox>,
    id: WatchId,
    counts_only: bool,
    list: BTreeMap<(String, String), Reference>,
    count: Option<Count>,
    /// More parts of a snapshot are to come.
    open: bool,
    begun: bool,
    version: Option<Arc<str>>,
}

fn who(listed: &Listed) -> (String, String) {
    (listed.shown.key().to_owned(), listed.shown.id().to_owned())
}

impl Reader {
    fn has_key(&self, key: &str) -> bool {
        self.list.keys().any(|(other, _)| other == key)
    }

    fn join(&mut self, listed: &Listed) -> Result<(), String> {
        let who = who(listed);
        if listed.first_of_key == self.has_key(&who.0) {
            return Err(format!("{who:?} joins, first of key: {}", listed.first_of_key));
        }
        let before = self.list.insert(who.clone(), listed.shown.reference());
        before.map_or(Ok(()), |_| Err(format!("{who:?} joins and is there")))
    }

    fn read(&mut self, update: &Update) -> Result<(), String> {
        self.count = Some(update.count);
        self.version = Some(update.version.clone());
        match &update.kind {
            UpdateKind::Snapshot { entries, more, reset } => {
                if !self.open {
                    if self.begun != *reset {
                        return Err(format!("a snapshot with reset {reset}"));
                    }
                    self.list.clear();
                }
                self.begun = true;
                self.open = *more;
                entries.iter().try_for_each(|listed| self.join(listed))?;
            }
            UpdateKind::Diff { joins, updates, leaves } => {
                if !self.begun || self.open {
                    return Err("changes before the list".to_owned());
                }
                joins.iter().try_for_each(|listed| self.join(listed))?;
                for (listed, before) in updates {
                    let had = self.list.insert(who(listed), listed.shown.reference());
                    if had != Some(*before) {
                        return Err(format!(
                            "{:?} is updated from {before}, had {had:?}",
                            who(listed)
                        ));
                    }
                }
                for listed in leaves {
                    let who = who(listed);
                    let had = self.list.remove(&who);
                    if had.is_none() {
                        return Err(format!("{who:?} leaves and is not there"));
                    }
                    if listed.last_of_key == self.has_key(&who.0) {
                        return Err(format!("{who:?} leaves, last of key: {}", listed.last_of_key));
                    }
                }
            }
            UpdateKind::Count if self.counts_only => {}
            UpdateKind::Count => return Err("a count for one who wants the list".to_owned()),
        }
        Ok(())
    }

    fn read_all(&mut self) -> Result<(), String> {
        loop {
            let next = self.mailbox.waiting.lock().pop_front();
            let Some(update) = next else { return Ok(()) };
            self.read(&update)?;
        }
    }

    /// Having read everything up to this version, it must have the list.
    fn check(&self, shards: &Shards, topic: &Topic) -> Result<(), String> {
        let (all, count, version) = shards.peek(topic);
        if self.version.as_ref() != Some(&version) {
            return Ok(());
        }
        if self.count != Some(count) {
            return Err(format!("counts {:?} in place of {count:?}", self.count));
        }
        let list = all
            .iter()
            .map(|shown| ((shown.key().to_owned(), shown.id().to_owned()), shown.reference()));
        let list: BTreeMap<_, _> = list.collect();
        if self.counts_only || self.open || list == self.list {
            return Ok(());
        }
        Err(format!("has {:?} in place of {list:?}", self.list))
    }
}

struct Scene {
    random: Random,
    now: Time,
    shards: Shards,
    watches: Watches,
    ticker: Ticker,
    topics: Vec<Topic>,
    readers: Vec<Reader>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            now: Time::from_millis(1_000),
            shards: Shards::new(&replica("a", 1)),
            // Lists are changed while they are copied.
            watches: Watches::in_pieces(1 + (seed % 4) as usize),
            ticker: Ticker::new(INTERVAL),
            topics: ["room", "hall", "attic"].map(topic).into(),
            readers: Vec::new(),
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        let _next = self.ticker.run(&self.shards, &self.watches, self.now);
        for reader in &mut self.readers {
            if self.random.below(3) > 0 {
                reader.read_all()?;
                reader.check(&self.shards, &reader.id.topic.clone())?;
            }
        }
        Ok(())
    }

    fn change(&mut self) {
        let topic = self.topics[self.random.below(self.topics.len())].clone();
        let key: Box<str> = ["ann", "ben", "cai"][self.random.below(3)].into();
        let id: Option<Box<str>> = Some(["1", "2"][self.random.below(2)].into());
        let owner = Owner {
            session: session(self.random.below(3) as u8),
            epoch: 1,
            linger: Duration::from_secs(5),
        };
        let now = self.now;
        let leaves = self.random.below(3) == 0;
        let meta = [b"x", b"y"][self.random.below(2)].to_vec();
        let (result, _) = self.shards.change(shard_of(&topic), now, |tracker, diff| {
            if leaves {
                let untrack = Untrack { topic: topic.clone(), key, id, release: None };
                let _done = tracker.untrack(owner.session, &untrack, now, diff);
                Ok(())
            } else {
                let track = Track { topic: topic.clone(), key, id, meta: meta.into(), revision: 0 };
                tracker.track(&owner, &track, now, 7, diff).map(|_| ())
            }
        });
        // Another session may have it by then, which is as good a reason for a refusal as any.
        let _refused = result;
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(12) {
            0 => {
                let topic = self.topics[self.random.below(self.topics.len())].clone();
                let counts_only = self.random.below(5) == 0;
                let room = [1, 2, 5, 1_000][self.random.below(4)];
                let mailbox = Arc::new(Mailbox { room, waiting: Mutex::default() });
                let id = self.watches.watch(
                    &self.shards,
                    &topic,
                    Watching { counts_only },
                    mailbox.clone(),
                );
                self.readers.push(Reader {
                    mailbox,
                    id,
                    counts_only,
                    list: BTreeMap::new(),
                    count: None,
                    open: false,
                    begun: false,
                    version: None,
                });
            }
            1 if !self.readers.is_empty() => {
                let reader = self.readers.swap_remove(self.random.below(self.readers.len()));
                self.watches.unwatch(&self.shards, &reader.id);
                assert_eq!(self.watches.count(), self.readers.len() as u64);
            }
            2..=3 => {
                self.now = self.now + Duration::from_millis(self.random.below(60) as u64);
                self.tick()?;
            }
            _ => self.change(),
        }
        Ok(())
    }

    /// No more changes: everybody who reads comes to have the list.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..60 {
            self.now = self.now + INTERVAL;
            let _next = self.ticker.run(&self.shards, &self.watches, self.now);
            self.readers.iter_mut().try_for_each(Reader::read_all)?;
        }
        for reader in &self.readers {
            let topic = &reader.id.topic;
            if reader.open || reader.count.is_none() {
                return Err("a watcher without an end to its snapshot".to_owned());
            }
            reader.check(&self.shards, topic)?;
            let (all, ..) = self.shards.peek(topic);
            if !reader.counts_only && all.len() != reader.list.len() {
                return Err(format!("{} presences in place of {}", reader.list.len(), all.len()));
            }
        }
        Ok(())
    }
}

fn run(seed: u64, planted: bool) -> Result<(), String> {
    let mut scene = Scene::new(seed);
    scene.watches.planted_mid_tick.store(planted, Ordering::Relaxed);
    for _ in 0..200 {
        scene.step()?;
    }
    scene.settle()
}

#[test]
fn what_a_watcher_got_gives_the_list() {
    for seed in 0..400 {
        run(seed, false).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn a_watcher_admitted_between_two_ticks_is_found() {
    assert!((0..400).any(|seed| run(seed, true).is_err()), "the planted bug was not found");
}

fn track_many(shards: &Shards, topic: &Topic, count: usize) {
    let owner = Owner { session: session(1), epoch: 1, linger: Duration::ZERO };
    for number in 0..count {
        let track = Track {
            topic: topic.clone(),
            key: format!("key{number:06}").into(),
            id: None,
            meta: vec![b'm'; 32].into(),
            revision: 1,
        };
        let (tracked, _) = shards.change(shard_of(topic), Time::ZERO, |tracker, diff| {
            tracker.track(&owner, &track, Time::ZERO, 0, diff)
        });
        tracked.expect("nobody else has it");
    }
}

#[test]
fn newcomers_of_one_tick_share_one_snapshot_in_parts() {
    let (shards, watches, mut ticker) =
        (Shards::new(&replica("a", 1)), Watches::new(), Ticker::new(INTERVAL));
    let topic = topic("room");
    track_many(&shards, &topic, 2_500);
    let mailboxes: Vec<_> =
        (0..3).map(|_| Arc::new(Mailbox { room: 100, waiting: Mutex::default() })).collect();
    for mailbox in &mailboxes {
        let _id = watches.watch(&shards, &topic, Watching::default(), mailbox.clone());
    }
    while ticker.run(&shards, &watches, Time::ZERO) == Some(Time::ZERO) {}
    let first: Vec<_> = mailboxes[0].waiting.lock().iter().cloned().collect();
    assert_eq!(
        first.iter().map(|update| update.entries()).collect::<Vec<_>>(),
        [1_000, 1_000, 500]
    );
    for mailbox in &mailboxes {
        let waiting = mailbox.waiting.lock();
        assert!(waiting.iter().zip(&first).all(|(one, other)| Arc::ptr_eq(one, other)));
    }
}

#[test]
fn one_that_never_reads_pins_no_snapshot_for_ever() {
    let (shards, watches, mut ticker) =
        (Shards::new(&replica("a", 1)), Watches::new(), Ticker::new(INTERVAL));
    let topic = topic("room");
    track_many(&shards, &topic, 1_500);
    let stuck = Arc::new(Mailbox { room: 1, waiting: Mutex::default() });
    let _id = watches.watch(&shards, &topic, Watching::default(), stuck.clone());
    let mut now = Time::ZERO;
    let _next = ticker.run(&shards, &watches, now);
    let first = stuck.waiting.lock()[0].clone();
    for _ in 0..200 {
        now = now + INTERVAL;
        let _next = ticker.run(&shards, &watches, now);
    }
    // One count for the mailbox, one for this test.
    assert_eq!(Arc::strong_count(&first), 2);
    stuck.waiting.lock().clear();
    now = now + INTERVAL;
    let _next = ticker.run(&shards, &watches, now);
    let anew = stuck.waiting.lock()[0].clone();
    assert!(matches!(anew.kind, UpdateKind::Snapshot { reset: true, more: true, .. }));
}
