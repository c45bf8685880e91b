//! ● The state of the machine, and one batch after another applied to it.
//!
//! Invariants: a refused command changes nothing; every command has one answer; whatever stands here is within `bounds`; tokens rise;
//! what is derived (`index`) says the same as what it is derived from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::bounds::{AUDIT_LINES_MAX, BY_LEN_MAX, COMMANDS_MAX, FACTS_BYTES_MAX, ITEMS_MAX};
use super::command::{Answer, Answers, Batch, Bound, Change, Command, Refusal};
use super::facts::{AuditLine, GroupId, Held, KeyEntry, Lease, LeaseKey, NamespaceEntry, Owner};
use crate::types::SessionId;

/// Tokens begin at a founder's second times this, so that they rise even over groups that lost everything. Below 2^53 for long.
const TOKENS_PER_SECOND: u64 = 1 << 16;
/// A copy may miss what its lost group did last: no token that it can have given is given again.
const TOKENS_SKIPPED: u64 = 1 << 32;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) group: Option<GroupId>,
    pub(super) written: bool,
    pub(super) dissolved: Option<GroupId>,
    /// The lost group that it was founded from a copy of.
    pub(super) continues: Option<GroupId>,
    /// How many changes of namespaces and keys there were.
    pub(super) revision: u64,
    pub(super) next_token: u64,
    pub(super) namespaces: BTreeMap<Box<str>, NamespaceEntry>,
    pub(super) keys: BTreeMap<Box<str>, KeyEntry>,
    pub(super) leases: BTreeMap<LeaseKey, Lease>,
    pub(super) audit: VecDeque<AuditLine>,
    pub(super) audit_next: u64,
    #[serde(skip)]
    pub(super) index: Index,
}

/// Derived from the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) leases_of: BTreeMap<SessionId, BTreeSet<LeaseKey>>,
    /// Of each namespace: keys, leases. None that has neither.
    pub(super) contents: BTreeMap<Box<str>, Contents>,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) keys: u64,
    pub(super) leases: u64,
}

/// What a batch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    pub answers: Answers,
    pub touched: Touched,
}

/// Where to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Namespaces or keys.
    pub access: bool,
    pub leases: BTreeSet<LeaseKey>,
}

/// The command that is applied, and its surroundings.
pub(super) struct Doing<'a> {
    pub(super) by: &'a str,
    pub(super) at_ms: u64,
    pub(super) touched: &'a mut Touched,
}

impl State {
    pub const fn group(&self) -> Option<GroupId> {
        self.group
    }

    /// Was a namespace, a key or a lease ever made?
    pub const fn is_written(&self) -> bool {
        self.written
    }

    /// For which group it ended.
    pub const fn dissolved(&self) -> Option<GroupId> {
        self.dissolved
    }

    /// The lost group that this one goes on from.
    pub const fn continues(&self) -> Option<GroupId> {
        self.continues
    }

    pub const fn revision(&self) -> u64 {
        self.revision
    }

    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &NamespaceEntry)> {
        self.namespaces.iter().map(|(name, entry)| (&**name, entry))
    }

    pub fn namespace(&self, name: &str) -> Option<&NamespaceEntry> {
        self.namespaces.get(name)
    }

    pub fn keys(&self) -> impl Iterator<Item = (&str, &KeyEntry)> {
        self.keys.iter().map(|(id, entry)| (&**id, entry))
    }

    pub fn namespace_count(&self) -> usize {
        self.namespaces.len()
    }

    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// How many keys and leases a namespace has.
    pub fn contents_of(&self, namespace: &str) -> (u64, u64) {
        let contents = self.index.contents(namespace);
        (contents.keys, contents.leases)
    }

    pub fn key(&self, id: &str) -> Option<&KeyEntry> {
        self.keys.get(id)
    }

    pub fn leases(&self) -> impl Iterator<Item = (&LeaseKey, &Lease)> {
        self.leases.iter()
    }

    pub fn lease(&self, key: &LeaseKey) -> Option<&Lease> {
        self.leases.get(key)
    }

    pub fn leases_of(&self, session: SessionId) -> impl Iterator<Item = (&LeaseKey, &Lease)> {
        let keys = self.index.leases_of.get(&session).into_iter().flatten();
        keys.filter_map(|key| self.leases.get_key_value(key))
    }

    /// Sessions that hold leases.
    pub fn holders(&self) -> impl ExactSizeIterator<Item = SessionId> {
        self.index.leases_of.keys().copied()
    }

    /// Oldest first.
    pub fn audit(&self) -> impl Iterator<Item = &AuditLine> {
        self.audit.iter()
    }

    #[must_use]
    pub fn apply(&mut self, batch: &Batch) -> Applied {
        let mut touched = Touched::default();
        let fits = batch.commands.len() <= COMMANDS_MAX;
        let answer = |command: &Command| {
            if !fits {
                return too_many(Bound::Commands, COMMANDS_MAX as u64);
            }
            let by = &*command.by;
            let mut doing = Doing { by, at_ms: batch.at_ms, touched: &mut touched };
            self.one(command, &mut doing).unwrap_or_else(Answer::Refused)
        };
        let answers = Answers(batch.commands.iter().map(answer).collect());
        Applied { answers, touched }
    }

    fn one(&mut self, command: &Command, doing: &mut Doing<'_>) -> Result<Answer, Refusal> {
        if command.by.len() > BY_LEN_MAX || command.by.chars().any(char::is_control) {
            return Err(Refusal::Unlawful("who asks is too long a name".to_owned()));
        }
        if let Some(into) = self.dissolved {
            return Err(Refusal::Dissolved(into));
        }
        match &command.change {
            Change::Found { group, at_s } => return self.found(*group, *at_s, doing),
            Change::FoundAgain { group, at_s } => return self.found_again(*group, *at_s, doing),
            _ if self.group.is_none() => return Err(Refusal::NotFounded),
            _ => {}
        }
        match &command.change {
            Change::Found { .. } | Change::FoundAgain { .. } => Err(Refusal::NotFounded),
            Change::CreateNamespace { name, quota } => self.create_namespace(name, quota, doing),
            Change::UpdateNamespace { name, quota, expected } => {
                self.update_namespace(name, quota, *expected, doing)
            }
            Change::DeleteNamespace { name, contents } => {
                self.delete_namespace(name, *contents, doing)
            }
            Change::CreateKey(key) => self.create_key(key, doing),
            Change::RevokeKey { id } => self.revoke_key(id, doing),
            Change::Acquire(acquire) => self.acquire(acquire, doing),
            Change::Renew { lease, owner, token, ttl_ms } => {
                self.renew(lease, *owner, *token, *ttl_ms, doing)
            }
            Change::Release { lease, owner, token } => self.release(lease, *owner, *token, doing),
            Change::Expire(due) => self.expire(items(due)?, doing),
            Change::Sessions(reports) => self.sessions(items(reports)?, doing),
            Change::MemberLost(lost) => Ok(self.member_lost(lost, doing)),
            Change::Dissolve { into } => self.dissolve(*into, doing),
        }
    }

    fn found(
        &mut self,
        group: GroupId,
        at_s: u64,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        match self.group {
            Some(other) if other != group => return Err(Refusal::OtherGroup(other)),
            Some(_) => {}
            None => {
                self.group = Some(group);
                self.next_token = first_token(at_s);
                self.write_down(doing, format!("founded the group {group}"));
            }
        }
        Ok(Answer::Done { revision: self.revision })
    }

    fn found_again(
        &mut self,
        group: GroupId,
        at_s: u64,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        let Some(lost) = self.group else { return Err(Refusal::NotFounded) };
        if lost != group {
            let next = self.next_token.saturating_add(TOKENS_SKIPPED).max(first_token(at_s));
            self.next_token = next;
            self.group = Some(group);
            self.continues = Some(lost);
            self.dissolved = None;
            for (key, lease) in &mut self.leases {
                lease.held = Held::Runs;
                lease.beat += 1;
                doing.touched.leases.insert(key.clone());
            }
            self.write_down(doing, format!("founded the group {group} from a copy of {lost}"));
        }
        Ok(Answer::Done { revision: self.revision })
    }

    /// Decided in the log, so that nothing can have been acknowledged that it takes away.
    fn dissolve(&mut self, into: GroupId, doing: &Doing<'_>) -> Result<Answer, Refusal> {
        if self.written {
            return Err(Refusal::Written);
        }
        if self.group == Some(into) {
            return Err(Refusal::Unlawful("a group can't end for itself".to_owned()));
        }
        self.dissolved = Some(into);
        self.write_down(doing, format!("ended the group for {into}"));
        Ok(Answer::Done { revision: self.revision })
    }

    /// Counts a change of namespaces or keys, and writes down who made it.
    pub(super) fn changed(&mut self, doing: &mut Doing<'_>, what: String) -> Answer {
        self.written = true;
        doing.touched.access = true;
        self.write_down(doing, what);
        Answer::Done { revision: self.revision }
    }

    fn write_down(&mut self, doing: &Doing<'_>, what: String) {
        self.audit_next += 1;
        let line = AuditLine {
            number: self.audit_next,
            at_ms: doing.at_ms,
            by: doing.by.into(),
            what: what.into(),
        };
        self.audit.push_back(line);
        if self.audit.len() > AUDIT_LINES_MAX {
            self.audit.pop_front();
        }
    }

    /// Is there room for so many bytes in place of so many?
    pub(super) fn room(&self, new: u64, old: u64) -> Result<(), Refusal> {
        if new > old && self.index.bytes - old + new > FACTS_BYTES_MAX {
            return Err(Refusal::TooMany { bound: Bound::Bytes, max: FACTS_BYTES_MAX });
        }
        Ok(())
    }

    pub(super) fn put_lease(&mut self, key: &LeaseKey, lease: Lease, doing: &mut Doing<'_>) {
        self.take_lease(key, doing);
        self.index.add_lease(key, &lease);
        self.leases.insert(key.clone(), lease);
    }

    pub(super) fn take_lease(&mut self, key: &LeaseKey, doing: &mut Doing<'_>) -> Option<Lease> {
        doing.touched.leases.insert(key.clone());
        let lease = self.leases.remove(key)?;
        self.index.remove_lease(key, &lease);
        Some(lease)
    }
}

/// What an entry costs in `Index::bytes`: its texts, and about what else it has.
pub(super) fn weigh_namespace(name: &str) -> u64 {
    96 + name.len() as u64
}

pub(super) fn weigh_key(id: &str, key: &KeyEntry) -> u64 {
    let texts: usize = key.rights.texts().map(|text| text.len() + 8).sum();
    (96 + id.len() + key.namespace.len() + key.note.len() + texts) as u64
}

pub(super) fn weigh_lease(key: &LeaseKey, lease: &Lease) -> u64 {
    let at = match &lease.owner {
        Owner::Session { at, .. } => at.name.len(),
        Owner::Alone { .. } => 0,
    };
    (128 + key.namespace.len() + key.name.len() + lease.note.len() + at) as u64
}

impl Index {
    /// From nothing.
    pub(super) fn of(state: &State) -> Self {
        let mut index = Self::default();
        index.bytes += state.namespaces.keys().map(|name| weigh_namespace(name)).sum::<u64>();
        for (id, key) in &state.keys {
            index.add_key(id, key);
        }
        for (key, lease) in &state.leases {
            index.add_lease(key, lease);
        }
        index
    }

    pub(super) fn contents(&self, namespace: &str) -> Contents {
        self.contents.get(namespace).copied().unwrap_or_default()
    }

    pub(super) fn add_key(&mut self, id: &str, key: &KeyEntry) {
        self.bytes += weigh_key(id, key);
        self.contents.entry(key.namespace.clone()).or_default().keys += 1;
    }

    pub(super) fn remove_key(&mut self, id: &str, key: &KeyEntry) {
        self.bytes -= weigh_key(id, key);
        self.less(&key.namespace, |contents| contents.keys -= 1);
    }

    fn add_lease(&mut self, key: &LeaseKey, lease: &Lease) {
        self.bytes += weigh_lease(key, lease);
        self.contents.entry(key.namespace.clone()).or_default().leases += 1;
        if let Owner::Session { id, .. } = &lease.owner {
            self.leases_of.entry(*id).or_default().insert(key.clone());
        }
    }

    fn remove_lease(&mut self, key: &LeaseKey, lease: &Lease) {
        self.bytes -= weigh_lease(key, lease);
        self.less(&key.namespace, |contents| contents.leases -= 1);
        if let Owner::Session { id, .. } = &lease.owner
            && let Some(keys) = self.leases_of.get_mut(id)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.leases_of.remove(id);
            }
        }
    }

    fn less(&mut self, namespace: &str, less: impl FnOnce(&mut Contents)) {
        if let Some(contents) = self.contents.get_mut(namespace) {
            less(contents);
            if *contents == Contents::default() {
                self.contents.remove(namespace);
            }
        }
    }
}

const fn first_token(at_s: u64) -> u64 {
    let first = at_s.saturating_mul(TOKENS_PER_SECOND);
    if first == 0 { 1 } else { first }
}

const fn too_many(bound: Bound, max: u64) -> Answer {
    Answer::Refused(Refusal::TooMany { bound, max })
}

fn items<T>(items: &[T]) -> Result<&[T], Refusal> {
    if items.len() > ITEMS_MAX {
        return Err(Refusal::TooMany { bound: Bound::Items, max: ITEMS_MAX as u64 });
    }
    Ok(items)
}
