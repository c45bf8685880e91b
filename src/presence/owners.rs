//! The first of each session's claims. Of a session only a few bytes of its hash are kept beside that claim's number: the claim says which
//! session it is. So a million sessions take a fifth of what a map of them would, and looking for one that isn't there looks at one place.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::types::SessionId;

/// Split, so that growing is never one long step. Tests that copy a tracker for each of a hundred thousand states have few owners.
const TABLES: usize = if cfg!(test) { 2 } else { 256 };

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Owners {
    hasher: RandomState,
    tables: Vec<HashTable<Head>>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    tag: u32,
    slot: u32,
}

impl Head {
    /// Within its table. The tag is a part of a hash; a table wants all bits of one to differ.
    fn hash(self) -> u64 {
        u64::from(self.tag).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }
}

impl Owners {
    fn place(&self, session: SessionId) -> (usize, u32) {
        let hash = self.hasher.hash_one(session);
        (hash as usize % TABLES, (hash >> 32) as u32)
    }

    /// `session_of` says whose claim that is, of every slot that is in it.
    pub(super) fn head(
        &self,
        session: SessionId,
        session_of: impl Fn(u32) -> SessionId,
    ) -> Option<u32> {
        let (table, tag) = self.place(session);
        let hash = Head { tag, slot: 0 }.hash();
        let same = |head: &Head| head.tag == tag && session_of(head.slot) == session;
        self.tables.get(table)?.find(hash, same).map(|head| head.slot)
    }

    /// From now on this one comes first. Which one did.
    pub(super) fn put(
        &mut self,
        session: SessionId,
        slot: u32,
        session_of: impl Fn(u32) -> SessionId,
    ) -> Option<u32> {
        if self.tables.is_empty() {
            self.tables.resize_with(TABLES, HashTable::new);
        }
        let (table, tag) = self.place(session);
        let head = Head { tag, slot };
        let table = self.tables.get_mut(table)?;
        let same = |head: &Head| head.tag == tag && session_of(head.slot) == session;
        if let Some(there) = table.find_mut(head.hash(), same) {
            return Some(std::mem::replace(&mut there.slot, slot));
        }
        table.insert_unique(head.hash(), head, |head| head.hash());
        None
    }

    /// In the place of this slot, which came first and may be gone already, comes the next, if there is one.
    pub(super) fn replace(&mut self, session: SessionId, slot: u32, next: Option<u32>) {
        let (table, tag) = self.place(session);
        let hash = Head { tag, slot }.hash();
        let Some(table) = self.tables.get_mut(table) else { return };
        let Ok(mut there) = table.find_entry(hash, |head| head.slot == slot) else { return };
        match next {
            Some(next) => there.get_mut().slot = next,
            None => drop(there.remove()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8),
        /// Of a session its first slot goes, and another comes in its place, or none.
        Replace(u8, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let session = 0_u8..40;
        prop_oneof![
            session.clone().prop_map(Step::Put),
            (session, any::<bool>()).prop_map(|(session, next)| Step::Replace(session, next)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec(step(), 0..400)) {
            let mut owners = Owners::default();
            let mut model: HashMap<SessionId, u32> = HashMap::new();
            let mut slots: Vec<SessionId> = Vec::new();
            for step in steps {
                let (Step::Put(session) | Step::Replace(session, _)) = step;
                let session = SessionId([session; 16]);
                let slot = u32::try_from(slots.len()).unwrap();
                slots.push(session);
                match step {
                    Step::Put(_) => {
                        let before = owners.put(session, slot, |slot| slots[slot as usize]);
                        prop_assert_eq!(before, model.insert(session, slot));
                    }
                    Step::Replace(_, next) => {
                        let Some(first) = model.get(&session).copied() else { continue };
                        owners.replace(session, first, next.then_some(slot));
                        model.remove(&session);
                        model.extend(next.then_some((session, slot)));
                    }
                }
                let head = owners.head(session, |slot| slots[slot as usize]);
                prop_assert_eq!(head, model.get(&session).copied());
            }
            for number in 0..40 {
                let session = SessionId([number; 16]);
                let head = owners.head(session, |slot| slots[slot as usize]);
                prop_assert_eq!(head, model.get(&session).copied());
            }
        }
    }
}
