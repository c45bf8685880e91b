//! Whole trackers in a seeded world, in one thread: delay, loss, duplication, reordering, cuts (one-way too), crashes and restarts, drains,
//! sessions that move, are doubled, linger, release and take over. What may never happen is judged at each step (`judge`); then the
//! faults end, and all must agree with each other and with what the clients want.
//!
//! A failure prints its seed and the command that repeats it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on says so"
)]

mod chance;
mod clients;
mod judge;
mod network;
mod world;

use waxwing::presence::Plant;
use world::World;

/// One life of a world; what was wrong with it.
fn run(seed: u64, plant: Option<Plant>) -> Result<String, String> {
    World::new(seed, plant).live()
}

fn seeds(from: u64, count: u64) {
    let mut met = std::collections::BTreeMap::<String, u64>::new();
    for seed in from..from + count {
        match run(seed, None) {
            Ok(summary) => {
                for part in summary.split_whitespace() {
                    if let Some((what, number)) = part.split_once('=') {
                        *met.entry(what.to_owned()).or_default() += number.parse::<u64>().unwrap();
                    }
                }
            }
            Err(wrong) => panic!(
                "seed {seed}: {wrong}\nrepeat it: SEED={seed} cargo test --test sim one_seed -- --nocapture"
            ),
        }
    }
    println!("{met:?}");
    for what in [
        "moves",
        "takeovers",
        "crashes",
        "cuts",
        "drains",
        "repairs",
        "wholes",
        "waits",
        "reincarnations",
    ] {
        assert!(met.get(what).is_some_and(|times| *times > 0), "no world had any {what}");
    }
}

#[test]
fn a_hundred_worlds() {
    seeds(0, 100);
}

#[test]
fn another_hundred_worlds() {
    seeds(100, 100);
}

/// `SEED=n cargo test --test sim one_seed -- --nocapture` tells the story of one world.
#[test]
fn one_seed() {
    let seed = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("seed {seed}: {}", run(seed, None).unwrap());
}

#[test]
fn the_same_seed_is_the_same_world() {
    assert_eq!(run(3, None), run(3, None));
}

/// A bug that no world finds would mean that the worlds prove nothing of it.
#[test]
fn planted_bugs_are_found() {
    for plant in Plant::ALL {
        let found = (0..300).find_map(|seed| Some((seed, run(seed, Some(plant)).err()?)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{plant:?} was not found"));
        println!("{plant:?}: seed {seed}: {wrong}");
    }
}
