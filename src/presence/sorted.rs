//! Ids in an order that only their owner knows: sorted runs of bounded length. Four bytes an element and little more, which a
//! tree of keys can't do, and an element in the middle costs a search and a short move.

use std::cmp::Ordering;

const RUN_MAX: usize = 256;

/// Comparisons say how an element of it stands to what is looked for.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Sorted {
    runs: Vec<Vec<u32>>,
    len: usize,
}

/// Where something is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    run: usize,
    at: usize,
}

impl Sorted {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first place whose element is not less than what is looked for.
    pub(super) fn seek(&self, compare: impl Fn(u32) -> Ordering) -> Place {
        let before = |run: &Vec<u32>| run.last().is_some_and(|last| compare(*last).is_lt());
        // What comes in order belongs behind the last: no search.
        if self.runs.last().is_none_or(before) {
            return Place { run: self.runs.len(), at: 0 };
        }
        let run = self.runs.partition_point(before);
        let at = self.runs[run].partition_point(|id| compare(*id).is_lt());
        Place { run, at }
    }

    pub(super) fn get(&self, place: Place) -> Option<u32> {
        self.runs.get(place.run)?.get(place.at).copied()
    }

    pub(super) fn find(&self, compare: impl Fn(u32) -> Ordering) -> Option<u32> {
        self.get(self.seek(&compare)).filter(|id| compare(*id).is_eq())
    }

    /// At a place that `seek` found, with nothing changed since.
    pub(super) fn insert(&mut self, place: Place, id: u32) {
        self.len += 1;
        let behind = place.run == self.runs.len();
        if behind && self.runs.last().is_none_or(|last| last.len() >= RUN_MAX) {
            self.runs.push(vec![id]);
            return;
        }
        let (run, at) = match place {
            Place { run, .. } if behind => (run - 1, self.runs[run - 1].len()),
            Place { run, at } => (run, at),
        };
        self.runs[run].insert(at, id);
        if self.runs[run].len() > RUN_MAX {
            let mut upper = Vec::with_capacity(RUN_MAX + 1);
            upper.extend_from_slice(&self.runs[run][RUN_MAX / 2..]);
            self.runs[run].truncate(RUN_MAX / 2);
            self.runs.insert(run + 1, upper);
        }
    }

    /// Takes out what is there.
    pub(super) fn remove(&mut self, place: Place) -> Option<u32> {
        let run = self.runs.get_mut(place.run)?;
        if place.at >= run.len() {
            return None;
        }
        let id = run.remove(place.at);
        self.len -= 1;
        if run.is_empty() {
            self.runs.remove(place.run);
        } else if run.len() < run.capacity() / 4 {
            run.shrink_to(run.len() * 2);
        }
        Some(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flatten().copied()
    }

    pub(super) fn iter_from(&self, place: Place) -> impl Iterator<Item = u32> + '_ {
        let first = self.runs.get(place.run).map_or(&[][..], |run| &run[place.at..]);
        let rest = self.runs.get(place.run + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flatten()).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(sorted: &Sorted, of: u32) -> Place {
        sorted.seek(|id| id.cmp(&of))
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set(steps in prop::collection::vec((any::<bool>(), 0_u32..2_000), 0..3_000)) {
            let mut sorted = Sorted::default();
            let mut model = std::collections::BTreeSet::new();
            for (add, id) in steps {
                let at = place(&sorted, id);
                let there = sorted.get(at) == Some(id);
                prop_assert_eq!(there, model.contains(&id));
                match (add, there) {
                    (true, false) => { sorted.insert(at, id); model.insert(id); }
                    (false, true) => { sorted.remove(at); model.remove(&id); }
                    _ => (),
                }
            }
            prop_assert_eq!(sorted.len(), model.len());
            prop_assert!(sorted.iter().eq(model.iter().copied()));
            let middle = place(&sorted, 1_000);
            prop_assert!(sorted.iter_from(middle).eq(model.range(1_000..).copied()));
        }
    }
}
