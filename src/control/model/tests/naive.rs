//! The same machine, as somebody would write it who has all the time in the world: plain lists, gone through again and again.

use super::super::command::{Answer, Change, Refusal, SessionWord};
use super::super::facts::{Held, LeaseKey, Owner, OwnerId, QuotaFacts};

#[derive(Debug, Default)]
pub(super) struct Naive {
    pub(super) leases: Vec<NaiveLease>,
    namespaces: Vec<(String, QuotaFacts, u64)>,
    keys: Vec<(String, String, u64)>,
    /// Every token that was ever given.
    pub(super) given: Vec<u64>,
    revision: u64,
}

#[derive(Debug, Clone)]
pub(super) struct NaiveLease {
    pub(super) key: LeaseKey,
    pub(super) owner: Owner,
    pub(super) token: u64,
    pub(super) beat: u64,
    pub(super) runs: bool,
}

impl Naive {
    fn is_held(&self, key: &LeaseKey, owner: OwnerId, token: u64) -> bool {
        let fits = |lease: &&NaiveLease| {
            lease.key == *key && lease.owner.id() == owner && lease.token == token
        };
        self.leases.iter().any(|lease| fits(&lease))
    }

    fn revised(&mut self) -> Answer {
        self.revision += 1;
        Answer::Done { revision: self.revision }
    }

    fn is_namespace(&self, name: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|(said, ..)| said == name)
    }

    /// `first`: the token that the first lease gets. Asks are lawful, and there are no templates.
    pub(super) fn ask(&mut self, change: &Change, first: u64) -> Answer {
        match change {
            Change::Found { .. } | Change::FoundAgain { .. } | Change::Dissolve { .. } => {
                unreachable!("not asked here")
            }
            Change::CreateNamespace { name, quota } => {
                if self.namespaces.iter().any(|(said, ..)| **said == **name) {
                    return Answer::Refused(Refusal::NamespaceExists);
                }
                let answer = self.revised();
                self.namespaces.push((name.to_string(), quota.clone(), self.revision));
                answer
            }
            Change::UpdateNamespace { name, quota, expected } => {
                let Some(at) = self.namespaces.iter().position(|(said, ..)| **said == **name)
                else {
                    return Answer::Refused(Refusal::NoNamespace);
                };
                let revision = self.namespaces[at].2;
                if expected.is_some_and(|expected| expected != revision) {
                    return Answer::Refused(Refusal::OtherRevision { revision });
                }
                let answer = self.revised();
                self.namespaces[at] = (name.to_string(), quota.clone(), self.revision);
                answer
            }
            Change::DeleteNamespace { name, contents } => self.delete(name, *contents),
            Change::CreateKey(new) => {
                if let Some((_, namespace, revision)) =
                    self.keys.iter().find(|(id, ..)| **id == *new.id)
                {
                    return if **namespace == *new.namespace {
                        Answer::Done { revision: *revision }
                    } else {
                        Answer::Refused(Refusal::KeyExists)
                    };
                }
                if !self.is_namespace(&new.namespace) {
                    return Answer::Refused(Refusal::NoNamespace);
                }
                let answer = self.revised();
                self.keys.push((new.id.to_string(), new.namespace.to_string(), self.revision));
                answer
            }
            Change::RevokeKey { id } => {
                let before = self.keys.len();
                self.keys.retain(|(said, ..)| **said != **id);
                if self.keys.len() == before {
                    return Answer::Refused(Refusal::NoKey);
                }
                self.revised()
            }
            Change::Acquire(ask) => {
                let runs = matches!(ask.owner, Owner::Alone { .. });
                let owner = ask.owner.clone();
                if let Some(lease) = self.leases.iter_mut().find(|lease| lease.key == ask.lease) {
                    if lease.owner.id() != ask.owner.id() {
                        return Answer::Refused(Refusal::Held { token: lease.token });
                    }
                    if epoch(&lease.owner) > epoch(&ask.owner) {
                        let epoch = epoch(&lease.owner);
                        return Answer::Refused(Refusal::OldEpoch { epoch });
                    }
                    let (token, beat) = (lease.token, lease.beat + 1);
                    *lease = NaiveLease { key: ask.lease.clone(), owner, token, beat, runs };
                    return Answer::Granted { token, beat };
                }
                let token = self.given.last().map_or(first, |last| last + 1);
                self.given.push(token);
                let key = ask.lease.clone();
                self.leases.push(NaiveLease { key, owner, token, beat: 0, runs });
                Answer::Granted { token, beat: 0 }
            }
            Change::Renew { lease: key, owner, token, .. } => {
                if !self.is_held(key, *owner, *token) {
                    return Answer::Refused(Refusal::NotHeld);
                }
                let lease = self.leases.iter_mut().find(|lease| lease.key == *key).unwrap();
                lease.beat += 1;
                Answer::Granted { token: *token, beat: lease.beat }
            }
            Change::Release { lease, owner, token } => {
                if !self.is_held(lease, *owner, *token) {
                    return Answer::Refused(Refusal::NotHeld);
                }
                self.leases.retain(|held| held.key != *lease);
                Answer::Changed { leases: 1 }
            }
            Change::Expire(all) => self.remove(|lease| {
                all.iter().any(|due| {
                    let is_it = (&due.lease, due.token, due.beat);
                    lease.runs && (&lease.key, lease.token, lease.beat) == is_it
                })
            }),
            Change::Sessions(reports) => {
                let mut changed = 0;
                for report in reports {
                    let about = |lease: &NaiveLease| {
                        let Owner::Session { id, epoch, at } = &lease.owner else { return false };
                        let is_newer = report.epoch > *epoch;
                        let is_there =
                            report.at.name == at.name && report.at.incarnation >= at.incarnation;
                        let is_same = report.epoch == *epoch && is_there;
                        *id == report.session && (is_newer || is_same)
                    };
                    if report.what == SessionWord::Ended {
                        let Answer::Changed { leases } = self.remove(about) else { continue };
                        changed += leases;
                        continue;
                    }
                    let runs = report.what == SessionWord::Lost;
                    for lease in self.leases.iter_mut().filter(|lease| about(lease)) {
                        let (id, epoch, at) = (report.session, report.epoch, report.at.clone());
                        let owner = Owner::Session { id, epoch, at };
                        if lease.owner == owner && lease.runs == runs {
                            continue;
                        }
                        lease.owner = owner;
                        lease.runs = runs;
                        lease.beat += 1;
                        changed += 1;
                    }
                }
                Answer::Changed { leases: changed }
            }
            Change::MemberLost(lost) => {
                let mut leases = 0;
                for lease in &mut self.leases {
                    let Owner::Session { at, .. } = &lease.owner else { continue };
                    let is_there = at.name == lost.name && at.incarnation <= lost.incarnation;
                    if is_there && !lease.runs {
                        lease.runs = true;
                        lease.beat += 1;
                        leases += 1;
                    }
                }
                Answer::Changed { leases }
            }
        }
    }

    fn delete(&mut self, name: &str, contents: bool) -> Answer {
        if !self.namespaces.iter().any(|(said, ..)| *said == *name) {
            return Answer::Refused(Refusal::NoNamespace);
        }
        let keys = self.keys.iter().filter(|(_, of, _)| *of == *name).count() as u64;
        let leases = self.leases.iter().filter(|lease| *lease.key.namespace == *name).count();
        if !contents && (keys > 0 || leases > 0) {
            return Answer::Refused(Refusal::NamespaceInUse { keys, leases: leases as u64 });
        }
        self.namespaces.retain(|(said, ..)| *said != *name);
        self.keys.retain(|(_, of, _)| *of != *name);
        self.leases.retain(|lease| *lease.key.namespace != *name);
        self.revised()
    }

    fn remove(&mut self, is_over: impl Fn(&NaiveLease) -> bool) -> Answer {
        let before = self.leases.len();
        self.leases.retain(|lease| !is_over(lease));
        Answer::Changed { leases: (before - self.leases.len()) as u64 }
    }
}

fn epoch(owner: &Owner) -> u64 {
    match owner {
        Owner::Session { epoch, .. } => *epoch,
        Owner::Alone { .. } => 0,
    }
}

impl NaiveLease {
    pub(super) fn held(&self) -> Held {
        if self.runs { Held::Runs } else { Held::Attached }
    }
}
