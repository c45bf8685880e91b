//! P1 and P5: what should have come has come, or exactly one gap in its place says that it hasn't.
//!
//! A message *must* come when its publish began after every member had confirmed the subscription and succeeded before the client
//! asked to end it; it *may* come when the two only touch, when it was still on its way from another node as the subscription began, or
//! when the stream ended and nothing later came.
//!
//! A gap can explain a message when it covers its topic and origin, and its place is right. A certain gap stands between what came before
//! the message and what came after it from the same publisher. A possible one says that anything on its topics up to there may be
//! missing, while others' messages went on: it stands between what came before and after from the same publisher on the same topic. The
//! gap of a client that came back stands at the beginning of its new stream, for what the old one did not get. Each attachment has its own
//! places: what a new one gets by another way may have been published before what the old one got.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::world::{Gap, Outcome, Published, Seen, Subscriber, Subscription, World};
use super::{Promise, Violation};
use crate::history::Numbered;

/// A message that did not come.
struct Missing<'a> {
    published: &'a Published,
    must: bool,
    /// Gaps in its place that cover it, by their position in the stream.
    gaps: Vec<usize>,
}

pub(super) fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let by_topic = by_topic(world);
    for (name, subscriber) in &world.subscribers {
        let missing = missing(world, &by_topic, subscriber);
        found.extend(unexplained(world, name, subscriber, &missing));
        found.extend(counted_too_little(name, subscriber, &missing));
        found.extend(counted_too_much(world, &by_topic, name, subscriber));
    }
    found
}

fn by_topic(world: &World) -> HashMap<&str, Vec<&Published>> {
    let mut by_topic: HashMap<&str, Vec<&Published>> = HashMap::new();
    for published in &world.publishes {
        by_topic.entry(&published.message.topic).or_default().push(published);
    }
    by_topic
}

fn missing<'a>(
    world: &'a World,
    by_topic: &HashMap<&str, Vec<&'a Published>>,
    subscriber: &Subscriber,
) -> Vec<Missing<'a>> {
    if subscriber.subscriptions.is_empty() {
        return Vec::new();
    }
    let places = Places::of(subscriber, None);
    let each = Places::of_each(subscriber);
    let mut all = Vec::new();
    for published in wanted(by_topic, subscriber) {
        let key = (published.message.publisher.as_str(), published.message.seq);
        if published.outcome == Outcome::Fail || places.had.contains(&key) {
            continue;
        }
        let at_the_end = places.nothing_after(published);
        let of_one = |one| (claim(world, one, published, at_the_end), one.attachment);
        let claims: Vec<_> = subscriber.subscriptions.iter().map(of_one).collect();
        let strongest = claims.iter().map(|(claim, _)| *claim).max().unwrap_or(Claim::None);
        if strongest != Claim::None {
            let with = claims.iter().filter(|(claim, _)| *claim == strongest);
            let owed_at: BTreeSet<u32> = with.map(|(_, attachment)| *attachment).collect();
            let explains = |at: &usize| {
                is_in_place(&each, &owed_at, subscriber, *at, published)
                    || is_of_the_old_stream(&places, subscriber, *at, published)
            };
            let gaps = places.gaps.iter().copied().filter(explains).collect();
            all.push(Missing { published, must: strongest == Claim::Must, gaps });
        }
    }
    // The order of publishing, whatever the maps did.
    all.sort_by_key(|missing| missing.published.invoked);
    debug_assert!(all.len() <= world.publishes.len());
    all
}

/// What was published to topics that it has ever been subscribed to.
fn wanted<'a>(
    by_topic: &HashMap<&str, Vec<&'a Published>>,
    subscriber: &Subscriber,
) -> impl Iterator<Item = &'a Published> {
    let matches = |topic: &str| subscriber.subscriptions.iter().any(|one| one.matches(topic));
    by_topic.iter().filter(move |(topic, _)| matches(topic)).flat_map(|(_, list)| list).copied()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    None,
    May,
    Must,
}

/// `at_the_end`: nothing that its publisher published later came.
fn claim(
    world: &World,
    subscription: &Subscription,
    published: &Published,
    at_the_end: bool,
) -> Claim {
    if !subscription.matches(&published.message.topic) {
        return Claim::None;
    }
    let before = |place: Option<usize>| place.is_some_and(|at| at < published.invoked);
    let over_before = before(subscription.ended) || before(subscription.cut_off);
    let done = match published.outcome {
        Outcome::Ok(done) => Some(done),
        Outcome::Fail | Outcome::Unknown => None,
    };
    let asked_after = done.is_some_and(|done| done < subscription.asked);
    let node = &subscription.node;
    let had_come =
        published.origin == *node || world.had_passed(&published.message, node, subscription.asked);
    if over_before || asked_after && had_come {
        return Claim::None;
    }
    let acknowledged_first = before(subscription.everywhere);
    let done_in_time = match (done, subscription.unasked) {
        (None, _) => false,
        (Some(_), None) => true,
        // From another node it may still be on the way when the subscription ends.
        (Some(done), Some(unasked)) => done < unasked && subscription.node == published.origin,
    };
    let lost_with_the_stream = subscription.cut_off.is_some() && at_the_end;
    let must = acknowledged_first && done_in_time && !lost_with_the_stream;
    if must { Claim::Must } else { Claim::May }
}

/// Where in a subscriber's stream everything stands.
#[derive(Default)]
struct Places<'a> {
    had: HashSet<(&'a str, u64)>,
    /// By publisher: (number, position), by number.
    by_publisher: HashMap<&'a str, Vec<(u64, usize)>>,
    by_topic: HashMap<(&'a str, &'a str), Vec<(u64, usize)>>,
    gaps: Vec<usize>,
}

impl<'a> Places<'a> {
    /// Of what came at one attachment, or at all of them.
    fn of(subscriber: &'a Subscriber, only: Option<u32>) -> Self {
        let mut places = Self::default();
        for (at, seen) in subscriber.stream.iter().enumerate() {
            if only.is_none_or(|one| one == seen.attachment()) {
                places.add(at, seen);
            }
        }
        places.sort();
        places
    }

    fn of_each(subscriber: &'a Subscriber) -> BTreeMap<u32, Self> {
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

    fn nothing_after(&self, published: &Published) -> bool {
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

    fn gaps_for(&self, subscriber: &Subscriber, published: &Published) -> Vec<usize> {
        let explains = |at: &usize| {
            let gap = gap(subscriber, *at);
            self.place(&published.message, gap.certain).contains(at) && gap.covers(published)
                || is_of_the_old_stream(self, subscriber, *at, published)
        };
        self.gaps.iter().copied().filter(explains).collect()
    }
}

/// The gap at this place stands for it in the stream of an attachment that owed it, or in a later one that nothing newer came before.
fn is_in_place(
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
    gap.covers(published)
        && each.get(&gap.attachment).is_some_and(|own| place(own).contains(&at))
        && owed_at.iter().any(|owed| goes_on_to(*owed))
}

/// It was told at reconnecting, and `all` says that nothing newer came before.
fn is_of_the_old_stream(
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

fn gap(subscriber: &Subscriber, at: usize) -> &Gap {
    match &subscriber.stream[at] {
        Seen::Gap(gap) => gap,
        Seen::Message { .. } => unreachable!("{at} is the place of a gap"),
    }
}

/// No gap at all stands for it.
fn unexplained(
    world: &World,
    name: &str,
    subscriber: &Subscriber,
    missing: &[Missing<'_>],
) -> Vec<Violation> {
    let silent = missing.iter().filter(|one| one.must && one.gaps.is_empty());
    let judged = silent.map(|one| {
        let message = &one.published.message;
        let promise = if delivers_yet(world, subscriber, one.published) {
            Promise::LossExplained
        } else {
            Promise::SubscribedMeansSubscribed
        };
        let what = format!(
            "{name} never got {} {} on {} from {}, and no gap says so",
            message.publisher, message.seq, message.topic, one.published.origin
        );
        Violation::new(promise, what)
    });
    judged.collect()
}

/// Something that was published to this topic on this node earlier did come: the subscription had taken hold there.
fn delivers_yet(world: &World, subscriber: &Subscriber, published: &Published) -> bool {
    subscriber.stream.iter().any(|seen| {
        let Seen::Message { message, origin, .. } = seen else { return false };
        let key = (message.publisher.clone(), message.seq);
        let earlier = world.by_number.get(&key).map(|index| world.publishes[*index].invoked);
        message.topic == published.message.topic
            && *origin == published.origin
            && earlier.is_some_and(|invoked| invoked < published.invoked)
    })
}

/// Certain gaps count what is missing, or some loss would be silent. Gaps that could stand for the same messages are counted together.
fn counted_too_little(
    name: &str,
    subscriber: &Subscriber,
    missing: &[Missing<'_>],
) -> Vec<Violation> {
    let is_certain = |at: &usize| gap(subscriber, *at).certain;
    let certain = |one: &Missing<'_>| one.gaps.iter().copied().filter(is_certain).collect();
    let groups = Groups::of(missing.iter().map(certain));
    let mut found = Vec::new();
    for members in groups.all() {
        let counted: u64 = members.iter().filter_map(|at| gap(subscriber, *at).missing).sum();
        let lost = missing.iter().filter(|one| one.must && !one.gaps.is_empty());
        let lost = lost.filter(|one| one.gaps.iter().all(|at| members.contains(at)));
        let least = lost.count() as u64;
        if counted < least {
            let what = format!("{name} lost {least} messages, and its gaps count {counted}");
            found.push(Violation::new(Promise::LossExplained, what));
        }
    }
    found
}

/// Nor do they count more: it would come later, or never was. Each attachment for itself: what its client got at another is missing
/// there nonetheless.
fn counted_too_much(
    world: &World,
    by_topic: &HashMap<&str, Vec<&Published>>,
    name: &str,
    subscriber: &Subscriber,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut attachments = BTreeSet::new();
    for gap in subscriber.stream.iter().filter_map(Seen::gap).filter(|gap| gap.certain) {
        attachments.insert(gap.attachment);
        if gap.missing.is_none() {
            let what = format!("{name} got a certain gap without a count: {gap:?}");
            found.push(Violation::new(Promise::LossExplained, what));
        }
    }
    for attachment in attachments {
        let mut places = Places::of(subscriber, Some(attachment));
        places.gaps.retain(|at| gap(subscriber, *at).certain);
        let mut coverable: Vec<Vec<usize>> = places.gaps.iter().map(|at| vec![*at]).collect();
        let alone = coverable.len();
        for published in wanted(by_topic, subscriber) {
            let key = (published.message.publisher.as_str(), published.message.seq);
            let mut own =
                subscriber.subscriptions.iter().filter(|one| one.attachment == attachment);
            if published.outcome != Outcome::Fail
                && !places.had.contains(&key)
                && own.any(|one| claim(world, one, published, false) != Claim::None)
            {
                coverable.push(places.gaps_for(subscriber, published));
            }
        }
        let groups = Groups::of(coverable.iter().cloned());
        let alone_and_together =
            places.gaps.iter().map(|at| vec![*at]).chain(groups.all().filter(|all| all.len() > 1));
        for members in alone_and_together {
            let counted: u64 = members.iter().filter_map(|at| gap(subscriber, *at).missing).sum();
            let theirs = coverable[alone..].iter();
            let most = theirs.filter(|gaps| gaps.iter().any(|at| members.contains(at))).count();
            if counted > most as u64 {
                let first = gap(subscriber, members[0]);
                let what = format!(
                    "{name}.{attachment} was told that {counted} are lost, and at most {most} are: {} gaps from {first:?}",
                    members.len()
                );
                found.push(Violation::new(Promise::GapFinal, what));
            }
        }
    }
    found
}

/// Which gaps are counted together.
#[derive(Default)]
struct Groups {
    leader: BTreeMap<usize, usize>,
}

impl Groups {
    /// Of gaps that stand together somewhere.
    fn of(together: impl Iterator<Item = Vec<usize>>) -> Self {
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

    fn all(&self) -> impl Iterator<Item = Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for gap in self.leader.keys() {
            groups.entry(self.find(*gap)).or_default().push(*gap);
        }
        groups.into_values()
    }
}
