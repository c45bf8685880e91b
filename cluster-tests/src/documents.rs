//! What a node says of itself, read as anybody would read it: `/status` as JSON, `/metrics` as text. Deliberately not the program's
//! own types, which would hide a field that is missing.

use anyhow::Context;
use serde_json::Value;

/// `/status`.
#[derive(Debug, Clone)]
pub struct Status(pub Value);

/// A row of `members`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    pub name: String,
    pub state: String,
    pub incarnation: u64,
    pub peer: String,
    pub link_out: String,
    pub link_in: String,
}

impl Status {
    pub fn parse(body: &str) -> anyhow::Result<Self> {
        serde_json::from_str(body).map(Self).context("parse /status")
    }

    pub fn node_state(&self) -> &str {
        self.0["node"]["state"].as_str().unwrap_or_default()
    }

    pub fn converged(&self) -> bool {
        self.0["cluster"]["converged"].as_bool().unwrap_or_default()
    }

    pub fn members(&self) -> Vec<MemberRow> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = self.0["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut rows: Vec<MemberRow> = rows
            .iter()
            .map(|row| MemberRow {
                name: text(&row["name"]),
                state: text(&row["state"]),
                incarnation: row["incarnation"].as_u64().unwrap_or_default(),
                peer: text(&row["addresses"]["peer"]),
                link_out: text(&row["link"]["out"]),
                link_in: text(&row["link"]["in"]),
            })
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    pub fn member(&self, name: &str) -> Option<MemberRow> {
        self.members().into_iter().find(|row| row.name == name)
    }

    /// Names of the members that are ready, in order.
    pub fn ready(&self) -> Vec<String> {
        let ready = self.members().into_iter().filter(|row| row.state == "ready");
        ready.map(|row| row.name).collect()
    }

    pub fn problems(&self) -> String {
        let own = self.0["problems"].to_string();
        let rows = self.0["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter().fold(own, |all, row| all + &row["problems"].to_string())
    }
}

/// `/metrics`.
#[derive(Debug, Clone)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum over all series of this name that have these labels; 0 where there is none yet.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.lines().filter_map(|line| value(line, name, labels)).sum()
    }
}

fn value(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (given, number) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once('}')?,
        None => ("", rest),
    };
    let wanted = |(key, value): &(&str, &str)| {
        given.split(',').any(|label| label == format!("{key}=\"{value}\""))
    };
    let number = number.strip_prefix(' ')?;
    labels.iter().all(wanted).then(|| number.split(' ').next()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_label() {
        let metrics = Metrics(
            "# TYPE x_total counter\nx_total{peer=\"a\",kind=\"k\"} 3\nx_total{peer=\"b\"} 4\nx_total_more 9\ny 1.5\n".to_owned(),
        );
        let check = |name, labels: &[(&str, &str)], expected: f64| {
            let got = metrics.sum(name, labels);
            assert!((got - expected).abs() < f64::EPSILON, "{name} {labels:?}: {got}");
        };
        check("x_total", &[], 7.0);
        check("x_total", &[("peer", "a")], 3.0);
        check("x_total", &[("peer", "c")], 0.0);
        check("y", &[], 1.5);
    }
}
