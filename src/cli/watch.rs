//! `-w`: the status again every second. A terminal is redrawn; elsewhere a table is written again when it has changed, after an empty
//! line. With `-o json` each look is one line.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::Globals;
use super::codec::Admin;
use super::output::{json, line, talk};
use crate::status::StatusReport;

const EVERY: Duration = Duration::from_secs(1);

/// Until interrupted. Fails only if no node answers at first: later it looks for one again.
pub(super) async fn watch<T: Serialize>(
    globals: &Globals,
    draw: impl Fn(&StatusReport) -> String,
    object: impl Fn(StatusReport) -> T,
) -> anyhow::Result<()> {
    let mut admin = Some(Admin::connect(globals).await?);
    let redraw = std::io::stdout().is_terminal();
    let mut before: Option<String> = None;
    loop {
        match look(&mut admin, globals).await {
            Ok(report) if globals.wants_json() => json(&object(report))?,
            Ok(report) if redraw => {
                // Home, then clear to the end: less flicker than the other way round.
                std::io::stdout().write_all(b"\x1b[H\x1b[J")?;
                line(&draw(&report))?;
            }
            Ok(report) => {
                let drawn = draw(&report);
                let timeless = draw(&timeless(report));
                if before.as_ref() != Some(&timeless) {
                    let gap = if before.is_some() { "\n" } else { "" };
                    line(&format!("{gap}{drawn}"))?;
                    before = Some(timeless);
                }
            }
            Err(error) => {
                admin = None;
                talk(globals, &format!("{error:#}; trying again"));
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Without what is never the same twice, so that two of them differ by what has changed.
fn timeless(mut report: StatusReport) -> StatusReport {
    report.node.uptime_s = 0.0;
    for member in &mut report.members {
        member.up_s = 0.0;
        member.link.rtt_ms = None;
    }
    for problem in &mut report.problems {
        problem.since_s = 0.0;
    }
    report
}

async fn look(admin: &mut Option<Admin>, globals: &Globals) -> anyhow::Result<StatusReport> {
    let admin = match admin {
        Some(admin) => admin,
        None => admin.insert(Admin::connect(globals).await?),
    };
    admin.status().await
}

#[cfg(test)]
mod tests {
    use super::timeless;
    use crate::cli::members::draw;
    use crate::status::{MemberStatus, StatusReport};

    #[test]
    fn time_alone_is_no_change() {
        let report = |up_s, rtt, state: &str| {
            let mut b =
                MemberStatus { name: "b".into(), state: state.into(), up_s, ..Default::default() };
            b.link.rtt_ms = Some(rtt);
            draw(&timeless(StatusReport { members: vec![b], ..Default::default() }))
        };
        assert_eq!(report(1.0, 0.1, "ready"), report(2.0, 0.3, "ready"));
        assert_ne!(report(1.0, 0.1, "ready"), report(1.0, 0.1, "down"));
    }
}
