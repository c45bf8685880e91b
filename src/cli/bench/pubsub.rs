//! `bench pubsub`: how many messages a second.
//!
//! Without `--rate` the publishers stay a window ahead of the slowest receiver, so that what is measured is the nodes' speed and not the
//! depth of their queues. With it they publish at that rate whatever happens, as the world does; `--max` looks for the highest rate that
//! brings no gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::ledger::{STAMP_LEN, Stamp};
use super::receivers::{Counters, Ground, Receivers, Results, Wanted};
use super::report::{Progress, Report};
use super::usage::{Cost, Nodes};
use super::{PlaceArgs, duration, run_name};
use crate::cli::Globals;
use crate::client::{Client, Event, Events, Publish};
use crate::supervise::{Clock, Shutdown, Task};
use crate::types::Time;

/// How long a publisher lets itself be held up by a receiver that makes no progress.
const STUCK: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, clap::Args)]
pub(super) struct PubsubArgs {
    /// Each on a session of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    publishers: u32,
    /// Attachments, each on one of the topics.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Publishers and subscribers are dealt to them in turn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Bytes of each message's payload; at least 24.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(STAMP_LEN as i64..=1 << 22))]
    payload: u32,
    /// Messages that a publisher hands over at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Messages that may be on their way to the slowest subscriber. [default: 16384, or 2 MiB of them]
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "max"], value_parser = clap::value_parser!(u32).range(1..))]
    window: Option<u32>,
    /// Publish so many messages a second, all publishers together, whatever the subscribers do.
    #[arg(long, value_name = "N", conflicts_with = "max", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Find the highest rate without a gap.
    #[arg(long)]
    max: bool,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Before the measuring begins.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = crate::cli::globals::duration)]
    warmup: Duration,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) async fn run(args: PubsubArgs, globals: &Globals) -> anyhow::Result<()> {
    let ground = Ground::new(globals)?;
    let nodes =
        ground.nodes(&[args.place.publishers(globals)?, args.place.subscribers(globals)]).await?;
    let (outcome, rate) = if args.max {
        search(&ground, &nodes, &args).await?
    } else {
        let pace = args.rate.map_or(Pace::Window(args.window()), Pace::Rate);
        (measure(&ground, &nodes, &args, pace, args.duration, "pubsub").await?, args.rate)
    };
    let Outcome { cost, published, delivered, results } = outcome;
    let seconds = cost.wall.as_secs_f64();
    let mut report = Report::new("pubsub");
    report.figure("PUBLISHES/S", "publishes_per_s", Some(published as f64 / seconds));
    report.figure("DELIVERIES/S", "deliveries_per_s", Some(delivered as f64 / seconds));
    report.cost(&cost, delivered);
    report.tally(&results.tally);
    report.note("publishers", args.publishers);
    report.note("subscribers", args.subscribers);
    report.note("topics", args.topics);
    report.note("payload_bytes", args.payload);
    report.note("across", args.place.across);
    report.note("connections", args.place.connections(args.subscribers));
    report.note("rate", rate);
    report.note("seconds", seconds);
    report.show(globals)?;
    results.tally.verdict()
}

impl PubsubArgs {
    fn window(&self) -> u64 {
        let fits = (2 << 20) / (u64::from(self.payload) + 80);
        self.window.map_or(fits.clamp(16, 16_384), u64::from)
    }
}

#[derive(Debug, Clone, Copy)]
enum Pace {
    /// So many messages ahead of the slowest receiver.
    Window(u64),
    /// So many a second, by all publishers.
    Rate(u64),
}

struct Outcome {
    cost: Cost,
    published: u64,
    delivered: u64,
    results: Results,
}

/// Doubles upwards from what a window reaches, then halves the span between the best and the first that failed.
async fn search(
    ground: &Ground,
    nodes: &Nodes,
    args: &PubsubArgs,
) -> anyhow::Result<(Outcome, Option<u64>)> {
    const SPANS: usize = 5;
    let short = args.duration.min(Duration::from_secs(2));
    let window = Pace::Window(args.window());
    let first = measure(ground, nodes, args, window, short, "first guess").await?;
    first.results.tally.verdict()?;
    let mut low = 0;
    let mut try_rate = (first.published as f64 / first.cost.wall.as_secs_f64()) as u64;
    let mut high = None;
    for _ in 0..SPANS + 3 {
        let what = format!("{try_rate}/s");
        let rate = Pace::Rate(try_rate.max(1));
        let outcome = measure(ground, nodes, args, rate, short, &what).await?;
        outcome.results.tally.verdict()?;
        // A publisher that falls behind has reached the limit as well.
        let reached = outcome.published as f64 / outcome.cost.wall.as_secs_f64();
        if outcome.results.tally.gaps == 0 && reached > 0.97 * try_rate as f64 {
            low = try_rate;
        } else {
            high = Some(try_rate);
        }
        try_rate = match high {
            None => low + low / 2,
            Some(high) => low + (high - low) / 2,
        };
        if high.is_some_and(|high| high - low <= high / 20) {
            break;
        }
    }
    anyhow::ensure!(low > 0, "no rate without gaps was found");
    // For the whole time, it may have to be a little less.
    loop {
        let what = format!("{low}/s, for good");
        let outcome = measure(ground, nodes, args, Pace::Rate(low), args.duration, &what).await?;
        if outcome.results.tally.gaps == 0 || low < 100 {
            return Ok((outcome, Some(low)));
        }
        low -= low / 10;
    }
}

/// What the publishers of one topic know of its receivers.
#[derive(Debug, Default)]
struct Lane {
    sent: AtomicU64,
    receivers: Vec<Arc<Counters>>,
}

impl Lane {
    fn slowest(&self) -> u64 {
        let position = |receiver: &Arc<Counters>| receiver.position.load(Ordering::Relaxed);
        self.receivers.iter().map(position).min().unwrap_or(u64::MAX)
    }
}

async fn measure(
    ground: &Ground,
    nodes: &Nodes,
    args: &PubsubArgs,
    pace: Pace,
    time: Duration,
    what: &str,
) -> anyhow::Result<Outcome> {
    let globals = &ground.globals;
    let name = run_name()?;
    let (publishers, topics) = (args.publishers as usize, args.topics as usize);
    let wanted = (0..args.subscribers as usize)
        .map(|i| Wanted { topic: i % topics, publishers, latency_digits: None })
        .collect();
    let progress = Progress::new(globals, "subscribing", args.subscribers.into());
    let receivers = Receivers::open(
        ground,
        args.place.subscribers(globals),
        args.place.connections(args.subscribers),
        wanted,
        |topic| format!("{name}:{topic}"),
        None,
        &progress,
    )
    .await?;
    drop(progress);
    let mut lanes: Vec<Lane> = (0..topics).map(|_| Lane::default()).collect();
    for (i, counters) in receivers.counters.iter().enumerate() {
        lanes[i % topics].receivers.push(Arc::clone(counters));
    }
    let lanes: Vec<Arc<Lane>> = lanes.into_iter().map(Arc::new).collect();

    let stop = Shutdown::new();
    let (done, mut ended) = mpsc::channel(publishers);
    for number in 0..publishers {
        let (client, events) = ground.publisher(args.place.publishers(globals)?).await?;
        let publisher = Publisher {
            number: number as u32,
            topic: format!("{name}:{}", number % topics),
            payload: vec![b'.'; args.payload as usize],
            batch: args.batch.into(),
            pace: match pace {
                Pace::Rate(rate) => Pace::Rate((rate / publishers as u64).max(1)),
                window @ Pace::Window(_) => window,
            },
            lane: Arc::clone(&lanes[number % topics]),
            clock: ground.clock,
            client,
            events,
            seq: 0,
        };
        let (stop, done) = (stop.clone(), done.clone());
        ground.supervisor.spawn(Task::Client("publisher".to_owned()), async move {
            let _ = done.send(publisher.run(stop).await).await;
        });
    }
    drop(done);

    tokio::time::sleep(args.warmup).await;
    let published = || lanes.iter().map(|lane| lane.sent.load(Ordering::Relaxed)).sum::<u64>();
    let delivered = || receivers.sum(|counters| &counters.received);
    let (before, published_before, delivered_before) =
        (nodes.read().await, published(), delivered());
    Progress::wait(globals, what, time).await;
    let (published, delivered) = (published() - published_before, delivered() - delivered_before);
    let cost = nodes.read().await.since(&before);
    stop.cancel();
    let mut sent = vec![(0, 0); publishers];
    while let Some(done) = ended.recv().await {
        let (number, count) = done?;
        sent[number as usize] = (number as usize % topics, count);
    }
    let results = receivers.finish(&sent).await?;
    Ok(Outcome { cost, published, delivered, results })
}

struct Publisher {
    number: u32,
    topic: String,
    payload: Vec<u8>,
    batch: u64,
    pace: Pace,
    lane: Arc<Lane>,
    clock: Clock,
    client: Client,
    events: Events,
    seq: u64,
}

impl Publisher {
    /// Its number, and how many messages it has sent.
    async fn run(mut self, stop: Shutdown) -> anyhow::Result<(u32, u64)> {
        let start = self.clock.now();
        let (mut slowest, mut moved) = (0, start);
        while !stop.is_cancelled() {
            let now = self.clock.now();
            let allowed = match self.pace {
                Pace::Rate(rate) => due(rate, now - start).saturating_sub(self.seq),
                Pace::Window(window) => {
                    let position = self.lane.slowest();
                    if position != slowest {
                        (slowest, moved) = (position, now);
                    }
                    let ahead = self.lane.sent.load(Ordering::Relaxed).saturating_sub(position);
                    if now - moved > STUCK { self.batch } else { window.saturating_sub(ahead) }
                }
            };
            if allowed == 0 {
                tokio::time::sleep(TICK).await;
                continue;
            }
            self.publish(allowed.min(self.batch)).await?;
            if let Some(trouble) = self.trouble() {
                anyhow::bail!("publisher {}: {trouble}", self.number);
            }
            tokio::task::yield_now().await;
        }
        anyhow::ensure!(self.client.close().await, "publisher {} broke off", self.number);
        if let Some(trouble) = self.trouble() {
            anyhow::bail!("publisher {}: {trouble}", self.number);
        }
        Ok((self.number, self.seq))
    }

    async fn publish(&mut self, count: u64) -> anyhow::Result<()> {
        self.lane.sent.fetch_add(count, Ordering::Relaxed);
        for _ in 0..count {
            Stamp { publisher: self.number, seq: self.seq, time_us: 0 }.write(&mut self.payload);
            let publish = Publish::new(&self.topic, &self.payload);
            if self.client.try_send(&publish)?.is_none() {
                self.client.send(publish).await?;
            }
            self.seq += 1;
        }
        Ok(())
    }

    fn trouble(&mut self) -> Option<String> {
        match self.events.try_next()? {
            Event::Disconnected { reason } => Some(reason),
            Event::Refused { error, .. } => Some(error.to_string()),
            _ => None,
        }
    }
}

/// How many of `rate` a second are due after so long.
fn due(rate: u64, elapsed: Duration) -> u64 {
    let due = u128::from(rate) * elapsed.as_micros() / 1_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// When message number `seq` of `rate` a second is due.
pub(super) fn due_at(start: Time, rate: u64, seq: u64) -> Time {
    let us = u128::from(seq) * 1_000_000 / u128::from(rate.max(1));
    start + Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
}
