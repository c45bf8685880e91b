//! Tells control what became of sessions that hold leases.
//!
//! Compared is what the table says with what this member's copy says, of those alone that changed in either. A report that got lost is
//! made again, since the two still differ then.

use std::collections::HashSet;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::News;
use crate::broker::Broker;
use crate::control::model::bounds::ITEMS_MAX;
use crate::control::model::command::SessionReport;
use crate::control::model::facts::Owner;
use crate::control::model::reports::{Known, of_ended, of_session};
use crate::control::model::{Answer, Change, MemberAt, State};
use crate::control::part::{ControlHandle, LeasesSeen};
use crate::supervise::Shutdown;
use crate::types::SessionId;

/// What happens within so long is told together.
const TOGETHER: Duration = Duration::from_millis(2);
/// When what could not be told is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// Sessions that are held in mind without holding a lease any longer, at most.
const PAST_MAX: usize = 1_024;

/// Who has told, in the audit's words.
const BY: &str = "sessions";

/// Until the shutdown.
pub async fn report(broker: Broker, control: ControlHandle, shutdown: Shutdown) {
    let mut changes = control.changes();
    let mut reporter = Reporter { broker, control, seen: LeasesSeen::default() };
    let wake = reporter.broker.shared.table.lock().holders.wake.clone();
    loop {
        changes.mark_unchanged();
        let is_told = tokio::select! {
            is_told = reporter.once() => is_told,
            () = shutdown.cancelled() => return,
        };
        tokio::select! {
            _ = changes.changed(), if is_told => {}
            () = wake.notified(), if is_told => {}
            () = tokio::time::sleep(AGAIN), if !is_told => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(TOGETHER) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

struct Reporter {
    broker: Broker,
    control: ControlHandle,
    seen: LeasesSeen,
}

impl Reporter {
    /// `false`: something is still to be told.
    async fn once(&mut self) -> bool {
        let changed = self.control.leases_since(&mut self.seen, |_| true);
        let News { mut touched, ended } = self.broker.shared.table.lock().holders.take();
        match changed {
            None => {
                let holders: HashSet<SessionId, RandomState> =
                    self.control.look(|state| state.holders().collect());
                touched.extend(holders.iter().copied());
                self.broker.shared.table.lock().holders.set_held(holders);
            }
            Some(keys) => {
                let (owners, holders) = self.control.look(|state| {
                    let leases = keys.iter().filter_map(|key| state.lease(key));
                    let owners = leases.filter_map(|lease| match &lease.owner {
                        Owner::Session { id, .. } => Some(*id),
                        Owner::Alone { .. } => None,
                    });
                    (owners.collect::<Vec<_>>(), state.holders().len())
                });
                touched.extend(owners.iter().copied());
                let mut table = self.broker.shared.table.lock();
                table.holders.add_held(owners);
                let is_past = table.holders.held.len() > holders + PAST_MAX;
                drop(table);
                if is_past {
                    let holders = self.control.look(|state| state.holders().collect());
                    self.broker.shared.table.lock().holders.set_held(holders);
                }
            }
        }
        self.tell(News { touched, ended }).await
    }

    async fn tell(&self, news: News) -> bool {
        let me = self.control.me();
        let mut reports = Vec::new();
        let mut sessions = news.sessions();
        // The same on every run: for whoever reads a log of it.
        sessions.sort_unstable();
        for part in sessions.chunks(ITEMS_MAX) {
            let known: Vec<Known> = {
                let table = self.broker.shared.table.lock();
                part.iter().map(|session| table.known(*session)).collect()
            };
            let said = self.control.look(|state| {
                let each = part.iter().zip(known);
                let said = each.filter_map(|(session, known)| {
                    let ended = news.ended.get(session).copied();
                    judge(state, &me, *session, known, ended)
                });
                said.collect::<Vec<SessionReport>>()
            });
            reports.extend(said);
        }
        let mut is_told = true;
        for part in reports.chunks(ITEMS_MAX) {
            let told = self.control.change(BY, Change::Sessions(part.to_vec())).await;
            match told {
                Ok(Answer::Changed { .. }) => {}
                Ok(answer) => {
                    tracing::error!(?answer, "control refused what this node said of its sessions");
                }
                Err(error) => {
                    tracing::debug!(%error, "what became of sessions could not be told to control");
                    is_told = false;
                    break;
                }
            }
        }
        if !is_told {
            self.broker.shared.table.lock().holders.put_back(news);
        }
        is_told
    }
}

/// A session that has come back since it ended is what it is now.
fn judge(
    state: &State,
    me: &MemberAt,
    session: SessionId,
    known: Known,
    ended: Option<u64>,
) -> Option<SessionReport> {
    match (known, ended) {
        (Known::Unknown, Some(epoch)) => of_ended(state, me, session, epoch),
        _ => of_session(state, me, session, known),
    }
}

impl News {
    fn sessions(&self) -> Vec<SessionId> {
        let ended = self.ended.keys().filter(|session| !self.touched.contains(*session));
        self.touched.iter().chain(ended).copied().collect()
    }
}
