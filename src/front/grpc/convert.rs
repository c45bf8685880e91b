//! Our own words into gRPC's: refusals and endings into statuses, reports into the messages of the admin service.

use std::time::Duration;

use http::HeaderMap;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::broker::{BrokerError, Door, Ending, Pass, SessionReport, bearer};
use crate::membership::Members;
use crate::router::{PublishError, TopicReport};
use crate::status::MemberStatus;
use crate::supervise::DrainStep;
use crate::types::{Namespace, NodeName};
use crate::wire::v1;

/// Where programs find the stable code of a status.
const CODE_KEY: &str = "waxwing-code";

const NAMESPACE_KEY: &str = "waxwing-namespace";

/// A refusal of a whole call.
pub(super) fn status_of(error: &BrokerError) -> Status {
    let code = match error {
        BrokerError::Topic(_)
        | BrokerError::Key(_)
        | BrokerError::BadToken(_)
        | BrokerError::Invalid(_) => Code::InvalidArgument,
        BrokerError::PayloadTooLarge { .. }
        | BrokerError::HeadersTooLarge { .. }
        | BrokerError::TooManySubscriptions { .. }
        | BrokerError::TooManyPatterns { .. }
        | BrokerError::TooManySessions { .. }
        | BrokerError::TooManyTopics { .. }
        | BrokerError::MetadataTooLarge { .. }
        | BrokerError::TooManyPresences { .. }
        | BrokerError::NamespaceFull { .. }
        | BrokerError::TooManyWatches { .. }
        | BrokerError::Quota { .. }
        | BrokerError::Rate { .. } => Code::ResourceExhausted,
        BrokerError::NotTracked => Code::NotFound,
        BrokerError::NotOwner | BrokerError::OlderRevision { .. } | BrokerError::NotHere(_) => {
            Code::FailedPrecondition
        }
        BrokerError::Publish(PublishError::UnknownNode(_)) | BrokerError::UnknownSession(_) => {
            Code::NotFound
        }
        BrokerError::Publish(PublishError::NotConnected(_)) | BrokerError::Draining => {
            Code::Unavailable
        }
        BrokerError::NotAdmitted(_) => Code::Unauthenticated,
        BrokerError::OtherNamespace | BrokerError::Forbidden(_) => Code::PermissionDenied,
        BrokerError::Superseded => Code::Aborted,
    };
    let mut message = error.to_string();
    if !error.hint().is_empty() {
        message = format!("{message}; {}", error.hint());
    }
    status(code, error.code(), message)
}

/// `None`: the stream ends well.
pub(super) fn status_of_ending(ending: &Ending) -> Option<Status> {
    let code = match ending {
        Ending::Bye | Ending::Lost => return None,
        Ending::Superseded
        | Ending::OverlapOver
        | Ending::SessionEnded
        | Ending::Killed
        | Ending::Stalled(_)
        | Ending::OutputLimit
        | Ending::Gap => Code::Aborted,
        Ending::Revoked | Ending::Expired => Code::Unauthenticated,
        Ending::NodeCloses(_) => Code::Unavailable,
        Ending::Malformed(_) => Code::InvalidArgument,
        Ending::FrameTooLarge { .. } => Code::ResourceExhausted,
        Ending::Failed => Code::Internal,
    };
    Some(status(code, ending.label(), ending.to_string()))
}

pub(super) fn status(code: Code, stable: &'static str, message: impl Into<String>) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(CODE_KEY, MetadataValue::from_static(stable));
    status
}

/// Whoever asks, by what its call's metadata show.
pub(super) fn admit(door: &Door, headers: &HeaderMap) -> Result<Pass, Status> {
    let said = namespace(headers)?;
    let shown = headers.get(http::header::AUTHORIZATION);
    let shown = shown.and_then(|shown| bearer(shown.as_bytes()));
    door.admit(super::FRONT, shown, said).map_err(|error| status_of(&error))
}

/// As `admit`, for who is asked about any namespace if its key may observe, and of its own if not.
pub(super) fn admit_of_any(
    door: &Door,
    headers: &HeaderMap,
    said: Option<Namespace>,
) -> Result<Pass, Status> {
    let shown = headers.get(http::header::AUTHORIZATION);
    let shown = shown.and_then(|shown| bearer(shown.as_bytes()));
    let named = if door.is_locked() { None } else { said };
    door.admit(super::FRONT, shown, named).map_err(|error| status_of(&error))
}

/// As `admit`, where nothing hangs on the answer but what a connection may hold.
pub(super) fn is_known(door: &Door, headers: &HeaderMap) -> bool {
    let shown = headers.get(http::header::AUTHORIZATION);
    door.knows(shown.and_then(|shown| bearer(shown.as_bytes())))
}

/// None: nothing was said.
pub(super) fn namespace(headers: &HeaderMap) -> Result<Option<Namespace>, Status> {
    let Some(said) = headers.get(NAMESPACE_KEY) else { return Ok(None) };
    let said = String::from_utf8_lossy(said.as_bytes());
    Namespace::parse(&said)
        .map(Some)
        .map_err(|bad| status(Code::InvalidArgument, "bad_namespace", bad.to_string()))
}

/// Is this node meant? If not, the caller is told whom to ask.
pub(super) fn only_me(node: &str, me: &NodeName, members: &Members) -> Result<(), Status> {
    if node.is_empty() || node == me.as_str() {
        return Ok(());
    }
    let member = NodeName::parse(node).ok().and_then(|name| members.get(&name).cloned());
    Err(match member {
        Some(member) => status(
            Code::InvalidArgument,
            "other_node",
            format!("this is {me}; ask {} itself, at {}", member.name, member.addresses.grpc),
        ),
        None => status(
            Code::InvalidArgument,
            "unknown_node",
            format!("no member has that name, this is {me}; see: waxwing members"),
        ),
    })
}

pub(super) fn session_info(report: SessionReport, node: &NodeName) -> v1::SessionInfo {
    v1::SessionInfo {
        id: report.id.to_string(),
        node: node.to_string(),
        namespace: report.namespace.to_string(),
        front: report.front.to_owned(),
        client: report.client,
        address: report.address,
        state: if report.attached { "attached" } else { "lingering" }.to_owned(),
        epoch: report.epoch,
        since: Some(timestamp(report.since_ms)),
        subscriptions: u32::try_from(report.subscriptions).unwrap_or(u32::MAX),
        mailbox_bytes: report.mailbox.bytes as u64,
        mailbox_limit: report.mailbox.limit as u64,
        delivered: report.mailbox.delivered,
        dropped: report.mailbox.dropped,
        topics: report.topics,
        patterns: report.patterns,
    }
}

pub(super) fn topic_info(report: TopicReport, details: bool) -> v1::TopicInfo {
    let elsewhere: u64 = report.members.iter().map(|(_, subscriptions)| subscriptions).sum();
    let members = report
        .members
        .into_iter()
        .map(|(node, subscriptions)| v1::TopicMember { node: node.to_string(), subscriptions });
    v1::TopicInfo {
        topic: report.topic,
        local_subscriptions: report.local_subscriptions,
        subscriptions: report.local_subscriptions.saturating_add(elsewhere),
        members: if details { members.collect() } else { Vec::new() },
        patterns: if details { report.patterns } else { Vec::new() },
    }
}

pub(super) fn member_info(row: MemberStatus) -> v1::MemberInfo {
    v1::MemberInfo {
        name: row.name,
        state: row.state,
        grpc: row.addresses.grpc,
        peer: row.addresses.peer,
        http: row.addresses.http,
        version: row.version,
        incarnation: row.incarnation,
        up: seconds(row.up_s),
        sessions: row.sessions,
        me: row.me,
        link_out: row.link.out,
        link_in: row.link.inward,
        rtt: row.link.rtt_ms.and_then(|ms| seconds(ms / 1_000.0)),
        problems: row.problems,
    }
}

pub(super) fn drain_event(step: DrainStep) -> v1::DrainEvent {
    v1::DrainEvent { step: step.step.to_owned(), detail: step.detail, done: step.done }
}

pub(super) fn timestamp(unix_ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(unix_ms % 1_000 * 1_000_000).unwrap_or(0),
    }
}

fn seconds(seconds: f64) -> Option<prost_types::Duration> {
    Duration::try_from_secs_f64(seconds).ok().and_then(|duration| duration.try_into().ok())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use tonic::Code;

    use super::{namespace, status_of, status_of_ending};
    use crate::broker::{BrokerError, Ending};

    #[test]
    fn refusals_name_their_code_and_what_to_do() {
        let status = status_of(&BrokerError::PayloadTooLarge { size: 2, max: 1 });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.metadata().get("waxwing-code").unwrap().to_str().unwrap(),
            "payload_too_large"
        );
        assert!(status.message().contains("limits.payload"), "{status:?}");
    }

    #[test]
    fn a_bye_ends_well_and_a_kill_does_not() {
        assert!(status_of_ending(&Ending::Bye).is_none());
        assert_eq!(status_of_ending(&Ending::Killed).unwrap().code(), Code::Aborted);
    }

    #[test]
    fn the_namespace_is_judged() {
        let check = |said: Option<&[u8]>, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert("waxwing-namespace", HeaderValue::from_bytes(said).unwrap());
            }
            let got = namespace(&headers).map(|namespace| namespace.unwrap_or_default());
            assert_eq!(got.as_ref().ok().map(|namespace| namespace.as_str()), expected, "{got:?}");
        };
        check(None, Some("default"));
        check(Some(b"shop-1"), Some("shop-1"));
        check(Some(b""), None);
        check(Some(b"a b"), None);
        check(Some(b"\xff"), None);
    }
}
