//! One connection of a session, in the hands of its front: what it asks goes through here, and is judged here.
//!
//! Dropping it without a bye starts the session's linger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::seat::{Seat, Subscriptions};
use super::sessions::{AttachmentId, Input};
use super::{BrokerError, Ending, Outlet, Shared};
use crate::config::Limits;
use crate::metrics::names;
use crate::pubsub::GapReason;
use crate::pubsub::Messages;
use crate::pubsub::mailbox::Mailbox;
use crate::router::{Confirm, Confirmed, HandedOn, Publish, PublishError, Reach, Subscribing};
use crate::supervise::Shutdown;
use crate::types::topic::BadTopic;
use crate::types::{Pattern, SessionId, Time, Topic};

#[derive(Debug)]
pub struct Attachment {
    pub(super) shared: Arc<Shared>,
    pub(super) seat: Arc<Seat>,
    /// The next subscription has to be told that something may have been missed.
    pub(super) gap_due: AtomicBool,
}

/// A subscribe that has been judged and announced, and delivers nothing yet.
#[derive(Debug)]
pub struct Asked {
    /// In the order asked, topics first.
    pub results: Vec<Result<(), BrokerError>>,
    /// In the same order: what was not subscribed before.
    pub is_new: Vec<bool>,
    subscribing: Subscribing,
    since: Time,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// The own session's subscriptions are left out.
    pub exclude_self: bool,
    pub reach: Reach,
    pub confirm: Confirm,
}

impl Attachment {
    pub(super) fn id(&self) -> AttachmentId {
        self.seat.id
    }

    pub fn session(&self) -> SessionId {
        self.seat.session
    }

    /// What this client may ask for now.
    pub fn limits(&self) -> Arc<Limits> {
        self.seat.card.pass.limits(&self.shared.limits)
    }

    /// The writing side. Made once; the attachment ends when it is dropped.
    pub fn outlet(&self) -> Outlet {
        Outlet { seat: self.seat.clone(), limits: self.shared.limits.clone() }
    }

    /// Cancelled when the attachment has ended, whoever ended it.
    pub fn closed(&self) -> &Shutdown {
        self.seat.closed()
    }

    /// Ends both sides for this reason; the first reason stands.
    pub fn end(&self, ending: Ending) {
        self.seat.end(ending);
    }

    /// Puts something ready-made behind all that waits to be written. False: wait for `room` before causing more of it.
    pub fn push(&self, event: Bytes) -> bool {
        self.seat.mailbox.push_event(event)
    }

    /// May more be caused that has to be answered?
    pub fn has_room(&self) -> bool {
        self.seat.mailbox.has_room()
    }

    /// Ends when it has room, or is closed.
    pub fn room(&self) -> impl Future<Output = ()> + Send + 'static {
        let mailbox = self.seat.mailbox.clone();
        async move { mailbox.room().await }
    }

    pub fn add_credit(&self, messages: u32) {
        self.seat.mailbox.add_credit(messages);
    }

    /// Judges each topic and pattern, and announces those that are new. Nothing is delivered before `activate`.
    pub fn subscribe(&self, topics: &[String], patterns: &[String]) -> Result<Asked, BrokerError> {
        self.seat.may_ask()?;
        let limits = self.limits();
        check_count(topics, patterns, &limits).inspect_err(BrokerError::count)?;
        let hasher = self.shared.router.hasher();
        let namespace = self.seat.card.pass.namespace();
        let topics: Vec<_> =
            topics.iter().map(|name| hasher.topic(namespace, name, limits.topic)).collect();
        let patterns: Vec<_> =
            patterns.iter().map(|glob| Pattern::parse(namespace, glob, limits.topic)).collect();
        Ok(self.add(topics, patterns, &limits))
    }

    /// As `subscribe`, for a front that makes its topics and patterns itself: of any bytes, in namespaces that it may use.
    pub fn subscribe_made(
        &self,
        topics: Vec<Topic>,
        patterns: Vec<Pattern>,
    ) -> Result<Asked, BrokerError> {
        self.seat.may_ask()?;
        let limits = self.limits();
        if topics.len() + patterns.len() > limits.subscriptions {
            return Err(BrokerError::TooManySubscriptions { max: limits.subscriptions });
        }
        let topics = topics.into_iter().map(Ok).collect();
        let patterns = patterns.into_iter().map(Ok).collect();
        Ok(self.add(topics, patterns, &limits))
    }

    fn add(
        &self,
        topics: Vec<Result<Topic, BadTopic>>,
        patterns: Vec<Result<Pattern, BadTopic>>,
        limits: &Limits,
    ) -> Asked {
        let mut results: Vec<Result<(), BrokerError>> =
            Vec::with_capacity(topics.len() + patterns.len());
        let mut is_new = Vec::with_capacity(results.capacity());
        let (mut asked_topics, mut asked_patterns) = (Vec::new(), Vec::new());
        let mut note = |added: Result<bool, BrokerError>| {
            is_new.push(added == Ok(true));
            results.push(added.map(drop));
        };
        let mut held = self.seat.subscriptions.lock();
        for topic in topics {
            let added = topic.map_err(BrokerError::from).and_then(|topic| {
                let new = self.add_topic(topic.clone(), &mut held, limits)?;
                asked_topics.push(topic);
                Ok(new.is_some())
            });
            note(added);
        }
        for pattern in patterns {
            let added = pattern.map_err(BrokerError::from).and_then(|pattern| {
                let new = self.add_pattern(pattern.clone(), &mut held, limits)?;
                asked_patterns.push(pattern);
                Ok(new.is_some())
            });
            note(added);
        }
        drop(held);
        results.iter().filter_map(|result| result.as_ref().err()).for_each(BrokerError::count);
        let since = self.shared.clock.now();
        // The old ones too: they are confirmed as far as they were, and waited for as long.
        let subscribing =
            self.shared.router.subscribe(&self.seat.mailbox, asked_topics, asked_patterns);
        Asked { results, is_new, subscribing, since }
    }

    /// The topic, if it is new.
    fn add_topic(
        &self,
        topic: Topic,
        held: &mut Subscriptions,
        limits: &Limits,
    ) -> Result<Option<Topic>, BrokerError> {
        let router = &self.shared.router;
        self.seat.card.pass.may_subscribe(&topic)?;
        if held.topics.contains(&topic) {
            return Ok(None);
        }
        if held.len() >= limits.subscriptions {
            return Err(BrokerError::TooManySubscriptions { max: limits.subscriptions });
        }
        if self.shared.topics.load(Ordering::Relaxed) >= limits.topics as u64
            && router.describe_topic(&topic).local_subscriptions == 0
        {
            return Err(BrokerError::TooManyTopics { max: limits.topics });
        }
        if let Some(tenant) = self.seat.card.pass.tenant() {
            tenant.subscribe(Some(&topic))?;
        }
        held.topics.insert(topic.clone());
        Ok(Some(topic))
    }

    /// The pattern, if it is new.
    fn add_pattern(
        &self,
        pattern: Pattern,
        held: &mut Subscriptions,
        limits: &Limits,
    ) -> Result<Option<Pattern>, BrokerError> {
        self.seat.card.pass.may_subscribe_pattern(&pattern.namespace, &pattern.glob)?;
        if held.patterns.contains(&pattern) {
            return Ok(None);
        }
        if held.len() >= limits.subscriptions {
            return Err(BrokerError::TooManySubscriptions { max: limits.subscriptions });
        }
        if held.patterns.len() >= limits.patterns {
            return Err(BrokerError::TooManyPatterns { max: limits.patterns });
        }
        if let Some(tenant) = self.seat.card.pass.tenant() {
            tenant.subscribe(None)?;
        }
        held.patterns.insert(pattern.clone());
        Ok(Some(pattern))
    }

    /// Ends when every live member has confirmed, or after the confirm limit.
    pub fn confirmed(
        &self,
        asked: Asked,
    ) -> impl Future<Output = (Asked, Confirmed)> + Send + 'static {
        let (router, clock) = (self.shared.router.clone(), self.shared.clock);
        async move {
            let confirmed = router.confirmed(asked.subscribing.version).await;
            let took = clock.now() - asked.since;
            metrics::histogram!(names::SUBSCRIBE_CONFIRM).record(took.as_secs_f64());
            if !confirmed.missing.is_empty() {
                metrics::counter!(names::SUBSCRIBE_UNCONFIRMED).increment(1);
            }
            (asked, confirmed)
        }
    }

    /// Must the answer to the next subscribe be followed by a possible gap? True once.
    pub fn take_gap_due(&self) -> bool {
        let due = self.gap_due.swap(false, Ordering::Relaxed);
        if due {
            self.seat.mailbox.count_gap(GapReason::Reconnected);
        }
        due
    }

    /// Puts the answer into the mailbox, and starts delivery right behind it.
    pub fn activate(&self, asked: Asked, confirmed: &Confirmed, answer: Bytes) {
        let Self { shared, seat, .. } = self;
        shared.router.activate(&seat.mailbox, asked.subscribing, confirmed, answer);
    }

    /// In the order asked, topics first. What wasn't subscribed is no error: it isn't afterwards either.
    pub fn unsubscribe(
        &self,
        topics: &[String],
        patterns: &[String],
    ) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        self.seat.may_ask()?;
        let limits = self.shared.limits.get();
        check_count(topics, patterns, &limits).inspect_err(BrokerError::count)?;
        let namespace = self.seat.card.pass.namespace();
        let (mut old_topics, mut old_patterns) = (Vec::new(), Vec::new());
        let mut results = Vec::with_capacity(topics.len() + patterns.len());
        let mut held = self.seat.subscriptions.lock();
        for name in topics {
            let topic = self.shared.router.hasher().topic(namespace, name, limits.topic);
            results.push(topic.map_err(BrokerError::from).map(|topic| {
                old_topics.extend(held.topics.take(&topic));
            }));
        }
        for glob in patterns {
            let pattern = Pattern::parse(namespace, glob, limits.topic);
            results.push(pattern.map_err(BrokerError::from).map(|pattern| {
                old_patterns.extend(held.patterns.take(&pattern));
            }));
        }
        drop(held);
        if let Some(tenant) = self.seat.card.pass.tenant() {
            tenant.unsubscribe(old_topics.iter(), old_patterns.len());
        }
        if !old_topics.is_empty() || !old_patterns.is_empty() {
            self.shared.router.unsubscribe(&self.seat.mailbox, &old_topics, &old_patterns);
        }
        Ok(results)
    }

    /// As `unsubscribe`, for a front that makes its topics and patterns itself. Which of them were subscribed, topics first.
    pub fn unsubscribe_made(
        &self,
        topics: &[Topic],
        patterns: &[Pattern],
    ) -> Result<Vec<bool>, BrokerError> {
        self.seat.may_ask()?;
        let mut held = self.seat.subscriptions.lock();
        let mut were: Vec<bool> = topics.iter().map(|topic| held.topics.remove(topic)).collect();
        were.extend(patterns.iter().map(|pattern| held.patterns.remove(pattern)));
        drop(held);
        if let Some(tenant) = self.seat.card.pass.tenant() {
            let (of_topics, of_patterns) = were.split_at(topics.len());
            let ended = topics.iter().zip(of_topics).filter(|(_, was)| **was);
            let patterns = of_patterns.iter().filter(|was| **was).count();
            tenant.unsubscribe(ended.map(|(topic, _)| topic), patterns);
        }
        if were.contains(&true) {
            self.shared.router.unsubscribe(&self.seat.mailbox, topics, patterns);
        }
        Ok(were)
    }

    /// In no order.
    pub fn topics(&self) -> Vec<Topic> {
        self.seat.subscriptions.lock().topics.iter().cloned().collect()
    }

    /// In no order.
    pub fn patterns(&self) -> Vec<Pattern> {
        self.seat.subscriptions.lock().patterns.iter().cloned().collect()
    }

    /// What people see of the client, where it says who it is only later.
    pub fn set_client(&self, client: &str) {
        *self.seat.card.client.lock() = super::open::presentable(client);
    }

    /// Ends when the namespace may publish again, as far as its rate goes. `None`: it may.
    pub fn under_rate(&self, now: Time) -> Option<impl Future<Output = ()> + Send + 'static> {
        let tenant = self.seat.card.pass.tenant().filter(|tenant| tenant.is_over_rate(now))?;
        let (tenant, clock) = (tenant.clone(), self.shared.clock);
        Some(async move { tenant.under_rate(clock).await })
    }

    /// Messages whose sizes have been judged already. When it ends, what is published next comes behind them, even while members are
    /// still waited for to confirm.
    pub fn publish(
        &self,
        topic: Topic,
        messages: Messages,
        options: PublishOptions,
        now: Time,
    ) -> Result<impl Future<Output = Result<HandedOn, PublishError>> + Send + 'static, BrokerError>
    {
        self.seat.may_ask()?;
        self.seat.card.pass.may_publish(&topic, &messages, now).inspect_err(BrokerError::count)?;
        let PublishOptions { exclude_self, reach, confirm } = options;
        let exclude = exclude_self.then_some(self.seat.session);
        let publish = Publish { topic, messages, exclude, reach, confirm };
        let router = self.shared.router.clone();
        Ok(async move { router.hand_on(publish, now).await })
    }

    /// Ends when the slow receiver has drained below half, or after 5 ms.
    pub fn pace(&self, slow: Arc<Mailbox>) -> impl Future<Output = ()> + Send + 'static {
        let router = self.shared.router.clone();
        async move { router.pace(&slow).await }
    }

    /// Ends when all that was published for it so far is in its mailbox, whatever is still on the way here from peers included. Before
    /// the bye of an attachment whose session goes on elsewhere.
    pub async fn settle(&self) {
        self.shared.router.sync().await;
    }

    /// Ends the attachment, and the session unless it is kept or has a newer attachment.
    pub async fn bye(self, keep_session: bool) {
        let attachment = self.seat.id;
        let outputs = self.shared.decide(Input::Bye { attachment, keep_session });
        self.seat.end(Ending::Bye);
        let shared = self.shared.clone();
        drop(self);
        // Peers may have an older attachment of it.
        shared.announce(&outputs).await;
    }
}

/// As many as a session may have at all, so that the answer to one request is bounded.
fn check_count(topics: &[String], patterns: &[String], limits: &Limits) -> Result<(), BrokerError> {
    if topics.is_empty() && patterns.is_empty() {
        return Err(BrokerError::Invalid("neither a topic nor a pattern is named".to_owned()));
    }
    if topics.len() + patterns.len() > limits.subscriptions {
        return Err(BrokerError::TooManySubscriptions { max: limits.subscriptions });
    }
    Ok(())
}

impl Asked {
    /// Waits for, and begins to deliver, what was asked later together with this.
    pub fn join(&mut self, later: Self) {
        self.results.extend(later.results);
        self.is_new.extend(later.is_new);
        self.subscribing.join(later.subscribing);
    }

    /// Nothing of it was granted: there is nothing to wait for.
    pub fn is_refused(&self) -> bool {
        self.results.iter().all(Result::is_err)
    }
}
