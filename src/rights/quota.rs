//! ● What a namespace may have of a node: plain numbers, by name or by template.
//!
//! Quotas are each node's own, as limits are; only presences, which every node sees all of, are counted in the whole cluster.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use super::agreed::AgreedQuotas;
use super::bucket::Rate;
use crate::pubsub::pattern::matches;
use crate::types::Namespace;

/// `None`: whatever the node's own limits say; of a rate, that there is none.
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

/// Where nothing is said: far more than a tenant needs, far less than a node can do, so that one that floods leaves the node to others.
const PUBLISH: Rate = Rate { per_second: 100_000, burst: 100_000 };
const PUBLISH_BYTES: Rate = Rate { per_second: 64 << 20, burst: 64 << 20 };

impl Quota {
    /// Of a namespace that a key or token names, and nobody has said more about.
    pub const DEFAULT: Self =
        Self { publish: Some(PUBLISH), publish_bytes: Some(PUBLISH_BYTES), ..Self::NONE };

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
    /// In the order of the file, then those that are agreed on.
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
    #[serde(default)]
    publish_rate: Said,
    publish_burst: Option<u64>,
    #[serde(default)]
    publish_bytes: Said,
    publish_bytes_burst: Option<u64>,
    payload: Option<usize>,
    #[serde(default = "yes")]
    patterns: bool,
}

const fn yes() -> bool {
    true
}

/// A rate as it is written.
#[derive(Debug, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    Unlimited,
    PerSecond(u64),
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Said;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number a second, or \"unlimited\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Said, E> {
                u64::try_from(number)
                    .map(Said::PerSecond)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Said, E> {
                Ok(Said::PerSecond(number))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Said, E> {
                match word {
                    "unlimited" => Ok(Said::Unlimited),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
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
        let rate = |said: &Said, burst: Option<u64>, default: Option<Rate>| match (said, burst) {
            (Said::Nothing, None) => Ok(default),
            (Said::Unlimited, None) => Ok(None),
            (Said::Nothing | Said::Unlimited, Some(_)) => {
                Err(of("a burst is of no use without its rate"))
            }
            (Said::PerSecond(0), _) | (_, Some(0)) => Err(of(
                "a rate, and its burst, must be more than nothing; take the right away instead",
            )),
            (Said::PerSecond(per_second), burst) => {
                Ok(Some(Rate { per_second: *per_second, burst: burst.unwrap_or(*per_second) }))
            }
        };
        let Quota { publish, publish_bytes, .. } = Quota::DEFAULT;
        let quota = Quota {
            sessions: self.sessions,
            subscriptions: self.subscriptions,
            topics: self.topics,
            presences: self.presences,
            publish: rate(&self.publish_rate, self.publish_burst, publish)?,
            publish_bytes: rate(&self.publish_bytes, self.publish_bytes_burst, publish_bytes)?,
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

    /// These, and behind them what is agreed on.
    pub(super) fn beside(&self, agreed: &AgreedQuotas) -> Self {
        let is_template = |name: &str| name.contains('*');
        let mut all = self.clone();
        for (name, quota) in agreed.iter().filter(|(name, _)| !is_template(name)) {
            all.by_name.entry(name.clone()).or_insert_with(|| quota.clone());
        }
        let mut templates: Vec<_> =
            agreed.iter().filter(|(name, _)| is_template(name)).cloned().collect();
        templates.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.templates.extend(templates);
        all
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
    use super::{Quota, QuotaSaid, Quotas, Rate};
    use crate::types::Namespace;

    #[test]
    fn a_rate_is_a_number_or_unlimited_or_the_default() {
        let publish = |said: &str| {
            let said: QuotaSaid = toml::from_str(&format!("name = \"a\"\n{said}"))
                .map_err(|bad| bad.message().to_owned())?;
            said.judge().map(|(_, quota)| quota.publish)
        };
        assert_eq!(publish(""), Ok(Quota::DEFAULT.publish));
        assert_eq!(publish("publish_rate = \"unlimited\""), Ok(None));
        let rate = Rate { per_second: 7, burst: 9 };
        assert_eq!(publish("publish_rate = 7\npublish_burst = 9"), Ok(Some(rate)));
        let burst = "publish_rate = \"unlimited\"\npublish_burst = 9";
        assert!(publish(burst).is_err_and(|why| why.contains("without its rate")));
        for bad in ["-1", "\"none\"", "true", "1.5"] {
            let why = publish(&format!("publish_rate = {bad}")).unwrap_err();
            assert!(why.contains("a number a second, or \"unlimited\""), "{bad}: {why}");
        }
    }

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
