//! P5: what a gap says is lost does not come any more.
//!
//! A certain gap counts no more than is missing. A possible one ends a stretch of its topics: an origin's messages on a topic have one
//! order, so what was published there before something that came ahead of the gap doesn't come behind it.

use std::collections::{BTreeSet, HashMap};

use super::loss::{Claim, by_topic, claim, wanted};
use super::places::{Groups, Places, gap};
use super::world::{Gap, Outcome, Published, Seen, Subscriber, World};
use super::{Promise, Violation};

pub(super) fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let by_topic = by_topic(world);
    for (name, subscriber) in &world.subscribers {
        found.extend(counted_too_much(world, &by_topic, name, subscriber));
        found.extend(came_after_all(world, name, subscriber));
    }
    found
}

/// How far an attachment has got on a topic of an origin, in places of the history at which publishing began.
#[derive(Debug, Default, Clone, Copy)]
struct Reached {
    now: usize,
    at_the_last_gap: usize,
}

fn came_after_all(world: &World, name: &str, subscriber: &Subscriber) -> Vec<Violation> {
    let mut reached: HashMap<u32, HashMap<(&str, &str), Reached>> = HashMap::new();
    let mut found = Vec::new();
    for seen in &subscriber.stream {
        let of_this = reached.entry(seen.attachment()).or_default();
        match seen {
            Seen::Gap(gap) => pass(of_this, gap),
            Seen::Message { attachment, message, origin } => {
                let key = (message.publisher.clone(), message.seq);
                let Some(index) = world.by_number.get(&key) else { continue };
                let published = &world.publishes[*index];
                let of_topic = of_this.entry((&message.topic, origin)).or_default();
                of_topic.now = of_topic.now.max(published.invoked);
                if was_over_by(published, of_topic.at_the_last_gap) {
                    let what = format!(
                        "{name}.{attachment} got {} {} on {} behind the gap that stood for it",
                        message.publisher, message.seq, message.topic
                    );
                    found.push(Violation::new(Promise::GapFinal, what));
                }
            }
        }
    }
    found
}

fn pass(reached: &mut HashMap<(&str, &str), Reached>, gap: &Gap) {
    if gap.certain {
        return;
    }
    for ((topic, origin), of_topic) in reached {
        if gap.is_about(topic, origin) {
            of_topic.at_the_last_gap = of_topic.now;
        }
    }
}

/// Its publishing had succeeded when another's began there.
fn was_over_by(published: &Published, began: usize) -> bool {
    matches!(published.outcome, Outcome::Ok(done) if done < began)
}

/// Certain gaps count no more than is missing: it would come later, or never was. Each attachment for itself: what its client got at
/// another is missing there nonetheless.
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
