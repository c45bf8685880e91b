//! Watching leases over breaks: whoever watches on another node is told only what differs.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::codec::{Calls, Changes};
use super::words::{LeaseChange, LeaseEntry, LeaseError, LeaseWatched};
use crate::supervise::backoff::Backoff;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// Leases as they are, and what becomes of them. It goes on over another node where one is lost.
#[derive(Debug)]
pub struct LeaseWatch {
    calls: Arc<Calls>,
    watched: LeaseWatched,
    stream: Option<Changes>,
    known: Known,
    pause: Backoff,
    must_pause: bool,
}

impl LeaseWatch {
    pub(super) const fn new(calls: Arc<Calls>, watched: LeaseWatched, stream: Changes) -> Self {
        let pause = Backoff::new(PAUSE_FIRST, PAUSE_MOST);
        let known = Known::new();
        Self { calls, watched, stream: Some(stream), known, pause, must_pause: false }
    }

    /// Err: there is nothing to wait for. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<LeaseChange, LeaseError> {
        loop {
            if let Some(change) = self.known.told.pop_front() {
                return Ok(change);
            }
            let Some(stream) = &mut self.stream else {
                if std::mem::take(&mut self.must_pause) {
                    let pause = self.pause.next(self.calls.clock.now().as_micros());
                    tokio::time::sleep(pause).await;
                }
                self.must_pause = true;
                match self.calls.watch(&self.watched).await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(error) if error.is_passing() => {}
                    Err(error) => return Err(error),
                }
                continue;
            };
            match stream.next().await? {
                Some(change) => {
                    self.pause.reset();
                    self.must_pause = false;
                    self.known.take(change);
                }
                None => {
                    self.stream = None;
                    self.known.begin_again();
                }
            }
        }
    }
}

/// ● What was told so far.
#[derive(Debug)]
struct Known {
    leases: BTreeMap<String, LeaseEntry>,
    /// What the node that is watched now has told before its `current`.
    arriving: Option<BTreeMap<String, LeaseEntry>>,
    is_current: bool,
    told: VecDeque<LeaseChange>,
}

impl Known {
    const fn new() -> Self {
        Self {
            leases: BTreeMap::new(),
            arriving: Some(BTreeMap::new()),
            is_current: false,
            told: VecDeque::new(),
        }
    }

    fn begin_again(&mut self) {
        self.arriving = Some(BTreeMap::new());
    }

    fn take(&mut self, change: LeaseChange) {
        match (change, &mut self.arriving) {
            (LeaseChange::Held(entry), arriving) => {
                if let Some(arriving) = arriving {
                    arriving.insert(entry.name.clone(), entry.clone());
                }
                self.hold(entry);
            }
            (LeaseChange::Free(name), arriving) => {
                if let Some(arriving) = arriving {
                    arriving.remove(&name);
                }
                self.free(name);
            }
            (LeaseChange::Current, arriving) => {
                if let Some(there) = arriving.take() {
                    let gone: Vec<String> = self
                        .leases
                        .keys()
                        .filter(|name| !there.contains_key(*name))
                        .cloned()
                        .collect();
                    gone.into_iter().for_each(|name| self.free(name));
                }
                if !std::mem::replace(&mut self.is_current, true) {
                    self.told.push_back(LeaseChange::Current);
                }
            }
        }
    }

    fn hold(&mut self, entry: LeaseEntry) {
        // A member that is behind may tell of a holder before.
        if self
            .leases
            .get(&entry.name)
            .is_some_and(|known| known.token > entry.token || *known == entry)
        {
            return;
        }
        self.leases.insert(entry.name.clone(), entry.clone());
        self.told.push_back(LeaseChange::Held(entry));
    }

    fn free(&mut self, name: String) {
        if self.leases.remove(&name).is_some() {
            self.told.push_back(LeaseChange::Free(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, token: u64) -> LeaseChange {
        LeaseChange::Held(LeaseEntry { name: name.to_owned(), token, ..LeaseEntry::default() })
    }

    fn free(name: &str) -> LeaseChange {
        LeaseChange::Free(name.to_owned())
    }

    #[test]
    fn after_a_break_only_what_differs_is_told() {
        let mut known = Known::new();
        let told = |known: &mut Known, changes: Vec<LeaseChange>| {
            changes.into_iter().for_each(|change| known.take(change));
            known.told.drain(..).collect::<Vec<_>>()
        };
        let first = vec![held("a", 1), held("b", 2), held("c", 3), LeaseChange::Current];
        assert_eq!(told(&mut known, first.clone()), first);
        known.begin_again();
        // b went, c has another holder, d is new; a is as it was.
        let again = vec![held("a", 1), held("c", 4), held("d", 5), LeaseChange::Current];
        let differs = vec![held("c", 4), held("d", 5), free("b")];
        assert_eq!(told(&mut known, again), differs);
        // One that is behind for a moment tells of no holder from before.
        known.begin_again();
        let behind = vec![held("a", 1), held("c", 3), held("d", 5), LeaseChange::Current];
        assert_eq!(told(&mut known, behind), vec![]);
        assert_eq!(told(&mut known, vec![free("c"), free("c")]), vec![free("c")]);
    }
}
