//! The pushes of one batch, all of them under the topic's lock or, slice by slice, under its turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use smallvec::SmallVec;

use super::{Delivery, Registry, SLICE};
use crate::pubsub::mailbox::Pushed;
use crate::pubsub::subscribers::Subscribers;
use crate::pubsub::{Batch, Gap, Mailbox, PatternRun};
use crate::types::{Pattern, Time, Topic};

/// A push in slices that has begun. Whoever publishes may be cancelled between two of them (its client has gone); then the rest get
/// theirs at once, or they would miss a message that others have, and nobody would ever tell them.
pub(super) struct Slices<'a> {
    registry: &'a Registry,
    batch: &'a Arc<Batch>,
    now: Time,
    delivery: Delivery,
    over: bool,
}

impl<'a> Slices<'a> {
    /// After `Subscribers::begin`, holding the topic's turn.
    pub(super) fn new(
        registry: &'a Registry,
        batch: &'a Arc<Batch>,
        now: Time,
        delivery: Delivery,
    ) -> Self {
        Self { registry, batch, now, delivery, over: false }
    }

    pub(super) async fn push_all(mut self) -> Delivery {
        while self.push_next() {
            self.delivery.write();
            tokio::task::yield_now().await;
        }
        self.delivery.write();
        std::mem::take(&mut self.delivery)
    }

    /// False: there is no more.
    fn push_next(&mut self) -> bool {
        let (registry, batch) = (self.registry, self.batch);
        let mut stripe = registry.stripe(batch.topic()).lock();
        // A topic in slices stays, even without subscribers.
        let Some(entry) = stripe.get_mut(batch.topic()).filter(|_| !self.over) else {
            return false;
        };
        if let Some(slice) = entry.subscribers.next_slice(SLICE) {
            registry.push_all(batch, slice, self.now, &mut self.delivery);
            return true;
        }
        self.over = true;
        registry.push_matches(batch, self.now, &mut self.delivery);
        if entry.subscribers.is_empty() {
            stripe.remove(batch.topic());
            registry.topics.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }
}

impl Drop for Slices<'_> {
    fn drop(&mut self) {
        while self.push_next() {}
        self.delivery.wake();
    }
}

impl Registry {
    /// Those who get one copy, and are subscribed by pattern and not to the topic itself.
    pub(super) fn push_patterns(
        &self,
        batch: &Arc<Batch>,
        direct: &Subscribers,
        now: Time,
        delivery: &mut Delivery,
    ) {
        let patterns = self.patterns.read();
        if patterns.is_empty() || !batch.topic().is_text() {
            return;
        }
        let before = delivery.mailboxes;
        let mut matched = 0;
        let mut mailboxes: SmallVec<[&Arc<Mailbox>; 16]> = patterns
            .matching(batch.topic())
            .inspect(|_| matched += 1)
            .flat_map(|(_, subscribers)| subscribers.as_slice())
            .filter(|one| !one.wants_each_match() && direct.position(one.id()).is_none())
            .collect();
        if matched > 1 {
            mailboxes.sort_unstable_by_key(|mailbox| mailbox.id());
            mailboxes.dedup_by_key(|mailbox| mailbox.id());
        }
        for mailbox in mailboxes {
            self.push_one(batch, mailbox, now, delivery);
        }
        let mailboxes = delivery.mailboxes - before;
        self.delivered.fetch_add(mailboxes * u64::from(batch.count()), Ordering::Relaxed);
    }

    /// Those who get a copy for each pattern that matches, behind the one that they get directly.
    pub(super) fn push_matches(&self, batch: &Arc<Batch>, now: Time, delivery: &mut Delivery) {
        let patterns = self.patterns.read();
        if patterns.is_empty() {
            return;
        }
        let mut matching: SmallVec<[_; 4]> = SmallVec::new();
        matching.extend(
            patterns
                .matching(batch.topic())
                .filter(|(_, subscribers)| subscribers.any_each_match()),
        );
        let before = delivery.mailboxes;
        let run = |pattern: &Pattern| Arc::new(PatternRun::new(batch.clone(), pattern.clone()));
        match &matching[..] {
            [] => return,
            [(pattern, subscribers)] => {
                let run = run(pattern);
                for mailbox in subscribers.as_slice().iter().filter(|one| one.wants_each_match()) {
                    self.push_match(&run, mailbox, now, delivery);
                }
            }
            several => {
                let mut pushes = Vec::new();
                for (pattern, subscribers) in several {
                    let run = run(pattern);
                    pushes.extend(subscribers.as_slice().iter().filter_map(|mailbox| {
                        let since = subscribers.since(mailbox.id())?;
                        Some((mailbox.id(), since, mailbox, run.clone()))
                    }));
                }
                pushes.sort_unstable_by_key(|(id, since, ..)| (*id, *since));
                for (_, _, mailbox, run) in &pushes {
                    self.push_match(run, mailbox, now, delivery);
                }
            }
        }
        let messages = (delivery.mailboxes - before) * u64::from(batch.count());
        self.delivered.fetch_add(messages, Ordering::Relaxed);
        self.delivered_each_match.fetch_add(messages, Ordering::Relaxed);
    }

    fn push_match(
        &self,
        run: &Arc<PatternRun>,
        mailbox: &Arc<Mailbox>,
        now: Time,
        delivery: &mut Delivery,
    ) {
        if !is_excluded(run.batch(), mailbox) {
            let pushed = mailbox.push_match_asleep(run, now);
            self.note(pushed, run.batch(), mailbox, delivery);
        }
    }

    pub(super) fn push_all(
        &self,
        batch: &Arc<Batch>,
        mailboxes: &[Arc<Mailbox>],
        now: Time,
        delivery: &mut Delivery,
    ) {
        let before = delivery.mailboxes;
        let mut each_match = 0;
        for mailbox in mailboxes {
            each_match += u64::from(mailbox.wants_each_match());
            self.push_one(batch, mailbox, now, delivery);
        }
        let mailboxes = delivery.mailboxes - before;
        let count = u64::from(batch.count());
        self.delivered.fetch_add(mailboxes * count, Ordering::Relaxed);
        if each_match > 0 {
            let messages = mailboxes.min(each_match) * count;
            self.delivered_each_match.fetch_add(messages, Ordering::Relaxed);
        }
    }

    fn push_one(
        &self,
        batch: &Arc<Batch>,
        mailbox: &Arc<Mailbox>,
        now: Time,
        delivery: &mut Delivery,
    ) {
        if !is_excluded(batch, mailbox) {
            let pushed = mailbox.push_asleep(batch, now);
            self.note(pushed, batch, mailbox, delivery);
        }
    }

    fn note(
        &self,
        (pushed, waker): (Pushed, Option<Waker>),
        batch: &Batch,
        mailbox: &Arc<Mailbox>,
        delivery: &mut Delivery,
    ) {
        match waker {
            Some(waker) if mailbox.is_direct() => delivery.asleep.push((mailbox.clone(), waker)),
            Some(waker) => waker.wake(),
            None => {}
        }
        match pushed {
            Pushed::Queued => delivery.mailboxes += 1,
            Pushed::Slow => {
                delivery.mailboxes += 1;
                delivery.slow.get_or_insert_with(|| mailbox.clone());
            }
            Pushed::Dropped => {
                self.dropped.fetch_add(batch.count().into(), Ordering::Relaxed);
            }
            Pushed::Closed => {}
        }
    }

    /// Reports a loss to the subscribers of `topic`, in its place among the topic's messages.
    pub fn push_gap(&self, topic: &Topic, gap: &Gap) {
        let stripe = self.stripe(topic).lock();
        let direct = stripe.get(topic).map(|entry| &entry.subscribers);
        for mailbox in direct.into_iter().flat_map(Subscribers::as_slice) {
            mailbox.push_gap(gap.clone());
        }
        let patterns = self.patterns.read();
        let matching = patterns.matching(topic).flat_map(|(_, subscribers)| subscribers.as_slice());
        // Who can't be told of the topic didn't get its messages either.
        let mut mailboxes: SmallVec<[&Arc<Mailbox>; 16]> = matching
            .filter(|mailbox| topic.is_text() || mailbox.wants_each_match())
            .filter(|one| direct.is_none_or(|direct| direct.position(one.id()).is_none()))
            .collect();
        // It missed one copy, however many of its patterns match.
        mailboxes.sort_unstable_by_key(|mailbox| mailbox.id());
        mailboxes.dedup_by_key(|mailbox| mailbox.id());
        for mailbox in mailboxes {
            mailbox.push_gap(gap.clone());
        }
    }
}

fn is_excluded(batch: &Batch, mailbox: &Mailbox) -> bool {
    batch.head().exclude.is_some_and(|session| session == mailbox.session())
}

pub(super) fn push_outboxes(
    batch: &Arc<Batch>,
    outboxes: &[Arc<Mailbox>],
    now: Time,
    delivery: &mut Delivery,
) {
    for outbox in outboxes {
        let pushed = outbox.push(batch, now);
        if pushed == Pushed::Slow {
            delivery.slow.get_or_insert_with(|| outbox.clone());
        }
        delivery.outboxes.push(pushed);
    }
}
