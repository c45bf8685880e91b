//! ● What somebody who watches leases was told, and what he is to be told next.
//!
//! No queue of changes: only the names to look at, each once. However slow he is, it holds no more than there are leases of his, and those
//! that he believes to be there.

use std::collections::{BTreeMap, BTreeSet};

type Name = Box<str>;

#[derive(Debug, Default)]
pub(super) struct Following {
    /// What was told of each, as a mark.
    told: BTreeMap<Name, u64>,
    /// What was there at the beginning, and is not told yet.
    first: BTreeSet<Name>,
    current: bool,
    pending: BTreeSet<Name>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// See how this one is now, and hand it to `judge`.
    Look(Name),
    /// Say that all that there were have been told.
    Current,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum News<T> {
    Held(T),
    Free,
}

impl Following {
    /// Changes may have been missed; these are there.
    pub(super) fn look_at_all(&mut self, there: impl IntoIterator<Item = Name>) {
        let waiting = if self.current { &mut self.pending } else { &mut self.first };
        waiting.extend(there);
        waiting.extend(self.told.keys().cloned());
    }

    /// These have changed.
    pub(super) fn look_at(&mut self, changed: impl IntoIterator<Item = Name>) {
        self.pending.extend(changed);
    }

    pub(super) fn next(&mut self) -> Option<Step> {
        if let Some(name) = self.first.pop_first() {
            return Some(Step::Look(name));
        }
        if !self.current {
            self.current = true;
            return Some(Step::Current);
        }
        self.pending.pop_first().map(Step::Look)
    }

    /// How it is: None, or its mark and how it is to be told.
    pub(super) fn judge<T>(&mut self, name: Name, now: Option<(u64, T)>) -> Option<News<T>> {
        match now {
            Some((mark, shown)) => {
                let before = self.told.insert(name, mark);
                (before != Some(mark)).then_some(News::Held(shown))
            }
            None => self.told.remove(&name).map(|_| News::Free),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Following, News, Step};

    fn name(n: u8) -> Box<str> {
        format!("{n:03}").into()
    }

    proptest! {
        /// Leases change as they like, changes are missed at times, and the watcher takes a step now and then.
        #[test]
        fn what_was_told_is_how_it_is(steps in prop::collection::vec(any::<(u8, u8, bool)>(), 0..300)) {
            let mut there: BTreeMap<Box<str>, u64> = BTreeMap::new();
            let mut seen: BTreeMap<Box<str>, u64> = BTreeMap::new();
            let mut following = Following::default();
            let mut currents = 0;
            let mut take = |following: &mut Following, there: &BTreeMap<Box<str>, u64>| {
                let Some(step) = following.next() else { return Ok(false) };
                match step {
                    Step::Current => currents += 1,
                    Step::Look(name) => {
                        let now = there.get(&name).map(|mark| (*mark, *mark));
                        match following.judge(name.clone(), now) {
                            None => {}
                            Some(News::Held(mark)) => {
                                prop_assert_ne!(seen.insert(name, mark), Some(mark), "nothing new");
                            }
                            Some(News::Free) => prop_assert!(seen.remove(&name).is_some()),
                        }
                    }
                }
                if currents == 1 && !following.current {
                    prop_assert!(false, "current before its time");
                }
                Ok(true)
            };
            following.look_at_all([]);
            for (who, what, told) in steps {
                let who = name(who % 16);
                match what % 8 {
                    0 => { there.remove(&who); }
                    1..4 => { there.insert(who.clone(), u64::from(what)); }
                    _ => { take(&mut following, &there)?; }
                }
                if told {
                    following.look_at([who]);
                } else {
                    following.look_at_all(there.keys().cloned());
                }
            }
            while take(&mut following, &there)? {}
            prop_assert_eq!(currents, 1);
            prop_assert_eq!(seen, there);
        }
    }

    #[test]
    fn first_all_then_current_then_changes() {
        let mut following = Following::default();
        following.look_at_all([name(1), name(2)]);
        following.look_at([name(0)]);
        let steps: Vec<_> = std::iter::from_fn(|| following.next()).collect();
        let look = |n| Step::Look(name(n));
        assert_eq!(steps, [look(1), look(2), Step::Current, look(0)]);
    }
}
