//! Subscriptions of this node's attachments, and how far peers have confirmed them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::lane::Unconfirmed;
use super::{Router, RouterHandle};
use crate::pubsub::interest::Subject;
use crate::pubsub::{Copies, Mailbox};
use crate::types::few::FewSet;
use crate::types::{NodeName, Pattern, SessionId, Topic};

/// One attachment and what it is subscribed to, activated or not.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) mailbox: Arc<Mailbox>,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    topics: FewSet<Topic>,
    patterns: FewSet<Pattern>,
    /// Nothing may be added any more.
    closed: bool,
}

impl Subscriber {
    pub(super) fn is_empty(&self) -> bool {
        let subscriptions = self.subscriptions.lock();
        subscriptions.topics.is_empty() && subscriptions.patterns.is_empty()
    }
}

/// Subscriptions that are announced but don't deliver yet, each with the version of this node's interest that has it: from a peer that
/// has applied that, its messages come here.
#[derive(Debug, Default)]
pub struct Subscribing {
    topics: Vec<(Topic, u64)>,
    patterns: Vec<(Pattern, u64)>,
    /// Of all that was asked for, what the mailbox had asked for before included.
    pub version: u64,
}

impl Subscribing {
    /// They are activated together.
    pub fn join(&mut self, later: Self) {
        self.topics.extend(later.topics);
        self.patterns.extend(later.patterns);
        self.version = self.version.max(later.version);
    }
}

/// How far an interest has been confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Members, this node among them, whose publishes reach the subscription.
    pub confirmed: u32,
    pub members: u32,
    /// Live members that have not confirmed.
    pub missing: Vec<NodeName>,
    /// Members that are down, and have not confirmed: nobody waits for them, and they count when they are back.
    pub absent: Vec<NodeName>,
}

impl Router {
    fn subscriber(&self, mailbox: &Mailbox) -> Option<Arc<Subscriber>> {
        self.subscribers.read().get(&mailbox.id()).cloned()
    }

    /// Wakes the links back to all peers.
    pub(super) fn announce(&self) {
        for lane in self.lanes().iter() {
            if let Some(up) = &lane.state.lock().inward {
                up.source.announce();
            }
        }
    }

    /// Who has confirmed `version` now; and, of those who have not, whether anybody is worth waiting for.
    fn confirmations(&self, version: u64) -> (Confirmed, bool) {
        let mut confirmed =
            Confirmed { confirmed: 1, members: 1, missing: Vec::new(), absent: Vec::new() };
        let mut wait = false;
        for member in self.membership.members().iter().filter(|member| !member.me) {
            let live = member.state.is_live();
            confirmed.members += u32::from(live);
            let lane =
                if live { Some(self.lane(&member.name)) } else { self.find_lane(&member.name) };
            let Some(lane) = lane else { continue };
            let state = lane.state.lock();
            let linked =
                state.inward.as_ref().is_some_and(|up| up.link.incarnation == member.incarnation);
            if linked && state.applied.is_some_and(|applied| applied >= version) {
                confirmed.confirmed += u32::from(live);
            } else if !live {
                confirmed.absent.push(member.name.clone());
            } else {
                confirmed.missing.push(member.name.clone());
                wait |= state.missed.is_none();
            }
        }
        (confirmed, wait)
    }

    async fn confirmed(&self, version: u64) -> Confirmed {
        let deadline = tokio::time::sleep(self.limits.get().confirm);
        tokio::pin!(deadline);
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let (confirmed, wait) = self.confirmations(version);
            if !wait {
                return confirmed;
            }
            tokio::select! {
                () = &mut progress => {}
                () = &mut deadline => {
                    let (confirmed, _) = self.confirmations(version);
                    let version = self.interest.lock().version();
                    for name in &confirmed.missing {
                        self.lane(name).state.lock().missed.get_or_insert(version);
                    }
                    return confirmed;
                }
            }
        }
    }

    fn end_subscriptions(&self, mailbox: &Mailbox, topics: &[Topic], patterns: &[Pattern]) {
        for topic in topics {
            self.registry.unsubscribe(mailbox, topic);
        }
        for pattern in patterns {
            self.registry.unsubscribe_pattern(mailbox, pattern);
        }
        let mut interest = self.interest.lock();
        let before = interest.version();
        for topic in topics {
            interest.remove(Subject::Topic(topic.interest_hash()));
        }
        for pattern in patterns {
            interest.remove(Subject::Pattern(pattern.clone()));
        }
        let changed = interest.version() != before;
        drop(interest);
        if changed {
            self.announce();
        }
    }

    /// Closes attachments that take nothing though messages wait.
    pub(super) fn close_stalled(&self, limit: Duration) {
        let now = self.clock.now();
        for subscriber in self.subscribers.read().values() {
            subscriber.mailbox.close_if_stalled(now, limit);
        }
    }

    /// What a link could not send for so long becomes a gap.
    pub(super) fn expire_outboxes(&self, age: Duration) {
        let now = self.clock.now();
        for lane in self.lanes().iter() {
            let outbox = lane.state.lock().outbox.clone();
            if let Some(outbox) = outbox {
                outbox.expire(now, age);
            }
        }
    }
}

impl RouterHandle {
    pub fn open_mailbox(&self, session: SessionId, copies: Copies) -> Arc<Mailbox> {
        let (id, limit) = (self.0.next_mailbox(), self.0.limits.get().mailbox);
        let mailbox = Arc::new(Mailbox::with_copies(id, session, limit, copies));
        let subscriber =
            Arc::new(Subscriber { mailbox: mailbox.clone(), subscriptions: Mutex::default() });
        self.0.subscribers.write().insert(mailbox.id(), subscriber);
        mailbox
    }

    /// Ends all its subscriptions.
    pub fn close_mailbox(&self, mailbox: &Arc<Mailbox>) {
        let Some(subscriber) = self.0.subscribers.write().remove(&mailbox.id()) else { return };
        let gaps = mailbox.report().gaps;
        self.0.gaps_of_closed.lock().iter_mut().zip(gaps).for_each(|(sum, gaps)| *sum += gaps);
        let subscriptions = {
            let mut subscriptions = subscriber.subscriptions.lock();
            std::mem::replace(
                &mut *subscriptions,
                Subscriptions { closed: true, ..Subscriptions::default() },
            )
        };
        let topics: Vec<Topic> = subscriptions.topics.into_vec();
        let patterns: Vec<Pattern> = subscriptions.patterns.into_vec();
        self.0.end_subscriptions(mailbox, &topics, &patterns);
    }

    /// Announces interest in what the mailbox isn't subscribed to yet. Nothing is delivered before `activate`.
    pub fn subscribe(
        &self,
        mailbox: &Arc<Mailbox>,
        topics: Vec<Topic>,
        patterns: Vec<Pattern>,
    ) -> Subscribing {
        let mut subscribing = Subscribing::default();
        let Some(subscriber) = self.0.subscriber(mailbox) else { return subscribing };
        let mut subscriptions = subscriber.subscriptions.lock();
        if subscriptions.closed {
            return subscribing;
        }
        let mut interest = self.0.interest.lock();
        let mut announce = false;
        for topic in topics {
            let is_new = subscriptions.topics.insert(topic.clone());
            if is_new {
                announce |= interest.add(Subject::Topic(topic.interest_hash()));
            }
            let since = interest.topic_since(&topic);
            subscribing.version = subscribing.version.max(since);
            subscribing.topics.extend(is_new.then_some((topic, since)));
        }
        for pattern in patterns {
            let is_new = subscriptions.patterns.insert(pattern.clone());
            if is_new {
                announce |= interest.add(Subject::Pattern(pattern.clone()));
            }
            let since = interest.pattern_since(&pattern);
            subscribing.version = subscribing.version.max(since);
            subscribing.patterns.extend(is_new.then_some((pattern, since)));
        }
        drop(interest);
        drop(subscriptions);
        if announce {
            self.0.announce();
        }
        subscribing
    }

    /// Ends when every live member has confirmed, or after the confirm limit. Members that missed an earlier deadline are not waited
    /// for.
    pub async fn confirmed(&self, version: u64) -> Confirmed {
        self.0.confirmed(version).await
    }

    /// Puts `answer` (whole messages in the front's wire form) into the mailbox and starts delivery right behind it. For members missing from
    /// `confirmed`, the mailbox gets a possible gap when they confirm.
    pub fn activate(
        &self,
        mailbox: &Arc<Mailbox>,
        subscribing: Subscribing,
        confirmed: &Confirmed,
        answer: Bytes,
    ) {
        let Subscribing { topics, patterns, .. } = subscribing;
        let hold = mailbox.push_held(answer);
        let Some(subscriber) = self.0.subscriber(mailbox) else { return };
        {
            // Under this lock, so that an unsubscribe or a close meanwhile comes wholly before or wholly after.
            let subscriptions = subscriber.subscriptions.lock();
            for (topic, _) in topics.iter().filter(|(one, _)| subscriptions.topics.contains(one)) {
                self.0.registry.subscribe(mailbox, topic);
            }
            for (one, _) in patterns.iter().filter(|(one, _)| subscriptions.patterns.contains(one))
            {
                self.0.registry.subscribe_pattern(mailbox, one);
            }
        }
        drop(hold);
        let mut missing = confirmed.missing.iter().chain(&confirmed.absent).peekable();
        if missing.peek().is_none() {
            return;
        }
        let unconfirmed = Unconfirmed::of(mailbox, topics, patterns);
        for name in missing {
            let lane = self.0.lane(name);
            for one in &unconfirmed {
                if !lane.state.lock().remember(one.clone()) {
                    mailbox.push_gap(lane.possible_gap(&one.topics));
                }
            }
        }
    }

    /// Nothing of these is delivered after it returns.
    pub fn unsubscribe(&self, mailbox: &Arc<Mailbox>, topics: &[Topic], patterns: &[Pattern]) {
        let Some(subscriber) = self.0.subscriber(mailbox) else { return };
        let mut subscriptions = subscriber.subscriptions.lock();
        let topics: Vec<Topic> =
            topics.iter().filter(|topic| subscriptions.topics.remove(*topic)).cloned().collect();
        let patterns: Vec<Pattern> = patterns
            .iter()
            .filter(|pattern| subscriptions.patterns.remove(*pattern))
            .cloned()
            .collect();
        // Still under the subscriptions' lock: `activate` looks at them under it.
        self.0.end_subscriptions(mailbox, &topics, &patterns);
    }
}
