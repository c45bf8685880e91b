//! Topic -> subscribers, and the one order in which everybody gets a topic's messages.
//!
//! A topic's lock is that of the stripe it hashes to, held over all pushes of a batch: to peers' outboxes, to pattern subscribers, to
//! the topic's own. There are many stripes, so two topics seldom meet. A topic with very many subscribers is pushed to in slices, with
//! its stripe free in between; whoever publishes to it meanwhile waits for its turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::mailbox::Pushed;
use super::pattern::{PatternMap, matches};
use super::subscribers::{PatternSubscribers, Subscribers};
use super::{Batch, Mailbox};
use crate::types::{Namespace, Pattern, Time, Topic};
use named::{Named, PARTS};
use push::{Slices, push_outboxes};

mod named;
mod push;

const STRIPES: usize = 1024;
/// Up to so many subscribers are pushed to in one go.
const SLICE: usize = 256;

/// Bytes of names against bytes of a glob: so much of a look over them is done in one go.
const LOOK_MAX: usize = 64 << 10;

/// So many topics are taken under one lock, which who subscribes waits for.
const NAMES_AT_ONCE: usize = 1_000;

/// Who is to get a batch that starts here.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The subscribers of this node?
    pub local: bool,
    /// The links to interested peers; pushed to first, so that remote threads start early.
    pub outboxes: &'a [Arc<Mailbox>],
}

#[derive(Debug, Default)]
struct Entry {
    subscribers: Subscribers,
    /// Made when the topic first has to be pushed to in slices.
    turn: Option<Arc<tokio::sync::Mutex<()>>>,
}

type Stripe = HashMap<Topic, Entry, foldhash::fast::RandomState>;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Copies put into mailboxes of this node: one an attachment, or one a match.
    pub mailboxes: u64,
    /// What each outbox said, in the order given.
    pub outboxes: SmallVec<[Pushed; 8]>,
    /// Over half full, and draining.
    pub slow: Option<Arc<Mailbox>>,
    /// Writers that have something to write and sleep: they are written for, or woken, outside the topic's lock.
    asleep: Vec<(Arc<Mailbox>, Waker)>,
}

impl Delivery {
    fn write(&mut self) {
        for (mailbox, waker) in std::mem::take(&mut self.asleep) {
            mailbox.write_or_wake(waker);
        }
    }

    fn wake(&mut self) {
        self.asleep.drain(..).for_each(|(_, waker)| waker.wake());
    }
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    stripes: Box<[Mutex<Stripe>]>,
    /// Its locks come after the stripes'.
    named: Named,
    patterns: RwLock<PatternMap<PatternSubscribers>>,
    /// Rises with every subscription to a pattern.
    pattern_clock: AtomicU64,
    /// Numbers of messages that start here.
    numbers: AtomicU64,
    topics: AtomicU64,
    subscriptions: AtomicU64,
    delivered: AtomicU64,
    /// A part of `delivered`.
    delivered_each_match: AtomicU64,
    dropped: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            named: Named::default(),
            patterns: RwLock::default(),
            pattern_clock: AtomicU64::new(0),
            numbers: AtomicU64::new(1),
            topics: AtomicU64::new(0),
            subscriptions: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivered_each_match: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

/// How many there are now, and what has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistryCounts {
    /// With local subscribers.
    pub topics: u64,
    pub subscriptions: u64,
    /// Different ones.
    pub patterns: u64,
    /// Messages put into mailboxes, counted once for each.
    pub delivered: u64,
    /// Those of them that went to who gets a copy for each match.
    pub delivered_each_match: u64,
    pub dropped: u64,
}

impl Registry {
    fn stripe(&self, topic: &Topic) -> &Mutex<Stripe> {
        // The high bits: the low ones pick the place within the stripe's table.
        &self.stripes[(topic.hash64() >> 54) as usize % STRIPES]
    }

    /// False: it was subscribed already.
    pub fn subscribe(&self, mailbox: &Arc<Mailbox>, topic: &Topic) -> bool {
        let mut stripe = self.stripe(topic).lock();
        let entry = stripe.entry(topic.clone()).or_insert_with(|| {
            self.topics.fetch_add(1, Ordering::Relaxed);
            Entry::default()
        });
        let added = entry.subscribers.add(mailbox);
        if added && entry.subscribers.len() == 1 {
            self.named.add(topic);
        }
        self.subscriptions.fetch_add(u64::from(added), Ordering::Relaxed);
        added
    }

    /// Nothing is pushed after it returns. False: it was not subscribed.
    pub fn unsubscribe(&self, mailbox: &Mailbox, topic: &Topic) -> bool {
        let mut stripe = self.stripe(topic).lock();
        let Some(entry) = stripe.get_mut(topic) else { return false };
        let removed = entry.subscribers.remove(mailbox.id());
        self.subscriptions.fetch_sub(u64::from(removed), Ordering::Relaxed);
        if removed && entry.subscribers.is_empty() {
            self.named.remove(topic);
        }
        if entry.subscribers.is_empty() && !entry.subscribers.in_slices() {
            stripe.remove(topic);
            self.topics.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// False: it was subscribed already.
    pub fn subscribe_pattern(&self, mailbox: &Arc<Mailbox>, pattern: &Pattern) -> bool {
        let now = self.pattern_clock.fetch_add(1, Ordering::Relaxed);
        let mut patterns = self.patterns.write();
        if let Some(subscribers) = patterns.get_mut(pattern) {
            return subscribers.add(mailbox, now);
        }
        let mut subscribers = PatternSubscribers::default();
        subscribers.add(mailbox, now);
        patterns.insert(pattern, subscribers);
        true
    }

    /// False: it was not subscribed.
    pub fn unsubscribe_pattern(&self, mailbox: &Mailbox, pattern: &Pattern) -> bool {
        let mut patterns = self.patterns.write();
        let Some(subscribers) = patterns.get_mut(pattern) else { return false };
        let removed = subscribers.remove(mailbox.id());
        if subscribers.is_empty() {
            patterns.remove(pattern);
        }
        removed
    }

    /// Takes `count` numbers and hands the batch that `make` makes with the first of them to outboxes and subscribers. Where nobody
    /// wants it, no batch is made. The number, and what became of it.
    pub async fn publish(
        &self,
        topic: &Topic,
        count: u32,
        now: Time,
        targets: Targets<'_>,
        make: impl FnOnce(u64) -> Batch + Send,
    ) -> (u64, Delivery) {
        let turn = {
            let mut stripe = self.stripe(topic).lock();
            match stripe.get_mut(topic).filter(|entry| entry.needs_turns()) {
                None => {
                    let (first, mut delivery) =
                        self.publish_at_once(topic, &stripe, count, now, targets, make);
                    drop(stripe);
                    delivery.write();
                    return (first, delivery);
                }
                Some(entry) => entry.turn(),
            }
        };
        let _turn = turn.lock().await;
        let (first, batch, delivery) = {
            let mut stripe = self.stripe(topic).lock();
            let Some(entry) = stripe.get_mut(topic).filter(|entry| entry.needs_turns()) else {
                let (first, mut delivery) =
                    self.publish_at_once(topic, &stripe, count, now, targets, make);
                drop(stripe);
                delivery.write();
                return (first, delivery);
            };
            let first = self.numbers.fetch_add(count.into(), Ordering::Relaxed);
            let batch = Arc::new(make(first));
            let mut delivery = Delivery::default();
            push_outboxes(&batch, targets.outboxes, now, &mut delivery);
            if !targets.local {
                return (first, delivery);
            }
            self.push_patterns(&batch, &entry.subscribers, now, &mut delivery);
            entry.subscribers.begin();
            (first, batch, delivery)
        };
        (first, Slices::new(self, &batch, now, delivery).push_all().await)
    }

    fn publish_at_once(
        &self,
        topic: &Topic,
        stripe: &Stripe,
        count: u32,
        now: Time,
        targets: Targets<'_>,
        make: impl FnOnce(u64) -> Batch,
    ) -> (u64, Delivery) {
        let first = self.numbers.fetch_add(count.into(), Ordering::Relaxed);
        let mut delivery = Delivery::default();
        let local =
            targets.local && (stripe.contains_key(topic) || !self.patterns.read().is_empty());
        if local || !targets.outboxes.is_empty() {
            let batch = Arc::new(make(first));
            push_outboxes(&batch, targets.outboxes, now, &mut delivery);
            if local {
                self.deliver_at_once(&batch, stripe, now, &mut delivery);
            }
        }
        (first, delivery)
    }

    /// Hands a batch from a peer to the subscribers.
    pub async fn deliver(&self, batch: &Arc<Batch>, now: Time) -> Delivery {
        let turn = match self.try_deliver(batch, now) {
            Ok(delivery) => return delivery,
            Err(turn) => turn,
        };
        let _turn = turn.lock().await;
        let delivery = {
            let mut stripe = self.stripe(batch.topic()).lock();
            let Some(entry) = stripe.get_mut(batch.topic()).filter(|entry| entry.needs_turns())
            else {
                let mut delivery = Delivery::default();
                self.deliver_at_once(batch, &stripe, now, &mut delivery);
                drop(stripe);
                delivery.write();
                return delivery;
            };
            let mut delivery = Delivery::default();
            self.push_patterns(batch, &entry.subscribers, now, &mut delivery);
            entry.subscribers.begin();
            delivery
        };
        Slices::new(self, batch, now, delivery).push_all().await
    }

    /// As `deliver`, where that takes no waiting; else the turn to wait for.
    pub fn try_deliver(
        &self,
        batch: &Arc<Batch>,
        now: Time,
    ) -> Result<Delivery, Arc<tokio::sync::Mutex<()>>> {
        let mut stripe = self.stripe(batch.topic()).lock();
        match stripe.get_mut(batch.topic()).filter(|entry| entry.needs_turns()) {
            Some(entry) => Err(entry.turn()),
            None => {
                let mut delivery = Delivery::default();
                self.deliver_at_once(batch, &stripe, now, &mut delivery);
                drop(stripe);
                delivery.write();
                Ok(delivery)
            }
        }
    }

    fn deliver_at_once(
        &self,
        batch: &Arc<Batch>,
        stripe: &Stripe,
        now: Time,
        delivery: &mut Delivery,
    ) {
        let nobody = Subscribers::default();
        let subscribers = stripe.get(batch.topic()).map_or(&nobody, |entry| &entry.subscribers);
        self.push_patterns(batch, subscribers, now, delivery);
        self.push_all(batch, subscribers.as_slice(), now, delivery);
        self.push_matches(batch, now, delivery);
    }

    /// Topics of a namespace with local subscribers and how many, in order of name from `prefix` on.
    pub fn topics(&self, namespace: &Namespace, prefix: &[u8], most: usize) -> Vec<(Topic, u64)> {
        // The smallest `most` seen so far; a look over everything, stripe by stripe, for people who ask.
        let mut found: std::collections::BTreeMap<Box<[u8]>, (Topic, u64)> =
            std::collections::BTreeMap::new();
        for stripe in &self.stripes {
            for (topic, entry) in stripe.lock().iter() {
                if topic.namespace() != namespace || !topic.name().starts_with(prefix) {
                    continue;
                }
                let full = found.len() >= most;
                if full && found.last_key_value().is_some_and(|(last, _)| topic.name() >= &last[..])
                {
                    continue;
                }
                found.insert(topic.name().into(), (topic.clone(), entry.subscribers.len() as u64));
                if full {
                    found.pop_last();
                }
            }
        }
        found.into_values().collect()
    }

    pub fn subscribers(&self, topic: &Topic) -> u64 {
        self.stripe(topic).lock().get(topic).map_or(0, |entry| entry.subscribers.len() as u64)
    }

    /// Puts names of a namespace's topics with local subscribers that the glob matches into `names`, in no order, about `bytes_max` of
    /// them. It costs what the namespace has, and others who can go on go on in between; dropped before its end, it has put in what it has
    /// found so far.
    pub async fn names(
        &self,
        namespace: &Namespace,
        glob: Option<&[u8]>,
        bytes_max: usize,
        names: &mut Vec<Box<[u8]>>,
    ) {
        let (mut bytes, mut looked) = (0, 0);
        for part in 0..PARTS {
            let mut behind = None;
            loop {
                let some = self.named.of(namespace, part, behind.take(), NAMES_AT_ONCE);
                for topic in &some {
                    let name = topic.name();
                    looked += 64 + (name.len() + 1) * glob.map_or(0, <[u8]>::len);
                    if looked > LOOK_MAX {
                        looked = 0;
                        tokio::task::yield_now().await;
                    }
                    if glob.is_some_and(|glob| !matches(glob, name)) {
                        continue;
                    }
                    if bytes + name.len() > bytes_max {
                        return;
                    }
                    bytes += name.len();
                    names.push(name.into());
                }
                if some.len() < NAMES_AT_ONCE {
                    break;
                }
                behind = some.last().cloned();
            }
        }
    }

    /// Patterns of the namespace with local subscribers, in order, behind this one; at most so many.
    pub fn globs(
        &self,
        namespace: &Namespace,
        behind: Option<&[u8]>,
        most: usize,
    ) -> Vec<Arc<[u8]>> {
        self.patterns.read().globs(namespace, behind, most)
    }

    /// Patterns with local subscribers that the topic matches, and how many each has.
    pub fn patterns_of(&self, topic: &Topic) -> Vec<(Pattern, u64)> {
        let patterns = self.patterns.read();
        patterns
            .matching(topic)
            .map(|(pattern, subscribers)| (pattern.clone(), subscribers.len() as u64))
            .collect()
    }

    pub fn counts(&self) -> RegistryCounts {
        let patterns = self.patterns.read().len() as u64;
        RegistryCounts {
            topics: self.topics.load(Ordering::Relaxed),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            patterns,
            delivered: self.delivered.load(Ordering::Relaxed),
            delivered_each_match: self.delivered_each_match.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Entry {
    fn needs_turns(&self) -> bool {
        self.subscribers.len() > SLICE || self.subscribers.in_slices()
    }

    fn turn(&mut self) -> Arc<tokio::sync::Mutex<()>> {
        self.turn.get_or_insert_default().clone()
    }
}

#[cfg(test)]
mod tests;
