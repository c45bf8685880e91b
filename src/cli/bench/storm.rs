//! `bench storm`: many attachments join one room at once; each watches it and checks every event.
//!
//! Each must see each of the others come exactly once: in its snapshot or as a join. A leave, an update, a second join or a stranger
//! makes the bench fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc};

use super::receivers::Ground;
use super::report::Report;
use super::run_name;
use crate::cli::Globals;
use crate::client::Track;
use crate::client::present::{Attendee, Sight};
use crate::supervise::{Clock, Shutdown, Task};
use crate::types::Time;

#[derive(Debug, clap::Args)]
pub(super) struct StormArgs {
    /// Attachments that join, spread over the nodes of --node.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    attachments: u32,
    /// Connections that they share.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Bytes of each one's metadata.
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    meta: u32,
}

pub(super) async fn run(args: StormArgs, globals: &Globals) -> anyhow::Result<()> {
    let ground = Ground::new(globals)?;
    let nodes = ground.nodes(&[&globals.node]).await?;
    let mut channels = Vec::new();
    for address in globals.node.iter().cycle().take(args.connections as usize) {
        channels.push(ground.channel(address).await?);
    }
    let topic = run_name()?;
    let meta = vec![b'.'; args.meta as usize];
    let goal = Arc::new(Goal::new(args.attachments.into(), ground.clock));
    let stop = Shutdown::new();
    let (done_tx, mut done) = mpsc::channel(args.attachments as usize);

    let before = nodes.read().await;
    let start = ground.clock.now();
    for number in 0..args.attachments {
        let channel = channels[number as usize % channels.len()].clone();
        let track = Track::new(topic.clone(), key(number)).id("1").meta(meta.clone());
        let mut eyes = Eyes::new(args.attachments, Arc::clone(&goal));
        let (metadata, client) = (ground.metadata.clone(), ground.options.client.clone());
        let (stop, done) = (stop.clone(), done_tx.clone());
        ground.supervisor.spawn(Task::Client("attendee".to_owned()), async move {
            let broke = stop
                .run_until_cancelled(async {
                    let opened =
                        Attendee::open(channel, &metadata, &client, track, &mut eyes).await;
                    let mut attendee = match opened {
                        Ok(attendee) => attendee,
                        Err(why) => return why,
                    };
                    loop {
                        if let Err(why) = attendee.next(&mut eyes).await {
                            return why;
                        }
                        tokio::task::consume_budget().await;
                    }
                })
                .await;
            // Nobody listens when the bench has failed already.
            let _ = done.send(Done { number, broke, eyes }).await;
        });
    }
    drop(done_tx);
    let reached = tokio::select! {
        reached = tokio::time::timeout(globals.timeout.max(Duration::from_secs(60)), goal.reached()) => reached.ok(),
        // Somebody broke off.
        early = done.recv() => {
            let early = early.context("an attendee ended without a word")?;
            let why = early.broke.unwrap_or_default();
            anyhow::bail!("attendee {} broke off: {why}", early.number);
        }
    };
    let cost = nodes.read().await.since(&before);
    stop.cancel();
    let mut total = Faults::default();
    let (mut events, mut slowest) = (0, 0);
    while let Some(Done { number, broke, eyes }) = done.recv().await {
        if let Some(why) = broke {
            anyhow::bail!("attendee {number} broke off: {why}");
        }
        total.add(&eyes.faults);
        events += eyes.seen_entries;
        slowest = slowest.max(u64::from(eyes.left));
    }
    let mut report = Report::new("storm");
    report.count("ATTACHMENTS", "attachments", args.attachments.into());
    report.count("CONNECTIONS", "connections", args.connections.into());
    let all_s = reached.map(|at| (at - start).as_secs_f64());
    report.figure("ALL SAW ALL S", "all_saw_all_s", all_s);
    report.count("ENTRIES CHECKED", "entries_checked", events);
    report.count("RESETS", "resets", total.resets);
    report.count("FAULTS", "faults", total.sum());
    report.cost(&cost, events);
    report.note("bench_cpu_s", cost.own_cpu_s);
    report.note("missing_at_most", slowest);
    report.note("false_leaves", total.leaves);
    report.note("double_joins", total.doubles);
    report.note("updates", total.updates);
    report.note("strangers", total.strangers);
    report.show(globals)?;
    anyhow::ensure!(total.sum() == 0, "events that should not have been: {total:?}");
    anyhow::ensure!(reached.is_some(), "not all saw all in time: one lacks {slowest}");
    Ok(())
}

struct Done {
    number: u32,
    broke: Option<String>,
    eyes: Eyes,
}

fn key(number: u32) -> String {
    format!("u{number:07}")
}

/// When each has seen all.
struct Goal {
    left: AtomicU64,
    at_us: AtomicU64,
    reached: Notify,
    clock: Clock,
}

impl Goal {
    fn new(attendees: u64, clock: Clock) -> Self {
        let reached = Notify::new();
        Self { left: AtomicU64::new(attendees), at_us: AtomicU64::new(0), reached, clock }
    }

    fn one_more(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.at_us.store(self.clock.now().as_micros(), Ordering::SeqCst);
            self.reached.notify_one();
        }
    }

    async fn reached(&self) -> Time {
        self.reached.notified().await;
        Time::from_micros(self.at_us.load(Ordering::SeqCst))
    }
}

/// What should not have been.
#[derive(Debug, Default, Clone)]
struct Faults {
    leaves: u64,
    doubles: u64,
    updates: u64,
    strangers: u64,
    /// Lawful, and told.
    resets: u64,
}

impl Faults {
    const fn sum(&self) -> u64 {
        self.leaves + self.doubles + self.updates + self.strangers
    }

    fn add(&mut self, other: &Self) {
        self.leaves += other.leaves;
        self.doubles += other.doubles;
        self.updates += other.updates;
        self.strangers += other.strangers;
        self.resets += other.resets;
    }
}

/// One attendee's check: a bit for each whom it has seen.
struct Eyes {
    seen: Vec<u64>,
    left: u32,
    all: u32,
    has_all: bool,
    begun: bool,
    seen_entries: u64,
    faults: Faults,
    goal: Arc<Goal>,
}

impl Eyes {
    fn new(all: u32, goal: Arc<Goal>) -> Self {
        Self {
            seen: vec![0; (all as usize).div_ceil(64)],
            left: all,
            all,
            has_all: false,
            begun: false,
            seen_entries: 0,
            faults: Faults::default(),
            goal,
        }
    }

    fn number(&self, key: &[u8]) -> Option<u32> {
        let digits = key.strip_prefix(b"u")?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (number < self.all).then_some(number)
    }
}

impl Sight for Eyes {
    fn event(&mut self, anew: bool, reset: bool) {
        if !anew {
            return;
        }
        // A second snapshot is lawful only as a reset.
        if std::mem::replace(&mut self.begun, true) {
            self.faults.resets += 1;
            if !reset {
                self.faults.doubles += 1;
            }
            self.seen.fill(0);
            self.left = self.all;
        }
    }

    fn join(&mut self, key: &[u8]) {
        self.seen_entries += 1;
        let Some(number) = self.number(key) else {
            self.faults.strangers += 1;
            return;
        };
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen[word] & bit != 0 || !self.begun {
            self.faults.doubles += 1;
            return;
        }
        self.seen[word] |= bit;
        self.left -= 1;
    }

    fn update(&mut self, _: &[u8]) {
        self.faults.updates += 1;
    }

    fn leave(&mut self, _: &[u8]) {
        self.faults.leaves += 1;
    }

    fn told(&mut self) {
        if self.left == 0 && !std::mem::replace(&mut self.has_all, true) {
            self.goal.one_more();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eyes(all: u32) -> Eyes {
        Eyes::new(all, Arc::new(Goal::new(1, Clock::new())))
    }

    #[test]
    fn each_fault_is_found() {
        type Tell = fn(&mut Eyes);
        let check = |tell: Tell, faults: u64, left: u32| {
            let mut eyes = eyes(3);
            eyes.event(true, false);
            eyes.join(b"u0000000");
            tell(&mut eyes);
            assert_eq!((eyes.faults.sum(), eyes.left), (faults, left));
        };
        check(|eyes| eyes.join(b"u0000001"), 0, 1);
        check(|eyes| eyes.join(b"u0000000"), 1, 2);
        check(|eyes| eyes.leave(b"u0000000"), 1, 2);
        check(|eyes| eyes.update(b"u0000000"), 1, 2);
        check(|eyes| eyes.join(b"u0000003"), 1, 2);
        check(|eyes| eyes.join(b"bob"), 1, 2);
        check(|eyes| eyes.event(true, false), 1, 3);
        check(
            |eyes| {
                eyes.event(true, true);
                eyes.join(b"u0000000");
            },
            0,
            2,
        );
        let mut early = eyes(3);
        early.join(b"u0000000");
        assert_eq!(early.faults.sum(), 1, "a join before the snapshot");
    }
}
