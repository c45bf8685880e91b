//! Things under small numbers, in blocks, so that growing never moves what is there.

const BLOCK: usize = 512;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Slab<T> {
    blocks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(id) = self.free.pop() {
            self.blocks[id as usize / BLOCK][id as usize % BLOCK] = Some(value);
            return id;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            // The first block grows: a shard with three presences has no room for 512.
            let room = if self.blocks.is_empty() { 4 } else { BLOCK };
            self.blocks.push(Vec::with_capacity(room));
        }
        let block = self.blocks.len() - 1;
        self.blocks[block].push(Some(value));
        let id = block * BLOCK + self.blocks[block].len() - 1;
        u32::try_from(id)
            .unwrap_or_else(|_| unreachable!("four thousand million things do not fit into memory"))
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.blocks.get(id as usize / BLOCK)?.get(id as usize % BLOCK)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.blocks.get_mut(id as usize / BLOCK)?.get_mut(id as usize % BLOCK)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let value =
            self.blocks.get_mut(id as usize / BLOCK)?.get_mut(id as usize % BLOCK)?.take()?;
        self.len -= 1;
        self.free.push(id);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = (0..).zip(self.blocks.iter().flatten());
        numbered.filter_map(|(id, value)| value.as_ref().map(|value| (id, value)))
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    /// Only of ids that this module gave out and did not take back.
    fn index(&self, id: u32) -> &T {
        self.get(id).unwrap_or_else(|| unreachable!("nothing has the number {id}"))
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        self.get_mut(id).unwrap_or_else(|| unreachable!("nothing has the number {id}"))
    }
}
