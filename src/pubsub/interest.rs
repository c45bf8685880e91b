//! Interest: which topics and patterns a node has subscriptions for, and how peers come to know it.
//!
//! A node's interest is a sequence of changes, numbered from 1; its *version* is the number of the last. A peer that has applied
//! versions up to n knows the interest as it was after change n. A digest over what was announced tells whether two nodes that are at
//! the same version truly agree.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::pattern::PatternMap;
use crate::plants::{self, Plant};
use crate::types::{Namespace, Pattern, Topic};

/// Changes kept to serve links from where they are; a link that has fallen further behind gets a snapshot.
pub const LOG_CHANGES_MAX: usize = 1 << 18;

/// A topic as interest knows it: by hash, counted per hash, so that a collision costs a message sent in vain and never one lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Topic(u64),
    Pattern(Pattern),
}

/// From now on there are so many subscriptions for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub subject: Subject,
    pub subscriptions: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    now: u32,
    announced: u32,
    /// The version that announced the first of them.
    since: u64,
}

/// This node's interest.
#[derive(Debug, Default)]
pub struct LocalInterest {
    counts: HashMap<Subject, Count>,
    /// Those that are announced, and since when.
    patterns: PatternMap<u64>,
    /// Subjects whose count differs from what was announced.
    stale: HashSet<Subject>,
    log: VecDeque<Change>,
    version: u64,
    digest: u64,
}

impl LocalInterest {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The version from which on a peer that has applied it sends this topic's messages here, whatever they were first wanted for.
    pub fn topic_since(&self, topic: &Topic) -> u64 {
        let own = self.counts.get(&Subject::Topic(topic.interest_hash())).map(|count| count.since);
        let by_pattern = if self.patterns.is_empty() {
            None
        } else {
            self.patterns.matching(topic).map(|(_, since)| *since).min()
        };
        own.into_iter().chain(by_pattern).min().unwrap_or(self.version)
    }

    /// The version from which on a peer sends whatever the pattern matches; some of it perhaps earlier, for others.
    pub fn pattern_since(&self, pattern: &Pattern) -> u64 {
        self.counts
            .get(&Subject::Pattern(pattern.clone()))
            .map_or(self.version, |count| count.since)
    }

    /// One subscription more. True: the first one, which is announced at once.
    pub fn add(&mut self, subject: Subject) -> bool {
        let count = self.counts.entry(subject.clone()).or_default();
        count.now += 1;
        let first = count.announced == 0;
        if first {
            self.announce(subject);
        } else {
            self.stale.insert(subject);
        }
        first
    }

    /// One subscription less. True: the last one, which is announced at once.
    pub fn remove(&mut self, subject: Subject) -> bool {
        let Some(count) = self.counts.get_mut(&subject) else { return false };
        let less = if plants::is(Plant::InterestByTopic) { count.now } else { 1 };
        count.now = count.now.saturating_sub(less);
        let last = count.now == 0;
        if last {
            self.announce(subject);
        } else {
            self.stale.insert(subject);
        }
        last
    }

    /// Announces the counts that have changed since they were last announced. True: there were some.
    pub fn announce_counts(&mut self) -> bool {
        let stale = std::mem::take(&mut self.stale);
        let before = self.version;
        stale.into_iter().for_each(|subject| self.announce(subject));
        self.version != before
    }

    fn announce(&mut self, subject: Subject) {
        self.stale.remove(&subject);
        let Some(count) = self.counts.get_mut(&subject) else { return };
        if count.now == count.announced {
            if count.now == 0 {
                self.counts.remove(&subject);
            }
            return;
        }
        self.version += 1;
        self.digest ^= digest_of(&subject, count.announced) ^ digest_of(&subject, count.now);
        let first = count.announced == 0;
        count.announced = count.now;
        let subscriptions = count.now;
        if first {
            count.since = self.version;
        }
        match &subject {
            Subject::Pattern(pattern) if subscriptions == 0 => {
                self.patterns.remove(pattern);
            }
            Subject::Pattern(pattern) if first => {
                self.patterns.insert(pattern, self.version);
            }
            Subject::Pattern(_) | Subject::Topic(_) => {}
        }
        if subscriptions == 0 {
            self.counts.remove(&subject);
        }
        if self.log.len() == LOG_CHANGES_MAX {
            self.log.pop_front();
        }
        self.log.push_back(Change { subject, subscriptions });
    }

    /// Changes `version + 1 ..`, at most `most` of them. None: they are not kept any more.
    pub fn changes_since(&self, version: u64, most: usize) -> Option<Vec<Change>> {
        let oldest = self.version - self.log.len() as u64;
        let skip = usize::try_from(version.checked_sub(oldest)?).ok()?;
        Some(self.log.iter().skip(skip).take(most).cloned().collect())
    }

    /// The whole interest as announced, at `version`.
    pub fn snapshot(&self) -> Vec<Change> {
        self.counts
            .iter()
            .filter(|(_, count)| count.announced > 0)
            .map(|(subject, count)| Change {
                subject: subject.clone(),
                subscriptions: count.announced,
            })
            .collect()
    }
}

/// Each subject's share of the digest; shares are joined by exclusive or, so their order does not matter.
fn digest_of(subject: &Subject, subscriptions: u32) -> u64 {
    use siphasher::sip::SipHasher24;
    use std::hash::Hasher as _;

    if subscriptions == 0 {
        return 0;
    }
    let mut hash = SipHasher24::new();
    match subject {
        Subject::Topic(topic) => {
            hash.write_u8(0);
            hash.write_u64(*topic);
        }
        Subject::Pattern(pattern) => {
            hash.write_u8(1);
            hash.write_u64(pattern.namespace.as_str().len() as u64);
            hash.write(pattern.namespace.as_str().as_bytes());
            hash.write(&pattern.glob);
        }
    }
    hash.write_u32(subscriptions);
    hash.finish()
}

/// A peer's interest, as far as it has told.
#[derive(Debug, Default)]
pub struct PeerInterest {
    current: Known,
    staged: Option<Known>,
    /// A snapshot has been applied whole.
    complete: bool,
}

#[derive(Debug, Default)]
struct Known {
    topics: HashMap<u64, u32, foldhash::fast::RandomState>,
    patterns: PatternMap<u32>,
    version: u64,
    digest: u64,
}

/// The peer's frames don't fit what it told before; a snapshot heals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InterestMismatch {
    #[error("changes from version {from} on, but version {at} was applied")]
    Gap { from: u64, at: u64 },
    #[error("a part of a snapshot without its beginning")]
    NoBeginning,
    #[error("the digests differ at version {0}")]
    Digest(u64),
}

impl Known {
    fn apply(&mut self, change: &Change) {
        let before = match &change.subject {
            Subject::Topic(topic) => match change.subscriptions {
                0 => self.topics.remove(topic),
                count => self.topics.insert(*topic, count),
            },
            Subject::Pattern(pattern) => match change.subscriptions {
                0 => self.patterns.remove(pattern),
                count => self.patterns.insert(pattern, count),
            },
        };
        self.digest ^= digest_of(&change.subject, before.unwrap_or(0))
            ^ digest_of(&change.subject, change.subscriptions);
    }
}

impl PeerInterest {
    /// The version applied whole; None before the first snapshot.
    pub fn version(&self) -> Option<u64> {
        self.complete.then_some(self.current.version)
    }

    /// How many subscriptions the peer has that this topic reaches.
    pub fn subscriptions(&self, topic: &Topic) -> u64 {
        let exact = self.current.topics.get(&topic.interest_hash()).copied().unwrap_or(0);
        let by_pattern: u64 = if self.current.patterns.is_empty() {
            0
        } else {
            self.current.patterns.matching(topic).map(|(_, &count)| u64::from(count)).sum()
        };
        u64::from(exact) + by_pattern
    }

    /// How many subscriptions the peer has to the topic itself.
    pub fn exact(&self, topic: &Topic) -> u64 {
        self.current.topics.get(&topic.interest_hash()).copied().unwrap_or(0).into()
    }

    /// Patterns of the namespace that the peer has subscriptions for, in order, behind this one; at most so many.
    pub fn globs(
        &self,
        namespace: &Namespace,
        behind: Option<&[u8]>,
        most: usize,
    ) -> Vec<Arc<[u8]>> {
        self.current.patterns.globs(namespace, behind, most)
    }

    /// One part of a snapshot. The old interest holds until the last part is there; then the new one replaces it at once.
    /// True: that has just happened.
    pub fn snapshot_part(
        &mut self,
        version: u64,
        first: bool,
        last: Option<u64>,
        changes: &[Change],
    ) -> Result<bool, InterestMismatch> {
        if first {
            self.staged = Some(Known { version, ..Known::default() });
        }
        let staged = self
            .staged
            .as_mut()
            .filter(|staged| staged.version == version)
            .ok_or(InterestMismatch::NoBeginning)?;
        changes.iter().for_each(|change| staged.apply(change));
        let Some(digest) = last else { return Ok(false) };
        if staged.digest != digest {
            self.staged = None;
            return Err(InterestMismatch::Digest(version));
        }
        if let Some(mut staged) = self.staged.take() {
            if !self.complete && plants::is(Plant::InterestDiffers) {
                staged.digest ^= 1;
            }
            self.current = staged;
            self.complete = true;
        }
        Ok(true)
    }

    /// Changes `from + 1 ..`. Those applied already are skipped.
    pub fn changes(&mut self, from: u64, changes: &[Change]) -> Result<(), InterestMismatch> {
        let at = self.current.version;
        if !self.complete || from > at {
            return Err(InterestMismatch::Gap { from, at });
        }
        for (version, change) in (from + 1..).zip(changes) {
            if version > at {
                self.current.apply(change);
                self.current.version = version;
            }
        }
        Ok(())
    }

    /// Compares at equal versions only; else nothing can be said.
    pub fn check(&self, version: u64, digest: u64) -> Result<(), InterestMismatch> {
        if self.complete && self.current.version == version && self.current.digest != digest {
            return Err(InterestMismatch::Digest(version));
        }
        Ok(())
    }
}

#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{ClusterName, Namespace, TopicHasher};

    #[derive(Debug, Clone)]
    enum Op {
        Add(u8),
        Remove(u8),
        Counts,
        Send(usize),
        Relink,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0u8..12).prop_map(Op::Add),
            3 => (0u8..12).prop_map(Op::Remove),
            1 => Just(Op::Counts),
            2 => (0usize..5).prop_map(Op::Send),
            1 => Just(Op::Relink),
        ]
    }

    fn subject(n: u8) -> Subject {
        if n < 8 {
            Subject::Topic(u64::from(n) << 40)
        } else {
            Subject::Pattern(Pattern::parse(&Namespace::default(), &format!("p{n}*"), 100).unwrap())
        }
    }

    fn link_up(local: &LocalInterest, peer: &mut PeerInterest) {
        let all = local.snapshot();
        let half = all.len() / 2;
        assert_eq!(peer.snapshot_part(local.version(), true, None, &all[..half]), Ok(false));
        assert_eq!(
            peer.snapshot_part(local.version(), false, Some(local.digest()), &all[half..]),
            Ok(true)
        );
    }

    proptest! {
        #[test]
        fn a_peer_knows_what_was_announced(ops in prop::collection::vec(op(), 0..200)) {
            let mut local = LocalInterest::default();
            let mut model: HashMap<u8, u32> = HashMap::new();
            let mut peer = PeerInterest::default();
            link_up(&local, &mut peer);
            for op in ops {
                match op {
                    Op::Add(n) => {
                        *model.entry(n).or_default() += 1;
                        local.add(subject(n));
                    }
                    Op::Remove(n) => {
                        if let Some(count) = model.get_mut(&n).filter(|count| **count > 0) {
                            *count -= 1;
                            local.remove(subject(n));
                        }
                    }
                    Op::Counts => { local.announce_counts(); }
                    Op::Send(most) => {
                        let from = peer.version().unwrap();
                        peer.changes(from, &local.changes_since(from, most).unwrap()).unwrap();
                    }
                    Op::Relink => link_up(&local, &mut peer),
                }
            }
            local.announce_counts();
            let from = peer.version().unwrap();
            peer.changes(from, &local.changes_since(from, usize::MAX).unwrap()).unwrap();
            prop_assert_eq!(peer.version(), Some(local.version()));
            prop_assert_eq!(peer.check(local.version(), local.digest()), Ok(()));
            for (n, count) in model {
                let known = match subject(n) {
                    Subject::Topic(topic) => peer.current.topics.get(&topic).copied(),
                    Subject::Pattern(pattern) => peer.current.patterns.get(&pattern).copied(),
                };
                prop_assert_eq!(known.unwrap_or(0), count);
            }
        }
    }

    proptest! {
        /// Whatever is wanted now, and for whomever it was wanted first.
        #[test]
        fn whoever_has_applied_a_topics_version_sends_it(ops in prop::collection::vec(op(), 0..200)) {
            let hasher = TopicHasher::new(&ClusterName::parse("t").unwrap());
            let names = ["a", "b", "p1", "p2", "p12"];
            let topics = names.map(|name| hasher.topic(&Namespace::default(), name, 100).unwrap());
            let patterns = ["p*", "p1*", "*2"]
                .map(|glob| Pattern::parse(&Namespace::default(), glob, 100).unwrap());
            let subject = |n: u8| match patterns.get(usize::from(n % 8)) {
                Some(pattern) => Subject::Pattern(pattern.clone()),
                None => Subject::Topic(topics[usize::from(n % 8 - 3)].interest_hash()),
            };
            let mut local = LocalInterest::default();
            let mut peer = PeerInterest::default();
            link_up(&local, &mut peer);
            for op in ops {
                match op {
                    Op::Add(n) => { local.add(subject(n)); }
                    Op::Remove(n) => { local.remove(subject(n)); }
                    Op::Counts => { local.announce_counts(); }
                    Op::Send(most) => {
                        let from = peer.version().unwrap();
                        peer.changes(from, &local.changes_since(from, most).unwrap()).unwrap();
                    }
                    Op::Relink => link_up(&local, &mut peer),
                }
                let mut all = PeerInterest::default();
                link_up(&local, &mut all);
                for topic in topics.iter().filter(|topic| all.subscriptions(topic) > 0) {
                    if peer.version() >= Some(local.topic_since(topic)) {
                        prop_assert!(peer.subscriptions(topic) > 0, "{topic:?}");
                    }
                }
                let globs = |of: &PeerInterest| of.globs(&Namespace::default(), None, usize::MAX);
                let known = globs(&peer);
                for pattern in &patterns {
                    let is_there = globs(&all).contains(&pattern.glob);
                    let is_known = known.contains(&pattern.glob);
                    let is_late = peer.version() < Some(local.pattern_since(pattern));
                    prop_assert!(!is_there || is_known || is_late);
                }
            }
        }
    }

    #[test]
    fn a_topic_has_come_since_the_first_who_wanted_it() {
        let hasher = TopicHasher::new(&ClusterName::parse("t").unwrap());
        let topic = |name| hasher.topic(&Namespace::default(), name, 100).unwrap();
        let pattern = Pattern::parse(&Namespace::default(), "p*", 100).unwrap();
        let mut local = LocalInterest::default();
        for name in ["a", "b", "p1"] {
            local.add(Subject::Topic(topic(name).interest_hash()));
        }
        local.add(Subject::Topic(topic("a").interest_hash()));
        assert_eq!(
            ["a", "b", "p1", "p2"].map(|name| local.topic_since(&topic(name))),
            [1, 2, 3, 3]
        );
        local.add(Subject::Pattern(pattern.clone()));
        local.add(Subject::Topic(topic("p2").interest_hash()));
        assert_eq!(["p1", "p2"].map(|name| local.topic_since(&topic(name))), [3, 4]);
        assert_eq!(local.pattern_since(&pattern), 4);
        local.remove(Subject::Pattern(pattern));
        assert_eq!(["p1", "p2"].map(|name| local.topic_since(&topic(name))), [3, 5]);
    }

    #[test]
    fn the_first_and_the_last_are_announced_at_once_and_counts_later() {
        let mut local = LocalInterest::default();
        assert!(local.add(subject(1)));
        assert!(!local.add(subject(1)));
        assert_eq!(local.version(), 1);
        assert!(local.announce_counts());
        assert!(!local.announce_counts());
        assert_eq!(local.version(), 2);
        assert!(!local.remove(subject(1)));
        assert!(local.remove(subject(1)));
        assert_eq!(local.version(), 3);
        assert_eq!((local.digest(), local.counts.len(), local.stale.len()), (0, 0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut local = LocalInterest::default();
        (0..5).for_each(|n| assert!(local.add(subject(n))));
        let mut peer = PeerInterest::default();
        assert_eq!(
            peer.changes(0, &local.changes_since(0, 9).unwrap()),
            Err(InterestMismatch::Gap { from: 0, at: 0 })
        );
        assert_eq!(peer.snapshot_part(5, false, None, &[]), Err(InterestMismatch::NoBeginning));
        link_up(&local, &mut peer);
        assert_eq!(peer.changes(7, &[]), Err(InterestMismatch::Gap { from: 7, at: 5 }));
        assert_eq!(peer.check(5, local.digest() ^ 1), Err(InterestMismatch::Digest(5)));
        assert_eq!(peer.check(4, 0), Ok(()), "other versions can't be compared");
        assert_eq!(peer.snapshot_part(6, true, Some(99), &[]), Err(InterestMismatch::Digest(6)));
        let hasher = TopicHasher::new(&ClusterName::parse("t").unwrap());
        let topic = hasher.topic(&Namespace::default(), "p99", 100).unwrap();
        assert_eq!(peer.subscriptions(&topic), 0, "the old interest still holds");
        local.add(subject(9));
        peer.changes(5, &local.changes_since(5, 9).unwrap()).unwrap();
        assert_eq!(peer.subscriptions(&topic), 1);
    }
}
