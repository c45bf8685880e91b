//! What is subscribed to anywhere: counts from announced interest, names from the members themselves.
//!
//! It costs what the namespace asked for has, never what its neighbours have, and gives way to other tasks: neither a link's reader nor a
//! lock that others need is held for long.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::codec::{Control, NamesWanted};
use super::lane::Lane;
use super::{Router, RouterHandle};
use crate::metrics::names;
use crate::supervise::Task;
use crate::types::{Namespace, NodeName, Topic};

/// How long members are waited for to tell their topics.
const NAMES_WAIT: Duration = Duration::from_millis(500);
/// How long a member looks for them: what it has found by then it tells.
const LOOK_WAIT: Duration = Duration::from_millis(300);
/// Of each member's names no more than about so many bytes are told.
const NAMES_BYTES_MAX: usize = 256 << 10;
/// So many of each peer's questions are answered at once; more are not, and whoever asked waits no longer for it than for a slow member.
const TELLING_MAX: usize = 32;
/// So many patterns are looked at under one lock.
const GLOBS_AT_ONCE: usize = 1_000;

/// Who is being told names, each peer by itself, so that none takes another's turn.
#[derive(Debug, Default)]
pub(super) struct Telling(Mutex<BTreeMap<NodeName, Arc<Semaphore>>>);

impl Telling {
    fn begin(&self, peer: &NodeName) -> Option<OwnedSemaphorePermit> {
        let mut all = self.0.lock();
        if !all.contains_key(peer) {
            // Those that are told nothing now may be members no more.
            all.retain(|_, one| one.available_permits() < TELLING_MAX);
            all.insert(peer.clone(), Arc::new(Semaphore::new(TELLING_MAX)));
        }
        all.get(peer)?.clone().try_acquire_owned().ok()
    }
}

impl Router {
    /// Answers a peer, in a task of its own.
    pub(super) fn tell_names(&self, lane: &Arc<Lane>, wanted: NamesWanted) {
        let Some(permit) = self.telling.begin(&lane.name) else {
            metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "names_told").increment(1);
            tracing::debug!(peer = %lane.name, "too many ask for topics at once");
            return;
        };
        let (router, lane) = (self.me(), lane.clone());
        self.supervisor.spawn_one_of_many(Task::NamesTold, async move {
            let _permit = permit;
            let names = router.own_names(&wanted.namespace, &wanted.glob).await;
            let names = names.into_iter().map(|name| Bytes::from(name.into_vec())).collect();
            router.answer(&lane, &Control::Names { ticket: wanted.ticket, names });
        });
    }

    async fn own_names(&self, namespace: &Namespace, glob: &[u8]) -> Vec<Box<[u8]>> {
        let glob = (!glob.is_empty()).then_some(glob);
        let mut names = Vec::new();
        let look = self.registry.names(namespace, glob, NAMES_BYTES_MAX, &mut names);
        // What it has found so far is in `names`.
        let _ = tokio::time::timeout(LOOK_WAIT, look).await;
        names
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
    pub async fn patterns(&self, namespace: &Namespace) -> u64 {
        let mut globs = HashSet::new();
        let own = |behind: Option<&[u8]>| self.0.registry.globs(namespace, behind, GLOBS_AT_ONCE);
        gather(own, &mut globs).await;
        for lane in self.0.lanes().iter().filter(|lane| lane.is_linked()) {
            let of_peer = |behind: Option<&[u8]>| {
                lane.interest.read().globs(namespace, behind, GLOBS_AT_ONCE)
            };
            gather(of_peer, &mut globs).await;
        }
        globs.len() as u64
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
        let own = self.0.own_names(namespace, &wanted.glob);
        let (own, answers) = tokio::join!(own, ticket.answers(&asked, NAMES_WAIT));
        let mut names: BTreeSet<Box<[u8]>> = own.into_iter().collect();
        for (_, answer) in answers {
            if let Some((told, _)) = answer {
                names.extend(told.iter().map(|name| Box::from(&name[..])));
            }
        }
        names
    }
}

/// All that `next` gives, part by part.
async fn gather(
    mut next: impl FnMut(Option<&[u8]>) -> Vec<Arc<[u8]>>,
    into: &mut HashSet<Arc<[u8]>>,
) {
    let mut behind: Option<Arc<[u8]>> = None;
    loop {
        let part = next(behind.as_deref());
        let Some(last) = part.last().cloned() else { return };
        let is_last = part.len() < GLOBS_AT_ONCE;
        into.extend(part);
        if is_last {
            return;
        }
        behind = Some(last);
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::{TELLING_MAX, Telling};
    use crate::types::NodeName;

    #[test]
    fn a_peer_that_asks_much_takes_no_others_turn() {
        let (telling, [a, b]) =
            (Telling::default(), ["a", "b"].map(|it| NodeName::parse(it).unwrap()));
        let mut told: Vec<_> = (0..TELLING_MAX).map(|_| telling.begin(&a).unwrap()).collect();
        assert!(telling.begin(&a).is_none());
        assert!(telling.begin(&b).is_some());
        told.pop();
        assert!(telling.begin(&a).is_some());
        drop(told);
        assert!(telling.begin(&NodeName::parse("c").unwrap()).is_some());
        assert_eq!(telling.0.lock().len(), 1);
    }
}
