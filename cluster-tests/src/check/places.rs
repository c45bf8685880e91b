//! Where in a subscriber's stream messages and gaps stand, and which gaps stand for which message.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::world::{Gap, Published, Seen, Subscriber};
use crate::history::Numbered;

/// Where in a subscriber's stream everything stands.
#[derive(Default)]
pub(super) struct Places<'a> {
    pub(super) had: HashSet<(&'a str, u64)>,
    /// By publisher: (number, position), by number.
    by_publisher: HashMap<&'a str, Vec<(u64, usize)>>,
    by_topic: HashMap<(&'a str, &'a str), Vec<(u64, usize)>>,
    pub(super) gaps: Vec<usize>,
}

impl<'a> Places<'a> {
    /// Of what came at one attachment, or at all of them.
    pub(super) fn of(subscriber: &'a Subscriber, only: Option<u32>) -> Self {
        let mut places = Self::default();
        for (at, seen) in subscriber.stream.iter().enumerate() {
            if only.is_none_or(|one| one == seen.attachment()) {
                places.add(at, seen);
            }
        }
        places.sort();
        places
    }

    pub(super) fn of_each(subscriber: &'a Subscriber) -> BTreeMap<u32, Self> {
        let mut each: BTreeMap<u32, Self> = BTreeMap::new();
        for (at, seen) in subscriber.stream.iter().enumerate() {
            each.entry(seen.attachment()).or_default().add(at, seen);
        }
        each.values_mut().for_each(Self::sort);
        each
    }

    fn add(&mut self, at: usize, seen: &'a Seen) {
        match seen {
            Seen::Message { message, .. } => {
                let key = (message.publisher.as_str(), message.seq);
                self.had.insert(key);
                self.by_publisher.entry(key.0).or_default().push((message.seq, at));
                let of_topic = (key.0, message.topic.as_str());
                self.by_topic.entry(of_topic).or_default().push((message.seq, at));
            }
            Seen::Gap(_) => self.gaps.push(at),
        }
    }

    fn sort(&mut self) {
        self.by_publisher.values_mut().for_each(|list| list.sort_unstable());
        self.by_topic.values_mut().for_each(|list| list.sort_unstable());
    }

    pub(super) fn nothing_after(&self, published: &Published) -> bool {
        self.place_among_all(&published.message).end == usize::MAX
    }

    /// Between what came from its publisher.
    fn place_among_all(&self, message: &Numbered) -> Range<usize> {
        between(self.by_publisher.get(message.publisher.as_str()), message.seq)
    }

    /// Where a gap of this kind would stand for it.
    fn place(&self, message: &Numbered, certain: bool) -> Range<usize> {
        if certain {
            return self.place_among_all(message);
        }
        let of_topic = (message.publisher.as_str(), message.topic.as_str());
        between(self.by_topic.get(&of_topic), message.seq)
    }

    pub(super) fn gaps_for(&self, subscriber: &Subscriber, published: &Published) -> Vec<usize> {
        let explains = |at: &usize| {
            let gap = gap(subscriber, *at);
            let in_place = self.place(&published.message, gap.certain).contains(at);
            in_place && published.invoked < gap.told && gap.covers(published)
                || is_of_the_old_stream(self, subscriber, *at, published)
        };
        self.gaps.iter().copied().filter(explains).collect()
    }
}

/// The gap at this place stands for it in the stream of an attachment that owed it, or in a later one that had asked for its topic and
/// that nothing newer came before.
pub(super) fn is_in_place(
    each: &BTreeMap<u32, Places<'_>>,
    owed_at: &BTreeSet<u32>,
    subscriber: &Subscriber,
    at: usize,
    published: &Published,
) -> bool {
    let gap = gap(subscriber, at);
    let place = |places: &Places<'_>| places.place(&published.message, gap.certain);
    let goes_on_to = |owed: u32| {
        owed <= gap.attachment
            && each.range(owed..gap.attachment).all(|(_, before)| place(before).end == usize::MAX)
    };
    let could_know = published.invoked < gap.told && subscriber.had_asked_for(published, gap);
    gap.covers(published)
        && could_know
        && each.get(&gap.attachment).is_some_and(|own| place(own).contains(&at))
        && owed_at.iter().any(|owed| goes_on_to(*owed))
}

/// It was told at reconnecting, and `all` says that nothing newer came before.
pub(super) fn is_of_the_old_stream(
    all: &Places<'_>,
    subscriber: &Subscriber,
    at: usize,
    published: &Published,
) -> bool {
    let gap = gap(subscriber, at);
    gap.reconnected
        && published.invoked < gap.told
        && at < all.place_among_all(&published.message).end
        && gap.covers(published)
}

/// Where in a stream a message of this number would have its place, by the numbers and positions of others.
fn between(near: Option<&Vec<(u64, usize)>>, seq: u64) -> Range<usize> {
    let near = near.map(Vec::as_slice).unwrap_or_default();
    let next = near.partition_point(|(number, _)| *number < seq);
    let low = next.checked_sub(1).map_or(0, |before| near[before].1);
    low..near.get(next).map_or(usize::MAX, |(_, at)| *at)
}

pub(super) fn gap(subscriber: &Subscriber, at: usize) -> &Gap {
    match &subscriber.stream[at] {
        Seen::Gap(gap) => gap,
        Seen::Message { .. } => unreachable!("{at} is the place of a gap"),
    }
}

/// Which gaps are counted together.
#[derive(Default)]
pub(super) struct Groups {
    leader: BTreeMap<usize, usize>,
}

impl Groups {
    /// Of gaps that stand together somewhere.
    pub(super) fn of(together: impl Iterator<Item = Vec<usize>>) -> Self {
        let mut groups = Self::default();
        for gaps in together {
            for gap in &gaps {
                groups.leader.entry(*gap).or_insert(*gap);
                groups.join(gaps[0], *gap);
            }
        }
        groups
    }

    fn find(&self, mut gap: usize) -> usize {
        while self.leader[&gap] != gap {
            gap = self.leader[&gap];
        }
        gap
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.leader.insert(b, a);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for gap in self.leader.keys() {
            groups.entry(self.find(*gap)).or_default().push(*gap);
        }
        groups.into_values()
    }
}
