//! What an operator tells a running node: join, drain, leave, another log level.

use std::time::Duration;

use super::Globals;
use super::codec::Admin;
use super::globals::duration;
use super::output::{json, line, talk};
use crate::config::{address, level};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  waxwing join 10.0.0.5:7401 10.0.0.6:7401")]
pub struct JoinArgs {
    /// Peer ports of members of the cluster.
    #[arg(value_name = "ADDR", required = true, value_parser = address::dial)]
    seeds: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  waxwing drain b --wait\n  waxwing drain --grace 1m --wait --node 10.0.0.5:7400"
)]
pub struct DrainArgs {
    #[command(flatten)]
    whom: Whom,
    /// How long its clients have to move.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    grace: Duration,
    /// Tell each step, and end when the node has ended.
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Its clients are cut off; `waxwing drain` hands them over first.\n\nExamples:\n  waxwing leave\n  waxwing leave b"
)]
pub struct LeaveArgs {
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Whom {
    /// The member of this name, found through the node asked; without it, the node asked.
    #[arg(value_name = "NODE")]
    member: Option<String>,
    /// The node asked, as without NODE.
    #[arg(long = "self")]
    oneself: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  waxwing log-level debug --for 5m\n  waxwing log-level info,waxwing::link=trace"
)]
pub struct LogLevelArgs {
    /// error, warn, info, debug or trace; or a filter as of RUST_LOG.
    #[arg(value_parser = lawful_level)]
    level: String,
    /// Back to the level before after so long.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    for_time: Option<Duration>,
}

impl Whom {
    async fn admin(&self, globals: &Globals) -> anyhow::Result<Admin> {
        match &self.member {
            Some(name) => Admin::of_member(name, globals).await,
            None => Admin::connect(globals).await,
        }
    }

    fn shown(&self, admin: &Admin) -> String {
        self.member.clone().unwrap_or_else(|| admin.address.clone())
    }
}

pub(super) async fn join(args: JoinArgs, globals: &Globals) -> anyhow::Result<()> {
    let names = Admin::connect(globals).await?.join(args.seeds).await?;
    if globals.wants_json() {
        return json(&serde_json::json!({ "members": names }));
    }
    Ok(line(
        &names.iter().map(|name| super::output::harmless(name)).collect::<Vec<_>>().join("\n"),
    )?)
}

pub(super) async fn drain(args: DrainArgs, globals: &Globals) -> anyhow::Result<()> {
    let admin = args.whom.admin(globals).await?;
    let whom = args.whom.shown(&admin);
    let mut steps = admin.drain(args.grace).await?;
    let mut leaves = false;
    loop {
        match steps.next().await {
            Ok(Some(step)) => {
                if globals.wants_json() {
                    json(&step)?;
                } else {
                    talk(globals, &format!("{whom}: {} {}", step.step, step.detail));
                }
                leaves |= matches!(step.step.as_str(), "leave" | "close");
                if !args.wait {
                    talk(globals, &format!("{whom} drains; look: waxwing members"));
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            // The node closes its connections last of all.
            Err(_) if leaves => return Ok(()),
            Err(error) => return Err(error.context(format!("{whom} was lost while it drained"))),
        }
    }
}

pub(super) async fn leave(args: LeaveArgs, globals: &Globals) -> anyhow::Result<()> {
    let admin = args.whom.admin(globals).await?;
    admin.leave().await?;
    talk(globals, &format!("{} leaves", args.whom.shown(&admin)));
    Ok(())
}

pub(super) async fn log_level(args: LogLevelArgs, globals: &Globals) -> anyhow::Result<()> {
    let admin = Admin::connect(globals).await?;
    let before = admin.set_log_level(args.level.clone(), args.for_time).await?;
    if globals.wants_json() {
        return json(&serde_json::json!({ "level": args.level, "before": before }));
    }
    let back = args.for_time.map(|time| format!(", back in {}", humantime::format_duration(time)));
    let back = back.unwrap_or_default();
    talk(globals, &format!("{}: {} (was {before}{back})", admin.address, args.level));
    Ok(())
}

fn lawful_level(text: &str) -> Result<String, String> {
    level::parse_level(text).map(|_| text.to_owned())
}
