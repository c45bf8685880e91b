//! ● Which leases are over: by the monotonic clock of whoever leads, and never part of the state.
//!
//! A lease that runs has its TTL from the moment when this member saw its beat. Whoever begins to lead begins with `State` as it is: each
//! lease that runs then has its whole TTL again. So a change of leader, or a clock that is slow, makes leases longer and never shorter.
//! What is due stays due until the state says that it is gone; it is only not said again for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::bounds::ITEMS_MAX;
use super::command::Due;
use super::facts::{Held, Lease, LeaseKey};
use super::state::State;
use crate::types::Time;

/// A proposal that was lost is made again after so long.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    running: BTreeMap<LeaseKey, Running>,
    by_time: BTreeSet<(Time, LeaseKey)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    token: u64,
    beat: u64,
    at: Time,
}

impl Deadlines {
    /// Of whoever begins to lead.
    pub fn of(state: &State, now: Time) -> Self {
        let mut this = Self::default();
        for (key, lease) in state.leases() {
            this.note(key, Some(lease), now);
        }
        this
    }

    /// A lease is now so, or is no more.
    pub fn note(&mut self, key: &LeaseKey, lease: Option<&Lease>, now: Time) {
        let running = lease.filter(|lease| lease.held == Held::Runs);
        let before = self.running.get(key).copied();
        if let (Some(before), Some(lease)) = (before, running)
            && (before.token, before.beat) == (lease.token, lease.beat)
        {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before.at, key.clone()));
            self.running.remove(key);
        }
        if let Some(lease) = running {
            let at = now + Duration::from_millis(lease.ttl_ms);
            self.put(key, Running { token: lease.token, beat: lease.beat, at });
        }
    }

    /// Those whose time is over, at most as many as one command takes.
    pub fn due(&mut self, now: Time) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < ITEMS_MAX
            && let Some((at, key)) = self.by_time.first()
            && *at <= now
        {
            let key = key.clone();
            self.by_time.pop_first();
            let Some(running) = self.running.get(&key).copied() else { continue };
            due.push(Due { lease: key.clone(), token: running.token, beat: running.beat });
            self.put(&key, Running { at: now + AGAIN, ..running });
        }
        due
    }

    /// When to ask again.
    pub fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn put(&mut self, key: &LeaseKey, running: Running) {
        self.by_time.insert((running.at, key.clone()));
        self.running.insert(key.clone(), running);
    }
}
