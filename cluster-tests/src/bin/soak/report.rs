//! What a soak says of itself: a table and JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use cluster_tests::check;
use cluster_tests::history::{Kind, Op, Record};
use serde::Serialize;

use crate::nemesis::Tally;

/// A run counts only from here on; the counts are for 30 minutes.
const RATE_MIN: f64 = 5_000.0;
const FAULTS_MIN: u64 = 150;
const OVERLAPPING_MIN: u64 = 40;
const EACH_MIN: u64 = 10;
const KINDS: [&str; 3] = ["kill", "one-way cut", "stop"];
const SHOWN: usize = 20;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    minutes: u64,
    seed: u64,
    rounds: u64,
    pub(crate) load_s: f64,
    faults: BTreeMap<&'static str, u64>,
    overlapping: u64,
    /// Certain gaps of links, counted once a second and origin.
    windows_outrun: u64,
    pub(crate) resumes: u64,
    /// By kind and outcome.
    operations: BTreeMap<String, u64>,
    messages_published: u64,
    messages_checked: u64,
    /// What watchers were told, and the changes and entries in it.
    presence_events: u64,
    presence_changes: u64,
    /// Entries of the lists at the ends of rounds.
    presence_listed: u64,
    presence_met: BTreeMap<&'static str, u64>,
    gaps: BTreeMap<String, u64>,
    convergence_ms: Vec<u64>,
    detection_ms: Vec<u64>,
    violations: Vec<String>,
    not_run: Vec<String>,
    /// Why it doesn't count.
    inconclusive: Vec<String>,
}

impl Report {
    pub(crate) fn new(minutes: u64, seed: u64, not_run: Vec<String>) -> Self {
        Self { minutes, seed, not_run, ..Self::default() }
    }

    pub(crate) fn converged(&mut self, took: Duration) {
        self.convergence_ms.push(millis(took));
    }

    pub(crate) fn violation(&mut self, round: u32, what: &str) {
        self.violations.push(format!("round {round}: {what}"));
    }

    pub(crate) const fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }

    pub(crate) fn add(&mut self, history: &[Record], tally: &Tally) {
        self.rounds += 1;
        for (kind, count) in &tally.by_kind {
            *self.faults.entry(kind).or_default() += count;
        }
        self.overlapping += tally.overlapping;
        self.detection_ms.extend(tally.detections.iter().copied().map(millis));
        let mut outrun = BTreeSet::new();
        for record in history {
            let name = match &record.op {
                Op::Subscribe { .. } => "subscribe",
                Op::Unsubscribe { .. } => "unsubscribe",
                Op::Publish(_) => "publish",
                Op::Message { .. } => {
                    self.messages_checked += 1;
                    continue;
                }
                Op::Gap { origin, reason, certain, .. } => {
                    let certainly = if *certain { "certain" } else { "possible" };
                    *self.gaps.entry(format!("{reason}, {certainly}")).or_default() += 1;
                    if reason == "LINK" && *certain {
                        outrun.insert((record.t_us / 1_000_000, origin.clone()));
                    }
                    continue;
                }
                Op::Track { .. } => "track",
                Op::Untrack { .. } => "untrack",
                Op::Watch { .. } => "watch",
                Op::Unwatch { .. } => "unwatch",
                Op::Presence(told) => {
                    let changes = told.joins.len() + told.updates.len() + told.leaves.len();
                    self.presence_events += 1;
                    self.presence_changes += changes as u64;
                    continue;
                }
                Op::Listed { entries, .. } => {
                    self.presence_listed += entries.len() as u64;
                    continue;
                }
                Op::Attached { .. }
                | Op::Bye { .. }
                | Op::GoAway
                | Op::Lease(_)
                | Op::Ended { .. }
                | Op::Fault { .. } => continue,
            };
            self.messages_published += u64::from(name == "publish" && record.kind == Kind::Ok);
            *self
                .operations
                .entry(format!("{name} {:?}", record.kind).to_lowercase())
                .or_default() += 1;
        }
        self.windows_outrun += outrun.len() as u64;
        for (what, count) in check::presence::met(history) {
            *self.presence_met.entry(what).or_default() += count;
        }
        self.judge();
    }

    /// Messages that were published or delivered, and judged.
    fn rate(&self) -> f64 {
        (self.messages_published + self.messages_checked) as f64 / self.load_s.max(1.0)
    }

    fn judge(&mut self) {
        let share = |least: u64| (least * self.minutes).div_ceil(30);
        let faults: u64 = self.faults.values().sum();
        let mut counts = vec![
            ("faults", faults, FAULTS_MIN),
            ("overlapping faults", self.overlapping, OVERLAPPING_MIN),
            ("window outrun", self.windows_outrun, EACH_MIN),
            ("cross-node resume", self.resumes, EACH_MIN),
        ];
        for kind in KINDS {
            counts.push((kind, self.faults.get(kind).copied().unwrap_or_default(), EACH_MIN));
        }
        let few = counts.iter().filter(|(_, count, least)| *count < share(*least));
        self.inconclusive = few
            .map(|(what, count, least)| format!("{what}: {count} of {}", share(*least)))
            .collect();
        let rate = self.rate();
        if rate < RATE_MIN {
            self.inconclusive.push(format!("{rate:.0} messages/s of {RATE_MIN}"));
        }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} faults, {:.0} messages/s, {} violations",
            self.faults.values().sum::<u64>(),
            self.rate(),
            self.violations.len()
        )
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        std::fs::write(file, serde_json::to_string_pretty(self)?)?;
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<34} {value:>12}");
        row("minutes, seed, rounds", format!("{}, {}, {}", self.minutes, self.seed, self.rounds))?;
        row("messages published", self.messages_published.to_string())?;
        row("messages delivered and checked", self.messages_checked.to_string())?;
        row("messages/s", format!("{:.0}", self.rate()))?;
        for (kind, count) in &self.faults {
            row(&format!("fault: {kind}"), count.to_string())?;
        }
        row("overlapping faults", self.overlapping.to_string())?;
        row("windows outrun", self.windows_outrun.to_string())?;
        row("sessions resumed on another node", self.resumes.to_string())?;
        for (what, count) in &self.operations {
            row(&format!("operation: {what}"), count.to_string())?;
        }
        for (what, count) in &self.gaps {
            row(&format!("gap: {what}"), count.to_string())?;
        }
        row("presence: events checked", self.presence_events.to_string())?;
        row("presence: changes in them", self.presence_changes.to_string())?;
        row("presence: listed in the end", self.presence_listed.to_string())?;
        for (what, count) in &self.presence_met {
            row(&format!("presence: {what}"), count.to_string())?;
        }
        row("convergence ms, p50 p99 max", quantiles(&self.convergence_ms))?;
        row("detection ms, p50 p99 max", quantiles(&self.detection_ms))?;
        row("violations", self.violations.len().to_string())?;
        for violation in self.violations.iter().take(SHOWN) {
            writeln!(f, "    {violation}")?;
        }
        for what in &self.not_run {
            writeln!(f, "not run: {what}")?;
        }
        for why in &self.inconclusive {
            writeln!(f, "too few: {why}")?;
        }
        let verdict = match (self.is_broken(), self.inconclusive.is_empty()) {
            (true, _) => "BROKEN",
            (false, false) => "inconclusive",
            (false, true) => "every promise was kept",
        };
        write!(f, "soak: {verdict}")
    }
}

fn quantiles(all: &[u64]) -> String {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share).round() as usize);
    match (at(0.5), at(0.99), sorted.last()) {
        (Some(middle), Some(high), Some(most)) => format!("{middle} {high} {most}"),
        _ => "none".to_owned(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
