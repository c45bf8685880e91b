//! `waxwing status`: the report of one node on one screen.

use std::fmt::Write as _;

use super::Globals;
use super::codec::Admin;
use super::members::{self, or_none, seconds};
use super::output::{Mark, Table, age, counted, harmless, json, line, thousands};
use super::watch::watch;
use crate::status::{LimitStatus, StatusReport, TaskStatus};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  waxwing status -w\n  waxwing status -o json | jq .problems")]
pub struct StatusArgs {
    /// Go on looking, every second; with -o json, one object a line.
    #[arg(short, long)]
    watch: bool,
}

pub(super) async fn run(args: &StatusArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.watch {
        return watch(globals, draw, |report| report).await;
    }
    let report = Admin::connect(globals).await?.status().await?;
    if globals.wants_json() { json(&report) } else { Ok(line(&draw(&report))?) }
}

pub(super) fn draw(report: &StatusReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = head(&mut out, report);
    if !report.members.is_empty() {
        let _ = write!(out, "\n{}\n", members::draw(report));
    }
    let near: Vec<&LimitStatus> = report.limits.iter().filter(|limit| is_near(limit)).collect();
    if !near.is_empty() {
        let mut table = Table::new(&["LIMIT", "USED", "MAX", "UNIT"]);
        for limit in near {
            let cells = [
                limit.name.clone(),
                limit.used.map_or_else(|| "-".to_owned(), thousands),
                thousands(limit.max),
                limit.unit.clone(),
            ];
            table.row(cells, Mark::Warn);
        }
        let _ = write!(out, "\n{}\n", table.render());
    }
    let uneasy: Vec<&TaskStatus> = report.tasks.iter().filter(|task| 0 < task.restarts).collect();
    if !uneasy.is_empty() {
        let mut table = Table::new(&["TASK", "STATE", "RESTARTS"]);
        for task in uneasy {
            table
                .row([task.name.clone(), task.state.clone(), thousands(task.restarts)], Mark::Warn);
        }
        let _ = write!(out, "\n{}\n", table.render());
    }
    if !report.problems.is_empty() {
        let mut table = Table::new(&["FOR", "SEVERITY", "PROBLEM", "WHAT TO DO"]);
        for problem in &report.problems {
            let mark = if problem.severity == "error" { Mark::Bad } else { Mark::Warn };
            let cells = [
                age(seconds(problem.since_s)),
                problem.severity.clone(),
                problem.message.clone(),
                or_none(&problem.hint),
            ];
            table.row(cells, mark);
        }
        let _ = write!(out, "\n{}\n", table.render());
    }
    out.truncate(out.trim_end().len());
    out
}

fn head(out: &mut String, report: &StatusReport) -> std::fmt::Result {
    let StatusReport { node, cluster, sessions, pubsub, presence, .. } = report;
    let insecure = if node.insecure { ", insecure" } else { "" };
    let agreed = if cluster.converged { "converged" } else { "not converged" };
    writeln!(
        out,
        "node      {} {}, version {}, up {}{insecure}",
        harmless(&node.name),
        harmless(&node.state),
        harmless(&node.version),
        age(seconds(node.uptime_s)),
    )?;
    if !node.certificate_expires.is_empty() {
        let expires = harmless(&node.certificate_expires);
        writeln!(out, "TLS       the certificate expires {expires}")?;
    }
    writeln!(
        out,
        "cluster   {}: {} live members, {} ready, {agreed}",
        harmless(&cluster.name),
        cluster.members,
        cluster.ready
    )?;
    writeln!(
        out,
        "sessions  {} attached, {} lingering",
        thousands(sessions.grpc),
        thousands(sessions.lingering)
    )?;
    writeln!(
        out,
        "pub/sub   {} topics, {} subscriptions, {} patterns",
        thousands(pubsub.topics),
        thousands(pubsub.subscriptions),
        thousands(pubsub.patterns)
    )?;
    writeln!(
        out,
        "messages  {} published, {} delivered, {} forwarded, {} dropped in {} gaps",
        thousands(pubsub.published_total),
        thousands(pubsub.delivered_total),
        thousands(pubsub.forwarded_total),
        thousands(pubsub.dropped_total),
        thousands(pubsub.gaps_total)
    )?;
    write!(
        out,
        "presence  {}, {}",
        counted(presence.presences, "presence"),
        counted(presence.keys, "key")
    )?;
    if presence.orphaned > 0 {
        write!(out, ", {} orphaned", thousands(presence.orphaned))?;
    }
    if presence.pending_repairs > 0 {
        write!(out, ", {} repairs under way", thousands(presence.pending_repairs))?;
    }
    writeln!(out)
}

/// Over four fifths of what is allowed.
fn is_near(limit: &LimitStatus) -> bool {
    let used = limit.used.unwrap_or(0);
    0 < limit.max && u128::from(limit.max) * 4 <= u128::from(used) * 5
}
