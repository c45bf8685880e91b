//! Quotas, rights, keys and namespaces: the agreed facts into messages, and back.

use std::time::{Duration, SystemTime};

use tonic::{Code, Status};

use crate::control::model::State;
use crate::control::model::facts::{AuditLine, KeyEntry, NamespaceEntry, QuotaFacts, RightsFacts};
use crate::control::part::SeatView;
use crate::front::grpc::convert::status;
use crate::rights::Quota;
use crate::rights::bucket::Rate;
use crate::rights::rates::{self, Of};
use crate::wire::v1;

/// What isn't said is as in the access file: of rates the default, of the rest that there is no bound.
pub(super) fn quota_facts(said: Option<v1::Quota>) -> Result<QuotaFacts, Status> {
    let said = said.unwrap_or_default();
    let Quota { publish, publish_bytes, .. } = Quota::DEFAULT;
    let rate = |name: &str, said: Option<String>, of: Of, default: Option<Rate>| {
        let read = said.map_or(Ok(default), |said| rates::parse(&said, of));
        read.map(|rate| rate.map(|Rate { per_second, burst }| (per_second, burst)))
            .map_err(|why| status(Code::InvalidArgument, "bad_quota", format!("{name}: {why}")))
    };
    Ok(QuotaFacts {
        sessions: said.sessions,
        subscriptions: said.subscriptions,
        topics: said.topics,
        presences: said.presences,
        publish: rate("publish_rate", said.publish_rate, Of::Messages, publish)?,
        publish_bytes: rate(
            "publish_bytes_rate",
            said.publish_bytes_rate,
            Of::Bytes,
            publish_bytes,
        )?,
        payload: said.payload_bytes,
        no_patterns: said.patterns == Some(false),
    })
}

fn quota(facts: &QuotaFacts) -> v1::Quota {
    let rate = |rate: Option<(u64, u64)>, of| {
        Some(rates::shown(rate.map(|(per_second, burst)| Rate { per_second, burst }), of))
    };
    v1::Quota {
        sessions: facts.sessions,
        subscriptions: facts.subscriptions,
        topics: facts.topics,
        presences: facts.presences,
        publish_rate: rate(facts.publish, Of::Messages),
        publish_bytes_rate: rate(facts.publish_bytes, Of::Bytes),
        payload_bytes: facts.payload,
        patterns: Some(!facts.no_patterns),
    }
}

pub(super) fn namespace_info(
    state: &State,
    name: &str,
    entry: &NamespaceEntry,
) -> v1::NamespaceInfo {
    let (keys, leases) = state.contents_of(name);
    let quota = Some(quota(&entry.quota));
    v1::NamespaceInfo { name: name.to_owned(), quota, revision: entry.revision, keys, leases }
}

pub(super) fn rights_facts(said: Option<v1::Rights>) -> Result<RightsFacts, Status> {
    let said = said.unwrap_or_default();
    let facts = RightsFacts {
        publish: said.publish,
        subscribe: said.subscribe,
        presence: said.presence,
        lease: said.lease,
        deny_publish: said.deny_publish,
        deny_subscribe: said.deny_subscribe,
        deny_presence: said.deny_presence,
        deny_lease: said.deny_lease,
        observe: said.observe,
        admin: said.admin,
    };
    let allowed = [&facts.publish, &facts.subscribe, &facts.presence, &facts.lease];
    if allowed.into_iter().all(Vec::is_empty) && !facts.observe && !facts.admin {
        let nothing = "a key that may do nothing opens nothing; allow it something";
        return Err(status(Code::InvalidArgument, "unlawful", nothing));
    }
    Ok(facts)
}

fn rights(facts: &RightsFacts) -> v1::Rights {
    v1::Rights {
        publish: facts.publish.clone(),
        subscribe: facts.subscribe.clone(),
        presence: facts.presence.clone(),
        lease: facts.lease.clone(),
        deny_publish: facts.deny_publish.clone(),
        deny_subscribe: facts.deny_subscribe.clone(),
        deny_presence: facts.deny_presence.clone(),
        deny_lease: facts.deny_lease.clone(),
        observe: facts.observe,
        admin: facts.admin,
    }
}

pub(super) fn key_info(id: &str, entry: &KeyEntry, overridden: bool) -> v1::KeyInfo {
    v1::KeyInfo {
        id: id.to_owned(),
        namespace: entry.namespace.to_string(),
        note: entry.note.to_string(),
        expires: entry.ends_s.map(|ends| timestamp(ends.saturating_mul(1_000))),
        rights: Some(rights(&entry.rights)),
        revision: entry.revision,
        overridden,
    }
}

/// Unix time in seconds; it must be still to come.
pub(super) fn ends_s(
    said: Option<prost_types::Timestamp>,
    now_ms: u64,
) -> Result<Option<u64>, Status> {
    let Some(said) = said else { return Ok(None) };
    let at = SystemTime::try_from(said).ok();
    let at = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    match at.map(|at| at.as_secs()) {
        Some(ends) if ends.saturating_mul(1_000) > now_ms => Ok(Some(ends)),
        _ => Err(status(Code::InvalidArgument, "unlawful", "the key would be over already")),
    }
}

pub(super) fn member(seat: SeatView) -> v1::ControlMember {
    v1::ControlMember {
        node: seat.name,
        raft_id: seat.id.map(|id| format!("{id:016x}")).unwrap_or_default(),
        role: seat.role.as_str().to_owned(),
        durable: seat.durable,
        state: seat.state.map_or_else(|| "gone".to_owned(), |state| state.to_string()),
    }
}

pub(super) fn audit_line(line: &AuditLine) -> v1::AuditLine {
    v1::AuditLine {
        number: line.number,
        at: Some(timestamp(line.at_ms)),
        by: line.by.to_string(),
        what: line.what.to_string(),
    }
}

fn timestamp(unix_ms: u64) -> prost_types::Timestamp {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    at.map(prost_types::Timestamp::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::{ends_s, quota, quota_facts, rights, rights_facts};
    use crate::control::model::facts::QuotaFacts;
    use crate::rights::Quota;
    use crate::wire::v1;

    #[test]
    fn a_quota_is_read_back_as_it_was_said() {
        let facts = quota_facts(None).unwrap();
        assert_eq!(facts.quota(), Quota::DEFAULT);
        let said = v1::Quota {
            sessions: Some(3),
            presences: Some(0),
            publish_rate: Some("100/s burst 500".into()),
            publish_bytes_rate: Some("unlimited".into()),
            patterns: Some(false),
            ..v1::Quota::default()
        };
        let facts = quota_facts(Some(said.clone())).unwrap();
        let wanted = QuotaFacts {
            sessions: Some(3),
            presences: Some(0),
            publish: Some((100, 500)),
            no_patterns: true,
            ..QuotaFacts::default()
        };
        assert_eq!(facts, wanted);
        assert_eq!(quota(&facts), said);
        for rate in ["", "0/s", "fast"] {
            let said = v1::Quota { publish_rate: Some(rate.into()), ..said.clone() };
            let refused = quota_facts(Some(said)).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().starts_with("publish_rate: "), "{refused:?}");
        }
    }

    #[test]
    fn rights_are_read_back_as_they_were_said_and_none_are_refused() {
        let list = |text: &str| vec![text.to_owned()];
        let said = v1::Rights {
            publish: list("a"),
            subscribe: list("b"),
            presence: list("c"),
            lease: list("d"),
            deny_publish: list("e"),
            deny_subscribe: list("f"),
            deny_presence: list("g"),
            deny_lease: list("h"),
            observe: true,
            admin: true,
        };
        assert_eq!(rights(&rights_facts(Some(said.clone())).unwrap()), said);
        let denies = v1::Rights { deny_publish: list("*"), ..v1::Rights::default() };
        for said in [None, Some(denies)] {
            assert_eq!(rights_facts(said).unwrap_err().code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn a_key_ends_later_than_now() {
        let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        assert_eq!(ends_s(None, 5_000).unwrap(), None);
        assert_eq!(ends_s(at(6, 0), 5_000).unwrap(), Some(6));
        for over in [at(5, 0), at(0, 0), at(-7, 0), at(i64::MIN, i32::MIN)] {
            assert!(ends_s(over, 5_000).is_err(), "{over:?}");
        }
        // Neither is a time beyond all bounds a panic.
        let _ = ends_s(at(i64::MAX, i32::MAX), 5_000);
    }
}
