//! The mailboxes subscribed to one topic: pushing walks a plain array, leaving is O(1) however many there are.

use std::collections::HashMap;
use std::sync::Arc;

use super::Mailbox;

/// Up to here a look through the list is as fast as an index.
const INDEX_FROM: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Subscribers {
    list: Vec<Arc<Mailbox>>,
    /// Position of each mailbox by its id, once the list is long.
    #[expect(
        clippy::box_collection,
        reason = "nearly every topic has none, and pays for its room"
    )]
    index: Option<Box<HashMap<u64, u32>>>,
    /// While a push goes over the list in slices: the first position not yet pushed to.
    cursor: Option<u32>,
}

impl Subscribers {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn as_slice(&self) -> &[Arc<Mailbox>] {
        &self.list
    }

    pub(super) fn position(&self, mailbox: u64) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&mailbox).map(|&at| at as usize),
            None => self.list.iter().position(|one| one.id() == mailbox),
        }
    }

    /// False: it was there already.
    pub(super) fn add(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        if self.position(mailbox.id()).is_some() {
            return false;
        }
        let at = u32::try_from(self.list.len()).expect("fewer than 4 billion subscribers");
        if self.list.is_empty() {
            // Most topics have one.
            self.list.reserve_exact(1);
        }
        self.list.push(mailbox.clone());
        match &mut self.index {
            Some(index) => {
                index.insert(mailbox.id(), at);
            }
            None if self.list.len() > INDEX_FROM => {
                let index =
                    self.list.iter().enumerate().map(|(at, one)| (one.id(), at as u32)).collect();
                self.index = Some(Box::new(index));
            }
            None => {}
        }
        true
    }

    /// False: it was not there.
    pub(super) fn remove(&mut self, mailbox: u64) -> bool {
        let Some(mut at) = self.position(mailbox) else { return false };
        if let Some(cursor) = self.cursor.as_mut().filter(|cursor| at < **cursor as usize) {
            // The last one takes the place that is freed. So that a slice to come finds it, free a place at the border instead.
            *cursor -= 1;
            let border = *cursor as usize;
            self.list.swap(at, border);
            if let Some(index) = &mut self.index {
                index.insert(self.list[at].id(), at as u32);
            }
            at = border;
        }
        self.list.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&mailbox);
            if let Some(moved) = self.list.get(at) {
                index.insert(moved.id(), at as u32);
            }
        }
        true
    }

    /// Begins a push in slices. One at a time: the registry's turn sees to that.
    pub(super) fn begin(&mut self) {
        debug_assert!(self.cursor.is_none(), "one push in slices at a time");
        self.cursor = Some(0);
    }

    /// The next slice of at most `most`; None when all have had theirs, which ends the push.
    pub(super) fn next_slice(&mut self, most: usize) -> Option<&[Arc<Mailbox>]> {
        let start = self.cursor? as usize;
        if start >= self.list.len() {
            self.cursor = None;
            return None;
        }
        let end = self.list.len().min(start + most);
        self.cursor = Some(u32::try_from(end).expect("fewer than 4 billion subscribers"));
        Some(&self.list[start..end])
    }

    pub(super) fn in_slices(&self) -> bool {
        self.cursor.is_some()
    }
}

/// The subscribers of one pattern.
#[derive(Debug, Default)]
pub(super) struct PatternSubscribers {
    all: Subscribers,
    /// Of those that get a copy for each match: when each subscribed, so that they get them in that order.
    since: HashMap<u64, u64>,
}

impl PatternSubscribers {
    pub(super) fn as_slice(&self) -> &[Arc<Mailbox>] {
        self.all.as_slice()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Are there any that get a copy for each match?
    pub(super) fn any_each_match(&self) -> bool {
        !self.since.is_empty()
    }

    /// When it subscribed, if it gets a copy for each match.
    pub(super) fn since(&self, mailbox: u64) -> Option<u64> {
        self.since.get(&mailbox).copied()
    }

    /// `now` rises with every subscription. False: it was there already.
    pub(super) fn add(&mut self, mailbox: &Arc<Mailbox>, now: u64) -> bool {
        let added = self.all.add(mailbox);
        if added && mailbox.wants_each_match() {
            self.since.insert(mailbox.id(), now);
        }
        added
    }

    /// False: it was not there.
    pub(super) fn remove(&mut self, mailbox: u64) -> bool {
        self.since.remove(&mailbox);
        self.all.remove(mailbox)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::types::SessionId;

    #[derive(Debug, Clone)]
    enum Op {
        Add(u64),
        Remove(u64),
        Slice,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![(0u64..60).prop_map(Op::Add), (0u64..60).prop_map(Op::Remove), Just(Op::Slice)]
    }

    proptest! {
        /// Whoever is subscribed from the beginning of a push to its end is pushed to, exactly once, whatever comes and goes.
        #[test]
        fn a_push_in_slices_misses_nobody_who_stays(before in prop::collection::btree_set(0u64..60, 0..50), ops in prop::collection::vec(op(), 0..120)) {
            let boxes: Vec<Arc<Mailbox>> = (0..60).map(|id| Arc::new(Mailbox::new(id, SessionId([0; 16]), 1))).collect();
            let mut subscribers = Subscribers::default();
            let mut model = BTreeSet::new();
            for &id in &before {
                subscribers.add(&boxes[id as usize]);
                model.insert(id);
            }
            let mut stayed = before;
            let mut pushed = Vec::new();
            subscribers.begin();
            for op in ops {
                match op {
                    Op::Add(id) => prop_assert_eq!(subscribers.add(&boxes[id as usize]), model.insert(id)),
                    Op::Remove(id) => {
                        prop_assert_eq!(subscribers.remove(id), model.remove(&id));
                        stayed.remove(&id);
                    }
                    Op::Slice => pushed.extend(subscribers.next_slice(4).into_iter().flatten().map(|one| one.id())),
                }
            }
            while let Some(slice) = subscribers.next_slice(4) {
                pushed.extend(slice.iter().map(|one| one.id()));
            }
            for id in stayed {
                prop_assert_eq!(pushed.iter().filter(|&&one| one == id).count(), 1, "mailbox {}", id);
            }
            let listed: BTreeSet<u64> = subscribers.as_slice().iter().map(|one| one.id()).collect();
            prop_assert_eq!(listed, model);
            for (at, one) in subscribers.as_slice().iter().enumerate() {
                prop_assert_eq!(subscribers.position(one.id()), Some(at));
            }
        }
    }
}
