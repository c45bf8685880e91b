//! `waxwing dev`: a whole cluster on this machine, one process a node, with a proxy on each ordered pair, and keys that break it.
//!
//! Nothing starts unless every port is free. Children never outlive this process: each ends when its standard input closes, and this
//! process holds the other ends.

mod cluster;
mod keys;
mod logs;
mod plan;
mod probe;
mod process;
mod table;

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::output;
use crate::supervise::{Clock, Shutdown, Supervisor};
use cluster::Cluster;
use keys::Key;
use logs::Logs;
use plan::{NODES_MAX, Plan};

/// How long all nodes may take to become ready after the start.
const READY_TIME_MAX: Duration = Duration::from_secs(20);
/// How often nodes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A line of keys; more of it is another line.
const KEY_LINE_MAX: u64 = 256;

/// Starts a cluster on this machine, each node a process of its own, to try things and to break them.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX as i64))]
    nodes: u16,
    /// Node i listens on this + 10*i for gRPC, + 1 for other nodes, + 2 for HTTP, + 3 for Redis clients
    #[arg(long, value_name = "PORT", default_value_t = 7400, value_parser = clap::value_parser!(u16).range(1..))]
    base_port: u16,
}

/// What the person at the keys does.
enum Input {
    Line(String),
    /// No more lines.
    End,
}

/// `Err`: the cluster didn't come up, or a node failed.
pub(super) async fn run(args: &DevArgs) -> anyhow::Result<()> {
    let plan = Plan::new(usize::from(args.nodes), args.base_port)?;
    plan.check_ports_free()?;
    let logs = Logs::create().context("make a directory for the logs")?;
    let supervisor = Supervisor::new(Shutdown::new());
    let mut cluster = Cluster::start(plan, logs, &supervisor, Clock::new())?;
    let outcome = serve(&mut cluster).await;
    supervisor.shutdown().cancel();
    let failed = cluster.end().await;
    let keep = outcome.is_err() || failed;
    if keep {
        talk(format_args!("logs are kept in {}", cluster.logs().path().display()));
    } else {
        cluster.logs().remove();
    }
    outcome?;
    anyhow::ensure!(!failed, "a node failed");
    Ok(())
}

/// Until somebody ends it. `Err`: the cluster didn't come up.
async fn serve(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut input = read_keys();
    let mut input_open = true;
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let too_late = tokio::time::sleep(READY_TIME_MAX);
    tokio::pin!(too_late);
    let mut up = false;
    talk(format_args!(
        "starting {} nodes; logs in {}",
        cluster.size(),
        cluster.logs().path().display()
    ));
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            () = &mut too_late, if !up => return Err(cluster.not_up_in_time(READY_TIME_MAX)),
            _ = look.tick() => {
                for news in cluster.look().await {
                    talk(format_args!("{news}"));
                }
                if !up {
                    if let Some(error) = cluster.failed_to_start() {
                        return Err(error);
                    }
                    if cluster.all_ready() {
                        up = true;
                        show(cluster)?;
                        talk(format_args!("{}", keys::HELP));
                    }
                }
            }
            line = input.recv(), if input_open => match line {
                Some(Input::Line(line)) => match keys::parse(&line, cluster.size()) {
                    Ok(Key::Quit) => return Ok(()),
                    Ok(Key::Show) => show(cluster)?,
                    Ok(Key::Help) => talk(format_args!("{}", keys::HELP)),
                    Ok(Key::Act(act)) => {
                        for news in cluster.act(act).await {
                            talk(format_args!("{news}"));
                        }
                    }
                    Err(wrong) => talk(format_args!("{wrong}")),
                },
                // At a terminal, its end is somebody's Ctrl-D. Without one (a script, a service), signals end it.
                Some(Input::End) if io::stdin().is_terminal() => return Ok(()),
                Some(Input::End) | None => input_open = false,
            },
        }
    }
}

fn show(cluster: &Cluster) -> io::Result<()> {
    output::line(&table::render(&cluster.rows(), &program()))
}

/// As it was called, so that lines with it can be pasted.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "waxwing".to_owned())
}

/// Talk is for people: nobody is there to be told that they can't be told.
fn talk(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{what}");
}

/// A thread of its own, which dies with the process: a blocked read must not keep the runtime from ending.
fn read_keys() -> mpsc::Receiver<Input> {
    let (tell, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = stdin.by_ref().take(KEY_LINE_MAX).read_until(b'\n', &mut line);
            let input = match read {
                Ok(0) | Err(_) => Input::End,
                Ok(_) => Input::Line(String::from_utf8_lossy(&line).trim().to_owned()),
            };
            let end = matches!(input, Input::End);
            if tell.blocking_send(input).is_err() || end {
                return;
            }
        }
    });
    keys
}
