//! What may never happen, judged at each change that a node tells its watchers.

use std::collections::BTreeMap;

use waxwing::presence::{Change, Reference, Shown};

use crate::clients::{Name, Truth, name};

/// After so long whatever a client did has had its effect everywhere that is connected: the longest linger, the time to notice a
/// death, the time an adoption may take, and a repair of what was lost.
pub(crate) const SETTLED: u64 = 7_000;

/// What one node has told, put together: P9 says that it is the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watcher {
    pub(crate) list: BTreeMap<Name, Reference>,
}

impl Watcher {
    /// I4: joins, updates and leaves alternate; what is said of before is what was said before.
    pub(crate) fn told(&mut self, change: &Change) -> Result<(), String> {
        let shown = change.before.as_ref().or(change.after.as_ref());
        let shown = shown.ok_or("a change of nothing")?;
        let name = name(shown.key(), shown.id());
        let before = change.before.as_ref().map(Shown::reference);
        if self.list.get(&name).copied() != before {
            return Err(format!("{name}: told {before:?} was there, and it was not"));
        }
        let of_key =
            |list: &BTreeMap<Name, Reference>| list.keys().any(|other| other / 2 == name / 2);
        match &change.after {
            Some(after) => {
                let alone = !of_key(&self.list);
                if before == Some(after.reference()) {
                    return Err(format!("{name}: told a change that is none"));
                }
                if change.first_of_key != (before.is_none() && alone) {
                    return Err(format!("{name}: first of its key: {}", change.first_of_key));
                }
                self.list.insert(name, after.reference());
            }
            None => {
                self.list.remove(&name);
                if change.last_of_key == of_key(&self.list) {
                    return Err(format!("{name}: last of its key: {}", change.last_of_key));
                }
            }
        }
        Ok(())
    }
}

/// I3: nobody leaves who is there. `connected`: nothing was cut between this observer and a node since that time.
pub(crate) fn false_leave(
    truth: &Truth,
    now: u64,
    observer_since: u64,
    connected: impl Fn(usize, u64) -> bool,
) -> bool {
    let since = now.saturating_sub(SETTLED);
    let held = truth.held_since.is_some_and(|held| held <= since);
    held && truth.dropped_at <= since
        && observer_since <= since
        && truth
            .nodes
            .iter()
            .filter(|(_, until)| **until >= since)
            .all(|(node, _)| connected(*node, since))
}

/// I2: nobody comes back who has gone. `cut_at`: when anything was cut last, anywhere.
pub(crate) fn ghost(truth: &Truth, now: u64, cut_at: u64) -> bool {
    let long_ago = now.saturating_sub(SETTLED + 3_000);
    truth.had_at < long_ago && cut_at < long_ago
}
