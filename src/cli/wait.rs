//! `waxwing wait`: asks until the cluster is as wanted, or the time is over.

use std::time::Duration;

use super::codec::Admin;
use super::output::talk;
use super::{Globals, failure};
use crate::status::StatusReport;

const EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(after_help = "Waits at most --timeout; exit code 1 when the time is over.\n\n\
                  Examples:\n  waxwing wait --members 3 --converged --timeout 30s\n  waxwing wait --ready && waxwing publish room:1 hi")]
#[group(required = true, multiple = true)]
pub struct WaitArgs {
    /// Until the node sees at least N live members, itself among them.
    #[arg(long, value_name = "N")]
    members: Option<usize>,
    /// Until the node takes clients.
    #[arg(long)]
    ready: bool,
    /// Until every live member is ready and linked both ways with the node.
    #[arg(long)]
    converged: bool,
}

impl WaitArgs {
    /// What is still missing.
    fn missing(&self, report: &StatusReport) -> Option<String> {
        if let Some(wanted) = self.members.filter(|wanted| report.cluster.members < *wanted) {
            return Some(format!("{} of {wanted} members", report.cluster.members));
        }
        if self.ready && report.node.state != "ready" {
            return Some(format!("{} is {}", report.node.name, report.node.state));
        }
        if self.converged && !report.cluster.converged {
            let (ready, live) = (report.cluster.ready, report.cluster.members);
            return Some(format!("{ready} of {live} members ready, not converged"));
        }
        None
    }
}

pub(super) async fn run(args: &WaitArgs, globals: &Globals) -> anyhow::Result<()> {
    let mut last = String::from("no node answers");
    let waited = tokio::time::timeout(globals.timeout, until(args, globals, &mut last)).await;
    if waited.is_ok() {
        talk(globals, "as wanted");
        return Ok(());
    }
    let time = humantime::format_duration(globals.timeout);
    let what = format!("not as wanted after {time}: {last}");
    Err(failure::Hinted {
        what,
        hint: "look: waxwing status; wait longer: --timeout 30s".to_owned(),
    }
    .into())
}

/// A node that is not there yet is waited for as well.
async fn until(args: &WaitArgs, globals: &Globals, last: &mut String) {
    let mut admin: Option<Admin> = None;
    loop {
        let looked = match &admin {
            Some(admin) => admin.status().await,
            None => match Admin::connect(globals).await {
                Ok(connected) => admin.insert(connected).status().await,
                Err(error) => Err(error),
            },
        };
        match looked.map(|report| args.missing(&report)) {
            Ok(None) => return,
            Ok(Some(missing)) => *last = missing,
            Err(error) => {
                *last = format!("{error:#}");
                admin = None;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing() {
        let mut report = StatusReport::default();
        report.node.name = "a".to_owned();
        report.node.state = "joining".to_owned();
        (report.cluster.members, report.cluster.ready) = (2, 1);
        let args = |members, ready, converged| WaitArgs { members, ready, converged };
        for (args, missing) in [
            (args(Some(2), false, false), None),
            (args(Some(3), true, true), Some("2 of 3 members")),
            (args(Some(2), true, true), Some("a is joining")),
            (args(None, false, true), Some("1 of 2 members ready, not converged")),
        ] {
            assert_eq!(args.missing(&report).as_deref(), missing);
        }
    }
}
