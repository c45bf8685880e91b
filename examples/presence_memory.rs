//! What a remote presence costs, and how fast the core is: `cargo run --release --example presence_memory`.
//!
//! Resident memory for each presence that came from another node (keys of 12 bytes, 32 bytes of metadata), in many topics and in one;
//! merging a delta of 1,000 into a topic of 1,000,000; counting; for how long a shard is locked while all of it is read.

use std::time::Duration;

use waxwing::presence::{
    Asked, Claim, Delta, Diff, Entry, Fields, Kind, Read, Reading, SHARDS, Tracker, shard_of,
};
use waxwing::types::{
    ClusterName, Incarnation, Namespace, NodeName, Replica, SessionId, Time, Topic, TopicHasher,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4_096
}

/// Time of processor that this thread has had: what other programs do meanwhile counts only as far as they empty the caches.
fn processor() -> anyhow::Result<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.into())
}

fn replica(name: &str) -> anyhow::Result<Replica> {
    Ok(Replica { name: NodeName::parse(name)?, incarnation: Incarnation(1) })
}

/// Keys spread all over, so that nothing comes in the order of the list.
fn key(number: u64) -> String {
    format!("{:012}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000_000_000)
}

fn entry(topic: &Topic, number: u64, counter: u64, short_id: bool) -> anyhow::Result<Entry> {
    let mut session = [0; 16];
    session[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let session = SessionId(session);
    let id = if short_id { "tab1".to_owned() } else { session.to_string() };
    let claim = Claim::new(&Fields {
        key: &key(number),
        id: &id,
        meta: &[b'm'; 32],
        session,
        epoch: 1,
        number: 1,
        revision: 1,
        base: 0,
        since_ms: 1_700_000_000_000,
        asked: Asked { epoch: 1, counter },
        linger: Duration::from_secs(5),
    })?;
    Ok(Entry { counter, topic: topic.clone(), claim })
}

struct Fill {
    shards: Vec<Tracker>,
    counters: Vec<u64>,
    origin: Replica,
}

impl Fill {
    fn new() -> anyhow::Result<Self> {
        let (me, origin) = (replica("b")?, replica("a")?);
        let mut shards: Vec<Tracker> = (0..SHARDS).map(|_| Tracker::new(me.clone())).collect();
        for shard in &mut shards {
            let mut diff = Diff::new();
            shard.replica_up(&origin, Time::ZERO, &mut diff);
        }
        Ok(Self { shards, counters: vec![0; SHARDS], origin })
    }

    /// A delta of entries of one topic, merged as if it came over a link; the time of processor it took.
    fn merge(
        &mut self,
        topic: &Topic,
        numbers: std::ops::Range<u64>,
        short_id: bool,
    ) -> anyhow::Result<Duration> {
        let shard = shard_of(topic);
        let from = self.counters[shard];
        let mut adds = Vec::new();
        for number in numbers {
            self.counters[shard] += 1;
            adds.push(entry(topic, number, self.counters[shard], short_id)?);
        }
        let delta = Delta {
            replica: self.origin.clone(),
            from,
            to: self.counters[shard],
            adds,
            removes: Vec::new(),
            kind: Kind::Interval,
            down_for: None,
        };
        let mut diff = Diff::new();
        let start = processor()?;
        self.shards[shard].merge(&self.origin.name, delta, Time::ZERO, &mut diff)?;
        Ok(processor()? - start)
    }
}

/// For how long a shard is locked while all of it is read: at once, and in pieces as watches and transfers do it.
#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn reading(fill: &Fill, topic: &Topic) -> anyhow::Result<()> {
    let tracker = &fill.shards[shard_of(topic)];
    let start = processor()?;
    let all = tracker.snapshot(topic);
    println!("  reading all {} at once: {:?}", all.len(), processor()? - start);
    let mut longest = Duration::ZERO;
    let mut last: Option<waxwing::presence::Shown> = None;
    loop {
        let start = processor()?;
        let after = last.as_ref().map(|last| (last.key(), last.id()));
        let piece = tracker.page(topic, None, after, 1_000);
        longest = longest.max(processor()? - start);
        let Some(end) = piece.last().cloned() else { break };
        last = Some(end);
    }
    println!("  in pieces of 1,000: the longest {longest:?}");
    let mut longest = Duration::ZERO;
    let mut reading = Reading::new(&fill.origin);
    loop {
        let start = processor()?;
        let read = tracker.read_whole(&mut reading, 2_000, Time::ZERO);
        longest = longest.max(processor()? - start);
        if !matches!(read, Read::More) {
            break;
        }
    }
    println!("  for a peer, in pieces of 2,000: the longest {longest:?}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn main() -> anyhow::Result<()> {
    let hasher = TopicHasher::new(&ClusterName::parse("bench")?);
    let cases =
        [(1_000, 1_000, true), (1_000, 1_000, false), (1, 1_000_000, true), (1, 1_000_000, false)];
    // Each in a process of its own: memory that a case before has given back would not count.
    let Some(case) = std::env::args().nth(1) else {
        for case in 0..cases.len() {
            std::process::Command::new(std::env::current_exe()?).arg(case.to_string()).status()?;
        }
        return Ok(());
    };
    let case: usize = case.parse()?;
    for (topics, each, short_id) in cases.into_iter().skip(case).take(1) {
        let before = resident();
        let mut fill = Fill::new()?;
        let mut number = 0;
        let mut names = Vec::new();
        for topic in 0..topics {
            let topic = hasher.topic(&Namespace::default(), &format!("room:{topic}"), 100)?;
            for _ in 0..each / 1_000 {
                fill.merge(&topic, number..number + 1_000, short_id)?;
                number += 1_000;
            }
            names.push(topic);
        }
        let bytes = (resident() - before) as f64 / number as f64;
        let id = if short_id { "short id" } else { "default id" };
        println!("{topics} x {each}, {id}: {bytes:.0} B of resident memory a presence");
        if topics == 1 {
            let mut times = Vec::new();
            for _ in 0..101 {
                times.push(fill.merge(&names[0], number..number + 1_000, short_id)?);
                number += 1_000;
            }
            times.sort_unstable();
            let (fastest, median, slow) = (times[0], times[50], times[90]);
            println!(
                "  merging 1,000 into it: median {median:?}, fastest {fastest:?}, one of ten over {slow:?}"
            );
            let start = processor()?;
            let shard = &fill.shards[shard_of(&names[0])];
            let counted: usize = (0..1_000).map(|_| shard.count(&names[0]).presences).sum();
            println!("  counting {}: {:?} each", counted / 1_000, (processor()? - start) / 1_000);
            reading(&fill, &names[0])?;
        }
    }
    Ok(())
}
