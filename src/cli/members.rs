//! `waxwing members`: the membership as one node sees it.

use std::time::Duration;

use super::Globals;
use super::codec::Admin;
use super::output::{Mark, Table, age, json, line, thousands};
use super::watch::watch;
use crate::status::{LinkStatus, StatusReport};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  waxwing members\n  waxwing members -o json | jq -r '.[] | select(.state == \"down\") | .name'"
)]
pub struct MembersArgs {
    /// Go on looking, every second; with -o json, one list a line.
    #[arg(short, long)]
    watch: bool,
}

pub(super) async fn run(args: &MembersArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.watch {
        return watch(globals, draw, |report| report.members).await;
    }
    let report = Admin::connect(globals).await?.status().await?;
    if globals.wants_json() {
        return json(&report.members);
    }
    Ok(line(&draw(&report))?)
}

pub(super) fn draw(report: &StatusReport) -> String {
    let mut table = Table::new(&[
        "NAME",
        "STATE",
        "ADDRESS",
        "VERSION",
        "UP",
        "SESSIONS",
        "PRESENCES",
        "LINK",
        "RTT",
        "PROBLEMS",
    ]);
    for member in &report.members {
        let down = member.state == "down";
        let unless_down = |text: String| if down { none() } else { text };
        let mark = match member.state.as_str() {
            "down" => Mark::Bad,
            "ready" if member.problems.is_empty() => Mark::Plain,
            _ => Mark::Warn,
        };
        table.row(
            [
                if member.me { format!("{} *", member.name) } else { member.name.clone() },
                member.state.clone(),
                or_none(&member.addresses.grpc),
                or_none(&member.version),
                unless_down(age(seconds(member.up_s))),
                unless_down(thousands(member.sessions)),
                // Of one that is down: those that it had.
                thousands(member.presences),
                if member.me { none() } else { link(&member.link) },
                unless_down(member.link.rtt_ms.map_or_else(none, |ms| format!("{ms:.1} ms"))),
                or_none(&member.problems.join("; ")),
            ],
            mark,
        );
    }
    table.render()
}

/// Both directions in one word where they agree, else `out/in`.
fn link(link: &LinkStatus) -> String {
    match (link.out.as_str(), link.inward.as_str()) {
        ("", "") => none(),
        (out, inward) if out == inward || inward.is_empty() => out.to_owned(),
        (out, inward) => format!("{}/{inward}", or_none(out)),
    }
}

/// What a node says may be any number.
pub(super) fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

fn none() -> String {
    "-".to_owned()
}

pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { none() } else { text.to_owned() }
}
