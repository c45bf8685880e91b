//! The membership, as control needs it: who is there, who may vote, who has which group.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::super::model::{GroupId, MemberAt};
use super::super::raft::founding::{GroupSeen, Here};
use super::super::raft::seats::{Seen, Standing};
use super::super::raft::tend::Members;
use super::super::raft::types::{RaftId, RaftMember};
use crate::membership::{
    ControlGroup, ControlRow, Member, MemberState, MembershipHandle, SharedMembers,
};
use crate::supervise::Clock;
use crate::types::{NodeName, Time};

#[derive(Debug)]
pub struct Roster {
    membership: MembershipHandle,
    clock: Clock,
    /// Since when those that are down have been so, as this node sees it.
    down: Mutex<BTreeMap<NodeName, Time>>,
}

impl Roster {
    pub fn new(membership: MembershipHandle, clock: Clock) -> Self {
        Self { membership, clock, down: Mutex::default() }
    }

    pub(super) fn watch(&self) -> tokio::sync::watch::Receiver<SharedMembers> {
        self.membership.watch()
    }

    /// Everybody, oneself as oneself knows it.
    pub(super) fn everybody(&self) -> Vec<Member> {
        let members = self.membership.members();
        let others = members.iter().filter(|member| !member.me);
        others.cloned().chain([self.membership.me()]).collect()
    }

    pub(super) fn me(&self) -> MemberAt {
        let me = self.membership.me();
        MemberAt { name: me.name.as_str().into(), incarnation: me.incarnation.0 }
    }

    /// As gossip is to say it.
    pub(super) fn tell(&self, id: RaftId, durable: bool, group: Option<GroupSeen>) {
        let group = group.map(|group| ControlGroup {
            id: group.id.0,
            written: group.written,
            continues: group.continues.map(|continues| continues.0),
        });
        self.membership.set_control(ControlRow { id, durable, group });
    }

    /// This node, as its seat says it.
    pub(super) fn seat(&self, durable: bool) -> RaftMember {
        let me = self.membership.me();
        RaftMember {
            name: me.name.as_str().to_owned(),
            incarnation: me.incarnation.0,
            address: me.addresses.peer,
            durable,
        }
    }

    /// Those who can be asked or waited for, oneself among them.
    pub(super) fn here(&self) -> Vec<Here> {
        let members = self.membership.members();
        let own = self.membership.me();
        let all = members.iter().filter(|member| !member.me && member.state.is_live());
        all.chain([&own]).map(here).collect()
    }
}

fn here(member: &Member) -> Here {
    let row = member.control;
    let group = row.and_then(|row| row.group);
    let group = group.map(|group| GroupSeen {
        id: GroupId(group.id),
        written: group.written,
        continues: group.continues.map(GroupId),
    });
    Here { name: member.name.clone(), me: member.me, id: row.map(|row| row.id), group }
}

impl Members for Roster {
    fn seen(&self) -> Vec<Seen> {
        let members = self.membership.members();
        let now = self.clock.now();
        let mut down = self.down.lock();
        down.retain(|name, _| {
            members.get(name).is_some_and(|member| member.state == MemberState::Down)
        });
        let own = self.membership.me();
        let others = members.iter().filter(|member| !member.me);
        let seen = |member: &Member| {
            let standing = match member.state {
                MemberState::Joining => Standing::Joining,
                MemberState::Ready => Standing::Ready,
                MemberState::Draining | MemberState::Leaving => Standing::Going,
                MemberState::Down => {
                    let since = *down.entry(member.name.clone()).or_insert(now);
                    Standing::Down { since }
                }
            };
            let row = member.control;
            let seated = RaftMember {
                name: member.name.as_str().to_owned(),
                incarnation: member.incarnation.0,
                address: member.addresses.peer.clone(),
                durable: row.is_some_and(|row| row.durable),
            };
            Seen { id: row.map(|row| row.id), member: seated, standing, since: member.since }
        };
        others.chain([&own]).map(seen).collect()
    }
}
