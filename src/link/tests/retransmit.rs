//! A window and its peer in a small world: links are cut at any point, acknowledgements are lost, things are given up by age and by
//! number. A subscriber's stream is judged by what was published. Mistakes that were planted on purpose must be found.

use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use world::World;

mod world;

/// What the world does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    HelloBeforeTheReaderEnded,
    DeliveryAfterItsGap,
    GapOffByOne,
    WindowDroppedAtDown,
    AcknowledgedIsWrittenAgain,
}

#[derive(Debug, Clone)]
enum Op {
    Publish {
        topic: u8,
        count: u8,
    },
    Write {
        bytes: usize,
    },
    /// The reader, of whatever link it is, hands on so many frames.
    Read(usize),
    Acknowledge,
    AckArrives,
    /// The receiver notices after so many milliseconds.
    Cut {
        noticed: u64,
    },
    /// Nothing arrives any more, and the sender believes in the link until it is cut.
    Silence {
        noticed: u64,
    },
    Hello,
    /// The receiver's answer to it is lost.
    HelloInVain,
    Pass {
        ms: u64,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (0u8..3, 1u8..4).prop_map(|(topic, count)| Op::Publish { topic, count }),
        6 => (1usize..200).prop_map(|bytes| Op::Write { bytes }),
        6 => (1usize..4).prop_map(Op::Read),
        2 => Just(Op::Acknowledge),
        2 => Just(Op::AckArrives),
        2 => (0u64..3_000).prop_map(|noticed| Op::Cut { noticed }),
        2 => (0u64..3_000).prop_map(|noticed| Op::Silence { noticed }),
        3 => Just(Op::Hello),
        1 => Just(Op::HelloInVain),
        2 => prop_oneof![2 => 0u64..2_000, 1 => 25_000u64..40_000].prop_map(|ms| Op::Pass { ms }),
    ];
    prop::collection::vec(op, 1..120)
}

fn run(ops: &[Op], bug: Bug) -> Result<(), String> {
    let mut world = World::new(bug);
    ops.iter().try_for_each(|op| world.act(op))?;
    world.finish()?;
    world.judge()
}

proptest! {
    #![proptest_config(Config { cases: 2_000, ..Config::default() })]

    #[test]
    fn whatever_is_cut_each_message_comes_once_or_one_gap_counts_it(ops in ops()) {
        run(&ops, Bug::None).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn planted_mistakes_are_found() {
    const SEEDS: u64 = 200;
    for bug in [
        Bug::HelloBeforeTheReaderEnded,
        Bug::DeliveryAfterItsGap,
        Bug::GapOffByOne,
        Bug::WindowDroppedAtDown,
        Bug::AcknowledgedIsWrittenAgain,
    ] {
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
