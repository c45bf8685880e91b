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

use std::collections::{BTreeSet, HashMap};

use super::places::{Groups, Places, gap, is_in_place, is_of_the_old_stream};
use super::world::{Outcome, Published, Seen, Subscriber, Subscription, World};
use super::{Promise, Violation};

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
    }
    found
}

pub(super) fn by_topic(world: &World) -> HashMap<&str, Vec<&Published>> {
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
pub(super) fn wanted<'a>(
    by_topic: &HashMap<&str, Vec<&'a Published>>,
    subscriber: &Subscriber,
) -> impl Iterator<Item = &'a Published> {
    let matches = |topic: &str| subscriber.subscriptions.iter().any(|one| one.matches(topic));
    by_topic.iter().filter(move |(topic, _)| matches(topic)).flat_map(|(_, list)| list).copied()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    None,
    May,
    Must,
}

/// `at_the_end`: nothing that its publisher published later came.
pub(super) fn claim(
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
