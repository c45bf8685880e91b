//! `waxwing topics`: which topics have subscribers, and where.

use clap::Subcommand;

use super::Globals;
use super::codec::{Admin, TopicRow};
use super::output::{Mark, Table, json, line, talk, thousands};

#[derive(Debug, clap::Args)]
pub struct TopicsArgs {
    #[command(subcommand)]
    command: TopicsCommand,
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Topics with subscribers on the node asked.
    #[command(
        after_help = "With -o json: {\"topics\": [..], \"more\": true or false}\n\nExample:\n  waxwing topics list room: --limit 20"
    )]
    List {
        /// Only those that start with it.
        #[arg(default_value = "")]
        prefix: String,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One topic: how many subscriptions on which member.
    Info { topic: String },
}

pub(super) async fn run(args: TopicsArgs, globals: &Globals) -> anyhow::Result<()> {
    let admin = Admin::connect(globals).await?;
    match args.command {
        TopicsCommand::List { prefix, limit } => {
            let (topics, more) = admin.topics(prefix, limit).await?;
            if globals.wants_json() {
                return json(&serde_json::json!({ "topics": topics, "more": more }));
            }
            line(&list(&topics))?;
            if more {
                talk(globals, "there are more: --limit N, or a longer prefix");
            }
            Ok(())
        }
        TopicsCommand::Info { topic } => {
            let topic = admin.topic(topic).await?;
            if globals.wants_json() { json(&topic) } else { Ok(line(&info(&topic))?) }
        }
    }
}

fn list(topics: &[TopicRow]) -> String {
    let mut table = Table::new(&["TOPIC", "HERE", "CLUSTER"]);
    for topic in topics {
        let cells = [
            topic.topic.clone(),
            thousands(topic.local_subscriptions),
            thousands(topic.subscriptions),
        ];
        table.row(cells, Mark::Plain);
    }
    table.render()
}

fn info(topic: &TopicRow) -> String {
    let mut table = Table::new(&["MEMBER", "SUBSCRIPTIONS"]);
    for member in &topic.members {
        table.row([member.node.clone(), thousands(member.subscriptions)], Mark::Plain);
    }
    table.row(["(all)".to_owned(), thousands(topic.subscriptions)], Mark::Plain);
    let mut out = table.render();
    if !topic.patterns.is_empty() {
        let mut table = Table::new(&["PATTERN THAT MATCHES"]);
        for pattern in &topic.patterns {
            table.row([pattern.clone()], Mark::Plain);
        }
        out = format!("{out}\n\n{}", table.render());
    }
    out
}
