//! A publish that failed is never delivered, nothing is delivered that nobody published, and nothing to whom it didn't subscribe.

use super::world::{Outcome, Seen, Subscriber, World};
use super::{Promise, Violation};
use crate::history::Numbered;

pub(super) fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, subscriber) in &world.subscribers {
        for seen in &subscriber.stream {
            let Seen::Message { message, origin, .. } = seen else { continue };
            if let Some(wrong) = wrong_with(world, subscriber, message, origin) {
                let Numbered { publisher, seq, topic } = message;
                let what =
                    format!("{name} got {publisher} {seq} on {topic} from {origin}: {wrong}");
                found.push(Violation::new(Promise::OnlyWhatWasPublished, what));
            }
        }
    }
    found
}

fn wrong_with(
    world: &World,
    subscriber: &Subscriber,
    message: &Numbered,
    origin: &str,
) -> Option<&'static str> {
    let key = (message.publisher.clone(), message.seq);
    let Some(index) = world.by_number.get(&key) else { return Some("it was never published") };
    let published = &world.publishes[*index];
    if published.outcome == Outcome::Fail {
        Some("its publish failed")
    } else if published.message.topic != message.topic {
        Some("it was published to another topic")
    } else if published.origin != origin {
        Some("it was published on another node")
    } else if !subscriber.subscriptions.iter().any(|one| one.matches(&message.topic)) {
        Some("there was no subscription for it")
    } else {
        None
    }
}
