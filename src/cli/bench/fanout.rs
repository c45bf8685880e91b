//! `bench fanout`: one message to many, and how long until the last has it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::ledger::{STAMP_LEN, Stamp};
use super::receivers::{Finish, Ground, Receivers, Wanted};
use super::report::{Progress, Report};
use super::{PlaceArgs, run_name};
use crate::cli::Globals;
use crate::client::Publish;

/// So that one round doesn't begin in the wake of the one before.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct FanoutArgs {
    /// Attachments that listen.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Messages, one after the other.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Bytes of each message's payload; at least 24.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(STAMP_LEN as i64..=1 << 22))]
    payload: u32,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) async fn run(args: FanoutArgs, globals: &Globals) -> anyhow::Result<()> {
    let ground = Ground::new(globals)?;
    let (publishers, subscribers) =
        (args.place.publishers(globals)?, args.place.subscribers(globals));
    let nodes = ground.nodes(&[publishers, subscribers]).await?;
    let topic = run_name()?;
    let finish = Arc::new(Finish::default());
    let wanted = Wanted { topic: 0, publishers: 1, latency_digits: None };
    let opening = ground.clock.now();
    let progress = Progress::new(globals, "subscribing", args.subscribers.into());
    let receivers = Receivers::open(
        &ground,
        subscribers,
        args.place.connections(args.subscribers),
        vec![wanted; args.subscribers as usize],
        |_| topic.clone(),
        Some(Arc::clone(&finish)),
        &progress,
    )
    .await?;
    drop(progress);
    let opened = ground.clock.now() - opening;
    let (client, _events) = ground.publisher(publishers).await?;
    let mut payload = vec![b'.'; args.payload as usize];
    let mut took = Vec::new();
    let progress = Progress::new(globals, "fanout", args.rounds.into());
    let before = nodes.read().await;
    for seq in 0..args.rounds.into() {
        tokio::time::sleep(PAUSE).await;
        finish.expect(args.subscribers.into());
        Stamp { publisher: 0, seq, time_us: 0 }.write(&mut payload);
        let start = ground.clock.now();
        client.send(Publish::new(&topic, &payload)).await?;
        let last = tokio::time::timeout(globals.timeout, finish.reached()).await;
        let last = last.with_context(|| format!("not all had message {} in time", seq + 1))?;
        took.push((last - start).as_secs_f64() * 1e3);
        progress.step();
    }
    drop(progress);
    let cost = nodes.read().await.since(&before);
    client.close().await;
    let results = receivers.finish(&[(0, args.rounds.into())]).await?;
    took.sort_by(f64::total_cmp);
    let deliveries = u64::from(args.subscribers) * u64::from(args.rounds);
    let mut report = Report::new("fanout");
    report.count("SUBSCRIBERS", "subscribers", args.subscribers.into());
    report.figure("LAST MS MEDIAN", "last_ms_median", Some(median(&took)));
    report.figure("BEST MS", "last_ms_best", took.first().copied());
    report.figure("WORST MS", "last_ms_worst", took.last().copied());
    report.cost(&cost, deliveries);
    report.tally(&results.tally);
    report.note("rounds", args.rounds);
    report.note("payload_bytes", args.payload);
    report.note("across", args.place.across);
    report.note("connections", args.place.connections(args.subscribers));
    report.note("opening_s", opened.as_secs_f64());
    report.show(globals)?;
    results.tally.verdict()
}

/// Of figures in order.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        len if len.is_multiple_of(2) => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        len => sorted[len / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
