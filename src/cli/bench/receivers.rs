//! ○ Many lean receivers on few connections, each with its ledger.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use http::HeaderMap;
use tokio::sync::{Notify, mpsc};
use tonic::transport::Channel;

use super::codec::Node;
use super::ledger::{Ledger, Stamp, Tally};
use super::report::Progress;
use super::usage::Nodes;
use crate::cli::Globals;
use crate::cli::attach::options;
use crate::client::connect;
use crate::client::lean::{Lean, Sink};
use crate::client::{Client, Events, Gap, Options};
use crate::supervise::{Clock, Shutdown, Supervisor, Task};
use crate::types::Time;

/// Opened at once; a node need not take ten thousand hellos in one moment.
const OPENING: usize = 64;
/// No receiver has made progress for so long: what is still missing won't come.
const STILL: Duration = Duration::from_secs(2);

/// What all parts of a bench share.
pub(super) struct Ground {
    pub(super) globals: Globals,
    pub(super) clock: Clock,
    pub(super) options: Options,
    pub(super) metadata: HeaderMap,
    pub(super) supervisor: Supervisor,
}

impl Ground {
    pub(super) fn new(globals: &Globals) -> anyhow::Result<Self> {
        let options = options(globals, "bench")?;
        let metadata = connect::metadata(&options.namespace, options.key.as_deref())?;
        Ok(Self {
            globals: globals.clone(),
            clock: Clock::new(),
            options,
            metadata,
            supervisor: Supervisor::new(Shutdown::new()),
        })
    }

    pub(super) async fn channel(&self, address: &str) -> anyhow::Result<Channel> {
        let endpoint = connect::endpoint(address, self.globals.timeout)?;
        connect::channel(&endpoint, self.options.tls.as_ref()).await.map_err(|err| {
            let why = connect::reason(&err);
            let hint = if why == connect::TOO_MANY_FILES {
                "raise its limit (ulimit -n), or give fewer --connections"
            } else {
                crate::cli::unreachable::judge(&why).1
            };
            let what = format!("connect to {address}: {why}");
            crate::cli::failure::Hinted { what, hint: hint.to_owned() }.into()
        })
    }

    /// The nodes of these addresses, to be asked what they use.
    pub(super) async fn nodes(&self, addresses: &[&[String]]) -> anyhow::Result<Nodes> {
        let mut nodes = HashMap::new();
        for address in addresses.iter().copied().flatten() {
            if !nodes.contains_key(address) {
                let channel = self.channel(address).await?;
                nodes.insert(address, Node::new(channel, self.metadata.clone()));
            }
        }
        Ok(Nodes::new(nodes.into_values().collect(), self.clock))
    }

    pub(super) async fn publisher(&self, addresses: &[String]) -> anyhow::Result<(Client, Events)> {
        let mut options = self.options.clone();
        options.addresses = addresses.to_vec();
        // One frame to be written while the next is filled; more would only wait longer.
        options.outbox_bytes = 512 << 10;
        Ok(Client::connect(options).await?)
    }
}

/// What one receiver is to do.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) topic: usize,
    pub(super) publishers: usize,
    pub(super) latency_digits: Option<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: AtomicU64,
    /// Received, or known to be missing.
    pub(super) position: AtomicU64,
    pub(super) gaps: AtomicU64,
}

/// Told when a number of messages has come to all receivers together.
#[derive(Debug, Default)]
pub(super) struct Finish {
    left: AtomicU64,
    at_us: AtomicU64,
    reached: Notify,
}

impl Finish {
    pub(super) fn expect(&self, messages: u64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// When the last of them had come.
    pub(super) async fn reached(&self) -> Time {
        self.reached.notified().await;
        Time::from_micros(self.at_us.load(Ordering::SeqCst))
    }

    fn count(&self, clock: Clock) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.at_us.store(clock.now().as_micros(), Ordering::SeqCst);
            self.reached.notify_one();
        }
    }
}

/// The running receivers.
pub(super) struct Receivers {
    pub(super) counters: Vec<Arc<Counters>>,
    topics: Vec<usize>,
    stop: Shutdown,
    done: mpsc::Receiver<Done>,
}

pub(super) struct Done {
    index: usize,
    ledger: Ledger,
    latency: Option<Histogram<u64>>,
    broke: Option<String>,
}

pub(super) struct Results {
    pub(super) tally: Tally,
    pub(super) latency: Option<Histogram<u64>>,
}

impl Receivers {
    /// Ends when all are subscribed. Receiver `i` listens to topic `i % topics` on address `i % addresses`.
    pub(super) async fn open(
        ground: &Ground,
        addresses: &[String],
        connections: u32,
        wanted: Vec<Wanted>,
        topic: impl Fn(usize) -> String,
        finish: Option<Arc<Finish>>,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for address in addresses.iter().cycle().take(connections as usize) {
            channels.push(ground.channel(address).await?);
        }
        let topics: Vec<usize> = wanted.iter().map(|wanted| wanted.topic).collect();
        let counters: Vec<Arc<Counters>> = wanted.iter().map(|_| Arc::default()).collect();
        let (done_tx, done) = mpsc::channel(wanted.len().max(1));
        let stop = Shutdown::new();
        let opening = wanted.into_iter().enumerate().map(|(index, wanted)| {
            let channel = channels[index % channels.len()].clone();
            let topic = topic(wanted.topic);
            let mut sink = Meter {
                ledger: Ledger::new(wanted.publishers),
                counters: Arc::clone(&counters[index]),
                latency: wanted.latency_digits.map(histogram),
                clock: ground.clock,
                now_us: 0,
                finish: finish.clone(),
            };
            let (stop, done) = (stop.clone(), done_tx.clone());
            async move {
                let client = &ground.options.client;
                let lean =
                    Lean::open(channel, &ground.metadata, client, vec![topic], &mut sink).await;
                let lean = lean.map_err(|why| anyhow::anyhow!("subscriber {index}: {why}"))?;
                progress.step();
                let task = Task::Client("receiver".to_owned());
                ground.supervisor.spawn(task, receive(index, lean, sink, stop, done));
                anyhow::Ok(())
            }
        });
        let mut opening = stream::iter(opening).buffer_unordered(OPENING);
        while opening.try_next().await.context("open subscribers")?.is_some() {}
        drop(opening);
        Ok(Self { counters, topics, stop, done })
    }

    pub(super) fn sum(&self, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|counters| of(counters).load(Ordering::Relaxed)).sum()
    }

    /// Waits for what is on its way, then judges. `sent`: of each publisher, with its topic.
    pub(super) async fn finish(mut self, sent: &[(usize, u64)]) -> anyhow::Result<Results> {
        let of_topic = |topic: usize| -> Vec<u64> {
            sent.iter().map(|(to, sent)| if *to == topic { *sent } else { 0 }).collect()
        };
        let expected: u64 =
            self.topics.iter().map(|topic| of_topic(*topic).iter().sum::<u64>()).sum();
        let (mut last, mut still) = (0, Duration::ZERO);
        const LOOK: Duration = Duration::from_millis(20);
        loop {
            let position = self.sum(|counters| &counters.position);
            if position >= expected || still >= STILL {
                break;
            }
            still = if position == last { still + LOOK } else { Duration::ZERO };
            last = position;
            tokio::time::sleep(LOOK).await;
        }
        self.stop.cancel();
        let mut results = Results { tally: Tally::default(), latency: None };
        for _ in 0..self.topics.len() {
            let Some(done) = self.done.recv().await else { break };
            if let Some(why) = done.broke {
                anyhow::bail!("subscriber {} broke off: {why}", done.index);
            }
            results.tally.add(done.ledger.close(&of_topic(self.topics[done.index])));
            match (&mut results.latency, done.latency) {
                (Some(all), Some(one)) => all.add(one)?,
                (all @ None, one) => *all = one,
                (Some(_), None) => {}
            }
        }
        Ok(results)
    }
}

/// Microseconds, up to a minute.
fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, digits).expect("the bounds are lawful")
}

async fn receive(
    index: usize,
    mut lean: Lean,
    mut sink: Meter,
    stop: Shutdown,
    done: mpsc::Sender<Done>,
) {
    let broke = stop
        .run_until_cancelled(async {
            loop {
                if let Err(why) = lean.next(&mut sink).await {
                    return why;
                }
                tokio::task::consume_budget().await;
            }
        })
        .await;
    let Meter { ledger, latency, .. } = sink;
    // Nobody listens when the bench has failed already.
    let _ = done.send(Done { index, ledger, latency, broke }).await;
}

struct Meter {
    ledger: Ledger,
    counters: Arc<Counters>,
    latency: Option<Histogram<u64>>,
    clock: Clock,
    now_us: u64,
    finish: Option<Arc<Finish>>,
}

impl Sink for Meter {
    fn arrived(&mut self) {
        if self.latency.is_some() {
            self.now_us = self.clock.now().as_micros();
        }
    }

    #[inline]
    fn payload(&mut self, payload: &[u8]) {
        let stamp = self.ledger.payload(payload);
        if let (Some(latency), Some(Stamp { time_us, .. })) = (&mut self.latency, stamp)
            && time_us > 0
        {
            latency.saturating_record(self.now_us.saturating_sub(time_us).max(1));
        }
        if let Some(finish) = &self.finish {
            finish.count(self.clock);
        }
    }

    fn gap(&mut self, gap: &Gap) {
        self.ledger.gap(gap);
        self.counters.gaps.store(self.ledger.gaps(), Ordering::Relaxed);
    }

    fn told(&mut self) {
        self.counters.received.store(self.ledger.received(), Ordering::Relaxed);
        self.counters.position.store(self.ledger.position(), Ordering::Relaxed);
    }
}
