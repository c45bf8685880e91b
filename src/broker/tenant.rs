//! A namespace with a quota, as this node keeps count of it. Namespaces without one have none of this, and cost nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::BrokerError;
use crate::config::Limits;
use crate::pubsub::Messages;
use crate::rights::bucket::Bucket;
use crate::rights::{Access, Quota};
use crate::types::{Namespace, Time, Topic};

/// So many namespaces are kept in mind after their last client has gone, for the rates that they have used up.
const IDLE_MAX: usize = 4_096;

#[derive(Default)]
pub(super) struct Tenants(Mutex<HashMap<Namespace, Arc<Tenant>>>);

pub(super) struct Tenant {
    state: Mutex<State>,
    sessions: AtomicU64,
    subscriptions: AtomicU64,
    /// Topics that it is subscribed to here, each with how many times.
    topics: Mutex<HashMap<Topic, u64>>,
}

struct State {
    quota: Arc<Quota>,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    /// The node's limits with the quota among them, and those they were made of.
    limits: Option<(Arc<Limits>, Arc<Limits>)>,
}

/// One attachment of it. Dropping it gives the place back.
pub(super) struct Place(Arc<Tenant>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
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
    /// None: it has no quota.
    pub(super) fn of(&self, namespace: &Namespace, access: &Access) -> Option<Arc<Tenant>> {
        let quota = access.quotas().of(namespace)?;
        let mut all = self.0.lock();
        if let Some(tenant) = all.get(namespace) {
            return Some(tenant.clone());
        }
        if all.len() >= IDLE_MAX {
            all.retain(|_, tenant| Arc::strong_count(tenant) > 1);
        }
        let tenant = Arc::new(Tenant::new(quota.clone()));
        all.insert(namespace.clone(), tenant.clone());
        Some(tenant)
    }

    /// The file was read again. Who is over a smaller quota keeps what it has, and gets no more.
    pub(super) fn renew(&self, access: &Access) {
        self.0.lock().retain(|namespace, tenant| {
            let quota = access.quotas().of(namespace).cloned();
            let keeps = quota.is_some() || Arc::strong_count(tenant) > 1;
            tenant.set(quota.unwrap_or_else(|| Arc::new(Quota::NONE)));
            keeps
        });
    }
}

impl Tenant {
    fn new(quota: Arc<Quota>) -> Self {
        let state = State { quota, messages: None, bytes: None, limits: None };
        Self {
            state: Mutex::new(state),
            sessions: AtomicU64::new(0),
            subscriptions: AtomicU64::new(0),
            topics: Mutex::default(),
        }
    }

    fn set(&self, quota: Arc<Quota>) {
        let mut state = self.state.lock();
        if state.quota != quota {
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

    /// None: a pattern.
    pub(super) fn subscribe(&self, topic: Option<&Topic>) -> Result<(), BrokerError> {
        let quota = self.quota();
        let max = quota.subscriptions.unwrap_or(u64::MAX);
        let one_more = |have: u64| (have < max).then(|| have + 1);
        if self.subscriptions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err()
        {
            return Err(BrokerError::Quota { limit: "namespace_subscriptions", max });
        }
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

    /// All of them, or none. A run that is longer than what is left goes, and is paid for later: nothing of a client's reads is cut apart.
    pub(super) fn publish(&self, messages: &Messages, now: Time) -> Result<(), BrokerError> {
        let mut state = self.state.lock();
        let State { quota, messages: of_messages, bytes: of_bytes, .. } = &mut *state;
        if quota.publish.is_none() && quota.publish_bytes.is_none() {
            return Ok(());
        }
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
