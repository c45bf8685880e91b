//! How a bench tells what it found, and that it is still at it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};

use super::ledger::Tally;
use super::usage::Cost;
use crate::cli::Globals;
use crate::cli::output::{Mark, Table, json, line, thousands};

/// On a terminal a bar, elsewhere nothing.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(globals: &Globals, what: &str, steps: u64) -> Self {
        let bar = if globals.quiet {
            ProgressBar::hidden()
        } else {
            // Hides itself where stderr is no terminal.
            ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr())
        };
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {percent:>3} %") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    /// Waits so long, and shows it.
    pub(super) async fn wait(globals: &Globals, what: &str, time: Duration) {
        const STEP: Duration = Duration::from_millis(100);
        let steps = time.as_millis().div_ceil(STEP.as_millis());
        let progress = Self::new(globals, what, u64::try_from(steps).unwrap_or(u64::MAX));
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            tokio::time::sleep(step).await;
            left -= step;
            progress.step();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// One row of figures; a column for people, a key for programs.
#[derive(Debug, Default)]
pub(super) struct Report {
    head: Vec<&'static str>,
    cells: Vec<String>,
    object: Map<String, Value>,
}

impl Report {
    pub(super) fn new(bench: &str) -> Self {
        let mut report = Self::default();
        report.object.insert("bench".to_owned(), bench.into());
        report
    }

    pub(super) fn count(&mut self, head: &'static str, key: &str, value: u64) {
        self.put(head, key, thousands(value), value.into());
    }

    pub(super) fn figure(&mut self, head: &'static str, key: &str, value: Option<f64>) {
        let shown = match value {
            None => "-".to_owned(),
            Some(value) if value >= 1_000.0 => thousands(value.round() as u64),
            Some(value) if value >= 10.0 => format!("{value:.1}"),
            Some(value) => format!("{value:.3}"),
        };
        self.put(head, key, shown, value.into());
    }

    fn put(&mut self, head: &'static str, key: &str, shown: String, value: Value) {
        self.head.push(head);
        self.cells.push(shown);
        self.object.insert(key.to_owned(), value);
    }

    /// For programs only.
    pub(super) fn note(&mut self, key: &str, value: impl Into<Value>) {
        self.object.insert(key.to_owned(), value.into());
    }

    pub(super) fn cost(&mut self, cost: &Cost, deliveries: u64) {
        self.figure(
            "NODE CPU US/DELIVERY",
            "node_cpu_us_per_delivery",
            cost.nodes_us_each(deliveries),
        );
        self.figure("NODE CORES", "node_cores", cost.nodes_cores());
        self.figure("BENCH CORES", "bench_cores", Some(cost.own_cores()));
        let each = cost.own_cpu_s * 1e6 / deliveries.max(1) as f64;
        self.note("bench_cpu_us_per_delivery", each);
    }

    pub(super) fn tally(&mut self, tally: &Tally) {
        self.count("GAPS", "gaps", tally.gaps);
        self.count("MISSING", "missing", tally.missing);
        self.note("received", tally.received);
        self.note("missing_told", tally.told);
        self.note("missing_silent", tally.silent);
        self.note("astray", tally.astray);
        self.note("foreign", tally.foreign);
    }

    pub(super) fn show(self, globals: &Globals) -> anyhow::Result<()> {
        if globals.wants_json() {
            return json(&Value::Object(self.object));
        }
        let mut table = Table::new(&self.head);
        table.row(self.cells, Mark::Plain);
        Ok(line(&table.render())?)
    }
}
