//! What the router can tell of itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::RouterHandle;
use super::lane::Lane;
use crate::membership::MemberState;
use crate::pubsub::gap::GapCounts;
use crate::pubsub::mailbox::MailboxReport;
use crate::types::{Namespace, NodeName, Topic};

#[derive(Debug, Clone, Default)]
pub struct TopicReport {
    pub topic: String,
    pub local_subscriptions: u64,
    /// Of other members, as they last announced.
    pub members: Vec<(NodeName, u64)>,
    /// Of this node's subscribers, that the topic matches.
    pub patterns: Vec<String>,
}

/// Now, and since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouterReport {
    pub topics: u64,
    pub subscriptions: u64,
    pub patterns: u64,
    pub published: u64,
    pub delivered: u64,
    /// Those of them that went to who gets a copy for each match.
    pub delivered_each_match: u64,
    /// To peers, counted once for each.
    pub forwarded: u64,
    pub dropped: u64,
    /// Put into mailboxes, by the number of their reason.
    pub gaps: GapCounts,
    pub mailboxes: u64,
    pub mailbox_bytes: u64,
    /// Over half full.
    pub slow_mailboxes: u64,
    /// Bytes that are kept for the peer that has most of them, sent and not acknowledged or not yet sent.
    pub fullest_outbox: u64,
    /// Messages for peers that were over what is kept for them, or too old.
    pub dropped_for_links: u64,
}

impl RouterHandle {
    /// Topics with local subscribers, in order of name, at most `limit`, and whether there are more.
    pub fn topics(
        &self,
        namespace: &Namespace,
        prefix: &str,
        limit: usize,
    ) -> (Vec<TopicReport>, bool) {
        let mut found =
            self.0.registry.topics(namespace, prefix.as_bytes(), limit.saturating_add(1));
        let more = found.len() > limit;
        found.truncate(limit);
        (found.iter().map(|(topic, _)| self.describe_topic(topic)).collect(), more)
    }

    pub fn describe_topic(&self, topic: &Topic) -> TopicReport {
        let members = self.0.lanes();
        let members = members
            .iter()
            .map(|lane| (lane.name.clone(), lane.interest.read().subscriptions(topic)));
        let patterns = self.0.registry.patterns_of(topic);
        TopicReport {
            topic: topic.to_string(),
            local_subscriptions: self.0.registry.subscribers(topic)
                + patterns.iter().map(|(_, count)| count).sum::<u64>(),
            members: members.filter(|(_, subscriptions)| *subscriptions > 0).collect(),
            patterns: patterns
                .iter()
                .map(|(pattern, _)| String::from_utf8_lossy(&pattern.glob).into_owned())
                .collect(),
        }
    }

    pub fn report(&self) -> RouterReport {
        let counts = self.0.registry.counts();
        let mut report = RouterReport {
            topics: counts.topics,
            subscriptions: counts.subscriptions,
            patterns: counts.patterns,
            published: self.0.published.load(Ordering::Relaxed),
            delivered: counts.delivered,
            delivered_each_match: counts.delivered_each_match,
            forwarded: self.0.forwarded.load(Ordering::Relaxed),
            dropped: counts.dropped,
            gaps: *self.0.gaps_of_closed.lock(),
            fullest_outbox: self
                .outboxes(|_| true)
                .map(|one| one.bytes + one.unsettled)
                .max()
                .unwrap_or(0) as u64,
            dropped_for_links: self.dropped_for_links(),
            ..RouterReport::default()
        };
        for subscriber in self.0.subscribers.read().values() {
            let mailbox = subscriber.mailbox.report();
            report.mailboxes += 1;
            report.mailbox_bytes += mailbox.bytes as u64;
            report.slow_mailboxes += u64::from(mailbox.bytes > mailbox.limit / 2);
            report.gaps.iter_mut().zip(mailbox.gaps).for_each(|(sum, gaps)| *sum += gaps);
        }
        report
    }

    /// Bytes that wait for links to live members.
    pub fn queued_for_links(&self) -> u64 {
        let members = self.0.membership.members();
        let live = |name: &NodeName| members.get(name).is_some_and(|one| one.state.is_live());
        self.outboxes(live).map(|one| one.bytes as u64).sum()
    }

    fn outboxes(&self, of: impl Fn(&NodeName) -> bool) -> impl Iterator<Item = MailboxReport> {
        let lanes = self.0.lanes();
        let of_these = lanes.iter().filter(|lane| of(&lane.name));
        let outboxes: Vec<_> =
            of_these.filter_map(|lane| lane.state.lock().outbox.clone()).collect();
        outboxes.into_iter().map(|outbox| outbox.report())
    }

    fn dropped_for_links(&self) -> u64 {
        let dropped = |lane: &Arc<Lane>| {
            let state = lane.state.lock();
            state.dropped + state.outbox.as_ref().map_or(0, |outbox| outbox.report().dropped)
        };
        self.0.lanes().iter().map(dropped).sum()
    }

    /// Linked both ways with every ready member, its interest applied here and ours there.
    pub fn connected_to_all(&self) -> bool {
        let ready =
            |state: MemberState| matches!(state, MemberState::Ready | MemberState::Draining);
        self.0.membership.members().live_peers().filter(|member| ready(member.state)).all(
            |member| {
                self.0.find_lane(&member.name).is_some_and(|lane| {
                    let state = lane.state.lock();
                    let out = state
                        .out
                        .as_ref()
                        .is_some_and(|up| up.link.incarnation == member.incarnation);
                    let inward = state
                        .inward
                        .as_ref()
                        .is_some_and(|up| up.link.incarnation == member.incarnation);
                    out && inward
                        && state.applied.is_some()
                        && lane.interest.read().version().is_some()
                })
            },
        )
    }
}
