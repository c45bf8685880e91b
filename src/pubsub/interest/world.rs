//! A node's interest and one peer's copy of it, over links that are cut: what was confirmed holds until it is given up. Mistakes that
//! were planted on purpose must be found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::{Change, LocalInterest, PeerInterest, Subject};

/// Changes in one frame.
const FRAME: usize = 3;

/// What the world does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A snapshot's parts are applied as they come.
    SnapshotByChunks,
    /// A topic that ends takes the interest with it that another topic of the same hash has.
    CountedByTopic,
    /// The peer starts from nothing at each link.
    ForgottenAtDown,
}

#[derive(Debug, Clone)]
enum Op {
    Subscribe(u8),
    Unsubscribe(u8),
    Counts,
    Send,
    Arrive,
    Cut,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0u8..24).prop_map(Op::Subscribe),
        2 => (0u8..24).prop_map(Op::Unsubscribe),
        1 => Just(Op::Counts),
        4 => Just(Op::Send),
        4 => Just(Op::Arrive),
        1 => Just(Op::Cut),
    ];
    prop::collection::vec(op, 1..200)
}

enum Frame {
    Part { version: u64, first: bool, last: Option<u64>, changes: Vec<Change> },
    Changes { from: u64, changes: Vec<Change> },
}

/// Two topics share each hash.
fn hash(topic: u8) -> u64 {
    u64::from(topic / 2)
}

#[derive(Default)]
struct World {
    subscriptions: BTreeMap<u8, u32>,
    local: LocalInterest,
    peer: PeerInterest,
    wire: VecDeque<Frame>,
    parts: VecDeque<Frame>,
    /// How far this link's peer has been told.
    told: Option<u64>,
    /// The version that has the topic's first subscription.
    since: BTreeMap<u8, u64>,
    confirmed: BTreeSet<u8>,
}

impl World {
    fn act(&mut self, op: &Op, bug: Bug) {
        match *op {
            Op::Subscribe(topic) => {
                let count = self.subscriptions.entry(topic).or_default();
                *count += 1;
                let first = *count == 1;
                if bug != Bug::CountedByTopic || (first && self.others(topic) == 0) {
                    self.local.add(Subject::Topic(hash(topic)));
                }
                if first {
                    self.since.insert(topic, self.local.version());
                }
            }
            Op::Unsubscribe(topic) => {
                let Some(count) = self.subscriptions.get_mut(&topic).filter(|count| **count > 0)
                else {
                    return;
                };
                *count -= 1;
                let last = *count == 0;
                if last {
                    self.confirmed.remove(&topic);
                }
                if bug != Bug::CountedByTopic || last {
                    self.local.remove(Subject::Topic(hash(topic)));
                }
            }
            Op::Counts => {
                self.local.announce_counts();
            }
            Op::Send => self.send(),
            Op::Arrive => self.arrive(bug),
            Op::Cut => {
                self.wire.clear();
                self.parts.clear();
                self.told = None;
                if bug == Bug::ForgottenAtDown {
                    self.peer = PeerInterest::default();
                }
            }
        }
    }

    /// Subscriptions to the other topic of the same hash.
    fn others(&self, topic: u8) -> u32 {
        self.subscriptions.get(&(topic ^ 1)).copied().unwrap_or(0)
    }

    fn send(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.wire.push_back(part);
            return;
        }
        let Some(from) = self.told else {
            let (version, all) = (self.local.version(), self.local.snapshot());
            let chunks = all.len().div_ceil(FRAME).max(1);
            for at in 0..chunks {
                let changes = all.iter().skip(at * FRAME).take(FRAME).cloned().collect();
                let last = (at + 1 == chunks).then_some(self.local.digest());
                self.parts.push_back(Frame::Part { version, first: at == 0, last, changes });
            }
            self.told = Some(version);
            return;
        };
        let changes = self.local.changes_since(from, FRAME).expect("the log is long enough");
        if !changes.is_empty() {
            self.told = Some(from + changes.len() as u64);
            self.wire.push_back(Frame::Changes { from, changes });
        }
    }

    fn arrive(&mut self, bug: Bug) {
        match self.wire.pop_front() {
            None => return,
            Some(Frame::Part { version, first, changes, .. }) if bug == Bug::SnapshotByChunks => {
                if first {
                    self.peer.current = super::Known { version, ..super::Known::default() };
                    self.peer.complete = true;
                }
                changes.iter().for_each(|change| self.peer.current.apply(change));
            }
            Some(Frame::Part { version, first, last, changes }) => {
                let applied = self.peer.snapshot_part(version, first, last, &changes);
                assert_eq!(applied, Ok(last.is_some()));
            }
            // Parts of a snapshot that is behind are skipped, as what was applied before.
            Some(Frame::Changes { from, changes }) => {
                let applied = self.peer.changes(from, &changes);
                assert!(bug != Bug::None || applied.is_ok(), "{applied:?}");
            }
        }
        let Some(version) = self.peer.version() else { return };
        let held = self.subscriptions.iter().filter(|(_, count)| **count > 0);
        let now = held.filter(|(topic, _)| self.since[*topic] <= version).map(|(topic, _)| *topic);
        self.confirmed.extend(now);
    }

    /// P1: a publish now reaches whatever was confirmed.
    fn judge(&self) -> Result<(), String> {
        for topic in &self.confirmed {
            if !self.peer.current.topics.contains_key(&hash(*topic)) {
                return Err(format!("topic {topic} is confirmed, and the peer sends none of it"));
            }
        }
        Ok(())
    }
}

fn run(ops: &[Op], bug: Bug) -> Result<(), String> {
    let mut world = World::default();
    for op in ops {
        world.act(op, bug);
        world.judge()?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_was_confirmed_holds_over_links(ops in ops()) {
        run(&ops, Bug::None).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn planted_mistakes_are_found() {
    const SEEDS: u64 = 200;
    for bug in [Bug::SnapshotByChunks, Bug::CountedByTopic, Bug::ForgottenAtDown] {
        let found = (0..SEEDS).find(|seed| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_be_bytes());
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
            let mut runner = TestRunner::new_with_rng(Config::default(), rng);
            let ops = ops().new_tree(&mut runner).unwrap().current();
            assert_eq!(run(&ops, Bug::None), Ok(()), "seed {seed} without a mistake");
            run(&ops, bug).is_err()
        });
        assert!(found.is_some(), "{bug:?} was not found in {SEEDS} seeds");
    }
}
