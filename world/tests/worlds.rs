//! Some worlds in every run of the tests; `scripts/simulate.sh` runs many.

use std::process::{Command, Output};

fn world(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_world"));
    command.args(arguments).output().expect("the world's program runs")
}

fn verdict(seed: &str) -> serde_json::Value {
    let output = world(&["run", seed]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("seed {seed}: {error}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

fn expect_kept(seed: &str) {
    let verdict = verdict(seed);
    let violations = verdict["violations"].as_array().expect("a list");
    assert!(violations.is_empty(), "scripts/simulate.sh run {seed} --log: {violations:#?}");
    assert!(verdict["delivered"].as_u64() > Some(100), "nothing happened: {verdict}");
    assert!(verdict["told"].as_u64() > Some(100), "nobody came or went: {verdict}");
}

/// Without it no seed would be worth keeping.
#[test]
fn a_seed_decides_everything() {
    let (once, again) = (verdict("3"), verdict("3"));
    assert_eq!(once, again);
    assert_ne!(once["trace"], verdict("4")["trace"]);
}

#[test]
fn promises_are_kept_in_worlds_that_once_broke_them() {
    let text = include_str!("../regressions.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let seed = line.split_whitespace().next().expect("a seed, and what it found");
        expect_kept(seed);
    }
}

#[test]
fn promises_are_kept_in_some_worlds() {
    for seed in ["100", "101", "102"] {
        expect_kept(seed);
    }
}

/// Each is found within 200 worlds (`world find PLANT`); here the first that finds it.
#[test]
fn planted_bugs_are_found() {
    for (plant, seed) in [
        ("gap-count-off-by-one", "3"),
        ("delivery-after-gap", "3"),
        ("interest-by-topic", "0"),
        ("window-dropped-at-down", "0"),
        ("end-untold", "0"),
        ("move-ends", "0"),
    ] {
        let output = world(&["find", plant, seed, "1"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Topics of one hash share their interest, and lose nothing by it.
#[test]
fn equal_hashes_lose_nothing() {
    let output = world(&["find", "equal-hashes", "0", "2"]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
