//! What others ask of the view: the links, the receiver, those who start.

use std::net::SocketAddr;

use super::super::envelope::{Holder, Refusal};
use super::super::member::MemberState;
use super::seen::Key;
use super::{Me, Sight, View};
use crate::types::{Incarnation, NodeName, Replica, Time};

impl View {
    /// Dead early, or a newer incarnation has its place: it won't come back.
    pub(in crate::membership) fn confirmed_dead(&self, replica: &Replica, now: Time) -> bool {
        if self.floor(&replica.name) >= replica.incarnation {
            return true;
        }
        let Some(shown) = self.shown.get(&replica.name) else { return false };
        if shown.key.incarnation != replica.incarnation {
            return shown.key.incarnation > replica.incarnation;
        }
        let seen = self.seen.get(&replica.name).and_then(|seen| seen.get(&shown.key));
        shown.down_since.is_some()
            && seen.is_some_and(|seen| seen.dead_early(self.awake(now)).is_some())
    }

    /// What to tell one who asks for a name; `me` has its name for certain.
    pub(in crate::membership) fn holder(
        &self,
        name: &NodeName,
        me: &Me,
        now: Time,
    ) -> (Incarnation, Option<Holder>) {
        let heard = self.seen.get(name).into_iter().flatten().map(|(key, _)| key.incarnation);
        let mut highest = heard.max().unwrap_or_default().max(self.floor(name));
        if *name == me.replica.name {
            highest = highest.max(me.replica.incarnation);
            return (highest, Some(Holder { address: me.address, silent_ms: 0 }));
        }
        let awake = self.awake(now);
        let holder = self.shown.get(name).and_then(|shown| {
            let seen = self.seen.get(name)?.get(&shown.key)?;
            seen.fresh(awake, &self.timing).then(|| Holder {
                address: shown.key.address,
                silent_ms: u32::try_from(seen.silent(awake).as_millis()).unwrap_or(u32::MAX),
            })
        });
        (highest, holder)
    }

    /// Why the sender of a datagram isn't let in; none: it is, or will be.
    pub(in crate::membership) fn refusal(
        &self,
        replica: &Replica,
        address: SocketAddr,
        me: &Me,
        now: Time,
    ) -> Option<Refusal> {
        let Replica { name, incarnation } = replica;
        if *name == me.replica.name {
            // Of two that meet, the older run keeps the name; so each knows which of them it is.
            let older = (me.replica.incarnation, me.address) < (*incarnation, address);
            return (older && address != me.address)
                .then_some(Refusal::NameInUse(Holder { address: me.address, silent_ms: 0 }));
        }
        let floor = self.floor(name);
        if *incarnation <= floor {
            return Some(Refusal::Floor(floor.0));
        }
        let Some(shown) = self.shown.get(name) else {
            let full = self.shown.len() + 1 >= self.members_max;
            let max = u32::try_from(self.members_max).unwrap_or(u32::MAX);
            return full.then_some(Refusal::Full { max });
        };
        if shown.key == (Key { incarnation: *incarnation, address }) {
            return None;
        }
        match self.holder(name, me, now).1 {
            Some(holder) if holder.address != address => Some(Refusal::NameInUse(holder)),
            _ => (*incarnation < shown.key.incarnation)
                .then_some(Refusal::Floor(shown.key.incarnation.0)),
        }
    }

    /// Where the others are, down ones too; this node's own name left out.
    pub(in crate::membership) fn addresses(&self) -> impl Iterator<Item = (&NodeName, SocketAddr)> {
        self.shown.iter().map(|(name, shown)| (name, shown.key.address))
    }

    /// All addresses that any row has, for routing.
    pub(in crate::membership) fn all_addresses(
        &self,
    ) -> impl Iterator<Item = (&NodeName, SocketAddr)> {
        self.seen
            .iter()
            .flat_map(|(name, of_name)| of_name.keys().map(move |key| (name, key.address)))
    }

    /// The peers, down ones too.
    pub(in crate::membership) fn sights(&self, now: Time) -> impl Iterator<Item = Sight> {
        self.shown.iter().filter_map(move |(name, shown)| {
            let seen = self.seen.get(name)?.get(&shown.key)?;
            let live = shown.down_since.is_none() && seen.state().is_some_and(MemberState::is_live);
            let failing = seen.failing_since().map(|since| now.since(since));
            Some(Sight { address: shown.key.address, live, failing })
        })
    }
}
