//! What a node does for control again and again: looks at who is there, decides, acts; and what a leader has to do besides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::MissedTickBehavior;

use super::super::model::{Change, Command, GroupId, State};
use super::super::raft::Group;
use super::super::raft::founding::{Decision, GroupSeen, Here, Mine, Told, decide};
use super::super::raft::tend::{Members as _, Tender};
use super::super::raft::types::{RaftId, RaftMember};
use super::{Shared, Standing, new_group};
use crate::supervise::Shutdown;
use crate::types::{NodeName, Time};

/// Leases run out, seats change and groups begin no later than this after they should.
const EVERY: Duration = Duration::from_millis(100);
/// A store that has failed is tried again so often: the disk may have room again.
const REVIVE_EVERY: Duration = Duration::from_secs(5);
/// Many changes in a row are looked at together.
const AT_MOST_EVERY: Duration = Duration::from_millis(10);

struct Rounds {
    shared: Arc<Shared>,
    /// What was seen last, and since when it has been so.
    here: Vec<Here>,
    settled: Time,
    /// Since when the group has had no quorum.
    lost: Option<Time>,
    tender: Option<(GroupId, Tender)>,
    /// When a store that failed was tried last.
    revived: Option<Time>,
    failed: bool,
}

pub(super) async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut rounds = Rounds {
        here: Vec::new(),
        settled: shared.clock.now(),
        lost: None,
        tender: None,
        revived: None,
        failed: false,
        shared,
    };
    let shared = rounds.shared.clone();
    let (mut members, mut changed) = (shared.roster.watch(), shared.changed.subscribe());
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = rounds.once() => {}
            () = shutdown.cancelled() => break,
        }
        tokio::select! {
            _ = tick.tick() => {}
            _ = members.changed() => {}
            _ = changed.changed() => {}
            () = shared.round.notified() => {}
            () = shutdown.cancelled() => break,
        }
        tokio::select! {
            () = tokio::time::sleep(AT_MOST_EVERY) => {}
            () = shutdown.cancelled() => break,
        }
    }
    if let Some(group) = shared.group() {
        group.stop().await;
    }
}

impl Rounds {
    async fn once(&mut self) {
        let shared = self.shared.clone();
        shared.tell();
        let here = shared.roster.here();
        let now = shared.clock.now();
        if here != self.here {
            self.here = here;
            self.settled = now;
        }
        if !self.revive(now).await {
            return;
        }
        let group = shared.group();
        let has_quorum = group.as_ref().is_none_or(|group| group.report().quorum);
        let lost = if has_quorum { None } else { Some(self.lost.unwrap_or(now)) };
        self.lost = lost;
        let without_quorum = lost.map_or(Duration::ZERO, |since| now.since(since));
        let mine = group.as_ref().map(|group| mine(group, without_quorum));
        if group.is_some() {
            shared.init.store(false, Ordering::Release);
        }
        let told = Told {
            has_seeds: shared.config.has_seeds,
            expect: shared.config.expect,
            init: shared.init.load(Ordering::Acquire),
        };
        let decision = decide(told, &self.here, mine.as_ref(), self.settled, now);
        self.note(&decision);
        if let Err(error) = self.act(decision, group.as_ref()).await {
            tracing::error!(error = format!("{error:#}"), "control could not do what was due");
        }
        self.tend().await;
    }

    /// Whether the store can be used.
    async fn revive(&mut self, now: Time) -> bool {
        let report = self.shared.group().map(|group| group.report());
        let stopped = report.and_then(|report| report.stopped);
        if stopped.is_none() && !self.failed {
            return true;
        }
        if self.revived.is_some_and(|at| now.since(at) < REVIVE_EVERY) {
            return false;
        }
        if let Some(why) = stopped.filter(|_| !self.failed) {
            tracing::error!(
                why,
                "control has stopped on this node: its store has failed; it is opened again and again"
            );
        }
        self.revived = Some(now);
        self.tender = None;
        let revived = self.shared.revive().await;
        self.failed = revived.is_err();
        match revived {
            Ok(()) => {
                tracing::warn!("control's store was opened again; this node takes part again")
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "control's store can't be opened yet");
            }
        }
        !self.failed
    }

    fn note(&self, decision: &Decision) {
        let standing = match decision {
            Decision::Wait(why) => Standing::Waiting(*why),
            Decision::Clash(other) => Standing::Clash(*other),
            Decision::Stay | Decision::Dissolve(_) => Standing::Member,
            Decision::Found(_) | Decision::Forget => return,
        };
        let before = std::mem::replace(&mut *self.shared.standing.lock(), standing);
        if let (Standing::Clash(other), true) = (standing, before != standing) {
            tracing::error!(
                %other,
                "control: another group is here, and both were written to; neither ends. Keep one: save the other with `waxwing control \
                 backup`, stop its nodes, remove their control.redb and start them again"
            );
        }
    }

    async fn act(&mut self, decision: Decision, group: Option<&Group>) -> anyhow::Result<()> {
        match decision {
            Decision::Stay | Decision::Wait(_) | Decision::Clash(_) => Ok(()),
            Decision::Found(voters) => self.found(&voters).await,
            Decision::Forget => {
                tracing::warn!("control: this node's group has ended; it joins the other one");
                self.tender = None;
                let Some(ended) = group.map(Group::id) else { return Ok(()) };
                self.shared.forget(ended).await.context("forget the group that has ended")
            }
            Decision::Dissolve(into) => {
                let Some(group) = group else { return Ok(()) };
                tracing::info!(%into, "control: this group, which is empty, ends for another one");
                let command = Command { by: "control".into(), change: Change::Dissolve { into } };
                group.propose(vec![command]).await.context("end the group")?;
                Ok(())
            }
        }
    }

    async fn found(&self, voters: &BTreeSet<RaftId>) -> anyhow::Result<()> {
        let shared = &self.shared;
        let seen = shared.roster.seen();
        let members: BTreeMap<RaftId, RaftMember> = seen
            .into_iter()
            .filter_map(|seen| Some((seen.id?, seen.member)))
            .filter(|(id, _)| voters.contains(id))
            .collect();
        let id = new_group()?;
        let me = shared.now.read().id;
        let names = members.values().map(|member| member.name.as_str()).collect::<Vec<_>>();
        let names = names.join(", ");
        let joined = shared.join(id, me).await?.context("this node is another member by now")?;
        // Somebody's call may have come first.
        if joined.id() == id {
            tracing::info!(group = %id, voters = names, "control: this node founds a group");
            joined.initialize(members).await.context("begin the group")?;
        }
        shared.init.store(false, Ordering::Release);
        Ok(())
    }

    async fn tend(&mut self) {
        let Some(group) = self.shared.group() else {
            self.tender = None;
            return;
        };
        let id = group.id();
        if self.tender.as_ref().is_none_or(|(of, _)| *of != id) {
            let members = Arc::new(TenderMembers(self.shared.clone()));
            self.tender = Some((id, Tender::new(group, members, self.shared.clock)));
        }
        if let Some((_, tender)) = &mut self.tender {
            tender.once().await;
        }
    }
}

struct TenderMembers(Arc<Shared>);

impl super::super::raft::tend::Members for TenderMembers {
    fn seen(&self) -> Vec<super::super::raft::seats::Seen> {
        self.0.roster.seen()
    }
}

/// As others are to see it.
pub(super) fn seen(group: &Group) -> GroupSeen {
    let (written, continues) = group.copy().look(|state| (state.is_written(), state.continues()));
    GroupSeen { id: group.id(), written, continues }
}

fn mine(group: &Group, without_quorum: Duration) -> Mine {
    let seats = group.seats();
    let voter = |id: &RaftId| {
        let member = seats.members.get(id)?;
        Some((NodeName::parse(&member.name).ok()?, *id))
    };
    Mine {
        group: seen(group),
        leads: group.report().leads,
        without_quorum,
        dissolved: group.copy().look(State::dissolved),
        voters: seats.voters.iter().filter_map(voter).collect(),
    }
}
