//! Whole nodes in one thread, on a network and in a time that are simulated; a seed decides everything.
//!
//! `world run SEED` runs one, and prints its verdict as a line of JSON. `world sweep FROM COUNT` runs many, each in a process of its
//! own, and fails when a promise broke or when something rare was never met. `world find PLANT` proves that a bug would be found.

mod clients;
mod determinism;
mod host;
mod network;
mod plan;
mod run;
mod sweep;
mod switchboard;
mod verdict;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use waxwing::plants::Plant;

use crate::plan::Plan;

/// A task's panic ends nothing but the task; here it is a finding.
static PANICS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Parser)]
#[command(about = "Runs simulated worlds")]
enum Arguments {
    /// One world; prints its verdict as JSON.
    Run {
        seed: u64,
        /// Tells on standard error what the nodes log.
        #[arg(long)]
        log: bool,
        /// Writes the history there.
        #[arg(long)]
        history: Option<std::path::PathBuf>,
        /// Plants a bug, by its name.
        #[arg(long, value_parser = plant)]
        plant: Option<Plant>,
    },
    /// Many worlds; prints a table.
    Sweep {
        #[arg(default_value_t = 0)]
        from: u64,
        #[arg(default_value_t = 200)]
        count: u64,
        /// At once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// A report as JSON is written there.
        #[arg(long)]
        json: Option<std::path::PathBuf>,
    },
    /// Plants a bug in one world after another, until one finds it.
    Find {
        #[arg(value_parser = plant)]
        plant: Plant,
        #[arg(default_value_t = 0)]
        from: u64,
        #[arg(default_value_t = 200)]
        count: u64,
    },
}

fn plant(name: &str) -> Result<Plant, String> {
    let names = || Plant::ALL.map(Plant::name).join(", ");
    let known = Plant::ALL.into_iter().find(|plant| plant.name() == name);
    known.ok_or_else(|| format!("one of {}", names()))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]
fn main() -> ExitCode {
    match Arguments::parse() {
        Arguments::Run { seed, log, history, plant } => {
            determinism::seed(seed);
            let differs = || Plan::of(seed).interest_differs.then_some(Plant::InterestDiffers);
            if let Some(plant) = plant.or_else(differs) {
                waxwing::plants::plant(plant);
            }
            let told = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICS.fetch_add(1, Ordering::Relaxed);
                told(panic);
            }));
            if log {
                tracing_subscriber::fmt()
                    .with_env_filter("waxwing=debug")
                    .with_writer(std::io::stderr)
                    .without_time()
                    .init();
            }
            let verdict = match run::run(seed, history.as_deref()) {
                Ok(verdict) => verdict,
                Err(error) => {
                    eprintln!("world: {error:#}");
                    return ExitCode::FAILURE;
                }
            };
            println!("{}", serde_json::to_string(&verdict).expect("it is plain data"));
            ExitCode::from(u8::from(!verdict.violations.is_empty()))
        }
        Arguments::Sweep { from, count, jobs, json } => match sweep::run(from, count, jobs) {
            Ok(report) => {
                println!("{report}");
                if let Some(file) = json
                    && let Err(error) = report.write(&file)
                {
                    eprintln!("write {}: {error}", file.display());
                    return ExitCode::FAILURE;
                }
                ExitCode::from(u8::from(!report.is_good()))
            }
            Err(error) => {
                eprintln!("world: {error:#}");
                ExitCode::FAILURE
            }
        },
        Arguments::Find { plant, from, count } => match sweep::find(plant, from, count) {
            Ok(Some((seed, what))) => {
                println!("{}: found by seed {seed}: {what}", plant.name());
                ExitCode::SUCCESS
            }
            Ok(None) => {
                println!("{}: not found in {count} worlds", plant.name());
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("world: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
