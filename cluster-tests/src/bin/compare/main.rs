//! Waxwing beside Redis and NATS: one load, the same checks, in turns on one machine.
//!
//! `scripts/compare.sh` builds and runs it. In reading order: what is compared, the systems, the loads, the report.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use serde_json::json;
use waxwing::supervise::Clock;

use crate::load::{Figures, Run};
use crate::modes::Mode;
use crate::report::{Outcome, Report};
use crate::systems::{Candidate, System};

mod connections;
mod load;
mod modes;
mod protocol;
mod report;
mod systems;
mod usage;

/// Compare Waxwing with Redis and NATS, in turns, on this machine
#[derive(Debug, clap::Parser)]
struct Args {
    /// One round of short runs
    #[arg(long)]
    quick: bool,
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a rate is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// No round begins that would end later
    #[arg(long, value_name = "N", default_value_t = 14 * 60)]
    seconds_max: u64,
    /// Of `fanout` and `idle`
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    connections: u32,
    /// Messages under way at most, instead of a number that suits all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(4..))]
    window: Option<u64>,
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "SYSTEM,..",
        default_value = "waxwing,redis,nats"
    )]
    systems: Vec<System>,
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "MODE,..",
        default_value = "1x1,1x100,1x1000,latency,fanout,idle,cross-1x1,cross-latency"
    )]
    modes: Vec<Mode>,
    /// Where to write all figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[arg(long, value_name = "PROGRAM", env = "WAXWING_BIN", default_value = "waxwing")]
    waxwing: PathBuf,
    #[arg(long, value_name = "PROGRAM", default_value = "redis-server")]
    redis: PathBuf,
    #[arg(long, value_name = "PROGRAM", default_value = "nats-server")]
    nats: PathBuf,
}

impl Args {
    fn program(&self, system: System) -> &Path {
        match system {
            System::Waxwing => &self.waxwing,
            System::Redis => &self.redis,
            System::Nats => &self.nats,
        }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { self.seconds })
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds as usize }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            talk(&format!("compare: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every run did what it should.
fn run(args: &Args) -> anyhow::Result<bool> {
    usage::raise_file_limit();
    let mut candidates = Vec::new();
    let mut not_run = serde_json::Map::new();
    for system in &args.systems {
        match Candidate::find(*system, args.program(*system)) {
            Ok(candidate) => {
                talk(&format!("{}: {}", system.name(), candidate.version));
                candidates.push(candidate);
            }
            Err(why) => {
                talk(&format!("{}: NOT RUN: {why}", system.name()));
                not_run.insert(system.name().to_owned(), json!(why));
            }
        }
    }
    let mut report = Report::default();
    let clock = Clock::new();
    let (start, mut longest) = (clock.now(), Duration::ZERO);
    let mut rounds = 0;
    for round in 0..args.rounds() {
        let begin = clock.now();
        if round > 0 && begin - start + longest > Duration::from_secs(args.seconds_max) {
            talk(&format!("no time for more than {round} rounds"));
            break;
        }
        one_round(args, round, &candidates, &mut report);
        longest = longest.max(clock.now() - begin);
        rounds += 1;
    }
    let versions: serde_json::Map<_, _> =
        candidates.iter().map(|c| (c.system.name().to_owned(), json!(c.version))).collect();
    let about = json!({
        "versions": versions,
        "not_run": not_run,
        "rounds": rounds,
        "seconds": args.duration().as_secs(),
        "connections": args.connections,
        "payload_bytes": protocol::PAYLOAD_LEN,
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "unix_ms": clock.unix_ms(),
        "took_s": (clock.now() - start).as_secs(),
    });
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report.json(&about))?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    let mut out = report.table();
    let aims = report.aims();
    if !aims.is_empty() {
        out.push('\n');
    }
    for aim in &aims {
        out.push_str(&aim.line());
        out.push('\n');
    }
    std::io::stdout().write_all(out.as_bytes())?;
    for (outcome, error) in report.failures() {
        let (mode, system, round) = (outcome.mode.name(), outcome.system.name(), outcome.round + 1);
        talk(&format!("FAILED: {mode} of {system} in round {round}: {error}"));
    }
    Ok(report.failures().next().is_none())
}

/// Every mode in every system: the systems take turns at each, each time in fresh servers. Both modes across nodes share a cluster.
fn one_round(args: &Args, round: usize, candidates: &[Candidate], report: &mut Report) {
    let (across, alone): (Vec<_>, Vec<_>) = args.modes.iter().partition(|mode| mode.is_across());
    let mut stages: Vec<Vec<Mode>> = alone.into_iter().map(|mode| vec![mode]).collect();
    if !across.is_empty() {
        stages.push(across);
    }
    for modes in &stages {
        for candidate in candidates {
            let system = candidate.system;
            let servers = candidate.start(modes.iter().any(|mode| mode.is_across()));
            for mode in modes.iter().copied() {
                let figures = match &servers {
                    Err(error) => Err(format!("{error:#}")),
                    Ok(servers) => {
                        let run = Run {
                            clock: Clock::new(),
                            servers: &servers.processes,
                            place: servers.place(),
                            duration: mode.duration(args.duration()),
                            window: args.window,
                        };
                        let load = mode.load(args.connections as usize);
                        run.drive(load).map_err(|e| format!("{e:#}\n{}", servers.last_words()))
                    }
                };
                let shown = match &figures {
                    Ok(figures) => brief(mode, figures),
                    Err(error) => format!("FAILED: {error}"),
                };
                let (mode_name, name) = (mode.name(), system.name());
                talk(&format!("{} {mode_name:<14} {name:<8} {shown}", round + 1));
                report.outcomes.push(Outcome { round, mode, system, figures });
            }
        }
    }
}

fn brief(mode: Mode, figures: &Figures) -> String {
    let shown = |name: &&str| figures.get(name).map(|value| format!("{name} {value:.3}"));
    mode.figures().iter().filter_map(shown).collect::<Vec<_>>().join("  ")
}

#[expect(
    clippy::print_stderr,
    reason = "what happens meanwhile is for whoever waits for the table"
)]
fn talk(line: &str) {
    eprintln!("{line}");
}
