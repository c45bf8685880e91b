//! The topics of each namespace that somebody is subscribed to, so that whoever asks for its own pays for no neighbour's.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::types::{Namespace, Topic};

/// In so many parts, each with a lock of its own: subscribers seldom meet, and no part that grows is long in doing so.
pub(super) const PARTS: usize = 64;

/// In order, so that who reads them can give the lock back in between; a set that is ordered takes no more than one that hashes.
type Part = HashMap<Namespace, BTreeSet<InOrder>, RandomState>;

/// Of one namespace. In the order of hashes: names may be long, and begin all alike.
#[derive(Debug, PartialEq, Eq)]
struct InOrder(Topic);

impl Ord for InOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        let Self(topic) = self;
        topic.hash64().cmp(&other.0.hash64()).then_with(|| topic.name().cmp(other.0.name()))
    }
}

impl PartialOrd for InOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug)]
pub(super) struct Named(Box<[Mutex<Part>]>);

impl Default for Named {
    fn default() -> Self {
        Self((0..PARTS).map(|_| Mutex::default()).collect())
    }
}

impl Named {
    /// The high bits, as for stripes.
    fn part(&self, topic: &Topic) -> &Mutex<Part> {
        &self.0[(topic.hash64() >> 58) as usize % PARTS]
    }

    pub(super) fn add(&self, topic: &Topic) {
        let mut part = self.part(topic).lock();
        match part.get_mut(topic.namespace()) {
            Some(own) => {
                own.insert(InOrder(topic.clone()));
            }
            None => {
                let own = BTreeSet::from([InOrder(topic.clone())]);
                part.insert(topic.namespace().clone(), own);
            }
        }
    }

    pub(super) fn remove(&self, topic: &Topic) {
        let mut part = self.part(topic).lock();
        if let Some(own) = part.get_mut(topic.namespace()) {
            own.remove(&InOrder(topic.clone()));
            if own.is_empty() {
                part.remove(topic.namespace());
            }
        }
    }

    /// Those of a part behind this one, at most so many.
    pub(super) fn of(
        &self,
        namespace: &Namespace,
        part: usize,
        behind: Option<Topic>,
        most: usize,
    ) -> Vec<Topic> {
        let from = behind.map_or(Bound::Unbounded, |topic| Bound::Excluded(InOrder(topic)));
        let part = self.0[part].lock();
        let Some(own) = part.get(namespace) else { return Vec::new() };
        let some = own.range((from, Bound::Unbounded)).take(most);
        some.map(|InOrder(topic)| topic.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Named, PARTS};
    use crate::types::{ClusterName, Namespace, TopicHasher};

    #[test]
    fn a_namespace_is_walked_in_pieces_while_it_changes() {
        let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
        let own = Namespace::default();
        let topic = |i: u32| hasher.topic(&own, &format!("t{i}"), 100).unwrap();
        let named = Named::default();
        (0..1_000).for_each(|i| named.add(&topic(i)));
        named.add(&hasher.topic(&Namespace::parse("other").unwrap(), "t1", 100).unwrap());
        let mut found = Vec::new();
        for part in 0..PARTS {
            let mut behind = None;
            loop {
                let some = named.of(&own, part, behind.take(), 3);
                assert!(some.len() <= 3);
                let Some(last) = some.last().cloned() else { break };
                // Also where the one that was told last is gone.
                named.remove(&last);
                found.extend(some);
                behind = Some(last);
            }
        }
        let names: BTreeSet<Vec<u8>> = found.iter().map(|topic| topic.name().to_vec()).collect();
        assert_eq!((found.len(), names.len()), (1_000, 1_000));
        found.iter().for_each(|topic| named.remove(topic));
        assert_eq!(named.0.iter().map(|part| part.lock().len()).sum::<usize>(), 1);
    }
}
