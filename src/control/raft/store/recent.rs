//! ● Which leases changed lately, for those who follow them: what each change costs a follower is that change, and not all leases.

use std::collections::{BTreeSet, VecDeque};

use crate::control::model::LeaseKey;

/// Whoever is further behind looks at everything.
const KEPT_MAX: usize = 4_096;

/// Changes are numbered from 1.
#[derive(Debug)]
pub(super) struct Recent {
    keys: VecDeque<LeaseKey>,
    next: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { keys: VecDeque::new(), next: 1 }
    }
}

impl Recent {
    pub(super) fn note<'a>(&mut self, keys: impl IntoIterator<Item = &'a LeaseKey>) {
        for key in keys {
            if self.keys.len() == KEPT_MAX {
                self.keys.pop_front();
            }
            self.keys.push_back(key.clone());
            self.next += 1;
        }
    }

    /// All may have changed.
    pub(super) fn lose(&mut self) {
        self.keys.clear();
        self.next += 1;
    }

    /// Where who knows all of it goes on.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// What changed from there on, of those that `concerns`. None: look at everything.
    pub(super) fn since(
        &self,
        from: u64,
        concerns: impl Fn(&LeaseKey) -> bool,
    ) -> Option<BTreeSet<LeaseKey>> {
        let oldest = self.next - self.keys.len() as u64;
        let skipped = usize::try_from(from.checked_sub(oldest)?).ok()?;
        let changed = self.keys.iter().skip(skipped);
        Some(changed.filter(|key| concerns(key)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_MAX, Recent};
    use crate::control::model::LeaseKey;

    fn key(name: &str) -> LeaseKey {
        LeaseKey { namespace: "n".into(), name: name.into() }
    }

    #[test]
    fn who_is_too_far_behind_looks_at_everything() {
        let mut recent = Recent::default();
        let names = |recent: &Recent, from: u64| {
            let since = recent.since(from, |key| &*key.name != "no")?;
            Some(since.into_iter().map(|key| key.name.into_string()).collect::<Vec<_>>())
        };
        assert_eq!((names(&recent, 0), names(&recent, recent.next())), (None, Some(vec![])));
        let from = recent.next();
        recent.note(&[key("b"), key("no"), key("a"), key("b")]);
        assert_eq!(names(&recent, from), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(&recent, from + 3), Some(vec!["b".to_owned()]));
        assert_eq!(names(&recent, recent.next()), Some(vec![]));
        recent.note(&vec![key("c"); KEPT_MAX - 4]);
        assert_eq!(names(&recent, from).map(|all| all.len()), Some(3));
        recent.note(&[key("d")]);
        assert_eq!(names(&recent, from), None);
        let from = recent.next();
        recent.lose();
        assert_eq!((names(&recent, from), names(&recent, recent.next())), (None, Some(vec![])));
    }
}
