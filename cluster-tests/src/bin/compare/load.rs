//! The loads: each drives one system at one place, checks every message, and gives figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use cluster_tests::process::Process;
use waxwing::supervise::Clock;
use waxwing::types::Time;

use crate::connections::{Publisher, Subscribers, Writer};
use crate::protocol::{Channel, Place};
use crate::systems::pause;
use crate::usage::{Cost, Reading, resident_bytes};

/// Bytes of publishes that are written at once.
const CHUNK_LEN: usize = 64 * 1024;
const WARM_UP: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
/// So that what was opened has settled, and one message to many doesn't begin in the wake of the one before.
const SETTLING: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(50);
const TURN: Duration = Duration::from_millis(20);

pub(crate) type Figures = BTreeMap<&'static str, f64>;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// As fast as the slowest subscriber takes.
    Throughput {
        subscribers: usize,
    },
    Latency {
        subscribers: usize,
        rate: u64,
    },
    Fanout {
        subscribers: usize,
    },
    Idle {
        connections: usize,
    },
}

#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) clock: Clock,
    pub(crate) servers: &'a [Process],
    pub(crate) place: Place,
    pub(crate) duration: Duration,
    /// Messages that may be under way to all subscribers together. None: a bound that suits all systems.
    pub(crate) window: Option<u64>,
}

impl Run<'_> {
    pub(crate) fn drive(&self, load: Load) -> anyhow::Result<Figures> {
        match load {
            Load::Throughput { subscribers } => self.throughput(subscribers),
            Load::Latency { subscribers, rate } => self.latency(subscribers, rate),
            Load::Fanout { subscribers } => self.fanout(subscribers),
            Load::Idle { connections } => self.idle(connections),
        }
    }

    fn read(&self) -> Reading {
        Reading::take(&self.clock, self.servers)
    }

    /// Subscribers of one channel, each of which has had a message of the publisher.
    fn open(&self, count: usize) -> anyhow::Result<(Arc<Channel>, Subscribers, Publisher)> {
        let channel = Arc::new(Channel::new(self.place.dialect, "compare"));
        let subscribers =
            Subscribers::open(self.place.subscribers, count, |_| Arc::clone(&channel))?;
        let publisher = Publisher::open(&self.place, &subscribers)?;
        Ok((channel, subscribers, publisher))
    }

    /// Until each has had one. How many there were.
    fn probe(
        &self,
        channel: &Channel,
        subscribers: &mut Subscribers,
        publisher: &mut Publisher,
    ) -> anyhow::Result<u64> {
        let start = self.clock.now();
        let mut probes = 0;
        while !subscribers.have_probes() {
            ensure!(self.clock.now() - start < PATIENCE, "no message arrived in {PATIENCE:?}");
            if publisher.is_idle() {
                channel.probe(publisher.frames());
                probes += 1;
            }
            publisher.write()?;
            let next = self.clock.now() + PAUSE;
            while self.clock.now() < next && !subscribers.have_probes() {
                subscribers.turn(channel, publisher, TURN, |_| ())?;
            }
        }
        Ok(probes)
    }

    fn throughput(&self, count: usize) -> anyhow::Result<Figures> {
        let (channel, mut subscribers, mut publisher) = self.open(count)?;
        let mut sent = 0;
        let probes = self.probe(&channel, &mut subscribers, &mut publisher)?;
        let window = self.window.unwrap_or((65_536 / count as u64).clamp(128, 16_384));
        let chunk = (CHUNK_LEN / channel.publish_len()) as u64;
        let worth_while = chunk.min(window / 4);
        let start = self.clock.now();
        let (from, to) = (start + WARM_UP, start + WARM_UP + self.duration);
        let mut begin: Option<(Reading, u64)> = None;
        let mut end: Option<(Reading, u64, f64)> = None;
        let mut ended_at = Time::ZERO;
        loop {
            let now = self.clock.now();
            if begin.is_none() && now >= from {
                begin = Some((self.read(), subscribers.delivered()));
            }
            if end.is_none() && now >= to {
                let rss = resident_bytes(self.servers);
                end = Some((self.read(), subscribers.delivered(), rss));
                ended_at = now;
            }
            if publisher.is_idle() {
                let least = subscribers.least();
                if end.is_some() {
                    let all = subscribers.delivered() == sent * count as u64;
                    if all && publisher.replied_to(sent + probes) {
                        break;
                    }
                    if now - ended_at > PATIENCE {
                        bail!("the slowest subscriber has {least} of {sent} messages");
                    }
                } else if sent + worth_while <= least + window {
                    let more = (least + window - sent).min(chunk);
                    let out = publisher.frames();
                    for seq in sent..sent + more {
                        channel.publish(seq, 0, out);
                    }
                    sent += more;
                }
            }
            publisher.write()?;
            subscribers.turn(&channel, &mut publisher, TURN, |_| ())?;
        }
        let (Some((begin, before)), Some((end, after, rss))) = (begin, end) else {
            bail!("nothing was measured")
        };
        let cost = end.since(&begin);
        let delivered = (after - before) as f64;
        let mut figures = figures_of(&cost, delivered);
        figures.insert("deliveries_per_s", delivered / cost.wall_s);
        figures.insert("publishes_per_s", delivered / cost.wall_s / count as f64);
        figures.insert("rss_mib", rss / f64::from(1 << 20));
        Ok(figures)
    }

    fn latency(&self, count: usize, rate: u64) -> anyhow::Result<Figures> {
        let (channel, mut subscribers, mut publisher) = self.open(count)?;
        self.probe(&channel, &mut subscribers, &mut publisher)?;
        let start = self.clock.now() + Duration::from_millis(20);
        let from = start + WARM_UP;
        let messages = rate * (WARM_UP + self.duration).as_millis() as u64 / 1000;
        let stop = Arc::new(AtomicBool::new(false));
        let pacer = Pacer {
            clock: self.clock,
            channel: Arc::clone(&channel),
            writer: publisher.writer()?,
            start,
            rate,
            messages,
            stop: Arc::clone(&stop),
        };
        let paced = std::thread::spawn(move || pacer.run());
        let clock = self.clock;
        let mut times_us: Vec<u64> = Vec::with_capacity((messages * count as u64) as usize);
        let mut begin: Option<(Reading, u64)> = None;
        let patience = start + WARM_UP + self.duration + PATIENCE;
        let mut run = || {
            while subscribers.least() < messages {
                let now = clock.now();
                if begin.is_none() && now >= from {
                    begin = Some((self.read(), subscribers.delivered()));
                }
                if now > patience {
                    bail!("the slowest has {} of {messages} messages", subscribers.least());
                }
                subscribers.turn(&channel, &mut publisher, TURN, |due_us| {
                    if due_us >= from.as_micros() {
                        times_us.push(clock.now().as_micros().saturating_sub(due_us));
                    }
                })?;
            }
            Ok(subscribers.delivered())
        };
        let result = run();
        stop.store(true, Ordering::Relaxed);
        let paced = paced.join();
        let delivered = result?;
        match paced {
            Ok(written) => written.context("write to the publisher's connection")?,
            Err(_) => bail!("the pacer panicked"),
        }
        let Some((begin, before)) = begin else { bail!("nothing was measured") };
        let cost = self.read().since(&begin);
        let mut figures = figures_of(&cost, (delivered - before) as f64);
        times_us.sort_unstable();
        ensure!(!times_us.is_empty(), "nothing was measured");
        let last = times_us.len() - 1;
        for (name, quantile) in
            [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)]
        {
            figures.insert(name, times_us[(last as f64 * quantile).round() as usize] as f64);
        }
        Ok(figures)
    }

    fn fanout(&self, count: usize) -> anyhow::Result<Figures> {
        const MESSAGES: u64 = 20;
        let rss = resident_bytes(self.servers);
        let opening = self.read();
        let (channel, mut subscribers, mut publisher) = self.open(count)?;
        let opening = self.read().since(&opening);
        pause(SETTLING);
        let rss = resident_bytes(self.servers) - rss;
        self.probe(&channel, &mut subscribers, &mut publisher)?;
        let mut last_ms = Vec::new();
        let begin = self.read();
        for seq in 0..MESSAGES {
            pause(PAUSE);
            let start = self.clock.now();
            channel.publish(seq, 0, publisher.frames());
            publisher.write()?;
            let all = (seq + 1) * subscribers.len() as u64;
            let mut delivered = subscribers.delivered();
            while delivered < all {
                ensure!(
                    self.clock.now() - start < PATIENCE,
                    "{} of {all} deliveries",
                    subscribers.delivered()
                );
                subscribers.turn(&channel, &mut publisher, TURN, |_| delivered += 1)?;
                publisher.write()?;
            }
            last_ms.push((self.clock.now() - start).as_secs_f64() * 1e3);
        }
        let cost = self.read().since(&begin);
        let mut figures = figures_of(&cost, (MESSAGES * count as u64) as f64);
        last_ms.sort_by(f64::total_cmp);
        figures.insert("last_ms", median(&last_ms));
        figures.insert("last_ms_best", last_ms[0]);
        figures.insert("last_ms_worst", last_ms[last_ms.len() - 1]);
        figures.insert("rss_bytes_per_connection", rss / count as f64);
        opened(&mut figures, &opening, count);
        Ok(figures)
    }

    /// Each on a channel of its own.
    fn idle(&self, count: usize) -> anyhow::Result<Figures> {
        let rss = resident_bytes(self.servers);
        let opening = self.read();
        let _subscribers = Subscribers::open(self.place.subscribers, count, |i| {
            Arc::new(Channel::new(self.place.dialect, &format!("idle-{i}")))
        })?;
        let opening = self.read().since(&opening);
        pause(SETTLING);
        let rss = resident_bytes(self.servers) - rss;
        let begin = self.read();
        pause(self.duration);
        let cost = self.read().since(&begin);
        let mut figures = Figures::new();
        figures.insert("rss_bytes_per_connection", rss / count as f64);
        figures.insert("idle_server_cores", cost.servers_s / cost.wall_s);
        figures.insert("others_cores", cost.others_s / cost.wall_s);
        opened(&mut figures, &opening, count);
        Ok(figures)
    }
}

fn opened(figures: &mut Figures, opening: &Cost, count: usize) {
    figures.insert("opened_per_s", count as f64 / opening.wall_s);
    figures.insert("open_cpu_us", opening.servers_s * 1e6 / count as f64);
}

fn figures_of(cost: &Cost, delivered: f64) -> Figures {
    Figures::from([
        ("cpu_us_per_delivery", cost.servers_s * 1e6 / delivered.max(1.0)),
        ("server_cores", cost.servers_s / cost.wall_s),
        ("generator_cores", cost.own_s / cost.wall_s),
        ("others_cores", cost.others_s / cost.wall_s),
    ])
}

/// Of figures in order; zero of none.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        len if len.is_multiple_of(2) => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        len => sorted[len / 2],
    }
}

/// Sends each message when it is due, on a thread of its own. What is late stays due: its time began when it was to be sent.
struct Pacer {
    clock: Clock,
    channel: Arc<Channel>,
    writer: Writer,
    start: Time,
    rate: u64,
    messages: u64,
    stop: Arc<AtomicBool>,
}

impl Pacer {
    fn run(mut self) -> std::io::Result<()> {
        // Else the kernel adds 50 us to every sleep of this thread.
        let _ = nix::sys::prctl::set_timerslack(1);
        let mut frame = Vec::new();
        for seq in 0..self.messages {
            let due = self.start + Duration::from_nanos(seq * 1_000_000_000 / self.rate);
            loop {
                let now = self.clock.now();
                if now >= due {
                    break;
                }
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                pause((due - now).min(Duration::from_millis(100)));
            }
            frame.clear();
            self.channel.publish(seq, due.as_micros(), &mut frame);
            self.writer.write(&frame, || pause(Duration::from_micros(50)))?;
        }
        Ok(())
    }
}
