//! Five processes under a mixed load and random faults, for as long as is asked: `soak MINUTES SEED`.
//!
//! It runs in rounds. In each there is load and there are faults; then everything heals, the cluster must converge, everything that was
//! published must have arrived or be in a gap, and the round's history is judged. Where network namespaces can be had, half of the
//! pairs of nodes are connected directly and can be cut one way; the others are connected by proxies.

mod load;
mod nemesis;
mod place;
mod redis;
mod report;
mod rooms;
mod subscriber;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use cluster_tests::chance::Chance;
use cluster_tests::history::Recorder;
use cluster_tests::{check, eventually};
use waxwing::supervise::Clock;

use load::Load;
use nemesis::Nemesis;
use place::Place;
use report::Report;

const ROUND: Duration = Duration::from_secs(75);
const CONVERGED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
struct Arguments {
    minutes: u64,
    seed: u64,
    /// The report as JSON.
    #[arg(long, default_value = "soak.json")]
    json: PathBuf,
    /// Where histories that broke a promise are kept.
    #[arg(long, default_value = "soak-histories")]
    histories: PathBuf,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = soak(&arguments).await;
    println!("{report}");
    if let Err(error) = report.write(&arguments.json) {
        eprintln!("write {}: {error:#}", arguments.json.display());
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::from(report.is_broken()))
}

#[expect(clippy::print_stderr, reason = "progress is for whoever waits")]
async fn soak(arguments: &Arguments) -> Report {
    let mut chance = Chance::new(arguments.seed);
    let clock = Clock::new();
    let place = Arc::new(Place::start(clock).await);
    let mut report = Report::new(arguments.minutes, arguments.seed, place.not_run());
    let start = clock.now();
    let length = Duration::from_secs(arguments.minutes * 60);
    let mut round = 0;
    while clock.now().since(start) < length {
        round += 1;
        let recorder = Recorder::new(clock);
        let over = Arc::new(AtomicBool::new(false));
        let load = Load::start(&place, &recorder, &mut chance, round, over.clone());
        let began = clock.now();
        let mut nemesis = Nemesis::new(place.clone(), recorder.clone(), chance.fork());
        nemesis.run(ROUND.min(length.saturating_sub(clock.now().since(start)))).await;
        report.load_s += clock.now().since(began).as_secs_f64();
        nemesis.heal().await;
        let healed = clock.now();
        over.store(true, Ordering::Release);
        match eventually::poll(clock, CONVERGED_WITHIN, async || place.converged().await).await {
            Ok(_) => report.converged(clock.now().since(healed)),
            Err(why) => {
                report.violation(round, &format!("not converged in {CONVERGED_WITHIN:?}: {why}"))
            }
        }
        load.finish(&mut report, round, healed).await;
        let history = recorder.history();
        report.add(&history, nemesis.tally());
        let violations = check::judge(&history);
        if !violations.is_empty() {
            let file = arguments.histories.join(format!("{}-{round}.jsonl", arguments.seed));
            let kept =
                std::fs::create_dir_all(&arguments.histories).and_then(|()| recorder.write(&file));
            if let Err(error) = kept {
                eprintln!("keep {}: {error}", file.display());
            }
        }
        for violation in violations {
            report.violation(round, &format!("{:?}: {}", violation.promise, violation.what));
        }
        for node in place.cluster().nodes().iter().filter(|node| node.panicked()) {
            report.violation(round, &format!("{} panicked: {}", node.name, node.log.display()));
        }
        eprintln!("round {round}: {}", report.line());
    }
    report
}
