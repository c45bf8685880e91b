//! Many worlds, each in a process of its own: what one leaves behind in statics must not show in another.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde::Serialize;
use waxwing::plants::Plant;

use crate::verdict::{RARE, Verdict};

/// What is rare is asked for from so many worlds on.
const ENOUGH: u64 = 100;
const SHOWN: usize = 5;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) worlds: u64,
    simulated_s: u64,
    published: u64,
    delivered: u64,
    gaps: u64,
    tracked: u64,
    told: u64,
    faults: BTreeMap<String, u64>,
    met: BTreeMap<String, u64>,
    /// By seed.
    broken: BTreeMap<u64, Vec<String>>,
}

pub(crate) fn run(from: u64, count: u64, jobs: usize) -> anyhow::Result<Report> {
    let program = std::env::current_exe().context("find this program")?;
    let mut report = Report::default();
    let mut running: VecDeque<(u64, Child)> = VecDeque::new();
    let mut seeds = from..from + count;
    loop {
        while running.len() < jobs.max(1)
            && let Some(seed) = seeds.next()
        {
            let child = Command::new(&program)
                .args(["run", &seed.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("start a world")?;
            running.push_back((seed, child));
        }
        let Some((seed, child)) = running.pop_front() else { return Ok(report) };
        let output = child.wait_with_output().context("wait for a world")?;
        match serde_json::from_slice::<Verdict>(&output.stdout) {
            Ok(verdict) => report.add(verdict),
            Err(_) => {
                let told = String::from_utf8_lossy(&output.stderr);
                let last: Vec<&str> = told.lines().rev().take(SHOWN).collect();
                report.worlds += 1;
                report
                    .broken
                    .insert(seed, vec![format!("no verdict ({}): {last:?}", output.status)]);
            }
        }
    }
}

/// The first world with this bug whose verdict is bad, and what was wrong.
pub(crate) fn find(plant: Plant, from: u64, count: u64) -> anyhow::Result<Option<(u64, String)>> {
    let program = std::env::current_exe().context("find this program")?;
    for seed in from..from + count {
        let output = Command::new(&program)
            .args(["run", &seed.to_string(), "--plant", plant.name()])
            .stdin(Stdio::null())
            .output()
            .context("run a world")?;
        let verdict: Verdict = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("seed {seed}: no verdict ({})", output.status))?;
        if let Some(what) = verdict.violations.into_iter().next() {
            return Ok(Some((seed, what)));
        }
    }
    Ok(None)
}

impl Report {
    fn add(&mut self, verdict: Verdict) {
        self.worlds += 1;
        self.simulated_s += verdict.simulated_ms / 1_000;
        self.published += verdict.published;
        self.delivered += verdict.delivered;
        self.gaps += verdict.gaps;
        self.tracked += verdict.tracked;
        self.told += verdict.told;
        for (kind, count) in verdict.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (name, count) in verdict.met {
            *self.met.entry(name).or_default() += count;
        }
        if !verdict.violations.is_empty() {
            self.broken.insert(verdict.seed, verdict.violations);
        }
    }

    fn never_met(&self) -> Vec<&'static str> {
        let met = |name: &str| self.met.get(name).is_some_and(|count| *count > 0);
        let names = RARE.iter().map(|(name, _)| *name);
        names.filter(|name| self.worlds >= ENOUGH && !met(name)).collect()
    }

    pub(crate) fn is_good(&self) -> bool {
        self.broken.is_empty() && self.never_met().is_empty()
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        std::fs::write(file, serde_json::to_string_pretty(self)?)?;
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "worlds                {:>10}", self.worlds)?;
        writeln!(f, "simulated seconds     {:>10}", self.simulated_s)?;
        writeln!(f, "messages published    {:>10}", self.published)?;
        writeln!(f, "messages delivered    {:>10}", self.delivered)?;
        writeln!(f, "gaps told             {:>10}", self.gaps)?;
        writeln!(f, "presences tracked     {:>10}", self.tracked)?;
        writeln!(f, "events of presence    {:>10}", self.told)?;
        for (kind, count) in &self.faults {
            writeln!(f, "fault {kind:<15} {count:>10}")?;
        }
        for (name, count) in &self.met {
            writeln!(f, "met: {name:<45} {count:>10}")?;
        }
        for name in self.never_met() {
            writeln!(f, "NEVER MET: {name}")?;
        }
        for (seed, violations) in &self.broken {
            writeln!(f, "BROKEN: seed {seed}; again with: scripts/simulate.sh run {seed} --log")?;
            for violation in violations.iter().take(SHOWN) {
                writeln!(f, "    {violation}")?;
            }
            if violations.len() > SHOWN {
                writeln!(f, "    and {} more", violations.len() - SHOWN)?;
            }
        }
        let verdict = if self.is_good() { "every promise was kept" } else { "FAILED" };
        write!(f, "{verdict}")
    }
}
