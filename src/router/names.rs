//! What is subscribed to anywhere: counts from announced interest, names from the members themselves.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::codec::{Control, NamesWanted};
use super::{Router, RouterHandle};
use crate::types::{Namespace, Pattern, Topic};

/// How long members are waited for to tell their topics.
const NAMES_WAIT: Duration = Duration::from_millis(500);
/// Of each member's names no more than about so many bytes are told.
const NAMES_BYTES_MAX: usize = 256 << 10;

impl Router {
    pub(super) fn names_for(&self, wanted: &NamesWanted) -> Control {
        let glob = (!wanted.glob.is_empty()).then_some(&wanted.glob[..]);
        let (names, _) = self.registry.names(&wanted.namespace, glob, NAMES_BYTES_MAX);
        let names = names.into_iter().map(|name| Bytes::from(name.into_vec())).collect();
        Control::Names { ticket: wanted.ticket, names }
    }
}

impl RouterHandle {
    /// Subscriptions to the topic itself, by pattern not: this node's, and what those peers last announced that are linked. What a dead
    /// one had is kept for its return, but nobody is there.
    pub fn subscriptions(&self, topic: &Topic) -> u64 {
        let lanes = self.0.lanes();
        let linked = lanes.iter().filter(|lane| lane.is_linked());
        let elsewhere = linked.map(|lane| lane.interest.read().exact(topic));
        self.0.registry.subscribers(topic) + elsewhere.sum::<u64>()
    }

    /// How many different patterns of the namespace have subscriptions anywhere.
    pub fn patterns(&self, namespace: &Namespace) -> u64 {
        let mut patterns: HashSet<Pattern> =
            self.0.registry.patterns(namespace).into_iter().collect();
        for lane in self.0.lanes().iter().filter(|lane| lane.is_linked()) {
            let interest = lane.interest.read();
            let of_namespace = interest.patterns().filter(|one| one.namespace == *namespace);
            patterns.extend(of_namespace.cloned());
        }
        patterns.len() as u64
    }

    /// Topics of the namespace with subscribers anywhere, in order of name, those that the glob matches; empty: all. Asks the members,
    /// and waits at most 500 ms for them.
    pub async fn names(&self, namespace: &Namespace, glob: Bytes) -> BTreeSet<Box<[u8]>> {
        let ticket = self.0.names.issue();
        let wanted = NamesWanted { ticket: ticket.number, namespace: namespace.clone(), glob };
        let mut asked = Vec::new();
        let question = Control::NamesWanted(wanted.clone());
        for lane in self.0.lanes().iter() {
            if let Some(up) = &lane.state.lock().out
                && up.source.send(&question)
            {
                asked.push(lane.name.clone());
            }
        }
        let glob = (!wanted.glob.is_empty()).then_some(&wanted.glob[..]);
        let (own, _) = self.0.registry.names(namespace, glob, NAMES_BYTES_MAX);
        let mut names: BTreeSet<Box<[u8]>> = own.into_iter().collect();
        for (_, answer) in ticket.answers(&asked, NAMES_WAIT).await {
            if let Some((told, _)) = answer {
                names.extend(told.iter().map(|name| Box::from(&name[..])));
            }
        }
        names
    }
}
