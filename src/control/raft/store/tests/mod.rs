//! The store: openraft's own suite, disks that lose power at any moment, files that something changed.

mod crashes;
mod faulty;
mod files;
mod suite;

use openraft::entry::RaftEntry as _;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _};
use openraft::{
    CommittedLeaderId, EntryPayload, LogId, Membership, RaftLogReader as _,
    RaftSnapshotBuilder as _, Vote,
};

use super::super::types::{Position, RaftMember};
use super::records::Entry;
use super::{Changed, CopyHandle, LogStore, Machine, Store};
use crate::control::model::{Acquire, Batch, Change, Command, GroupId, LeaseKey, Owner, State};
use crate::types::ClusterName;

fn cluster() -> ClusterName {
    ClusterName::parse("test").unwrap()
}

fn position(term: u64, index: u64) -> Position {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

/// The first founds, the second is a membership, each other takes a lease of its own.
fn entry(term: u64, index: u64) -> Entry {
    if index == 1 {
        let member = RaftMember { name: "a".to_owned(), ..RaftMember::default() };
        let members = std::collections::BTreeMap::from([(1, member)]);
        let voters = vec![std::collections::BTreeSet::from([1])];
        return Entry::new_membership(position(term, 1), Membership::new(voters, members));
    }
    let change = match index {
        0 => Change::Found { group: GroupId([7; 16]), at_s: 100 },
        _ => Change::Acquire(Acquire {
            lease: LeaseKey { namespace: "acme".into(), name: format!("{index}").into() },
            owner: Owner::Alone { id: [1; 16] },
            ttl_ms: 5_000,
            note: format!("by term {term}").into(),
        }),
    };
    let commands = vec![Command { by: "test".into(), change }];
    Entry {
        log_id: position(term, index),
        payload: EntryPayload::Normal(Batch { at_ms: 5, commands }),
    }
}

/// What a store must hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Expected {
    vote: Option<Vote<u64>>,
    purged: Option<Position>,
    log: Vec<Entry>,
    snapshot: Option<(Position, State)>,
}

/// What it holds.
async fn held(mut store: Store) -> Expected {
    let (mut log, _, copy) = store.split(Changed::default());
    let state = log.get_log_state().await.unwrap();
    let entries = log.try_get_log_entries(..).await.unwrap();
    let applied = copy.applied_position();
    Expected {
        vote: log.read_vote().await.unwrap(),
        purged: state.last_purged_log_id,
        log: entries,
        snapshot: applied.map(|at| (at, (*copy.state()).clone())),
    }
}

/// One step of a member's life, and what it must be after it.
#[derive(Debug, Clone)]
enum Step {
    Vote(u64),
    Append(u64, std::ops::Range<u64>),
    Truncate(u64),
    Apply(u64),
    Snapshot,
    Purge(u64),
}

/// A life with everything in it.
fn life() -> Vec<Step> {
    use Step::{Append, Apply, Purge, Snapshot, Truncate, Vote};
    vec![
        Vote(1),
        Append(1, 0..1),
        Append(1, 1..4),
        Apply(2),
        Append(1, 4..8),
        Vote(2),
        Truncate(6),
        Append(2, 6..9),
        Apply(7),
        Snapshot,
        Purge(5),
        Append(2, 9..40),
        Vote(5),
        Apply(20),
        Snapshot,
        Purge(20),
        Append(5, 40..41),
    ]
}

struct Life {
    log: LogStore,
    machine: Machine,
    copy: CopyHandle,
    /// What was acknowledged.
    expected: Expected,
    applied: u64,
}

impl Life {
    fn of(mut store: Store) -> Self {
        let (log, machine, copy) = store.split(Changed::default());
        Self { log, machine, copy, expected: Expected::default(), applied: 0 }
    }

    /// What it will be.
    fn after(&self, step: &Step) -> Expected {
        let mut after = self.expected.clone();
        match step {
            Step::Vote(term) => after.vote = Some(Vote::new(*term, 1)),
            Step::Append(term, range) => {
                after.log.extend(range.clone().map(|index| entry(*term, index)));
            }
            Step::Truncate(from) => after.log.retain(|entry| entry.log_id.index < *from),
            Step::Apply(_) => {}
            Step::Snapshot => {
                let at = self.copy.applied_position();
                after.snapshot = at.map(|at| (at, (*self.copy.state()).clone()));
            }
            Step::Purge(upto) => {
                let at = after.log.iter().find(|entry| entry.log_id.index == *upto);
                after.purged = at.map(|entry| entry.log_id);
                after.log.retain(|entry| entry.log_id.index > *upto);
            }
        }
        after
    }

    /// `false`: the disk has failed.
    async fn take(&mut self, step: &Step) -> bool {
        let after = self.after(step);
        let find = |index| {
            let entry = self.expected.log.iter().find(|entry| entry.log_id.index == index);
            entry.expect("an entry of this life").log_id
        };
        let took = match step {
            Step::Vote(term) => self.log.save_vote(&Vote::new(*term, 1)).await.is_ok(),
            Step::Append(term, range) => {
                let entries: Vec<_> = range.clone().map(|index| entry(*term, index)).collect();
                self.log.blocking_append(entries).await.is_ok()
            }
            Step::Truncate(from) => self.log.truncate(find(*from)).await.is_ok(),
            Step::Apply(upto) => {
                let next = self.copy.applied_position().map_or(0, |at| at.index + 1);
                let entries: Vec<_> = after.log.clone();
                let entries = entries
                    .into_iter()
                    .filter(|entry| (next..=*upto).contains(&entry.log_id.index));
                self.log.save_committed(Some(find(*upto))).await.unwrap();
                self.applied = *upto;
                self.machine.apply(entries.collect::<Vec<_>>()).await.is_ok()
            }
            Step::Snapshot => {
                let mut builder = self.machine.get_snapshot_builder().await;
                builder.build_snapshot().await.is_ok()
            }
            Step::Purge(upto) => self.log.purge(find(*upto)).await.is_ok(),
        };
        if took {
            self.expected = after;
        }
        took
    }
}
