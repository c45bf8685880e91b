//! `bench latency`: how long a message takes at a fixed rate.
//!
//! A message's time begins when it was due, not when it was sent: a stall delays what follows it, and all of that counts.

use std::time::Duration;

use super::ledger::{STAMP_LEN, Stamp};
use super::pubsub::due_at;
use super::receivers::{Ground, Receivers, Wanted};
use super::report::{Progress, Report};
use super::{PlaceArgs, duration, run_name};
use crate::cli::Globals;
use crate::client::{Client, Publish};
use crate::supervise::{Clock, Shutdown};
use crate::types::Time;

#[derive(Debug, clap::Args)]
pub(super) struct LatencyArgs {
    /// Messages a second.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Attachments that listen.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Bytes of each message's payload; at least 24.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(STAMP_LEN as i64..=1 << 22))]
    payload: u32,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Before the measuring begins.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = crate::cli::globals::duration)]
    warmup: Duration,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) async fn run(args: LatencyArgs, globals: &Globals) -> anyhow::Result<()> {
    let ground = Ground::new(globals)?;
    let (publishers, subscribers) =
        (args.place.publishers(globals)?, args.place.subscribers(globals));
    let nodes = ground.nodes(&[publishers, subscribers]).await?;
    let topic = run_name()?;
    let digits = if args.subscribers <= 100 { 3 } else { 2 };
    let wanted = Wanted { topic: 0, publishers: 1, latency_digits: Some(digits) };
    let progress = Progress::new(globals, "subscribing", args.subscribers.into());
    let receivers = Receivers::open(
        &ground,
        subscribers,
        args.place.connections(args.subscribers),
        vec![wanted; args.subscribers as usize],
        |_| topic.clone(),
        None,
        &progress,
    )
    .await?;
    drop(progress);
    let (client, _events) = ground.publisher(publishers).await?;
    let stop = Shutdown::new();
    let pacer = Pacer {
        client: client.clone(),
        topic,
        payload: vec![b'.'; args.payload as usize],
        rate: args.rate,
        clock: ground.clock,
        measured_from: ground.clock.now() + args.warmup,
        stop: stop.clone(),
    };
    // A thread of its own: a runtime's timers have a grain of a millisecond, ten times what is measured here.
    let paced = tokio::task::spawn_blocking(|| pacer.run());
    tokio::time::sleep(args.warmup).await;
    let before = nodes.read().await;
    let delivered = receivers.sum(|counters| &counters.received);
    Progress::wait(globals, "latency", args.duration).await;
    let delivered = receivers.sum(|counters| &counters.received) - delivered;
    let cost = nodes.read().await.since(&before);
    stop.cancel();
    let sent = paced.await??;
    anyhow::ensure!(client.close().await, "the publisher broke off");
    let results = receivers.finish(&[(0, sent)]).await?;
    let Some(latency) = results.latency else { anyhow::bail!("nothing was measured") };
    let us = |quantile: f64| Some(latency.value_at_quantile(quantile) as f64);
    let mut report = Report::new("latency");
    report.figure("P50 US", "p50_us", us(0.5));
    report.figure("P99 US", "p99_us", us(0.99));
    report.figure("P99.9 US", "p999_us", us(0.999));
    report.figure("MAX US", "max_us", Some(latency.max() as f64));
    report.cost(&cost, delivered);
    report.tally(&results.tally);
    report.note("measured", latency.len());
    report.note("rate", args.rate);
    report.note("sent", sent);
    report.note("subscribers", args.subscribers);
    report.note("payload_bytes", args.payload);
    report.note("across", args.place.across);
    report.show(globals)?;
    results.tally.verdict()
}

struct Pacer {
    client: Client,
    topic: String,
    payload: Vec<u8>,
    rate: u64,
    clock: Clock,
    /// What is due earlier carries no time.
    measured_from: Time,
    stop: Shutdown,
}

impl Pacer {
    /// How many it has sent.
    fn run(mut self) -> anyhow::Result<u64> {
        // Else the kernel adds 50 us to every sleep of this thread.
        let _ = nix::sys::prctl::set_timerslack(1);
        let start = self.clock.now();
        let mut seq = 0;
        while !self.stop.is_cancelled() {
            let due = due_at(start, self.rate, seq);
            let now = self.clock.now();
            if now < due {
                pause((due - now).min(Duration::from_millis(100)));
                continue;
            }
            let time_us = if due < self.measured_from { 0 } else { due.as_micros() };
            Stamp { publisher: 0, seq, time_us }.write(&mut self.payload);
            match self.client.try_send(&Publish::new(&self.topic, &self.payload))? {
                Some(_) => seq += 1,
                // It stays due; its time goes on.
                None => pause(Duration::from_micros(50)),
            }
        }
        Ok(seq)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a load generator's pace is a duration, on a thread of its own"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
