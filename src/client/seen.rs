//! ● Drops what has been delivered before.
//!
//! Within one origin ids rise as strings do, and each attachment gives one origin's messages of one topic in order. So the last id of
//! each (topic, origin) says it all. Two attachments of a session, one after the other, may both be sent the same message; one alone
//! never is.

use std::collections::HashMap;

use super::scan::Batch;

/// Pairs remembered for sure; up to twice as many may be. Of a pair that is forgotten, a move may bring a message again.
const PAIRS_MAX: usize = 32_768;

/// The last id of each (topic, origin), in two generations: when the young one is full it becomes the old one.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    young: Generation,
    old: Generation,
}

/// By origin, then by topic: origins are few, so that a look-up needs no joined key.
type Generation = HashMap<Box<str>, HashMap<Box<str>, Box<str>, foldhash::fast::RandomState>>;

impl Seen {
    /// Hides what `batch` has of messages seen before, and remembers the rest as seen.
    pub(crate) fn filter(&mut self, batch: &mut Batch) {
        let Some((first, last)) = batch.id_span().filter(|(first, _)| !first.is_empty()) else {
            return;
        };
        if let Some(known) = get(&mut self.young, batch.origin(), batch.topic()) {
            if first > &**known {
                remember(known, last);
            } else {
                hide(batch, known);
            }
            return;
        }
        let mut known = match get(&mut self.old, batch.origin(), batch.topic()) {
            Some(known) => std::mem::take(known),
            None => Box::default(),
        };
        if first > &*known {
            remember(&mut known, last);
        } else {
            hide(batch, &mut known);
        }
        if self.young.values().map(HashMap::len).sum::<usize>() >= PAIRS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        let topics = self.young.entry(batch.origin().into()).or_default();
        topics.insert(batch.topic().into(), known);
    }
}

fn get<'a>(seen: &'a mut Generation, origin: &str, topic: &str) -> Option<&'a mut Box<str>> {
    seen.get_mut(origin)?.get_mut(topic)
}

fn hide(batch: &mut Batch, known: &mut Box<str>) {
    batch.hide_through(known);
    if let Some((_, last)) = batch.id_span() {
        remember(known, last);
    }
}

/// Without a new allocation where the length is the same, as it always is.
fn remember(known: &mut Box<str>, last: &str) {
    if known.len() == last.len() {
        // Safe Rust can't overwrite a `str` in place; a `String` in between can, and allocates nothing.
        let mut text = std::mem::take(known).into_string();
        text.clear();
        text.push_str(last);
        *known = text.into_boxed_str();
    } else {
        *known = last.into();
    }
}
