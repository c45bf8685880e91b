//! ● What is agreed on: namespaces with their quotas, keys, leases. Plain data, as it stands in entries and snapshots.
//!
//! Texts are judged by whoever applies them, not by their type: an entry may come from a newer member, and a member that could not even
//! read it could not go on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bounds::{LEASE_NAME_LEN_MAX, NOTE_LEN_MAX};
use crate::rights::Quota;
use crate::rights::bucket::Rate;
use crate::rights::said::RightsSaid;
use crate::types::{Namespace, SessionId};

/// Of the group of members that agree. Chance, made at its founding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub [u8; 16]);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One incarnation of a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberAt {
    pub name: Box<str>,
    pub incarnation: u64,
}

/// How much a namespace may have, as `rights::Quota` means it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaFacts {
    pub sessions: Option<u64>,
    pub subscriptions: Option<u64>,
    pub topics: Option<u64>,
    pub presences: Option<u64>,
    /// Messages a second, and at once.
    pub publish: Option<(u64, u64)>,
    /// Bytes a second, and at once.
    pub publish_bytes: Option<(u64, u64)>,
    pub payload: Option<u64>,
    pub no_patterns: bool,
}

impl QuotaFacts {
    pub fn quota(&self) -> Quota {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let rate = |(per_second, burst)| Rate { per_second, burst };
        Quota {
            sessions: self.sessions,
            subscriptions: self.subscriptions,
            topics: self.topics,
            presences: self.presences.map(size),
            publish: self.publish.map(rate),
            publish_bytes: self.publish_bytes.map(rate),
            payload: self.payload.map(size),
            patterns: !self.no_patterns,
        }
    }

    pub(super) fn judge(&self) -> Result<(), String> {
        let rates = [self.publish, self.publish_bytes];
        if rates.into_iter().flatten().any(|(rate, burst)| rate == 0 || burst == 0) {
            return Err("a rate, and its burst, must be more than nothing".to_owned());
        }
        Ok(())
    }
}

/// What a key may, as the access file says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsFacts {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
    pub presence: Vec<String>,
    pub lease: Vec<String>,
    pub deny_publish: Vec<String>,
    pub deny_subscribe: Vec<String>,
    pub deny_presence: Vec<String>,
    pub deny_lease: Vec<String>,
    pub observe: bool,
    pub admin: bool,
}

impl RightsFacts {
    pub fn said(&self) -> RightsSaid {
        RightsSaid {
            publish: self.publish.clone(),
            subscribe: self.subscribe.clone(),
            presence: self.presence.clone(),
            lease: self.lease.clone(),
            deny_publish: self.deny_publish.clone(),
            deny_subscribe: self.deny_subscribe.clone(),
            deny_presence: self.deny_presence.clone(),
            deny_lease: self.deny_lease.clone(),
            observe: self.observe,
            admin: self.admin,
        }
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &String> {
        let allowed = [&self.publish, &self.subscribe, &self.presence, &self.lease];
        let denied =
            [&self.deny_publish, &self.deny_subscribe, &self.deny_presence, &self.deny_lease];
        allowed.into_iter().chain(denied).flatten()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceEntry {
    pub quota: QuotaFacts,
    /// Of its last change.
    pub revision: u64,
}

/// A key: never its text, which only its owner has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// SHA-256 of the text.
    pub hash: [u8; 32],
    pub namespace: Box<str>,
    pub note: Box<str>,
    /// Unix time in seconds.
    pub ends_s: Option<u64>,
    pub rights: RightsFacts,
    pub revision: u64,
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEntry").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseKey {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// As long as it is attached there, and a TTL longer.
    Session { id: SessionId, epoch: u64, at: MemberAt },
    /// Somebody without a session, who has to renew. Chance.
    Alone { id: [u8; 16] },
}

/// The same owner whatever became of it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OwnerId {
    Session(SessionId),
    Alone([u8; 16]),
}

impl Owner {
    pub const fn id(&self) -> OwnerId {
        match self {
            Self::Session { id, .. } => OwnerId::Session(*id),
            Self::Alone { id } => OwnerId::Alone(*id),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// By an attached session: no time runs.
    Attached,
    /// It ends a TTL after whoever leads saw this beat.
    Runs,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: Owner,
    /// Higher than that of every lease before it, whatever its name.
    pub token: u64,
    /// Rises with every renewal and every word of its session.
    pub beat: u64,
    pub held: Held,
    pub ttl_ms: u64,
    /// For people.
    pub note: Box<str>,
    /// What the leader's clock said when it was acquired, for people.
    pub since_ms: u64,
}

/// One line of who changed what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    pub number: u64,
    pub at_ms: u64,
    pub by: Box<str>,
    pub what: Box<str>,
}

/// A tenant's name, and none of the nodes' own.
pub(super) fn judge_namespace(name: &str) -> Result<(), String> {
    Namespace::parse(name).map_err(|bad| bad.to_string())?;
    if name.starts_with('_') {
        return Err("namespaces that begin with _ are the nodes' own".to_owned());
    }
    Ok(())
}

/// A name, or a template: what stands for any run must leave a lawful name.
pub(super) fn judge_template(name: &str) -> Result<(), String> {
    judge_namespace(&name.replace('*', "x"))
}

pub(super) fn judge_lease(key: &LeaseKey) -> Result<(), String> {
    judge_namespace(&key.namespace)?;
    let name = &*key.name;
    if name.is_empty() || name.len() > LEASE_NAME_LEN_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "a lease's name must be 1 to {LEASE_NAME_LEN_MAX} bytes of text in one line"
        ));
    }
    Ok(())
}

pub(super) fn judge_note(note: &str) -> Result<(), String> {
    if note.chars().count() > NOTE_LEN_MAX || note.chars().any(char::is_control) {
        return Err(format!("a note must be one line of at most {NOTE_LEN_MAX} characters"));
    }
    Ok(())
}

pub(super) fn judge_member(at: &MemberAt) -> Result<(), String> {
    crate::types::NodeName::parse(&at.name).map(|_| ()).map_err(|bad| bad.to_string())
}
