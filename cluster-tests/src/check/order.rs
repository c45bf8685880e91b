//! P2, both halves.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::world::{Seen, World};
use super::{Promise, Violation};

/// The numbers of one publisher only rise at one attachment of a subscriber, whatever the topics.
pub(super) fn per_publisher(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, subscriber) in &world.subscribers {
        let mut last: HashMap<(u32, &str), u64> = HashMap::new();
        for seen in &subscriber.stream {
            let Seen::Message { attachment, message, .. } = seen else { continue };
            let key = (*attachment, message.publisher.as_str());
            let before = last.insert(key, message.seq).unwrap_or_default();
            if message.seq < before {
                let what = format!(
                    "{name}.{attachment} got {} {} after {before}",
                    message.publisher, message.seq
                );
                found.push(Violation::new(Promise::PublisherOrder, what));
            }
        }
    }
    found
}

/// For each origin and topic there is one order that agrees with what every attachment saw: "came right before" has no circle.
pub(super) fn common(world: &World) -> Vec<Violation> {
    type Id<'a> = (&'a str, u64);
    let mut before: BTreeMap<(&str, &str), BTreeSet<(Id<'_>, Id<'_>)>> = BTreeMap::new();
    for subscriber in world.subscribers.values() {
        let mut last: HashMap<(u32, &str, &str), Id<'_>> = HashMap::new();
        for seen in &subscriber.stream {
            let Seen::Message { attachment, message, origin } = seen else { continue };
            let id = (message.publisher.as_str(), message.seq);
            let earlier = last.insert((*attachment, origin, &message.topic), id);
            if let Some(earlier) = earlier.filter(|earlier| *earlier != id) {
                before.entry((origin, &message.topic)).or_default().insert((earlier, id));
            }
        }
    }
    let mut found = Vec::new();
    for ((origin, topic), edges) in before {
        if let Some((publisher, seq)) = on_a_circle(&edges) {
            let what = format!(
                "subscribers disagree on the order of {topic} from {origin}, near {publisher} {seq}"
            );
            found.push(Violation::new(Promise::CommonOrder, what));
        }
    }
    found
}

/// Takes away whatever has nothing before it, until nothing is left; what stays goes in circles.
fn on_a_circle<T: Copy + Ord>(edges: &BTreeSet<(T, T)>) -> Option<T> {
    let mut incoming: BTreeMap<T, usize> = BTreeMap::new();
    let mut outgoing: BTreeMap<T, Vec<T>> = BTreeMap::new();
    for (from, to) in edges {
        incoming.entry(*from).or_default();
        *incoming.entry(*to).or_default() += 1;
        outgoing.entry(*from).or_default().push(*to);
    }
    let free = incoming.iter().filter(|(_, count)| **count == 0);
    let mut free: VecDeque<T> = free.map(|(id, _)| *id).collect();
    while let Some(id) = free.pop_front() {
        incoming.remove(&id);
        for to in outgoing.remove(&id).unwrap_or_default() {
            if let Some(count) = incoming.get_mut(&to) {
                *count -= 1;
                if *count == 0 {
                    free.push_back(to);
                }
            }
        }
    }
    incoming.into_keys().next()
}
