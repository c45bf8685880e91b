//! Looks at this member's part from outside: who sits where, what is wrong, and keys for the door.

use crate::membership::MemberState;
use crate::rights::agreed::{AgreedKey, AgreedKeys, Mark};
use crate::rights::key::KeyHash;

use super::super::model::State;
use super::super::model::facts::KeyEntry;
use super::super::raft::founding::Why;
use super::super::raft::types::RaftId;
use super::{ControlHandle, ControlReport, Standing};

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

impl ControlReport {
    /// What is not as it should be, and what to do; both for people.
    pub fn problem(&self) -> Option<(String, &'static str)> {
        match self.standing {
            Standing::Waiting(why) if self.group.is_none() => return Some(waits(why)),
            Standing::Clash(other) => {
                return Some((
                    format!(
                        "there are two groups, this one and {other}, and both were written to; neither ends"
                    ),
                    "keep one: save the other (waxwing control backup FILE), stop its nodes, remove their control.redb, and start them again",
                ));
            }
            Standing::Waiting(_) | Standing::Member => {}
        }
        let group = self.group.as_ref()?;
        if let Some(why) = &group.stopped {
            return Some((
                format!("this member takes no part any more: {why}"),
                "see the log; start the node again",
            ));
        }
        if group.leader.is_none() || !group.quorum {
            return Some((
                "no quorum: most of those who vote can't be reached, so namespaces, keys and leases can't be changed; everything else goes on"
                    .to_owned(),
                "bring voters back; where most are lost for good: waxwing control init --from-copy, on the member with the newest copy",
            ));
        }
        None
    }
}

fn waits(why: Why) -> (String, &'static str) {
    match why {
        Why::Nobody => (
            "nobody will ever found a group: every node has seeds, and none was told how many there will be"
                .to_owned(),
            "start the nodes with --expect N, or found one with those who are here: waxwing control init",
        ),
        Why::Others(here) => (
            format!("{here} of the expected members are there; the group is founded when all are"),
            "start the others, or found one with those who are here: waxwing control init",
        ),
        Why::ToBeSeated => (
            "there is a group, and its leader has not seated this node yet".to_owned(),
            "see that the leader can reach this node's peer address",
        ),
        Why::Settling | Why::Founder => {
            ("a group is being founded".to_owned(), "wait a moment")
        }
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
