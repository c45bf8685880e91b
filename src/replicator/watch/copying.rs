//! ● A copy of a topic's list, made piece by piece while the list changes: what it gives is the list as it was when the copy began.
//! So nobody who changes a huge topic waits for those who read it, longer than for one piece.

use std::collections::BTreeMap;

use super::pending::Who;
use crate::presence::{Change, Shown, Tracker};
use crate::types::Topic;

/// Bounded by the presences of the topic, before and after.
#[derive(Debug, Default)]
pub(in crate::replicator) struct Copying {
    /// The last that was read.
    upto: Option<Who>,
    /// What has changed behind that since the copy began, as it was then.
    before: BTreeMap<Who, Option<Shown>>,
}

/// A run of entries in order of (key, id).
#[derive(Debug)]
pub(in crate::replicator) struct Piece {
    pub(in crate::replicator) entries: Vec<Shown>,
    pub(in crate::replicator) is_last: bool,
}

impl Copying {
    /// Every change since the copy began, in the order in which they came.
    pub(in crate::replicator) fn note(&mut self, change: &Change) {
        let Some(shown) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let who = Who(shown.clone());
        if self.upto.as_ref().is_none_or(|upto| who > *upto) {
            self.before.entry(who).or_insert_with(|| change.before.clone());
        }
    }

    /// Reads about `most` entries on.
    pub(in crate::replicator) fn read(
        &mut self,
        tracker: &Tracker,
        topic: &Topic,
        most: usize,
    ) -> Piece {
        let after = self.upto.as_ref().map(Who::parts);
        let mut now = tracker.page(topic, None, after, most + 1);
        let is_last = now.len() <= most;
        now.truncate(most);
        let mut was = std::mem::take(&mut self.before);
        if !is_last && let Some(last) = now.last() {
            let last = Who(last.clone());
            self.before = was.split_off(&last);
            if let Some(before) = self.before.remove(&last) {
                was.insert(Who(last.0.clone()), before);
            }
            self.upto = Some(last);
        }
        let mut entries = Vec::with_capacity(now.len());
        let mut was = was.into_iter().peekable();
        for shown in now {
            let who = Who(shown);
            while let Some((_, before)) = was.next_if(|(other, _)| *other < who) {
                entries.extend(before);
            }
            match was.next_if(|(other, _)| *other == who) {
                Some((_, before)) => entries.extend(before),
                None => entries.push(who.0),
            }
        }
        entries.extend(was.filter_map(|(_, before)| before));
        Piece { entries, is_last }
    }
}
