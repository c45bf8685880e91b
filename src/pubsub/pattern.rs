//! Globs over topics: a matcher that is linear in time, and an index that asks few of many patterns.
//!
//! The language is Redis's: `*` any run, `?` any one byte, `[a-z]` one of a set, `[^a]` one not of it, `\` takes the next as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::sync::Arc;

use crate::types::{Namespace, Pattern, Topic};

/// Does the whole of `text` match? Time is at most proportional to the product of the lengths, and to their sum where no `*` is
/// followed by a set: only the last `*` is ever tried again.
pub fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if glob.get(g) == Some(&b'*') {
            g += 1;
            star = Some((g, t));
            continue;
        }
        if t == text.len() && g == glob.len() {
            return true;
        }
        if let Some(&byte) = text.get(t).filter(|_| g < glob.len())
            && let Some(width) = one(&glob[g..], byte)
        {
            g += width;
            t += 1;
            continue;
        }
        match &mut star {
            Some((after, from)) if *from < text.len() => {
                *from += 1;
                (g, t) = (*after, *from);
            }
            _ => return false,
        }
    }
}

/// Whether the first element of `glob` (never `*`) takes `byte`; if so, how long that element is.
fn one(glob: &[u8], byte: u8) -> Option<usize> {
    match glob[0] {
        b'?' => Some(1),
        b'\\' if glob.len() > 1 => (glob[1] == byte).then_some(2),
        b'[' => {
            let mut at = 1;
            let negated = glob.get(at) == Some(&b'^');
            at += usize::from(negated);
            let mut hit = false;
            loop {
                match glob.get(at) {
                    None => break,
                    Some(b']') => {
                        at += 1;
                        break;
                    }
                    Some(b'\\') if at + 1 < glob.len() => {
                        hit |= glob[at + 1] == byte;
                        at += 2;
                    }
                    Some(&low) if glob.get(at + 1) == Some(&b'-') && at + 2 < glob.len() => {
                        // As Redis on x86, whose characters are signed: bytes that are no ASCII come before those that are.
                        let ends = (low.cast_signed(), glob[at + 2].cast_signed());
                        let ends = ends.0.min(ends.1)..=ends.0.max(ends.1);
                        hit |= ends.contains(&byte.cast_signed());
                        at += 3;
                    }
                    Some(&literal) => {
                        hit |= literal == byte;
                        at += 1;
                    }
                }
            }
            (hit != negated).then_some(at)
        }
        literal => (literal == byte).then_some(1),
    }
}

/// What a glob begins with before anything in it is special.
fn literal_prefix(glob: &[u8]) -> &[u8] {
    let end = glob
        .iter()
        .position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
        .unwrap_or(glob.len());
    &glob[..end]
}

/// Values by pattern. A look-up asks only the patterns whose literal beginning the topic has: one hash for each length that such a
/// beginning has at all.
#[derive(Debug)]
pub struct PatternMap<V> {
    /// By length and hash of the literal beginning. Where two beginnings share a hash, their patterns are asked together, which costs a
    /// little time and changes no answer.
    by_prefix: HashMap<(usize, u64), BTreeMap<Pattern, V>>,
    hasher: foldhash::fast::RandomState,
    /// How many patterns have a beginning of each length.
    lengths: BTreeMap<usize, usize>,
    /// Of each namespace, so that whoever asks for its own pays for no neighbour's.
    of: HashMap<Namespace, BTreeSet<Arc<[u8]>>>,
    len: usize,
}

impl<V> Default for PatternMap<V> {
    fn default() -> Self {
        Self {
            by_prefix: HashMap::new(),
            hasher: foldhash::fast::RandomState::default(),
            lengths: BTreeMap::new(),
            of: HashMap::new(),
            len: 0,
        }
    }
}

impl<V> PatternMap<V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn key(&self, namespace: &Namespace, prefix: &[u8]) -> (usize, u64) {
        (prefix.len(), self.hasher.hash_one((namespace, prefix)))
    }

    fn key_of(&self, pattern: &Pattern) -> (usize, u64) {
        self.key(&pattern.namespace, literal_prefix(&pattern.glob))
    }

    pub fn get(&self, pattern: &Pattern) -> Option<&V> {
        self.by_prefix.get(&self.key_of(pattern))?.get(pattern)
    }

    pub fn get_mut(&mut self, pattern: &Pattern) -> Option<&mut V> {
        let key = self.key_of(pattern);
        self.by_prefix.get_mut(&key)?.get_mut(pattern)
    }

    /// The value before.
    pub fn insert(&mut self, pattern: &Pattern, value: V) -> Option<V> {
        let key = self.key_of(pattern);
        let before = self.by_prefix.entry(key).or_default().insert(pattern.clone(), value);
        if before.is_none() {
            self.len += 1;
            *self.lengths.entry(key.0).or_default() += 1;
            let own = self.of.entry(pattern.namespace.clone()).or_default();
            own.insert(pattern.glob.clone());
        }
        before
    }

    pub fn remove(&mut self, pattern: &Pattern) -> Option<V> {
        let key = self.key_of(pattern);
        let of_prefix = self.by_prefix.get_mut(&key)?;
        let removed = of_prefix.remove(pattern)?;
        if of_prefix.is_empty() {
            self.by_prefix.remove(&key);
        }
        self.len -= 1;
        if let Some(own) = self.of.get_mut(&pattern.namespace) {
            own.remove(&pattern.glob);
            if own.is_empty() {
                self.of.remove(&pattern.namespace);
            }
        }
        if let Some(count) = self.lengths.get_mut(&key.0) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&key.0);
            }
        }
        Some(removed)
    }

    /// Every pattern that the topic matches.
    pub fn matching<'a>(&'a self, topic: &'a Topic) -> impl Iterator<Item = (&'a Pattern, &'a V)> {
        let name = topic.name();
        self.lengths
            .keys()
            .take_while(|&&length| length <= name.len())
            .filter_map(|&length| self.by_prefix.get(&self.key(topic.namespace(), &name[..length])))
            .flatten()
            .filter(|(pattern, _)| {
                pattern.namespace == *topic.namespace() && matches(&pattern.glob, name)
            })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Pattern, &V)> {
        self.by_prefix.values().flatten()
    }

    /// Those of a namespace, in order, behind this one; at most so many.
    pub fn globs(
        &self,
        namespace: &Namespace,
        behind: Option<&[u8]>,
        most: usize,
    ) -> Vec<Arc<[u8]>> {
        let Some(own) = self.of.get(namespace) else { return Vec::new() };
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        own.range::<[u8], _>((from, Bound::Unbounded)).take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{ClusterName, TopicHasher};

    #[test]
    fn globs_match_as_in_redis() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("room:*", "room:1", true),
            ("room:*", "room:", true),
            ("room:*", "room", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            (r"[\]]", "]", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a**c", "abc", true),
            ("[", "[", false),
            ("[a", "a", true),
            ("a\\", "a\\", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(glob.as_bytes(), text.as_bytes()), expected, "{glob:?} on {text:?}");
        }
    }

    #[test]
    fn ranges_go_by_signed_bytes() {
        for (glob, text, expected) in [
            (&b"[\xff-]"[..], &b"A"[..], true),
            (b"[\xff-]", b"b", false),
            (b"[\x80-\xff]", b"\xa0", true),
            (b"[\x80-\xff]", b"a", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob:?} on {text:?}");
        }
    }

    #[test]
    fn stars_do_not_explode() {
        let glob: Vec<u8> = b"a*".repeat(500);
        let text = vec![b'a'; 20_000];
        assert!(matches(&glob, &text));
        let glob = [glob, vec![b'b']].concat();
        assert!(!matches(&glob, &text));
    }

    /// The plainest matcher there is; exponential, for short inputs.
    fn naive(glob: &[u8], text: &[u8]) -> bool {
        match glob.first() {
            None => text.is_empty(),
            Some(b'*') => (0..=text.len()).any(|skip| naive(&glob[1..], &text[skip..])),
            Some(_) => text.first().is_some_and(|&byte| {
                one(glob, byte).is_some_and(|width| naive(&glob[width..], &text[1..]))
            }),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plainest_matcher(glob in r"[ab*?\[\]\\^-]{0,8}", text in "[ab*-]{0,8}") {
            prop_assert_eq!(matches(glob.as_bytes(), text.as_bytes()), naive(glob.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn the_map_finds_what_a_look_at_each_would_find(
            globs in prop::collection::btree_set(r"[ab*?]{1,4}", 0..20),
            removed in prop::collection::btree_set(r"[ab*?]{1,4}", 0..10),
            topics in prop::collection::vec("[ab]{1,5}", 1..10),
        ) {
            let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
            let namespace = Namespace::default();
            let pattern = |glob: &String| Pattern::parse(&namespace, glob, 100).unwrap();
            let mut map = PatternMap::default();
            for glob in &globs {
                map.insert(&pattern(glob), ());
            }
            for glob in &removed {
                prop_assert_eq!(map.remove(&pattern(glob)).is_some(), globs.contains(glob));
            }
            prop_assert_eq!(map.len(), globs.difference(&removed).count());
            let (mut listed, mut behind) = (Vec::new(), None);
            while let Some(next) = map.globs(&namespace, behind.as_deref(), 1).pop() {
                listed.push(String::from_utf8(next.to_vec()).unwrap());
                behind = Some(next);
            }
            prop_assert!(listed.iter().eq(globs.difference(&removed)));
            prop_assert!(map.globs(&namespace.sharded(), None, 1).is_empty());
            prop_assert!(!map.is_empty() || map.of.is_empty());
            for name in topics {
                let topic = hasher.topic(&namespace, &name, 100).unwrap();
                let mut found: Vec<Vec<u8>> = map.matching(&topic).map(|(pattern, ())| pattern.glob.to_vec()).collect();
                found.sort();
                let mut expected: Vec<Vec<u8>> = globs.difference(&removed).map(|g| g.clone().into_bytes()).filter(|g| matches(g, name.as_bytes())).collect();
                expected.sort();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
