//! A set that is small nearly always: most sessions subscribe to one or two topics, some to a hundred thousand.

use std::collections::HashSet;
use std::hash::Hash;

/// Up to here a look through the list is as fast as a table, and a fraction of its size.
const FEW: usize = 8;

#[derive(Debug, Clone)]
pub enum FewSet<T> {
    Few(Vec<T>),
    Many(Box<HashSet<T>>),
}

impl<T> Default for FewSet<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<T: Eq + Hash> FewSet<T> {
    pub fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, one: &T) -> bool {
        match self {
            Self::Few(few) => few.contains(one),
            Self::Many(many) => many.contains(one),
        }
    }

    /// False: it was there already.
    pub fn insert(&mut self, one: T) -> bool {
        match self {
            Self::Few(few) if few.contains(&one) => false,
            Self::Few(few) if few.len() < FEW => {
                // The first ones take no more room than they need.
                if few.len() < FEW / 4 {
                    few.reserve_exact(1);
                }
                few.push(one);
                true
            }
            Self::Few(few) => {
                let mut many: HashSet<T> = few.drain(..).collect();
                many.insert(one);
                *self = Self::Many(Box::new(many));
                true
            }
            Self::Many(many) => many.insert(one),
        }
    }

    pub fn take(&mut self, one: &T) -> Option<T> {
        match self {
            Self::Few(few) => {
                let at = few.iter().position(|other| other == one)?;
                Some(few.swap_remove(at))
            }
            Self::Many(many) => many.take(one),
        }
    }

    /// False: it was not there.
    pub fn remove(&mut self, one: &T) -> bool {
        self.take(one).is_some()
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few.iter()), None),
            Self::Many(many) => (None, Some(many.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::Few(few) => few,
            Self::Many(many) => many.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::FewSet;

    proptest! {
        #[test]
        fn it_is_a_set(ops in prop::collection::vec((any::<bool>(), 0u8..24), 0..100)) {
            let (mut set, mut model) = (FewSet::default(), BTreeSet::new());
            for (adds, one) in ops {
                if adds {
                    prop_assert_eq!(set.insert(one), model.insert(one));
                } else {
                    prop_assert_eq!(set.remove(&one), model.remove(&one));
                }
                prop_assert_eq!(set.contains(&one), model.contains(&one));
                prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(&set.iter().copied().collect::<BTreeSet<_>>(), &model);
            }
            prop_assert_eq!(set.into_vec().into_iter().collect::<BTreeSet<_>>(), model);
        }
    }
}
