//! What a world was like: violations, what happened how often, and the hash of its trace.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_tests::check;
use cluster_tests::history::{Kind, Op, Record};
use serde::{Deserialize, Serialize};
use waxwing::metrics::Exporter;

use cluster_tests::chance;

/// As one line of JSON, what a run of one seed prints.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    /// Equal for two runs of one seed.
    pub(crate) trace: String,
    pub(crate) simulated_ms: u64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) gaps: u64,
    /// Presences that were tracked, and what watchers were told.
    pub(crate) tracked: u64,
    pub(crate) told: u64,
    /// By kind.
    pub(crate) faults: BTreeMap<String, u64>,
    /// What is rare, and how often it was met.
    pub(crate) met: BTreeMap<String, u64>,
    pub(crate) violations: Vec<String>,
}

/// By what a rare situation is known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sign {
    /// A counter, with this among its labels.
    Counter(&'static str, &'static str),
    /// A gap that a client was told, with this reason; certain or possible.
    Gap(&'static str, bool),
    /// What the judge of presence counts under this name.
    Presence(&'static str),
}

/// What a sweep must have met.
pub(crate) const RARE: &[(&str, Sign)] = &[
    ("a hello refused", Sign::Counter("waxwing_link_refused_total", "")),
    (
        "an interest that did not fit, and was asked for again",
        Sign::Counter("waxwing_interest_snapshots_total", "reason=\"asked"),
    ),
    (
        "a newer link while the older was still read",
        Sign::Counter("waxwing_link_superseded_total", ""),
    ),
    ("a link that came up again", Sign::Counter("waxwing_link_reconnects_total", "")),
    ("a subscribe not confirmed in time", Sign::Counter("waxwing_subscribe_unconfirmed_total", "")),
    ("a gap declared by the receiver", Sign::Gap("MEMBER_LOST", false)),
    ("a window outrun", Sign::Gap("LINK", true)),
    ("a mailbox outrun", Sign::Gap("SLOW_SUBSCRIBER", true)),
    ("a session resumed", Sign::Gap("RECONNECTED", false)),
    ("presences that moved with their session", Sign::Presence("moved")),
    ("a presence that another session took over", Sign::Presence("taken over")),
    ("a linger that ended", Sign::Presence("linger ended")),
    ("an orphan that left", Sign::Presence("orphan left")),
    (
        "an interval of presence that was missing",
        Sign::Counter("waxwing_presence_repairs_total", "interval"),
    ),
];

pub(crate) fn of(
    seed: u64,
    simulated: Duration,
    history: &[Record],
    faults: BTreeMap<&'static str, u64>,
    mut violations: Vec<String>,
) -> Verdict {
    let page = Exporter::install().render(|| {});
    let failed = sum(&page, "waxwing_task_restarts_total", "");
    let panics = crate::PANICS.load(std::sync::atomic::Ordering::Relaxed);
    if panics > 0 {
        violations.push(format!("{panics} panics"));
    }
    if failed > 0 {
        violations.push(format!("{failed} tasks failed and were started again"));
    }
    let jumps = sum(&page, "waxwing_link_jumps_total", "");
    if jumps > 0 {
        violations.push(format!("{jumps} times a link skipped what it owed"));
    }
    let broken = check::judge(history);
    violations.extend(broken.iter().map(|one| format!("{:?}: {}", one.promise, one.what)));
    let presences = check::presence::met(history);
    let met = RARE.iter().map(|(name, sign)| {
        let count = match *sign {
            Sign::Counter(metric, label) => sum(&page, metric, label),
            Sign::Gap(reason, certain) => gaps(history, reason, certain),
            Sign::Presence(name) => presences.get(name).copied().unwrap_or_default(),
        };
        ((*name).to_owned(), count)
    });
    let count =
        |wanted: fn(&Record) -> bool| history.iter().filter(|one| wanted(one)).count() as u64;
    Verdict {
        seed,
        trace: format!("{:016x}", hash(history)),
        simulated_ms: u64::try_from(simulated.as_millis()).unwrap_or(u64::MAX),
        published: count(|one| one.kind == Kind::Ok && matches!(one.op, Op::Publish(_))),
        delivered: count(|one| matches!(one.op, Op::Message { .. })),
        gaps: count(|one| matches!(one.op, Op::Gap { .. })),
        tracked: count(|one| one.kind == Kind::Ok && matches!(one.op, Op::Track { .. })),
        told: count(|one| matches!(one.op, Op::Presence(_))),
        faults: faults.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        met: met.collect(),
        violations,
    }
}

fn gaps(history: &[Record], wanted: &str, wanted_certain: bool) -> u64 {
    let is_wanted = |record: &&Record| matches!(&record.op, Op::Gap { reason, certain, .. } if reason == wanted && *certain == wanted_certain);
    history.iter().filter(is_wanted).count() as u64
}

fn sum(page: &str, metric: &str, label: &str) -> u64 {
    let rows = page.lines().filter(|line| {
        let rest = line.strip_prefix(metric).unwrap_or_default();
        rest.starts_with(['{', ' ']) && line.contains(label)
    });
    rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

fn hash(history: &[Record]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for record in history {
        for byte in format!("{record:?}").bytes() {
            hash = chance::mix(hash ^ u64::from(byte));
        }
    }
    hash
}
