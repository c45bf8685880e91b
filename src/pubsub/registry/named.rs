//! The topics of each namespace that somebody is subscribed to, so that whoever asks for its own pays for no neighbour's.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::types::{Namespace, Topic};

/// In so many parts, each with a lock of its own: subscribers seldom meet, and no part that grows is long in doing so.
pub(super) const PARTS: usize = 64;

type Part = HashMap<Namespace, HashSet<Topic, RandomState>, RandomState>;

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
                own.insert(topic.clone());
            }
            None => {
                let own = HashSet::from_iter([topic.clone()]);
                part.insert(topic.namespace().clone(), own);
            }
        }
    }

    pub(super) fn remove(&self, topic: &Topic) {
        let mut part = self.part(topic).lock();
        if let Some(own) = part.get_mut(topic.namespace()) {
            own.remove(topic);
            if own.is_empty() {
                part.remove(topic.namespace());
            }
        }
    }

    pub(super) fn of(&self, namespace: &Namespace, part: usize) -> Vec<Topic> {
        let part = self.0[part].lock();
        part.get(namespace).map_or_else(Vec::new, |own| own.iter().cloned().collect())
    }
}
