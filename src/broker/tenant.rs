//! A namespace behind a locked door, as this node keeps count of it: what it has, and what its quota leaves it.
//!
//! One without a quota is counted too, so that a quota holds for who is here the moment that it is said, and has the default rate; one of an unlimited rate costs a look at a
//! flag. Where nobody is asked for a key there is none of this.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::BrokerError;
use crate::config::Limits;
use crate::pubsub::Messages;
use crate::rights::bucket::Bucket;
use crate::rights::{Access, Quota};
use crate::supervise::Clock;
use crate::types::{Namespace, Time, Topic};

/// From so many on, namespaces that nobody is in and that owe nothing are forgotten.
const IDLE_MAX: usize = 4_096;

/// What is further over its rate is refused at once.
const WORTH_WAITING: Duration = Duration::from_millis(250);

/// From so many on, those that owe are forgotten too. Whoever can name as many has no less by a new name than by one that is forgotten.
const OWING_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Tenants(Mutex<All>);

#[derive(Default)]
struct All {
    by_name: HashMap<Namespace, Arc<Tenant>>,
    /// It is looked for idle ones when there are so many: a look at all of them is not paid for by each that is new.
    look_at: usize,
}

pub(super) struct Tenant {
    state: Mutex<State>,
    /// Of those that wait until it is under its rate.
    turn: tokio::sync::Mutex<()>,
    /// Its quota says a rate.
    has_rate: AtomicBool,
    sessions: AtomicU64,
    /// Attachments of Redis clients.
    redis: AtomicU64,
    subscriptions: AtomicU64,
    /// Topics that it is subscribed to here, each with how many times.
    topics: Mutex<HashMap<Topic, u64>>,
    /// Whose turn it is to look at all that it has.
    pub(super) look: tokio::sync::Mutex<()>,
}

/// What a namespace has on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Here {
    pub sessions: u64,
    /// Connections of Redis clients.
    pub redis: u64,
    /// By its quota.
    pub sessions_max: Option<u64>,
    pub topics: u64,
}

struct State {
    quota: Arc<Quota>,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    /// The node's limits with the quota among them, and those they were made of.
    limits: Option<(Arc<Limits>, Arc<Limits>)>,
}

/// One session of it. Dropping it gives the place back.
pub(super) struct Place(Arc<Tenant>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One watch of it. Dropping it gives the place back.
pub(super) struct WatchPlace(Arc<Tenant>);

impl Drop for WatchPlace {
    fn drop(&mut self) {
        self.0.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for WatchPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchPlace").finish_non_exhaustive()
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").finish_non_exhaustive()
    }
}

impl Tenants {
    pub(super) fn of(&self, namespace: &Namespace, access: &Access, now: Time) -> Arc<Tenant> {
        let mut all = self.0.lock();
        if let Some(tenant) = all.by_name.get(namespace) {
            return tenant.clone();
        }
        all.make_room(now);
        let tenant = Arc::new(Tenant::new(quota_of(namespace, access)));
        all.by_name.insert(namespace.clone(), tenant.clone());
        tenant
    }

    /// The file was read again. Who is over a smaller quota keeps what it has, and gets no more.
    pub(super) fn renew(&self, access: &Access) {
        // Those that are new by now came by this file, or a later one, which renews them after this.
        let all: Vec<_> = {
            let all = self.0.lock();
            all.by_name.iter().map(|(name, tenant)| (name.clone(), tenant.clone())).collect()
        };
        for (namespace, tenant) in all {
            tenant.set(quota_of(&namespace, access));
        }
    }
}

impl All {
    fn make_room(&mut self, now: Time) {
        if self.by_name.len() < self.look_at.max(IDLE_MAX) {
            return;
        }
        let is_here = |tenant: &Arc<Tenant>| Arc::strong_count(tenant) > 1;
        self.by_name.retain(|_, tenant| is_here(tenant) || tenant.owes(now));
        if self.by_name.len() >= OWING_MAX {
            self.by_name.retain(|_, tenant| is_here(tenant));
        }
        let len = self.by_name.len();
        // Half as many again, but not far beyond the most that may owe.
        self.look_at = (len + len / 2).min(OWING_MAX.max(len + IDLE_MAX));
    }
}

fn quota_of(namespace: &Namespace, access: &Access) -> Arc<Quota> {
    access.quotas().of(namespace).cloned().unwrap_or_else(|| Arc::new(Quota::DEFAULT))
}

impl Tenant {
    fn new(quota: Arc<Quota>) -> Self {
        let has_rate = AtomicBool::new(quota.has_rate());
        let state = State { quota, messages: None, bytes: None, limits: None };
        Self {
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::default(),
            has_rate,
            sessions: AtomicU64::new(0),
            redis: AtomicU64::new(0),
            subscriptions: AtomicU64::new(0),
            topics: Mutex::default(),
            look: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn here(&self) -> Here {
        Here {
            sessions: self.sessions.load(Ordering::Relaxed),
            redis: self.redis.load(Ordering::Relaxed),
            sessions_max: self.quota().sessions,
            topics: self.topics.lock().len() as u64,
        }
    }

    /// Somebody is attached to it by this front, or was.
    pub(super) fn count_attached(&self, front: &str, is_there: bool) {
        if front == "redis" {
            if is_there {
                self.redis.fetch_add(1, Ordering::Relaxed);
            } else {
                self.redis.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn set(&self, quota: Arc<Quota>) {
        let mut state = self.state.lock();
        if state.quota != quota {
            self.has_rate.store(quota.has_rate(), Ordering::Relaxed);
            state.quota = quota;
            state.limits = None;
        }
    }

    fn quota(&self) -> Arc<Quota> {
        self.state.lock().quota.clone()
    }

    /// The node's limits, where the quota is smaller the quota.
    pub(super) fn limits(&self, of_node: Arc<Limits>) -> Arc<Limits> {
        let mut state = self.state.lock();
        if let Some((of, narrow)) = &state.limits
            && Arc::ptr_eq(of, &of_node)
        {
            return narrow.clone();
        }
        let Quota { payload, presences, patterns, .. } = *state.quota;
        if payload.is_none() && presences.is_none() && patterns {
            return of_node;
        }
        let narrow = Arc::new(Limits {
            payload: payload.map_or(of_node.payload, |most| most.min(of_node.payload)),
            namespace_presences: presences
                .map_or(of_node.namespace_presences, |most| most.min(of_node.namespace_presences)),
            patterns: if patterns { of_node.patterns } else { 0 },
            ..Limits::clone(&of_node)
        });
        state.limits = Some((of_node, narrow.clone()));
        narrow
    }

    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, BrokerError> {
        let max = self.quota().sessions.unwrap_or(u64::MAX);
        let one_more = |have: u64| (have < max).then(|| have + 1);
        match self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Place(self.clone())),
            Err(_) => Err(BrokerError::Quota { limit: "namespace_sessions", max }),
        }
    }

    /// Watching presence is among what it listens to.
    pub(super) fn watch(self: &Arc<Self>) -> Result<WatchPlace, BrokerError> {
        self.one_subscription_more(&self.quota())?;
        Ok(WatchPlace(self.clone()))
    }

    fn one_subscription_more(&self, quota: &Quota) -> Result<(), BrokerError> {
        let max = quota.subscriptions.unwrap_or(u64::MAX);
        let one_more = |have: u64| (have < max).then(|| have + 1);
        let more = self.subscriptions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        let full = |_| BrokerError::Quota { limit: "namespace_subscriptions", max };
        more.map(drop).map_err(full)
    }

    /// None: a pattern.
    pub(super) fn subscribe(&self, topic: Option<&Topic>) -> Result<(), BrokerError> {
        let quota = self.quota();
        self.one_subscription_more(&quota)?;
        let Some(topic) = topic else { return Ok(()) };
        let mut topics = self.topics.lock();
        let max = quota.topics.unwrap_or(u64::MAX);
        if topics.len() as u64 >= max && !topics.contains_key(topic) {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
            return Err(BrokerError::Quota { limit: "namespace_topics", max });
        }
        *topics.entry(topic.clone()).or_default() += 1;
        Ok(())
    }

    /// What had been subscribed is not any longer.
    pub(super) fn unsubscribe<'a>(&self, ended: impl Iterator<Item = &'a Topic>, patterns: usize) {
        let mut topics = self.topics.lock();
        let mut count = patterns as u64;
        for topic in ended {
            count += 1;
            if let Some(times) = topics.get_mut(topic) {
                *times -= 1;
                if *times == 0 {
                    topics.remove(topic);
                }
            }
        }
        drop(topics);
        self.subscriptions.fetch_sub(count, Ordering::Relaxed);
    }

    /// Whether whoever is about to publish should await `under_rate` first. Not where that would take long.
    pub(super) fn is_over_rate(&self, now: Time) -> bool {
        if !self.has_rate.load(Ordering::Relaxed) {
            return false;
        }
        match self.over_rate(now) {
            Some(left) => left < WORTH_WAITING,
            // Who comes last must not go before those who wait.
            None => self.turn.try_lock().is_err(),
        }
    }

    /// Ends when it is under its rate; for one after another.
    pub(super) async fn under_rate(&self, clock: Clock) {
        let _turn = self.turn.lock().await;
        while let Some(left) = self.over_rate(clock.now()) {
            tokio::time::sleep(left).await;
        }
    }

    /// So long until it may publish again. `None`: now.
    fn over_rate(&self, now: Time) -> Option<Duration> {
        if !self.has_rate.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        let State { quota, messages, bytes, .. } = &mut *state;
        let left = [(quota.publish, messages), (quota.publish_bytes, bytes)]
            .into_iter()
            .filter_map(|(rate, bucket)| bucket.as_mut()?.has_any(rate?, now.as_micros()).err())
            .max()?;
        Some(Duration::from_micros(left))
    }

    /// Has it taken what it has not been given time for yet?
    fn owes(&self, now: Time) -> bool {
        let mut state = self.state.lock();
        let State { quota, messages, bytes, .. } = &mut *state;
        let now_us = now.as_micros();
        [(quota.publish, messages), (quota.publish_bytes, bytes)].into_iter().any(
            |(rate, bucket)| match (rate, bucket) {
                (Some(rate), Some(bucket)) => !bucket.is_full(rate, now_us),
                _ => false,
            },
        )
    }

    /// All of them, or none. A run that is longer than what is left goes, and is paid for later: nothing of a client's reads is cut apart.
    pub(super) fn publish(&self, messages: &Messages, now: Time) -> Result<(), BrokerError> {
        if !self.has_rate.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = self.state.lock();
        let State { quota, messages: of_messages, bytes: of_bytes, .. } = &mut *state;
        let now_us = now.as_micros();
        let bytes = || -> u64 {
            messages.iter().map(|(payload, fields)| (payload.len() + fields.len()) as u64).sum()
        };
        let mut wait = None;
        let mut charges = [None, None];
        for ((rate, bucket, limit), charge) in [
            (quota.publish, of_messages, "namespace_publish_rate"),
            (quota.publish_bytes, of_bytes, "namespace_publish_bytes"),
        ]
        .into_iter()
        .zip(&mut charges)
        {
            let Some(rate) = rate else { continue };
            let bucket = bucket.get_or_insert_with(|| Bucket::full(rate, now_us));
            match bucket.has_any(rate, now_us) {
                Ok(()) => *charge = Some(bucket),
                Err(left) => {
                    wait = Some(BrokerError::Rate { limit, retry_ms: left.div_ceil(1_000) })
                }
            }
        }
        if let Some(refused) = wait {
            return Err(refused);
        }
        let [of_messages, of_bytes] = charges;
        if let Some(bucket) = of_messages {
            bucket.charge(messages.len() as u64);
        }
        if let Some(bucket) = of_bytes {
            bucket.charge(bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Tenant, Tenants};
    use crate::pubsub::Messages;
    use crate::rights::{Access, Quota};
    use crate::types::{ClusterName, Namespace, Time, TopicHasher};

    #[test]
    fn what_is_given_back_is_counted_no_longer() {
        let quota =
            Quota { sessions: Some(3), subscriptions: Some(7), topics: Some(4), ..Quota::NONE };
        let tenant = Arc::new(Tenant::new(Arc::new(quota)));
        let hasher = TopicHasher::new(&ClusterName::parse("c").unwrap());
        let namespace = Namespace::default();
        let topics: Vec<_> =
            (0..6).map(|i| hasher.topic(&namespace, &format!("t{i}"), 10).unwrap()).collect();
        let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            (chance % below as u64) as usize
        };
        // As the sessions know it; one of `None` is a pattern's.
        let (mut places, mut held, mut watches) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..10_000 {
            let mut distinct: Vec<usize> = held.iter().copied().flatten().collect();
            distinct.sort_unstable();
            distinct.dedup();
            match random(5) {
                4 => match tenant.watch() {
                    Ok(watch) => {
                        assert!(held.len() + watches.len() < 7);
                        watches.push(watch);
                    }
                    Err(_) => {
                        assert_eq!(held.len() + watches.len(), 7);
                        watches.pop();
                    }
                },
                0 => match tenant.enter() {
                    Ok(place) => places.push(place),
                    Err(_) => assert_eq!(places.len(), 3),
                },
                1 if !places.is_empty() => drop(places.swap_remove(random(places.len()))),
                2 => {
                    let asked = Some(random(7)).filter(|i| *i < topics.len());
                    let is_new = asked.is_some_and(|i| !distinct.contains(&i));
                    let fits = held.len() + watches.len() < 7 && (!is_new || distinct.len() < 4);
                    assert_eq!(tenant.subscribe(asked.map(|i| &topics[i])).is_ok(), fits);
                    if fits {
                        held.push(asked);
                    }
                }
                _ if !held.is_empty() => {
                    let ended = held.swap_remove(random(held.len()));
                    let patterns = usize::from(ended.is_none());
                    tenant.unsubscribe(ended.iter().map(|i| &topics[*i]), patterns);
                }
                _ => (),
            }
        }
        let patterns = held.iter().filter(|one| one.is_none()).count();
        tenant.unsubscribe(held.iter().flatten().map(|i| &topics[*i]), patterns);
        drop((places, watches));
        assert!(tenant.topics.lock().is_empty());
        assert_eq!(format!("{tenant:?}"), "Tenant { sessions: 0, .. }");
        assert!((0..7).all(|_| tenant.subscribe(None).is_ok()));
    }

    #[test]
    fn namespaces_that_nobody_is_in_are_kept_for_as_long_as_they_owe() {
        let tenants = Tenants::default();
        let file = "[[namespace]]\nname = \"n0\"\npublish_rate = 1\npublish_burst = 5\n[[namespace]]\nname = \"*\"\n";
        let access = Access::parse(file, &|_, _| Err(String::new())).unwrap();
        let of = |i: usize, s: u64| {
            let name = Namespace::parse(&format!("n{i}")).unwrap();
            tenants.of(&name, &access, Time::from_millis(s * 1_000))
        };
        let run = Messages::single("x".into());
        let publish = |s: u64| of(0, s).publish(&run, Time::from_millis(s * 1_000));
        let here = of(1, 0);
        while publish(0).is_ok() {}
        for i in 2..3 * super::IDLE_MAX {
            of(i, 0);
        }
        assert!(tenants.0.lock().by_name.len() <= super::IDLE_MAX + super::IDLE_MAX / 2);
        assert!(Arc::ptr_eq(&here, &of(1, 0)));
        // Nobody is in it, and it has to wait all the same.
        assert!(publish(0).is_err());
        for i in 2..3 * super::IDLE_MAX {
            of(i, 100);
        }
        let name = Namespace::parse("n0").unwrap();
        assert!(!tenants.0.lock().by_name.contains_key(&name), "it has paid, and is forgotten");
        assert!(publish(100).is_ok());
    }
}
