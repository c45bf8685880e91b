//! Looks at this member's part from outside: who sits where, what is wrong, and keys for the door.

use crate::membership::MemberState;
use crate::rights::agreed::{AgreedKey, AgreedKeys, Mark};
use crate::rights::key::KeyHash;

use super::super::model::State;
use super::super::model::facts::KeyEntry;
use super::super::raft::types::RaftId;
use super::ControlHandle;

/// A member of the group, or one who has no seat yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatView {
    pub name: String,
    /// None: it has no store, or an older program.
    pub id: Option<RaftId>,
    pub role: Role,
    pub durable: bool,
    /// As this node sees it; None: nobody of this name and incarnation is there.
    pub state: Option<MemberState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Leader,
    Voter,
    Learner,
    /// It has no seat.
    None,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::None => "none",
        }
    }
}

impl ControlHandle {
    /// A short look at this member's copy; applying waits for its end.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        match self.shared.group() {
            Some(group) => group.copy().look(look),
            None => look(&self.shared.nothing),
        }
    }

    /// Of the last entry that this member has applied; 0: none.
    pub fn applied(&self) -> u64 {
        self.shared.group().map_or(0, |group| group.copy().applied())
    }

    /// Is this member in touch with a leader that most of the voters are with, as far as it can know?
    pub fn is_led(&self) -> bool {
        let Some(group) = self.shared.group() else { return false };
        let report = group.report();
        if report.leads || report.stopped.is_some() {
            return report.leads && report.quorum && report.stopped.is_none();
        }
        // Who never elects takes whom it heard last for the leader for ever.
        let Some(leader) = report.leader else { return false };
        let seats = group.seats();
        let everybody = self.shared.roster.everybody();
        let is_here = |name: &str| {
            let here = everybody.iter().find(|member| member.name.as_str() == name);
            here.is_some_and(|member| member.state.is_live())
        };
        let voters = seats.voters.iter().filter_map(|id| seats.members.get(id));
        let here = voters.filter(|voter| is_here(&voter.name)).count();
        is_here(&leader.name) && here * 2 > seats.voters.len()
    }

    /// Those who have a seat, whoever leads first, then those who have none.
    pub fn seats(&self) -> Vec<SeatView> {
        let everybody = self.shared.roster.everybody();
        let mut views = Vec::new();
        if let Some(group) = self.shared.group() {
            let (seats, leader) = (group.seats(), group.report().leader);
            for (id, member) in &seats.members {
                let is_this =
                    |one: &&crate::membership::Member| one.control.is_some_and(|row| row.id == *id);
                let here = everybody.iter().find(is_this);
                let role = if leader.as_ref() == Some(member) {
                    Role::Leader
                } else if seats.voters.contains(id) {
                    Role::Voter
                } else {
                    Role::Learner
                };
                views.push(SeatView {
                    name: member.name.clone(),
                    id: Some(*id),
                    role,
                    durable: member.durable,
                    state: here.map(|one| one.state),
                });
            }
        }
        for member in &everybody {
            let id = member.control.map(|row| row.id);
            if id.is_some() && views.iter().any(|view| view.id == id) {
                continue;
            }
            views.push(SeatView {
                name: member.name.to_string(),
                id,
                role: Role::None,
                durable: member.control.is_some_and(|row| row.durable),
                state: Some(member.state),
            });
        }
        views.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        views
    }
}

impl AgreedKeys for ControlHandle {
    fn key(&self, id: &str) -> Option<AgreedKey> {
        self.look(|state| {
            let entry = state.key(id)?;
            Some(AgreedKey {
                mark: mark(entry),
                namespace: entry.namespace.clone(),
                ends_s: entry.ends_s,
                rights: entry.rights.said(),
            })
        })
    }

    fn mark(&self, id: &str) -> Option<Mark> {
        self.look(|state| state.key(id).map(mark))
    }

    fn len(&self) -> usize {
        self.look(State::key_count)
    }
}

const fn mark(entry: &KeyEntry) -> Mark {
    Mark { hash: KeyHash::from_bytes(entry.hash), revision: entry.revision }
}
