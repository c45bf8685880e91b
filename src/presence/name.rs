//! (key, id) as one run of bytes, so that a few of them, as a number, tell most names apart.

use std::cmp::Ordering;

/// As if key, a zero and id stood behind each other. No key has a zero, so these runs of bytes are in the order of (key, id).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) key: &'a [u8],
    pub(super) id: &'a [u8],
}

fn equal(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<'a> Name<'a> {
    pub(super) fn new(key: &'a str, id: &'a str) -> Self {
        Self { key: key.as_bytes(), id: id.as_bytes() }
    }

    pub(super) fn len(self) -> usize {
        self.key.len() + 1 + self.id.len()
    }

    fn from(self, at: usize) -> impl Iterator<Item = u8> {
        let rest = self.key.get(at..).unwrap_or_default();
        rest.iter().chain(&[0]).chain(self.id).copied()
    }

    pub(super) fn order(self, other: Self) -> Ordering {
        let both = self.key.len().min(other.key.len());
        self.key[..both].cmp(&other.key[..both]).then_with(|| {
            if self.key.len() == other.key.len() {
                self.id.cmp(other.id)
            } else {
                self.from(both).cmp(other.from(both))
            }
        })
    }

    /// With how many bytes both begin.
    pub(super) fn shared(self, other: Self) -> usize {
        let keys = equal(self.key, other.key);
        if keys < self.key.len() || keys < other.key.len() {
            return keys;
        }
        keys + 1 + equal(self.id, other.id)
    }

    /// The bytes from there on, zeros behind the end.
    fn bytes<const N: usize>(self, from: usize) -> [u8; N] {
        let mut bytes = [0; N];
        let mut put = |at: usize, part: &[u8]| {
            if let Some(room) = bytes.get_mut(at..) {
                let len = part.len().min(room.len());
                room[..len].copy_from_slice(&part[..len]);
            }
        };
        let separator = self.key.len();
        if from < separator {
            put(0, &self.key[from..]);
        }
        match (separator + 1).checked_sub(from) {
            Some(at) => put(at, self.id),
            None => put(0, self.id.get(from - separator - 1..).unwrap_or_default()),
        }
        bytes
    }

    /// Names that share what stands before `from` are in the order of these numbers, or have the same.
    pub(super) fn wide(self, from: usize) -> u128 {
        u128::from_be_bytes(self.bytes(from))
    }

    pub(super) fn head(self, from: usize) -> u64 {
        u64::from_be_bytes(self.bytes(from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_in_the_order_of_names(
            keys in ("[ab]{1,3}", "[ab]{1,3}"),
            ids in ("[ab]{1,20}", "[ab]{1,20}"),
        ) {
            let (a, b) = (Name::new(&keys.0, &ids.0), Name::new(&keys.1, &ids.1));
            let order = (&keys.0, &ids.0).cmp(&(&keys.1, &ids.1));
            prop_assert_eq!(a.order(b), order);
            let whole = |name: Name<'_>| name.from(0).collect::<Vec<u8>>();
            let (one, other) = (whole(a), whole(b));
            prop_assert_eq!(one.len(), a.len());
            prop_assert_eq!(a.shared(b), equal(&one, &other));
            for from in 0..=a.shared(b) {
                let wide = a.wide(from).cmp(&b.wide(from));
                let head = a.head(from).cmp(&b.head(from));
                prop_assert!(wide == order || wide.is_eq() && a.shared(b) - from >= 16 || order.is_eq());
                prop_assert!(head == order || head.is_eq() && a.shared(b) - from >= 8 || order.is_eq());
                let expected: Vec<u8> = one[from..].iter().copied().chain([0; 16]).take(16).collect();
                prop_assert_eq!(a.bytes::<16>(from).to_vec(), expected);
            }
        }
    }
}
