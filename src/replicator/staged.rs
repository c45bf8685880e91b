//! ● What peers make this node hold: the parts of a whole are worth nothing until the last is here. One whole from each peer at a time, and
//! so many bytes of all of them together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lane::Log;
use crate::presence::{Delta, Kind};
use crate::types::{NodeName, Time};

/// One that does not go on for so long is given up; whoever sends it has broken off.
const KEPT: Duration = Duration::from_secs(2);
/// What an entry or a removal takes beside its names and metadata, about.
const EACH: usize = 96;

#[derive(Debug, Default)]
pub(super) struct Staged {
    of_peers: BTreeMap<NodeName, Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    log: Log,
    bytes: usize,
    heard: Time,
}

/// What to do with a part of a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Take it. Another whole that this peer had begun is given up for it.
    Take { instead_of: Option<Log> },
    /// There is no room: what is here of it goes.
    Refuse,
}

impl Staged {
    /// Another delta of that peer. Only parts of wholes count.
    pub(super) fn part(
        &mut self,
        peer: &NodeName,
        log: &Log,
        delta: &Delta,
        most: usize,
        now: Time,
    ) -> Verdict {
        let Kind::Whole { first, last } = delta.kind else {
            return Verdict::Take { instead_of: None };
        };
        let bytes = delta.size() + (delta.adds.len() + delta.removes.len()) * EACH;
        let before = if first { self.give_up(peer) } else { None };
        let instead_of = before.filter(|before| before != log);
        if first {
            let held = Held { log: log.clone(), bytes: 0, heard: now };
            self.of_peers.insert(peer.clone(), held);
        }
        // One that goes on without having begun is refused by whoever merges it.
        let Some(held) = self.of_peers.get_mut(peer).filter(|held| held.log == *log) else {
            return Verdict::Take { instead_of };
        };
        if self.bytes + bytes > most {
            self.give_up(peer);
            return Verdict::Refuse;
        }
        held.bytes += bytes;
        held.heard = now;
        self.bytes += bytes;
        if last {
            self.give_up(peer);
        }
        Verdict::Take { instead_of }
    }

    /// Nothing of that peer is held from now on; what was.
    pub(super) fn give_up(&mut self, peer: &NodeName) -> Option<Log> {
        let held = self.of_peers.remove(peer)?;
        self.bytes -= held.bytes;
        Some(held.log)
    }

    /// Gives up what doesn't go on.
    pub(super) fn sweep(&mut self, now: Time) -> Vec<(NodeName, Log)> {
        let stale = self.of_peers.iter().filter(|(_, held)| now.since(held.heard) >= KEPT);
        let stale: Vec<NodeName> = stale.map(|(peer, _)| peer.clone()).collect();
        stale.into_iter().filter_map(|peer| Some((peer.clone(), self.give_up(&peer)?))).collect()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::{Dot, Removal};
    use crate::types::{Incarnation, Replica};

    const EACH_PART: usize = 10 * (40 + EACH);

    fn name(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn log(shard: usize) -> Log {
        (Replica { name: name("o"), incarnation: Incarnation(1) }, shard)
    }

    fn part(first: bool, last: bool) -> Delta {
        let because: Option<Dot> = None;
        Delta {
            replica: log(0).0,
            from: 0,
            to: 100,
            adds: Vec::new(),
            removes: vec![Removal { counter: 1, because, given_up: None }; 10],
            kind: Kind::Whole { first, last },
            down_for: None,
        }
    }

    #[test]
    fn all_peers_together_are_bounded_and_each_has_one() {
        let (mut staged, now) = (Staged::default(), Time::ZERO);
        let taken = Verdict::Take { instead_of: None };
        let most = 3 * EACH_PART;
        let mut say = |peer: &str, shard, first, last| {
            let verdict = staged.part(&name(peer), &log(shard), &part(first, last), most, now);
            (verdict, staged.bytes())
        };
        assert_eq!(say("a", 0, true, false), (Verdict::Take { instead_of: None }, EACH_PART));
        assert_eq!(say("b", 0, true, false), (Verdict::Take { instead_of: None }, 2 * EACH_PART));
        // Another one of the same peer: the one before goes.
        let instead_of = Some(log(0));
        assert_eq!(say("b", 1, true, false), (Verdict::Take { instead_of }, 2 * EACH_PART));
        assert_eq!(say("b", 1, false, false), (Verdict::Take { instead_of: None }, 3 * EACH_PART));
        // No more room: that one goes, the others stay; and it can't go on where it was.
        assert_eq!(say("b", 1, false, false), (Verdict::Refuse, EACH_PART));
        assert_eq!(say("b", 1, false, true), (Verdict::Take { instead_of: None }, EACH_PART));
        // The last part of one makes room.
        assert_eq!(say("a", 0, false, true), (taken, 0));
        assert_eq!(say("b", 0, true, true), (Verdict::Take { instead_of: None }, 0));
    }

    #[test]
    fn what_does_not_go_on_is_given_up() {
        let mut staged = Staged::default();
        let most = 3 * EACH_PART;
        let _ = staged.part(&name("a"), &log(0), &part(true, false), most, Time::ZERO);
        let later = Time::ZERO + KEPT / 2;
        let _ = staged.part(&name("b"), &log(7), &part(true, false), most, later);
        assert_eq!(staged.sweep(Time::ZERO + KEPT), [(name("a"), log(0))]);
        assert_eq!(staged.bytes(), EACH_PART);
        assert_eq!(staged.sweep(later + KEPT), [(name("b"), log(7))]);
        assert_eq!(staged.bytes(), 0);
    }
}
