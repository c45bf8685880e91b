//! `bench presence`: how long until what one session tracks on one node is complete on another, and how long one takes to be seen.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::receivers::Ground;
use super::report::{Progress, Report};
use super::run_name;
use crate::cli::presence::codec::Looker;
use crate::cli::{Globals, Usage};
use crate::client::{Client, Event, Events, Track};
use crate::types::Time;

/// Asked for in one go; the next go is under way before the first is answered.
const GO: usize = 5_000;
/// What one session may track by default.
const SESSION: u32 = 100_000;
/// How often the other node is asked how many it has.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Debug, clap::Args)]
pub(super) struct PresenceArgs {
    /// Presences tracked through one session on the first node of --node, or one for each 100,000.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    presences: u32,
    /// Topics that they are spread over.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Bytes of each one's metadata.
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=4096))]
    meta: u32,
    /// Then so many one by one, each timed until a watcher on the second node sees it.
    #[arg(long, value_name = "N", default_value_t = 500)]
    singles: u32,
    /// Stay so long before all is untracked again.
    #[arg(long, value_name = "TIME", value_parser = crate::config::value::parse_duration, default_value = "0")]
    hold: Duration,
}

pub(super) async fn run(args: PresenceArgs, globals: &Globals) -> anyhow::Result<()> {
    let [here, there, ..] = globals.node.as_slice() else {
        return Err(Usage("bench presence needs two nodes: --node A,B".to_owned()).into());
    };
    let ground = Ground::new(globals)?;
    let (here, there) = (std::slice::from_ref(here), std::slice::from_ref(there));
    let nodes = ground.nodes(&[here, there]).await?;
    let far = ground.nodes(&[there]).await?;
    // One session, unless there are more than one may have.
    let mut trackers = Vec::new();
    for _ in 0..args.presences.div_ceil(SESSION) {
        trackers.push(ground.publisher(here).await?.0);
    }
    let looker = Looker::connect(&Globals { node: there.to_vec(), ..globals.clone() }).await?;
    let name = run_name()?;
    let tracks = tracks(&args, &name);
    let counts = counts(&tracks);

    let (before, far_before) = (nodes.read().await, far.read().await);
    let first = ground.clock.now();
    let (last, complete, shown) = tokio::try_join!(
        track_all(&ground, &trackers, tracks),
        complete(&ground, &looker, &counts),
        async { Ok::<_, anyhow::Error>(Progress::new(globals, "tracking", 1)) },
    )?;
    drop(shown);
    let cost = nodes.read().await.since(&before);
    let grown = far.read().await.nodes_rss.zip(far_before.nodes_rss).map(|(now, then)| now - then);
    let listed = listed(&looker, &counts).await?;
    let singles = singles(&ground, here, there, &name, &args).await?;
    if !args.hold.is_zero() {
        Progress::wait(globals, "holding", args.hold).await;
    }

    let left = ground.clock.now();
    for tracker in &trackers {
        tracker.close().await;
    }
    let empty: Vec<_> = counts.iter().map(|(topic, _)| (topic.clone(), 0)).collect();
    let gone = self::complete(&ground, &looker, &empty).await?;

    let mut report = Report::new("presence");
    let seconds = |from: Time, to: Time| Some((to - from).as_secs_f64());
    report.count("PRESENCES", "presences", args.presences.into());
    report.figure("FROM FIRST S", "complete_from_first_s", seconds(first, complete));
    report.figure("FROM LAST S", "complete_from_last_s", seconds(last, complete));
    report.figure("LEFT S", "gone_s", seconds(left, gone));
    let ms =
        |quantile| (!singles.is_empty()).then(|| singles.value_at_quantile(quantile) as f64 / 1e3);
    report.figure("ONE P50 MS", "one_p50_ms", ms(0.5));
    report.figure("ONE P99 MS", "one_p99_ms", ms(0.99));
    report.cost(&cost, args.presences.into());
    report.note("remote_rss_bytes_each", grown.map(|bytes| bytes / f64::from(args.presences)));
    report.note("sessions", trackers.len());
    report.note("listed", listed);
    report.note("topics", args.topics);
    report.note("meta_bytes", args.meta);
    report.note("singles", args.singles);
    report.show(globals)
}

fn tracks(args: &PresenceArgs, name: &str) -> Vec<Track> {
    let meta = bytes::Bytes::from(vec![b'.'; args.meta as usize]);
    let each = (0..args.presences).map(|number| {
        let topic = format!("{name}:{}", number % args.topics);
        // Twelve bytes, as in the figures of memory.
        Track::new(topic, format!("user{number:08}")).id("1").meta(meta.clone())
    });
    each.collect()
}

/// How many belong in each topic.
fn counts(tracks: &[Track]) -> Vec<(String, u64)> {
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for track in tracks {
        match counts.get_mut(&track.topic) {
            Some(count) => *count += 1,
            None => {
                counts.insert(track.topic.clone(), 1);
            }
        }
    }
    counts.into_iter().collect()
}

/// When the last was handed over.
async fn track_all(
    ground: &Ground,
    clients: &[Client],
    mut tracks: Vec<Track>,
) -> anyhow::Result<Time> {
    let mut answers = Vec::new();
    let mut handed = ground.clock.now();
    let mut clients = clients.iter().flat_map(|client| [client; SESSION as usize / GO]);
    while !tracks.is_empty() {
        let rest = tracks.split_off(GO.min(tracks.len()));
        let go = std::mem::replace(&mut tracks, rest);
        let client = clients.next().context("there is a session for each hundred thousand")?;
        answers.push(client.begin_track_all(go).await?);
        handed = ground.clock.now();
    }
    for answer in answers {
        for one in answer.await? {
            one.map_err(|error| anyhow::anyhow!("track: {error}"))?;
        }
    }
    Ok(handed)
}

/// When each topic has as many on the other node as it should.
async fn complete(
    ground: &Ground,
    looker: &Looker,
    counts: &[(String, u64)],
) -> anyhow::Result<Time> {
    let until = ground.clock.now() + Duration::from_secs(120);
    for (topic, expected) in counts {
        loop {
            let count = looker.count(topic).await?;
            if count.presences == *expected {
                break;
            }
            anyhow::ensure!(
                ground.clock.now() < until,
                "{topic} has {} of {expected} presences after two minutes",
                count.presences
            );
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(ground.clock.now())
}

/// Each once, in order, and as many as there should be.
async fn listed(looker: &Looker, counts: &[(String, u64)]) -> anyhow::Result<u64> {
    let mut total = 0;
    for (topic, expected) in counts {
        let listing = looker.list(topic, "", usize::MAX).await?;
        let rising = listing.entries.is_sorted_by(|a, b| (&a.key, &a.id) < (&b.key, &b.id));
        anyhow::ensure!(rising, "the list of {topic} is not in order");
        let len = listing.entries.len() as u64;
        anyhow::ensure!(len == *expected, "the list of {topic} has {len}, not {expected}");
        total += len;
    }
    Ok(total)
}

/// Microseconds from each track to the watcher's join.
async fn singles(
    ground: &Ground,
    here: &[String],
    there: &[String],
    name: &str,
    args: &PresenceArgs,
) -> anyhow::Result<Histogram<u64>> {
    let mut took = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    if args.singles == 0 {
        return Ok(took);
    }
    // A session of its own: the others may have all that they may have.
    let (tracker, _) = ground.publisher(here).await?;
    let (watcher, mut events) = ground.publisher(there).await?;
    let topic = format!("{name}:singles");
    watcher.watch(&*topic).await?;
    let progress = Progress::new(&ground.globals, "one by one", args.singles.into());
    let mut random = 1_u64;
    for number in 0..args.singles {
        // So that it comes at any moment of a tick.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(20 + (random >> 33) % 60)).await;
        let key = format!("one{number:08}");
        let start = ground.clock.now();
        let seen = seen(&mut events, &key);
        let track = tracker.track(Track::new(&*topic, &*key).id("1"));
        let (seen, tracked) =
            tokio::join!(tokio::time::timeout(ground.globals.timeout, seen), track);
        tracked?;
        seen.context("a single presence was not seen in time")??;
        took.saturating_record((ground.clock.now() - start).as_micros() as u64);
        progress.step();
    }
    tracker.close().await;
    watcher.close().await;
    Ok(took)
}

async fn seen(events: &mut Events, key: &str) -> anyhow::Result<()> {
    while let Some(event) = events.next().await {
        if let Event::Presence(event) = event
            && event.joins.iter().any(|join| join.key == key)
        {
            return Ok(());
        }
    }
    anyhow::bail!("the watcher was closed")
}
