//! ● Medians over the rounds, ratios, and what was aimed at.
//!
//! A ratio is the median of the rounds' own ratios: in one round the systems ran minutes apart at most, so that what else the machine did
//! weighs on all of them alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::load::{Figures, median};
use crate::modes::Mode;
use crate::systems::System;

/// One system's run of one mode in one round.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) round: usize,
    pub(crate) mode: Mode,
    pub(crate) system: System,
    pub(crate) figures: Result<Figures, String>,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) outcomes: Vec<Outcome>,
}

impl Report {
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Outcome, &String)> {
        self.outcomes.iter().filter_map(|outcome| Some((outcome, outcome.figures.as_ref().err()?)))
    }

    fn values(&self, mode: Mode, system: System, figure: &str) -> BTreeMap<usize, f64> {
        let of = |outcome: &&Outcome| outcome.mode == mode && outcome.system == system;
        let value =
            |outcome: &Outcome| Some((outcome.round, *outcome.figures.as_ref().ok()?.get(figure)?));
        self.outcomes.iter().filter(of).filter_map(value).collect()
    }

    fn median(&self, mode: Mode, system: System, figure: &str) -> Option<f64> {
        middle(self.values(mode, system, figure).into_values())
    }

    /// Of `system` to `other`.
    fn ratio(&self, mode: Mode, system: System, other: System, figure: &str) -> Option<f64> {
        let others = self.values(mode, other, figure);
        let ours = self.values(mode, system, figure);
        middle(ours.into_iter().filter_map(|(round, value)| {
            others.get(&round).filter(|other| **other > 0.0).map(|other| value / other)
        }))
    }

    fn systems(&self) -> Vec<System> {
        let all = [System::Waxwing, System::Redis, System::Nats];
        all.into_iter().filter(|s| self.outcomes.iter().any(|o| o.system == *s)).collect()
    }

    fn modes(&self) -> Vec<Mode> {
        Mode::ALL.into_iter().filter(|m| self.outcomes.iter().any(|o| o.mode == *m)).collect()
    }

    /// Medians, and the first system's ratio to each of the others.
    pub(crate) fn table(&self) -> String {
        let systems = self.systems();
        let mut out = format!("{:<14}{:<26}", "MODE", "FIGURE");
        for system in &systems {
            let _ = write!(out, "{:>12}", system.name().to_uppercase());
        }
        for other in systems.iter().skip(1) {
            let _ = write!(out, "{:>14}", format!("/{}", other.name()));
        }
        out.push('\n');
        for mode in self.modes() {
            for figure in mode.figures() {
                let _ = write!(out, "{:<14}{figure:<26}", mode.name());
                for system in &systems {
                    let value = self.median(mode, *system, figure);
                    let _ = write!(out, "{:>12}", value.map_or_else(|| "-".to_owned(), shown));
                }
                for other in systems.iter().skip(1) {
                    let ratio = self.ratio(mode, systems[0], *other, figure);
                    let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                    let _ = write!(out, "{ratio:>14}");
                }
                out.push('\n');
            }
        }
        out
    }

    /// What Waxwing aims at beside the others, and whether it was reached. Nothing where Waxwing did not run.
    pub(crate) fn aims(&self) -> Vec<Aim> {
        let ratio = |mode, other, figure| self.ratio(mode, System::Waxwing, other, figure);
        let both = |mode, figure| -> Option<(f64, f64)> {
            let (redis, nats) =
                (ratio(mode, System::Redis, figure), ratio(mode, System::Nats, figure));
            Some((redis.or(nats)?, nats.or(redis)?))
        };
        let mut aims = Vec::new();
        let mut aim = |mode: Mode, what: &str, found: Option<(String, bool)>| {
            if let Some((found, reached)) = found {
                aims.push(Aim { mode, what: what.to_owned(), found, reached });
            }
        };
        for mode in [Mode::OneToOne, Mode::OneTo100, Mode::OneTo1000] {
            let rates = both(mode, "deliveries_per_s").map(|(redis, nats)| redis.min(nats));
            let costs = both(mode, "cpu_us_per_delivery").map(|(redis, nats)| redis.max(nats));
            let found = rates
                .zip(costs)
                .map(|(rate, cost)| (format!("{rate:.2}, {cost:.3}"), rate >= 3.0 || cost <= 0.25));
            aim(mode, "3 times the best's rate, or 0.25 of the best's CPU a delivery", found);
        }
        let last = ratio(Mode::Fanout, System::Redis, "last_ms");
        let found = last.map(|ratio| (format!("{ratio:.2}"), ratio <= 0.85));
        aim(Mode::Fanout, "the last one has it in 0.85 of Redis's time", found);
        for figure in ["p50_us", "p99_us"] {
            let found = both(Mode::Latency, figure).map(|(redis, nats)| redis.max(nats));
            let found = found.map(|ratio| (format!("{ratio:.2}"), ratio <= 1.0));
            aim(Mode::Latency, &format!("{figure} at most the best's"), found);
        }
        for mode in [Mode::Idle, Mode::Fanout] {
            let rss = self.median(mode, System::Waxwing, "rss_bytes_per_connection");
            let found = rss.map(|rss| (format!("{rss:.0}"), rss < 2048.0));
            aim(mode, "less than 2048 bytes of RSS a subscribed connection", found);
        }
        for (other, times) in [(System::Redis, 5.0), (System::Nats, 2.0)] {
            let rate = ratio(Mode::Cross, other, "deliveries_per_s");
            let found = rate.map(|rate| (format!("{rate:.2}"), rate >= times));
            aim(Mode::Cross, &format!("{times} times the rate of {}", other.name()), found);
        }
        let p50 = self.median(Mode::CrossLatency, System::Waxwing, "p50_us");
        let found = p50.map(|p50| (format!("{p50:.0}"), p50 < 500.0));
        aim(Mode::CrossLatency, "p50 below 500 us", found);
        aims
    }

    pub(crate) fn json(&self, about: &Value) -> Value {
        let systems = self.systems();
        let mut modes = serde_json::Map::new();
        for mode in self.modes() {
            let mut figures = serde_json::Map::new();
            for figure in mode.figures() {
                let medians: serde_json::Map<_, _> = systems
                    .iter()
                    .map(|s| (s.name().to_owned(), json!(self.median(mode, *s, figure))))
                    .collect();
                let ratios: serde_json::Map<_, _> = systems
                    .iter()
                    .skip(1)
                    .map(|s| (s.name().to_owned(), json!(self.ratio(mode, systems[0], *s, figure))))
                    .collect();
                figures.insert(
                    (*figure).to_owned(),
                    json!({ "medians": medians, "ratio_to": ratios }),
                );
            }
            modes.insert(mode.name().to_owned(), Value::Object(figures));
        }
        let runs: Vec<_> = self.outcomes.iter().map(Outcome::json).collect();
        let aims: Vec<_> = self.aims().iter().map(Aim::json).collect();
        json!({ "about": about, "modes": modes, "aims": aims, "runs": runs })
    }
}

impl Outcome {
    fn json(&self) -> Value {
        let (round, mode, system) = (self.round, self.mode.name(), self.system.name());
        match &self.figures {
            Ok(figures) => {
                json!({ "round": round, "mode": mode, "system": system, "figures": figures })
            }
            Err(error) => json!({ "round": round, "mode": mode, "system": system, "error": error }),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Aim {
    mode: Mode,
    what: String,
    found: String,
    reached: bool,
}

impl Aim {
    pub(crate) fn line(&self) -> String {
        let verdict = if self.reached { "reached" } else { "NOT REACHED" };
        format!("{:<14}{:<66}{:>14}  {verdict}", self.mode.name(), self.what, self.found)
    }

    fn json(&self) -> Value {
        json!({ "mode": self.mode.name(), "aim": self.what, "found": self.found, "reached": self.reached })
    }
}

fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| median(&values))
}

fn shown(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2}M", value / 1e6),
        1e4.. => format!("{:.0}k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Report, shown};
    use crate::load::Figures;
    use crate::modes::Mode;
    use crate::systems::System;

    fn report(runs: &[(usize, System, f64)]) -> Report {
        let outcomes = runs.iter().map(|(round, system, value)| Outcome {
            round: *round,
            mode: Mode::Fanout,
            system: *system,
            figures: Ok(Figures::from([("last_ms", *value)])),
        });
        Report { outcomes: outcomes.collect() }
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        use System::{Redis, Waxwing};
        let report = report(&[
            (0, Waxwing, 50.0),
            (0, Redis, 100.0),
            (1, Waxwing, 300.0),
            (1, Redis, 600.0),
            (2, Waxwing, 80.0),
        ]);
        assert_eq!(report.ratio(Mode::Fanout, Waxwing, Redis, "last_ms"), Some(0.5));
        assert_eq!(report.median(Mode::Fanout, Waxwing, "last_ms"), Some(80.0));
        let aims = report.aims();
        assert_eq!(aims.len(), 1);
        assert!(aims[0].reached);
    }

    #[test]
    fn nothing_is_aimed_at_without_figures() {
        assert!(report(&[(0, System::Redis, 1.0)]).aims().is_empty());
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [(0.0584, "0.058"), (9.126, "9.13"), (98.0, "98.00"), (226.4, "226")] {
            assert_eq!(shown(value), text);
        }
        assert_eq!(shown(8_263_000.0), "8.26M");
        assert_eq!(shown(30_400.0), "30k");
    }
}
