//! Many clients on few leases, real nodes and faults: `leases OPERATIONS SEED`. The history is judged: two holders at a time, by anybody's
//! count, would be found. Ends with 1 where a promise was broken; the history is kept then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cluster_tests::check;
use cluster_tests::cluster::Cluster;
use cluster_tests::history::{Kind, Op};
use cluster_tests::leases::{self, Faults, Plan};

#[derive(Debug, Parser)]
#[command(about = "Judge leases under faults")]
struct Arguments {
    /// Calls about leases.
    operations: u64,
    seed: u64,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    #[arg(long, default_value_t = 60)]
    clients: usize,
    #[arg(long, default_value_t = 30)]
    names: usize,
    /// Nodes without a disk.
    #[arg(long)]
    memory: bool,
    /// Milliseconds between faults at the least; a third of what it is at the most.
    #[arg(long, default_value_t = 800)]
    pause_ms: usize,
    /// No node is told to end.
    #[arg(long)]
    no_rolling: bool,
    /// Violations shown.
    #[arg(long, default_value_t = 20)]
    shown: usize,
    /// Where a history that broke a promise is kept.
    #[arg(long, default_value = "leases-history.jsonl")]
    history: PathBuf,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir().expect("a directory");
    let durable = (!arguments.memory).then(|| dir.path());
    let cluster = Cluster::start(arguments.nodes, leases::options(arguments.nodes, durable)).await;
    let plan = Plan {
        operations: arguments.operations,
        clients: arguments.clients,
        names: arguments.names,
        seed: arguments.seed,
    };
    let faults = Faults {
        pause_ms: arguments.pause_ms..arguments.pause_ms * 3,
        rolling_restarts: !arguments.no_rolling,
    };
    let began = cluster.clock().now();
    let ran = leases::run(&cluster, &plan, faults).await;
    let took = cluster.clock().now().since(began);
    let history = cluster.recorder().history();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for record in history.iter().filter(|record| record.kind != Kind::Invoke) {
        if let Op::Lease(call) = &record.op {
            let what = format!("{:?} {:?}", call.what, record.kind).to_lowercase();
            *outcomes.entry(what).or_default() += 1;
        }
    }
    println!("{} operations in {took:?}, seed {}", arguments.operations, arguments.seed);
    outcomes.iter().for_each(|(what, count)| println!("{what:<24} {count:>10}"));
    match &ran {
        Ok(tally) => println!("faults: {tally}"),
        Err(why) => println!("not run to its end: {why}"),
    }
    let violations = check::judge(&history);
    let mut by_promise: BTreeMap<String, u64> = BTreeMap::new();
    for violation in &violations {
        *by_promise.entry(format!("{:?}", violation.promise)).or_default() += 1;
    }
    by_promise.iter().for_each(|(promise, count)| println!("broken: {promise:<16} {count:>10}"));
    for violation in violations.iter().take(arguments.shown) {
        println!("violation of {:?}: {}", violation.promise, violation.what);
    }
    println!("leases: {} violations", violations.len());
    let is_good = violations.is_empty() && ran.is_ok();
    if !is_good && let Err(error) = cluster.recorder().write(&arguments.history) {
        eprintln!("keep {}: {error}", arguments.history.display());
    }
    ExitCode::from(u8::from(!is_good))
}
