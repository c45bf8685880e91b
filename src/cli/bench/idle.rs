//! `bench idle`: what sessions cost that only listen.

use std::time::Duration;

use super::receivers::{Ground, Receivers, Wanted};
use super::report::{Progress, Report};
use super::{PlaceArgs, duration, run_name};
use crate::cli::Globals;

#[derive(Debug, clap::Args)]
pub(super) struct IdleArgs {
    /// Attachments that only listen.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// How long they stay.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    duration: Duration,
    /// All on one topic, instead of each on its own.
    #[arg(long)]
    one_topic: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) async fn run(args: IdleArgs, globals: &Globals) -> anyhow::Result<()> {
    let ground = Ground::new(globals)?;
    args.place.publishers(globals)?;
    let addresses = args.place.subscribers(globals);
    let nodes = ground.nodes(&[addresses]).await?;
    let name = run_name()?;
    let topics = if args.one_topic { 1 } else { args.sessions as usize };
    let wanted = (0..args.sessions as usize)
        .map(|i| Wanted { topic: i % topics, publishers: 0, latency_digits: None })
        .collect();
    let before = nodes.read().await;
    let progress = Progress::new(globals, "opening", args.sessions.into());
    let receivers = Receivers::open(
        &ground,
        addresses,
        args.place.connections(args.sessions),
        wanted,
        |topic| format!("{name}:{topic}"),
        None,
        &progress,
    )
    .await?;
    drop(progress);
    let opened = nodes.read().await;
    Progress::wait(globals, "idle", args.duration).await;
    let after = nodes.read().await;
    let results = receivers.finish(&[]).await?;
    let (opening, idle) = (opened.since(&before), after.since(&opened));
    let sessions = f64::from(args.sessions);
    let rss = after.nodes_rss.zip(before.nodes_rss).map(|(after, before)| after - before);
    let mut report = Report::new("idle");
    report.count("SESSIONS", "sessions", args.sessions.into());
    report.figure(
        "NODE RSS BYTES/SESSION",
        "node_rss_bytes_per_session",
        rss.map(|rss| rss / sessions),
    );
    report.figure(
        "NODE RSS MIB",
        "node_rss_mib",
        after.nodes_rss.map(|rss| rss / f64::from(1 << 20)),
    );
    report.figure("OPENED/S", "opened_per_s", Some(sessions / opening.wall.as_secs_f64()));
    report.figure(
        "NODE CPU US/OPEN",
        "node_cpu_us_per_open",
        opening.nodes_us_each(args.sessions.into()),
    );
    report.figure("IDLE NODE CORES", "idle_node_cores", idle.nodes_cores());
    report.note("connections", args.place.connections(args.sessions));
    report.note("seconds", idle.wall.as_secs_f64());
    report.show(globals)?;
    results.tally.verdict()
}
