//! ● What a namespace may have of a node: plain numbers, by name or by template.
//!
//! Quotas are each node's own, as limits are; only presences, which every node sees all of, are counted in the whole cluster.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::bucket::Rate;
use crate::pubsub::pattern::matches;
use crate::types::Namespace;

/// `None`: whatever the node's own limits say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// At once, those that linger among them.
    pub sessions: Option<u64>,
    /// Subscriptions of all of them, patterns and watches of presence among them.
    pub subscriptions: Option<u64>,
    /// Topics with subscribers.
    pub topics: Option<u64>,
    /// In the cluster, as this node sees it.
    pub presences: Option<usize>,
    pub publish: Option<Rate>,
    pub publish_bytes: Option<Rate>,
    /// Bytes of one message.
    pub payload: Option<usize>,
    /// Whether there may be subscriptions by pattern.
    pub patterns: bool,
}

impl Quota {
    pub const NONE: Self = Self {
        sessions: None,
        subscriptions: None,
        topics: None,
        presences: None,
        publish: None,
        publish_bytes: None,
        payload: None,
        patterns: true,
    };

    pub const fn has_rate(&self) -> bool {
        self.publish.is_some() || self.publish_bytes.is_some()
    }
}

/// Which namespaces there are.
#[derive(Debug, Clone, Default)]
pub struct Quotas {
    by_name: HashMap<Box<str>, Arc<Quota>>,
    /// In the order of the file.
    templates: Vec<(Box<str>, Arc<Quota>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuotaSaid {
    pub(super) name: String,
    sessions: Option<u64>,
    subscriptions: Option<u64>,
    topics: Option<u64>,
    presences: Option<usize>,
    publish_rate: Option<u64>,
    publish_burst: Option<u64>,
    publish_bytes: Option<u64>,
    publish_bytes_burst: Option<u64>,
    payload: Option<usize>,
    #[serde(default = "yes")]
    patterns: bool,
}

const fn yes() -> bool {
    true
}

impl QuotaSaid {
    pub(super) fn judge(self) -> Result<(Box<str>, Quota), String> {
        let of = |what: &str| format!("namespace {}: {what}", self.name);
        if self.name.contains('*') {
            // What stands for any run must leave a lawful name.
            let without = self.name.replace('*', "x");
            Namespace::parse(&without).map_err(|bad| of(&bad.to_string()))?;
        } else {
            Namespace::parse(&self.name).map_err(|bad| of(&bad.to_string()))?;
        }
        let rate = |rate: Option<u64>, burst: Option<u64>| match (rate, burst) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(of("a burst is of no use without its rate")),
            (Some(0), _) | (_, Some(0)) => Err(of(
                "a rate, and its burst, must be more than nothing; take the right away instead",
            )),
            (Some(per_second), burst) => {
                Ok(Some(Rate { per_second, burst: burst.unwrap_or(per_second) }))
            }
        };
        let quota = Quota {
            sessions: self.sessions,
            subscriptions: self.subscriptions,
            topics: self.topics,
            presences: self.presences,
            publish: rate(self.publish_rate, self.publish_burst)?,
            publish_bytes: rate(self.publish_bytes, self.publish_bytes_burst)?,
            payload: self.payload,
            patterns: self.patterns,
        };
        Ok((self.name.into(), quota))
    }
}

impl Quotas {
    pub(super) fn push(&mut self, name: Box<str>, quota: Quota) {
        let quota = Arc::new(quota);
        if name.contains('*') {
            self.templates.push((name, quota));
        } else {
            self.by_name.insert(name, quota);
        }
    }

    /// None is told apart: every name is a namespace, and none has a quota.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.templates.is_empty()
    }

    /// Its own entry, else the first template that takes its name.
    pub fn of(&self, namespace: &Namespace) -> Option<&Arc<Quota>> {
        let name = namespace.as_str();
        let takes = |said: &str| matches(said.as_bytes(), name.as_bytes());
        let template = || self.templates.iter().find(|(said, _)| takes(said));
        self.by_name.get(name).or_else(|| template().map(|(_, quota)| quota))
    }
}

#[cfg(test)]
mod tests {
    use super::{Quota, Quotas};
    use crate::types::Namespace;

    #[test]
    fn a_name_comes_before_templates_and_templates_in_their_order() {
        let mut quotas = Quotas::default();
        for (name, sessions) in [("acme-*", 1), ("*-test", 2), ("acme-vip", 3)] {
            quotas.push(name.into(), Quota { sessions: Some(sessions), ..Quota::NONE });
        }
        let of = |name: &str| {
            quotas.of(&Namespace::parse(name).unwrap()).and_then(|quota| quota.sessions)
        };
        assert_eq!(of("acme-1"), Some(1));
        assert_eq!(of("acme-test"), Some(1));
        assert_eq!(of("shop-test"), Some(2));
        assert_eq!(of("acme-vip"), Some(3));
        assert_eq!(of("acme"), None);
    }
}
