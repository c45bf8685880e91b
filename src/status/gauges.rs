//! Sets the gauges of `/metrics` from what the report is made of, at the moment of being asked; and the counters of messages, so that
//! the data path counts each message once and not for every reader.

use std::collections::BTreeMap;

use metrics::{counter, gauge};

use super::document::StatusReport;
use super::facts::Facts;
use crate::link::Direction;
use crate::membership::MemberState;
use crate::metrics::names;
use crate::pubsub::GapReason;

/// States are shown with their zeros, so that an alarm can be set before the first member goes down.
const STATES: [MemberState; 5] = [
    MemberState::Joining,
    MemberState::Ready,
    MemberState::Draining,
    MemberState::Leaving,
    MemberState::Down,
];

pub(super) fn set(facts: &Facts, report: &StatusReport) {
    gauge!(names::BUILD_INFO, "version" => facts.node.version.clone()).set(1.0);
    gauge!(names::INSECURE).set(f64::from(u8::from(facts.node.insecure())));

    if let Some(certificate) = facts.certificate {
        let peer = certificate.is_for_peers.then_some("peer");
        for front in ["grpc", "http", "redis"].into_iter().chain(peer) {
            let expiry = certificate.not_after as f64;
            gauge!(names::CERTIFICATE_EXPIRY, "front" => front).set(expiry);
        }
    }

    let mut states: BTreeMap<_, u32> = STATES.into_iter().map(|state| (state, 0)).collect();
    for member in facts.members.iter() {
        *states.entry(member.state).or_default() += 1;
    }
    for (state, members) in states {
        gauge!(names::MEMBERS, "state" => state.as_str()).set(f64::from(members));
    }

    gauge!(names::SESSIONS, "front" => "grpc").set(report.sessions.grpc as f64);
    gauge!(names::SESSIONS, "front" => "redis").set(report.sessions.redis as f64);
    gauge!(names::TOPICS).set(report.pubsub.topics as f64);
    gauge!(names::SUBSCRIPTIONS, "kind" => "topic").set(report.pubsub.subscriptions as f64);
    gauge!(names::SUBSCRIPTIONS, "kind" => "pattern").set(report.pubsub.patterns as f64);
    gauge!(names::MAILBOX_BYTES).set(facts.router.mailbox_bytes as f64);
    gauge!(names::SLOW_SESSIONS).set(facts.router.slow_mailboxes as f64);

    gauge!(names::PRESENCES).set(report.presence.presences as f64);
    gauge!(names::PRESENCES_ORPHANED).set(report.presence.orphaned as f64);

    gauge!(names::CONTROL_QUORUM).set(f64::from(u8::from(report.control.quorum)));
    gauge!(names::CONTROL_APPLIED).set(report.control.applied as f64);

    // HTTP and Redis count what they publish, the rest is gRPC's. Only Redis clients get a copy for each match.
    let (by_http, by_redis) = (facts.published_by_http, facts.published_by_redis);
    let by_grpc = report.pubsub.published_total.saturating_sub(by_http + by_redis);
    counter!(names::MESSAGES_PUBLISHED, "front" => "http").absolute(by_http);
    counter!(names::MESSAGES_PUBLISHED, "front" => "redis").absolute(by_redis);
    counter!(names::MESSAGES_PUBLISHED, "front" => "grpc").absolute(by_grpc);
    let to_redis = facts.router.delivered_each_match;
    let to_grpc = report.pubsub.delivered_total.saturating_sub(to_redis);
    counter!(names::MESSAGES_DELIVERED, "front" => "redis").absolute(to_redis);
    counter!(names::MESSAGES_DELIVERED, "front" => "grpc").absolute(to_grpc);
    counter!(names::MESSAGES_DROPPED, "reason" => "slow_subscriber")
        .absolute(report.pubsub.dropped_total);
    counter!(names::MESSAGES_DROPPED, "reason" => "link").absolute(facts.router.dropped_for_links);
    for (reason, gaps) in GapReason::ALL.into_iter().zip(facts.router.gaps) {
        counter!(names::GAPS, "reason" => reason.as_str()).absolute(gaps);
    }

    for member in facts.members.iter().filter(|member| !member.me) {
        let peer = member.name.to_string();
        let up = facts.linked.contains(&member.name);
        gauge!(names::LINK_UP, "peer" => peer.clone()).set(f64::from(u8::from(up)));
        let Some(link) = facts.link(&member.name, Direction::Out) else { continue };
        gauge!(names::LINK_UNACKED_BYTES, "peer" => peer.clone()).set(link.unacked_bytes as f64);
        if let Some(rtt) = link.rtt {
            gauge!(names::LINK_RTT, "peer" => peer).set(rtt.as_secs_f64());
        }
    }
}
