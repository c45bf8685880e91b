//! ● Sessions that wait for a resume: when each ends, and who has most of them.
//!
//! Invariant: both indices hold the same sessions.

use std::collections::{BTreeSet, BinaryHeap, HashMap};

use crate::types::{Namespace, SessionId, Time};

#[derive(Debug, Default)]
pub(super) struct Lingers {
    by_end: BTreeSet<(Time, SessionId)>,
    of: HashMap<Namespace, BTreeSet<(Time, SessionId)>>,
}

impl Lingers {
    pub(super) fn len(&self) -> usize {
        self.by_end.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Time, SessionId)> {
        self.by_end.iter().copied()
    }

    pub(super) fn insert(&mut self, namespace: &Namespace, end: Time, session: SessionId) {
        self.by_end.insert((end, session));
        match self.of.get_mut(namespace) {
            Some(own) => {
                own.insert((end, session));
            }
            None => {
                self.of.insert(namespace.clone(), BTreeSet::from([(end, session)]));
            }
        }
    }

    pub(super) fn remove(&mut self, namespace: &Namespace, end: Time, session: SessionId) {
        self.by_end.remove(&(end, session));
        if let Some(own) = self.of.get_mut(namespace) {
            own.remove(&(end, session));
            if own.is_empty() {
                self.of.remove(namespace);
            }
        }
    }

    /// One whose time is over.
    pub(super) fn over(&self, now: Time) -> Option<SessionId> {
        self.by_end.first().filter(|(end, _)| *end <= now).map(|(_, session)| *session)
    }

    /// Who has to go so that `most` stay: always of the namespace that has most of them, and there whoever would end first. So nobody
    /// loses one to a namespace that has more.
    pub(super) fn excess(&self, most: usize) -> Vec<SessionId> {
        let excess = self.len().saturating_sub(most);
        if excess == 0 {
            return Vec::new();
        }
        let mut left: BinaryHeap<(usize, &Namespace)> =
            self.of.iter().map(|(namespace, own)| (own.len(), namespace)).collect();
        for _ in 0..excess {
            if let Some(mut largest) = left.peek_mut() {
                largest.0 -= 1;
            }
        }
        let mut gone = Vec::with_capacity(excess);
        for (stay, namespace) in left {
            let own = &self.of[namespace];
            gone.extend(own.iter().take(own.len() - stay).map(|(_, session)| *session));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::Lingers;
    use crate::types::{Namespace, SessionId, Time};

    /// Told as a person would: one by one, of whoever has most then.
    fn naive(all: &[(usize, Time, SessionId)], most: usize) -> Vec<usize> {
        let mut left: Vec<_> =
            (0..4).map(|of| all.iter().filter(|it| it.0 == of).count()).collect();
        while left.iter().sum::<usize>() > most {
            let largest = (0..4).max_by_key(|of| left[*of]).unwrap();
            left[largest] -= 1;
        }
        left.sort_unstable();
        left
    }

    #[test]
    fn who_has_most_gives_way_and_there_who_would_end_first() {
        let names: Vec<_> = (0..4).map(|n| Namespace::parse(&format!("n{n}")).unwrap()).collect();
        for seed in 1..200_u64 {
            let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: u64| {
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                chance % below
            };
            let (mut lingers, mut all) = (Lingers::default(), Vec::new());
            for n in 0..60_u8 {
                // One of them has most of the time most.
                let of = random(7).saturating_sub(3) as usize;
                let it = (of, Time::from_millis(random(50)), SessionId([n; 16]));
                lingers.insert(&names[of], it.1, it.2);
                all.push(it);
                if random(3) == 0 {
                    let (of, end, session) = all.swap_remove(random(all.len() as u64) as usize);
                    lingers.remove(&names[of], end, session);
                }
            }
            assert_eq!(lingers.len(), all.len(), "seed {seed}");
            let most = random(all.len() as u64 + 3) as usize;
            let gone = lingers.excess(most);
            assert_eq!(all.len() - gone.len(), all.len().min(most), "seed {seed}");
            all.sort_by_key(|(_, end, session)| (*end, *session));
            // Which of two that have equally many gives one more is nobody's business.
            let mut kept = Vec::new();
            for of in 0..4 {
                let goes: Vec<_> =
                    all.iter().filter(|it| it.0 == of).map(|it| gone.contains(&it.2)).collect();
                assert!(goes.is_sorted_by(|a, b| a >= b), "seed {seed}: the first of each go");
                kept.push(goes.iter().filter(|goes| !**goes).count());
            }
            kept.sort_unstable();
            assert_eq!(kept, naive(&all, most), "seed {seed}");
            for (of, end, session) in all {
                lingers.remove(&names[of], end, session);
            }
            assert!(lingers.of.is_empty() && lingers.by_end.is_empty());
        }
    }
}
