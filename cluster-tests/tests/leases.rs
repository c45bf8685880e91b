//! Leases under faults: nobody has one while somebody else counts on it.

use std::path::Path;
use std::time::Duration;

use cluster_tests::cluster::Cluster;
use cluster_tests::leases::{self, Faults, Plan};
use cluster_tests::process::{self, Process};
use cluster_tests::{binary, check, gate};
use nix::sys::signal::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_on_few_leases_while_nodes_are_killed_and_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(3, leases::options(3, Some(dir.path()))).await;
    let plan = Plan { operations: 500, clients: 24, names: 6, seed: 1 };
    let faults = Faults { pause_ms: 300..900, rolling_restarts: false };
    leases::run(&cluster, &plan, faults).await.unwrap();
    check::expect_promises_kept(cluster.recorder(), &cluster.dir());
}

/// `waxwing --node .. lease run NAME FLAGS -- sh -c SCRIPT`, which writes what it says to `log`.
fn lease_run(cluster: &Cluster, log: &Path, flags: &[&str], script: &str) -> Process {
    let mut command = std::process::Command::new(binary::path());
    process::without_our_environment(&mut command);
    let nodes: Vec<String> =
        cluster.nodes().iter().map(|node| node.ports.grpc.to_string()).collect();
    command.args(["--node", &nodes.join(","), "lease", "run", "one"]);
    command.args(flags).args(["--", "sh", "-c", script]);
    Process::run(command, log).expect("run waxwing")
}

/// Every 20 ms a line with its token.
fn ticking(file: &Path) -> String {
    format!(
        "while :; do echo \"$WAXWING_LEASE_TOKEN $WAXWING_LEASE_NAME $WAXWING_LEASE_NAMESPACE\" >> {}; sleep 0.02; done",
        file.display()
    )
}

fn tokens(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be half there.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            let (token, rest) = line.split_once(' ').unwrap();
            assert_eq!(rest, "one default");
            token.parse().unwrap()
        })
        .collect()
}

async fn exit_code(cluster: &Cluster, process: &mut Process, within: Duration) -> Option<i32> {
    let ended = async || process.exited().ok_or_else(|| "it runs".to_owned());
    cluster.eventually("it ends", within, ended).await.0.code()
}

const TTL: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_of_several_runs() {
    let _measuring = gate::measuring().await;
    let cluster = Cluster::start(3, leases::options(3, None)).await;
    let dir = cluster.dir();
    let (log, file) = (dir.join("run.log"), dir.join("ticks"));
    let flags = ["--ttl", "2s"];
    let mut first = lease_run(&cluster, &log, &flags, &ticking(&file));
    let ticks = async || tokens(&file).last().copied().ok_or_else(|| "nobody runs".to_owned());
    let (token, _) = cluster.eventually("one runs", SOON, ticks).await;
    let mut second = lease_run(&cluster, &log, &flags, &ticking(&file));

    let mut busy = lease_run(&cluster, &log, &["--no-wait"], "exit 0");
    assert_eq!(exit_code(&cluster, &mut busy, SOON).await, Some(1));
    let mut busy = lease_run(&cluster, &log, &["--wait", "100ms", "-E", "9"], "exit 0");
    assert_eq!(exit_code(&cluster, &mut busy, SOON).await, Some(9));
    assert!(tokens(&file).iter().all(|one| *one == token));

    // Its client is killed: with it the command, at once, and the other one runs when its time is over.
    first.kill9();
    let next = async || {
        let last = tokens(&file).last().copied().unwrap_or_default();
        if last > token { Ok(last) } else { Err("nobody else runs".to_owned()) }
    };
    let (token, took) = cluster.eventually("another one runs", SOON, next).await;
    assert!(took < TTL + Duration::from_secs(2), "{took:?}");

    // A signal is passed on, and what the command makes of it.
    second.signal(Signal::SIGTERM);
    assert_eq!(exit_code(&cluster, &mut second, SOON).await, Some(128 + 15));
    let mut third = lease_run(&cluster, &log, &["--no-wait"], "exit 7");
    assert_eq!(exit_code(&cluster, &mut third, SOON).await, Some(7));
    let mut missing = lease_run(&cluster, &log, &[], "exec /no/such/program");
    assert_eq!(exit_code(&cluster, &mut missing, SOON).await, Some(127));

    // Without nodes it is lost, and the command is ended before its time is over.
    let script = format!("trap '' TERM; {}", ticking(&file));
    let mut fourth = lease_run(&cluster, &log, &flags, &script);
    let next = async || {
        let last = tokens(&file).last().copied().unwrap_or_default();
        if last > token { Ok(last) } else { Err("nobody else runs".to_owned()) }
    };
    cluster.eventually("the last one runs", SOON, next).await;
    (0..3).for_each(|node| cluster.sigstop(node));
    let stopped = cluster.clock().now();
    let code = exit_code(&cluster, &mut fourth, SOON).await;
    let took = cluster.clock().now().since(stopped);
    let count = tokens(&file).len();
    (0..3).for_each(|node| cluster.sigcont(node));
    assert_eq!(code, Some(75));
    // To give it back is tried for a second.
    assert!(took < TTL + Duration::from_secs(2), "{took:?}");
    assert_eq!(tokens(&file).len(), count, "it runs still");
    // No line of an older holder stands behind one of a newer.
    assert!(tokens(&file).is_sorted());
}
