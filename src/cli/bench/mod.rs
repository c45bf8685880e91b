//! `waxwing bench`: load from this process onto running nodes, with every message accounted for.
//!
//! Each payload carries its publisher's number and a sequence number; each receiver checks them all. A message that is missing without a
//! gap, comes twice or comes out of order makes the bench fail, whatever its speed.

mod codec;
mod fanout;
mod idle;
mod latency;
mod ledger;
mod presence;
mod pubsub;
mod receivers;
mod report;
mod storm;
#[cfg(test)]
mod tests;
mod usage;

use std::time::Duration;

use clap::Subcommand;

use super::{Globals, Usage};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  waxwing bench pubsub --subscribers 100\n  waxwing bench pubsub --across --node 127.0.0.1:7400,127.0.0.1:7410\n  \
                  waxwing bench latency --rate 5000 --subscribers 10 -o json\n  waxwing bench fanout --subscribers 10000\n  waxwing bench idle --sessions 10000\n  \
                  waxwing bench presence --node 127.0.0.1:7400,127.0.0.1:7410\n  waxwing bench storm --attachments 2000"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How many messages a second, and what each delivery costs.
    Pubsub(pubsub::PubsubArgs),
    /// How long a message takes, at a fixed rate.
    Latency(latency::LatencyArgs),
    /// How long until the last of many subscribers has one message.
    Fanout(fanout::FanoutArgs),
    /// How long until what is tracked on one node is complete on another, and until one is seen.
    Presence(presence::PresenceArgs),
    /// Many join one room at once; each watches it and checks every event.
    Storm(storm::StormArgs),
    /// What an idle session costs. Memory is told apart best on a node that was just started.
    Idle(idle::IdleArgs),
}

pub(super) async fn run(args: BenchArgs, globals: &Globals) -> anyhow::Result<()> {
    usage::raise_file_limit();
    match args.what {
        What::Pubsub(args) => pubsub::run(args, globals).await,
        What::Latency(args) => latency::run(args, globals).await,
        What::Fanout(args) => fanout::run(args, globals).await,
        What::Presence(args) => presence::run(args, globals).await,
        What::Storm(args) => storm::run(args, globals).await,
        What::Idle(args) => idle::run(args, globals).await,
    }
}

/// Where publishers and subscribers go.
#[derive(Debug, Clone, Copy, clap::Args)]
struct PlaceArgs {
    /// Subscribers on all nodes of --node but the first, where the publishers are.
    #[arg(long)]
    across: bool,
    /// Connections that subscribers share. [default: one for 100 of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
}

impl PlaceArgs {
    fn publishers<'a>(&self, globals: &'a Globals) -> anyhow::Result<&'a [String]> {
        if self.across && globals.node.len() < 2 {
            return Err(Usage("--across needs two nodes or more: --node A,B".to_owned()).into());
        }
        Ok(&globals.node[..1])
    }

    fn subscribers<'a>(&self, globals: &'a Globals) -> &'a [String] {
        if self.across { &globals.node[1..] } else { &globals.node[..1] }
    }

    fn connections(&self, subscribers: u32) -> u32 {
        self.connections.unwrap_or(subscribers.div_ceil(100)).clamp(1, subscribers.max(1))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match super::globals::duration(text)? {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// A name for this run's topics, so that runs don't hear each other.
fn run_name() -> anyhow::Result<String> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|err| anyhow::anyhow!("no randomness: {err}"))?;
    Ok(random.iter().fold("bench:".to_owned(), |name, byte| format!("{name}{byte:02x}")))
}
