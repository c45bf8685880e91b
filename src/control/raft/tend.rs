//! What whoever leads has to do besides leading: the founding's command, leases whose time is over, members that are down, the seats.

use std::sync::Arc;

use super::group::Group;
use super::seats::{Seen, Standing, next};
use super::store::News;
use crate::control::model::command::Due;
use crate::control::model::deadlines::Deadlines;
use crate::control::model::reports::of_members;
use crate::control::model::{Change, Command, MemberAt, State};
use crate::supervise::Clock;

/// The membership, as control needs it.
pub trait Members: Send + Sync + 'static {
    fn seen(&self) -> Vec<Seen>;
}

/// Asked again and again, by one task.
pub struct Tender {
    group: Group,
    members: Arc<dyn Members>,
    clock: Clock,
    /// Since this member leads: its term.
    leading: Option<(u64, Deadlines)>,
    /// The copy and the members in which nobody was found lost.
    looked: Option<(u64, Vec<Seen>)>,
}

impl std::fmt::Debug for Tender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tender").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Tender {
    pub fn new(group: Group, members: Arc<dyn Members>, clock: Clock) -> Self {
        Self { group, members, clock, leading: None, looked: None }
    }

    /// What is to be done now, if this member leads. What fails is to be done the next time, too.
    pub async fn once(&mut self) {
        let report = self.group.report();
        if !report.leads || !report.quorum {
            self.leading = None;
            return;
        }
        let news = self.group.copy().take_news();
        let state = self.group.copy().state();
        let due = self.due(report.term, &news, &state);
        let seen = self.members.seen();
        let mut changes = Vec::new();
        if state.group().is_none() {
            let at_s = self.clock.unix_ms() / 1_000;
            changes.push(Change::Found { group: report.group, at_s });
        }
        // It looks at every lease: only where there is something new to be seen.
        if self.looked.as_ref().is_none_or(|(at, of)| *at != report.applied || *of != seen) {
            let is_live = |at: &MemberAt| seen.iter().any(|seen| is_at(seen, at));
            let lost = of_members(&state, is_live);
            self.looked = lost.is_empty().then(|| (report.applied, seen.clone()));
            changes.extend(lost.into_iter().map(Change::MemberLost));
        }
        if !due.is_empty() {
            changes.push(Change::Expire(due));
        }
        // Applying would copy it.
        drop(state);
        if !changes.is_empty() {
            let by = |change| Command { by: "control".into(), change };
            let proposed = self.group.propose(changes.into_iter().map(by).collect()).await;
            if let Err(error) = proposed {
                tracing::debug!(%error, "control could not write what was due");
            }
        }
        if let Some(step) = next(&self.group.seats(), &seen, self.clock.now()) {
            tracing::info!(?step, "control changes its seats");
            if let Err(error) = self.group.reseat(step).await {
                tracing::debug!(%error, "control could not change its seats");
            }
        }
    }

    /// Each leader's deadlines are its own, from when it began.
    fn due(&mut self, term: u64, news: &News, state: &State) -> Vec<Due> {
        let now = self.clock.now();
        match &mut self.leading {
            Some((since, deadlines)) if *since == term && !news.all => {
                for key in &news.leases {
                    deadlines.note(key, state.lease(key), now);
                }
            }
            leading => *leading = Some((term, Deadlines::of(state, now))),
        }
        self.leading.as_mut().map(|(_, deadlines)| deadlines.due(now)).unwrap_or_default()
    }
}

fn is_at(seen: &Seen, at: &MemberAt) -> bool {
    let is_down = matches!(seen.standing, Standing::Down { .. });
    seen.member.name == *at.name && seen.member.incarnation == at.incarnation && !is_down
}
