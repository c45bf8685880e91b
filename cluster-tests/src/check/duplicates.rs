//! P3.

use std::collections::HashSet;

use super::world::{Seen, World};
use super::{Promise, Violation};

pub(super) fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, subscriber) in &world.subscribers {
        let mut had = HashSet::new();
        for seen in &subscriber.stream {
            let Seen::Message { attachment, message, .. } = seen else { continue };
            if !had.insert((*attachment, &message.publisher, message.seq)) {
                let what =
                    format!("{name}.{attachment} got {} {} again", message.publisher, message.seq);
                found.push(Violation::new(Promise::NoDuplicates, what));
            }
        }
    }
    found
}
