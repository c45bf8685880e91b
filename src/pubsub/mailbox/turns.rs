//! ● What waits in an outbox that several tenants share: each has its turn.
//!
//! A tenant's own entries keep their order, whatever their topics. What concerns everybody (the place of an interest, a marker, a gap of
//! unknown topics) stands behind all that came before it and before all that comes after. Between two of those, turns go round: about
//! `TURN_BYTES` each, and what somebody took beyond that is taken off its next ones.

use std::collections::{HashMap, VecDeque};

use super::Entry;
use crate::types::Namespace;

/// What one tenant may be ahead of another, more or less; large entries are not cut apart.
const TURN_BYTES: i64 = 16 << 10;

/// A tenant may wait with so many times what is still free: the last ninth of the room stays with others, and theirs with the next ones.
const FREE_TIMES: usize = 8;

/// Of an outbox: whose its entries are.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Whose all of `State::queue` is, while there are no turns.
    tenant: Option<Namespace>,
    /// There has been a second one.
    several: bool,
    /// More than one have something waiting. Then `State::queue` is empty.
    pub(super) turns: Option<Turns>,
    /// Those whose newest are dropped until it is half empty. Others' are not.
    pub(super) dropping: Vec<Namespace>,
}

impl Shared {
    /// Something of this namespace is about to be pushed. `is_dropping`: whatever came lately was dropped.
    pub(super) fn note(
        &mut self,
        namespace: &Namespace,
        queue: &mut VecDeque<Entry>,
        is_dropping: bool,
    ) {
        if self.turns.is_some() || self.tenant.as_ref().is_some_and(|one| namespace.is_of(one)) {
            return;
        }
        let tenant = namespace.tenant();
        let Some(before) = self.tenant.replace(tenant) else { return };
        if !self.several && is_dropping {
            self.dropping.push(before);
        }
        self.several = true;
        if !queue.is_empty() {
            let mut turns = Turns::default();
            std::mem::take(queue).into_iter().for_each(|entry| turns.push(entry));
            (self.turns, self.tenant) = (Some(turns), None);
        }
    }

    /// Whether one more batch is too much for its tenant, where each is judged by itself. `bytes` wait in all, and `free` are left.
    pub(super) fn is_too_much(
        &mut self,
        namespace: &Namespace,
        cost: usize,
        bytes: usize,
        free: usize,
    ) -> Option<bool> {
        if !self.several {
            return None;
        }
        if self.dropping.iter().any(|tenant| namespace.is_of(tenant)) {
            return Some(true);
        }
        let waiting = self.waiting(namespace, bytes) + cost;
        let over = cost > free || waiting > free.saturating_mul(FREE_TIMES);
        if over {
            self.note_dropped(namespace);
        }
        Some(over)
    }

    /// Something of it was dropped, and its gap has no place yet: what follows is dropped too.
    pub(super) fn note_dropped(&mut self, namespace: &Namespace) {
        if self.several && !self.dropping.iter().any(|tenant| namespace.is_of(tenant)) {
            self.dropping.push(namespace.tenant());
        }
    }

    /// Whether it is this tenant that fills the outbox.
    pub(super) fn is_filling(&self, namespace: &Namespace, bytes: usize, free: usize) -> bool {
        !self.several || self.waiting(namespace, bytes) > free
    }

    fn waiting(&self, namespace: &Namespace, bytes: usize) -> usize {
        match &self.turns {
            Some(turns) => turns.waiting.get(&namespace.tenant()).copied().unwrap_or(0),
            None => bytes,
        }
    }
}

/// Never empty, once there is something in it: who takes the last entry drops it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    sections: VecDeque<Section>,
    waiting: HashMap<Namespace, usize>,
}

#[derive(Debug, Default)]
struct Section {
    queues: HashMap<Namespace, Queue>,
    /// The first has its turn.
    ring: VecDeque<Namespace>,
    /// What stands behind all of these.
    end: Option<Entry>,
}

#[derive(Debug)]
struct Queue {
    entries: VecDeque<Entry>,
    /// What is left of its turn.
    left: i64,
}

fn tenant_of(entry: &Entry) -> Option<Namespace> {
    match entry {
        Entry::Gap(gap) => gap.topics.first().map(|topic| topic.namespace().tenant()),
        _ => entry.batch().map(|batch| batch.topic().namespace().tenant()),
    }
}

impl Turns {
    pub(super) fn push(&mut self, entry: Entry) {
        if self.sections.back().is_none_or(|section| section.end.is_some()) {
            self.sections.push_back(Section::default());
        }
        let Some(section) = self.sections.back_mut() else { return };
        match tenant_of(&entry) {
            Some(tenant) => {
                *self.waiting.entry(tenant.clone()).or_default() += entry.cost();
                section.push(tenant, entry);
            }
            None => section.end = Some(entry),
        }
    }

    pub(super) fn next(&self) -> Option<&Entry> {
        let section = self.sections.front()?;
        let queue = section.ring.front().and_then(|tenant| section.queues.get(tenant));
        queue.map_or(section.end.as_ref(), |queue| queue.entries.front())
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let section = self.sections.front_mut()?;
        let entry = section.pop().or_else(|| section.end.take())?;
        if section.ring.is_empty() && section.end.is_none() {
            self.sections.pop_front();
        }
        if let Some(tenant) = tenant_of(&entry)
            && let Some(waiting) = self.waiting.get_mut(&tenant)
        {
            *waiting -= entry.cost();
            if *waiting == 0 {
                self.waiting.remove(&tenant);
            }
        }
        Some(entry)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// What was pushed last, if it concerns everybody.
    pub(super) fn last(&mut self) -> Option<&mut Entry> {
        self.sections.back_mut()?.end.as_mut()
    }
}

impl Section {
    fn push(&mut self, tenant: Namespace, entry: Entry) {
        if let Some(queue) = self.queues.get_mut(&tenant) {
            queue.entries.push_back(entry);
            return;
        }
        let left = if self.ring.is_empty() { TURN_BYTES } else { 0 };
        self.ring.push_back(tenant.clone());
        self.queues.insert(tenant, Queue { entries: VecDeque::from([entry]), left });
    }

    fn pop(&mut self) -> Option<Entry> {
        let queue = self.queues.get_mut(self.ring.front()?)?;
        let entry = queue.entries.pop_front()?;
        queue.left -= i64::try_from(entry.cost()).unwrap_or(i64::MAX);
        let (is_over, is_empty) = (queue.left <= 0, queue.entries.is_empty());
        if is_empty || is_over {
            let tenant = self.ring.pop_front()?;
            if is_empty {
                self.queues.remove(&tenant);
            } else {
                self.ring.push_back(tenant);
            }
            self.begin_turn();
        }
        Some(entry)
    }

    /// Whoever is first now and not in debt.
    fn begin_turn(&mut self) {
        while let Some(queue) = self.ring.front().and_then(|tenant| self.queues.get_mut(tenant)) {
            queue.left += TURN_BYTES;
            if queue.left > 0 {
                return;
            }
            self.ring.rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests;
