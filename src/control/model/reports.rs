//! ● Where what a member knows of sessions and members differs from its copy, and what it then says.
//!
//! Nothing is remembered of what was said before: a report that got lost is made again at the next comparison, one that came twice does
//! nothing. That a session has *ended* can't be seen by comparing; it is told when it happens, and where that is lost its leases run out.

use std::collections::BTreeSet;

use super::command::{SessionReport, SessionWord};
use super::facts::{Held, MemberAt, Owner};
use super::state::State;
use crate::types::SessionId;

/// What a member's session table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Attached {
        epoch: u64,
    },
    /// Its connection is lost, and it may come back.
    Lingering {
        epoch: u64,
    },
    /// It has ended here, or went elsewhere, or was never here.
    Unknown,
}

/// What the member `me` has to say of sessions that hold leases.
pub fn of_sessions(
    state: &State,
    me: &MemberAt,
    known: impl Fn(SessionId) -> Known,
) -> Vec<SessionReport> {
    state.holders().filter_map(|session| of_session(state, me, session, known(session))).collect()
}

/// What it has to say of one of them.
pub fn of_session(
    state: &State,
    me: &MemberAt,
    session: SessionId,
    known: Known,
) -> Option<SessionReport> {
    let (epoch, what) = state.leases_of(session).find_map(|(_, lease)| {
        let Owner::Session { epoch, at, .. } = &lease.owner else { return None };
        let (now, what, held) = match known {
            Known::Attached { epoch } => (epoch, SessionWord::Attached, Held::Attached),
            Known::Lingering { epoch } => (epoch, SessionWord::Lost, Held::Runs),
            Known::Unknown => (*epoch, SessionWord::Lost, Held::Runs),
        };
        // Under another incarnation it is the same table, or that of a process that has ended.
        let is_mine = now == *epoch && at.name == me.name && at.incarnation <= me.incarnation;
        let is_told = lease.held == held && (*at == *me || held == Held::Runs);
        (now > *epoch || (is_mine && !is_told)).then_some((now, what))
    })?;
    Some(SessionReport { session, epoch, at: me.clone(), what })
}

/// As `of_session`, of one that has ended here at this epoch.
pub fn of_ended(
    state: &State,
    me: &MemberAt,
    session: SessionId,
    epoch: u64,
) -> Option<SessionReport> {
    let concerns = state.leases_of(session).any(|(_, lease)| match &lease.owner {
        Owner::Session { epoch: held, at, .. } => {
            epoch > *held || (epoch == *held && at.name == me.name)
        }
        Owner::Alone { .. } => false,
    });
    let what = SessionWord::Ended;
    concerns.then(|| SessionReport { session, epoch, at: me.clone(), what })
}

/// The members where leases are attached and that aren't there any more, as whoever leads sees it.
pub fn of_members(state: &State, is_live: impl Fn(&MemberAt) -> bool) -> BTreeSet<MemberAt> {
    let attached = state.leases().filter(|(_, lease)| lease.held == Held::Attached);
    let members = attached.filter_map(|(_, lease)| match &lease.owner {
        Owner::Session { at, .. } => Some(at),
        Owner::Alone { .. } => None,
    });
    members.filter(|at| !is_live(at)).cloned().collect()
}
