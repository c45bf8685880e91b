//! `waxwing sessions`: who is attached to a node, who is slow, and ending one.

use clap::Subcommand;

use super::Globals;
use super::codec::{Admin, SessionRow};
use super::members::or_none;
use super::output::{Mark, Table, bytes, harmless, json, line, talk, thousands};

#[derive(Debug, clap::Args)]
pub struct SessionsArgs {
    #[command(subcommand)]
    command: SessionsCommand,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// Sessions of the node asked.
    #[command(
        after_help = "With -o json: {\"sessions\": [..], \"total\": N}\n\nExample:\n  waxwing sessions list --slow"
    )]
    List {
        /// Only those whose mailbox is over half full.
        #[arg(long)]
        slow: bool,
        /// Only those of this front, as grpc.
        #[arg(long, value_name = "FRONT", default_value = "", hide_default_value = true)]
        front: String,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One session, with what it is subscribed to.
    Info { id: String },
    /// End a session; its client is told, and may come back as a new one.
    Kill { id: String },
}

pub(super) async fn run(args: SessionsArgs, globals: &Globals) -> anyhow::Result<()> {
    let admin = Admin::connect(globals).await?;
    match args.command {
        SessionsCommand::List { slow, front, limit } => {
            let (sessions, total) = admin.sessions(slow, front, limit).await?;
            if globals.wants_json() {
                return json(&serde_json::json!({ "sessions": sessions, "total": total }));
            }
            line(&list(&sessions))?;
            if (sessions.len() as u64) < total {
                let shown = thousands(sessions.len() as u64);
                talk(globals, &format!("{shown} of {}: --limit N shows more", thousands(total)));
            }
            Ok(())
        }
        SessionsCommand::Info { id } => {
            let session = admin.session(id).await?;
            if globals.wants_json() { json(&session) } else { Ok(line(&info(&session))?) }
        }
        SessionsCommand::Kill { id } => {
            admin.kill_session(id.clone()).await?;
            talk(globals, &format!("session {id} has ended"));
            Ok(())
        }
    }
}

fn list(sessions: &[SessionRow]) -> String {
    let mut table = Table::new(&[
        "SESSION",
        "NODE",
        "FRONT",
        "CLIENT",
        "ADDRESS",
        "STATE",
        "SUBSCRIPTIONS",
        "MAILBOX",
        "DELIVERED",
        "DROPPED",
    ]);
    for session in sessions {
        let slow = session.mailbox_limit < 2 * session.mailbox_bytes;
        table.row(
            [
                session.id.clone(),
                session.node.clone(),
                session.front.clone(),
                or_none(&session.client),
                or_none(&session.address),
                session.state.clone(),
                thousands(session.subscriptions.into()),
                bytes(session.mailbox_bytes),
                thousands(session.delivered),
                thousands(session.dropped),
            ],
            if slow { Mark::Warn } else { Mark::Plain },
        );
    }
    table.render()
}

fn info(session: &SessionRow) -> String {
    let mailbox = format!("{} of {}", bytes(session.mailbox_bytes), bytes(session.mailbox_limit));
    let mut lines = vec![format!("session        {}", session.id)];
    for (name, value) in [
        ("node", session.node.clone()),
        ("namespace", session.namespace.clone()),
        ("front", session.front.clone()),
        ("client", or_none(&session.client)),
        ("address", or_none(&session.address)),
        ("state", session.state.clone()),
        ("epoch", session.epoch.to_string()),
        ("since", session.since.clone().unwrap_or_else(|| "-".to_owned())),
        ("subscriptions", thousands(session.subscriptions.into())),
        ("mailbox", mailbox),
        ("delivered", thousands(session.delivered)),
        ("dropped", thousands(session.dropped)),
    ] {
        lines.push(format!("{name:<14} {value}"));
    }
    lines.extend(session.topics.iter().map(|topic| format!("{:<14} {topic}", "topic")));
    lines.extend(session.patterns.iter().map(|pattern| format!("{:<14} {pattern}", "pattern")));
    lines.iter().map(|line| harmless(line)).collect::<Vec<_>>().join("\n")
}
