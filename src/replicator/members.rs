//! Members as replicas: who is up, who is down since when, who can't return.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Replicator;
use crate::membership::{Member, MemberState, Members};
use crate::presence::SHARDS;
use crate::types::{Replica, Time};

/// Of every replica that the shards have been told of and have not forgotten.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<Replica, Life>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Up,
    Down {
        since: Time,
    },
    /// It left, was forgotten by the membership, or has a newer incarnation.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Turn {
    Up(Replica),
    Down(Replica, Time),
    Gone(Replica, Time),
}

impl Lives {
    /// ● What has become of whom since the last look.
    fn turns(&mut self, view: &Members, now: Time) -> Vec<Turn> {
        let mut turns = Vec::new();
        let is_current = |replica: &Replica| {
            view.get(&replica.name)
                .is_some_and(|member| !member.me && member.incarnation == replica.incarnation)
        };
        for (replica, life) in &mut self.0 {
            if is_current(replica) || *life == Life::Gone {
                continue;
            }
            let since = match *life {
                Life::Down { since } => since,
                Life::Up | Life::Gone => now,
            };
            *life = Life::Gone;
            turns.push(Turn::Gone(replica.clone(), since));
        }
        for member in view.iter().filter(|member| !member.me) {
            let replica = member.replica();
            let before = self.0.get(&replica).copied();
            let life = match (member.state, before) {
                (MemberState::Down, Some(down @ Life::Down { .. })) => down,
                (MemberState::Down, _) => Life::Down { since: now },
                _ => Life::Up,
            };
            if before == Some(life) {
                continue;
            }
            self.0.insert(replica.clone(), life);
            turns.push(match life {
                Life::Down { since } => Turn::Down(replica, since),
                Life::Up | Life::Gone => Turn::Up(replica),
            });
        }
        turns
    }
}

impl Replicator {
    /// Takes over what the membership says now. Whoever calls it later sees no earlier view.
    pub(super) fn follow_members(&self) {
        let mut lives = self.lives.lock();
        let view = self.members();
        let now = self.now();
        if let Some(me) = view.me().map(Member::replica)
            && me != self.shards.me()
        {
            self.shards.reincarnate(&me, now);
            for lane in self.lanes().iter() {
                lane.state.lock().start_over();
            }
            self.wake_lanes();
        }
        for turn in lives.turns(&view, now) {
            self.change_all(|tracker, diff, now| match &turn {
                Turn::Up(replica) => {
                    // Forgotten: then it stays so, and its next incarnation is another matter.
                    let _known = tracker.replica_up(replica, now, diff);
                }
                Turn::Down(replica, since) => tracker.replica_down(replica, *since, now, diff),
                Turn::Gone(replica, since) => tracker.replica_gone(replica, *since, now, diff),
            });
        }
        drop(lives);
        let mut lanes = self.lanes.write();
        let stays =
            |lane: &super::Lane| view.get(&lane.name).is_some() || lane.state.lock().is_up();
        if !lanes.iter().all(|lane| stays(lane)) {
            *lanes = lanes.iter().filter(|lane| stays(lane)).cloned().collect::<Arc<[_]>>();
        }
    }

    /// Lets go of replicas that every shard has forgotten.
    pub(super) fn sweep_lives(&self) {
        let mut lives = self.lives.lock();
        lives.0.retain(|replica, life| {
            let known = |shard| self.shards.lock(shard).tracker.counter_of(replica).is_some();
            *life != Life::Gone || (0..SHARDS).any(known)
        });
    }
}
