//! `waxwing namespace`: the tenants that the cluster agrees on, and how much each may have.

use clap::{Args, Subcommand};

use super::Globals;
use super::control::codec::{Control, NamespaceRow, QuotaRow};
use super::control::confirm;
use super::failure::Usage;
use super::output::{Mark, Table, bytes, counted, harmless, json, line, talk, thousands};
use crate::config::value::parse_bytes;
use crate::rights::rates::{self, Of};
use crate::types::Namespace;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  waxwing namespace create acme --sessions 1000 --publish-rate '500/s burst 2000'\n  \
                  waxwing namespace create 'trial-*' --presences 100 --patterns false\n  waxwing namespace update acme --sessions none\n  \
                  waxwing namespace delete acme --contents\n\n\
                  Once there is any, keys are made for those that there are; a template, with `*` in its name, is for each that has no entry of \
                  its own. Quotas are each node's own, but for presences; a node's access file comes first."
)]
pub struct NamespaceArgs {
    #[command(subcommand)]
    command: NamespaceCommand,
}

#[derive(Debug, Subcommand)]
enum NamespaceCommand {
    /// Make a namespace, or a template for many.
    Create(ChangeArgs),
    /// List them, with what each has.
    List,
    /// One of them.
    Show {
        #[arg(value_name = "NAME", value_parser = template)]
        name: String,
    },
    /// Change what is named of its quota; the rest stays.
    Update(ChangeArgs),
    /// Delete one that has neither keys nor leases, or with --contents whatever it has.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct ChangeArgs {
    #[arg(value_name = "NAME", value_parser = template)]
    name: String,
    #[command(flatten)]
    quota: QuotaArgs,
}

/// `none` takes a bound away.
#[derive(Debug, Args)]
struct QuotaArgs {
    /// Sessions at once on a node, those that linger among them; or none.
    #[arg(long, value_name = "N|none", value_parser = bound)]
    sessions: Option<Said>,
    /// Subscriptions of all its sessions on a node; or none.
    #[arg(long, value_name = "N|none", value_parser = bound)]
    subscriptions: Option<Said>,
    /// Topics with subscribers on a node; or none.
    #[arg(long, value_name = "N|none", value_parser = bound)]
    topics: Option<Said>,
    /// Presences in the cluster; or none.
    #[arg(long, value_name = "N|none", value_parser = bound)]
    presences: Option<Said>,
    /// Messages a second on a node, as '500/s burst 2000'; unlimited; or default.
    #[arg(long, value_name = "RATE", value_parser = messages)]
    publish_rate: Option<String>,
    /// Bytes a second on a node, as '1MiB/s burst 8MiB'; unlimited; or default.
    #[arg(long, value_name = "RATE", value_parser = bytes_rate)]
    publish_bytes: Option<String>,
    /// Bytes of one message, as 64KiB; or none.
    #[arg(long, value_name = "SIZE|none", value_parser = size)]
    payload: Option<Said>,
    /// Whether there may be subscriptions by pattern.
    #[arg(long, value_name = "BOOL")]
    patterns: Option<bool>,
}

/// A bound, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said(Option<u64>);

#[derive(Debug, Args)]
struct DeleteArgs {
    #[arg(value_name = "NAME", value_parser = template)]
    name: String,
    /// Its keys and leases too: sessions of those keys end.
    #[arg(long)]
    contents: bool,
    /// Don't ask whether that is meant.
    #[arg(long)]
    yes: bool,
}

impl QuotaArgs {
    fn is_nothing(&self) -> bool {
        let mut changed = QuotaRow { patterns: true, ..QuotaRow::default() };
        let mut other = QuotaRow {
            sessions: Some(0),
            subscriptions: Some(0),
            topics: Some(0),
            presences: Some(0),
            publish_rate: Some(String::new()),
            publish_bytes_rate: Some(String::new()),
            payload_bytes: Some(0),
            patterns: false,
        };
        let before = (changed.clone(), other.clone());
        self.put(&mut changed);
        self.put(&mut other);
        (changed, other) == before
    }

    fn put(&self, quota: &mut QuotaRow) {
        for (said, place) in [
            (self.sessions, &mut quota.sessions),
            (self.subscriptions, &mut quota.subscriptions),
            (self.topics, &mut quota.topics),
            (self.presences, &mut quota.presences),
            (self.payload, &mut quota.payload_bytes),
        ] {
            if let Some(Said(bound)) = said {
                *place = bound;
            }
        }
        for (said, place) in [
            (&self.publish_rate, &mut quota.publish_rate),
            (&self.publish_bytes, &mut quota.publish_bytes_rate),
        ] {
            if let Some(rate) = said {
                *place = (rate != DEFAULT).then(|| rate.clone());
            }
        }
        if let Some(patterns) = self.patterns {
            quota.patterns = patterns;
        }
    }
}

pub(super) async fn run(args: NamespaceArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        NamespaceCommand::Create(ChangeArgs { name, quota }) => {
            let mut row = QuotaRow { patterns: true, ..QuotaRow::default() };
            quota.put(&mut row);
            let made = Control::connect(globals).await?.create_namespace(&name, row).await?;
            changed(&made, "is there", globals)
        }
        NamespaceCommand::Update(ChangeArgs { name, quota }) => {
            if quota.is_nothing() {
                return Err(Usage("say what to change of its quota".to_owned()).into());
            }
            let control = Control::connect(globals).await?;
            let NamespaceRow { quota: mut row, revision, .. } = control.namespace(&name).await?;
            quota.put(&mut row);
            let made = control.update_namespace(&name, row, revision).await?;
            changed(&made, "is changed", globals)
        }
        NamespaceCommand::List => {
            let rows = Control::connect(globals).await?.namespaces().await?;
            if globals.wants_json() {
                return json(&rows);
            }
            line(&list(&rows))?;
            if rows.is_empty() {
                talk(globals, "no namespace is told apart: keys may be made for any name");
            }
            Ok(())
        }
        NamespaceCommand::Show { name } => {
            let row = Control::connect(globals).await?.namespace(&name).await?;
            if globals.wants_json() { json(&row) } else { Ok(line(&show(&row))?) }
        }
        NamespaceCommand::Delete(args) => delete(&args, globals).await,
    }
}

fn changed(row: &NamespaceRow, what: &str, globals: &Globals) -> anyhow::Result<()> {
    if globals.wants_json() {
        return json(row);
    }
    talk(globals, &format!("namespace {} {what}; see: waxwing namespace show", row.name));
    Ok(())
}

async fn delete(args: &DeleteArgs, globals: &Globals) -> anyhow::Result<()> {
    let control = Control::connect(globals).await?;
    if args.contents && !args.yes {
        let row = control.namespace(&args.name).await?;
        if row.keys > 0 || row.leases > 0 {
            let what = format!(
                "delete the namespace {} with its {} and {}",
                row.name,
                counted(row.keys, "key"),
                counted(row.leases, "lease")
            );
            confirm(&what, false)?;
        }
    }
    control.delete_namespace(&args.name, args.contents).await?;
    talk(globals, &format!("namespace {} is deleted", args.name));
    Ok(())
}

fn list(rows: &[NamespaceRow]) -> String {
    let mut table = Table::new(&[
        "NAMESPACE",
        "KEYS",
        "LEASES",
        "SESSIONS",
        "SUBSCRIPTIONS",
        "TOPICS",
        "PRESENCES",
        "PUBLISH",
        "BYTES",
        "PAYLOAD",
        "PATTERNS",
    ]);
    for NamespaceRow { name, quota, keys, leases, .. } in rows {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), thousands);
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| DEFAULT.to_owned());
        table.row(
            [
                name.clone(),
                thousands(*keys),
                thousands(*leases),
                number(quota.sessions),
                number(quota.subscriptions),
                number(quota.topics),
                number(quota.presences),
                text(&quota.publish_rate),
                text(&quota.publish_bytes_rate),
                quota.payload_bytes.map_or_else(|| "-".to_owned(), bytes),
                if quota.patterns { "yes" } else { "no" }.to_owned(),
            ],
            Mark::Plain,
        );
    }
    table.render()
}

fn show(row: &NamespaceRow) -> String {
    let quota = &row.quota;
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), thousands);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| DEFAULT.to_owned());
    let mut lines = vec![format!("namespace      {}", row.name)];
    for (name, value) in [
        ("keys", thousands(row.keys)),
        ("leases", thousands(row.leases)),
        ("sessions", number(quota.sessions)),
        ("subscriptions", number(quota.subscriptions)),
        ("topics", number(quota.topics)),
        ("presences", number(quota.presences)),
        ("publish rate", text(&quota.publish_rate)),
        ("bytes rate", text(&quota.publish_bytes_rate)),
        ("payload", quota.payload_bytes.map_or_else(|| "-".to_owned(), bytes)),
        ("patterns", if quota.patterns { "yes" } else { "no" }.to_owned()),
        ("revision", row.revision.to_string()),
    ] {
        lines.push(format!("{name:<14} {value}"));
    }
    harmless(&lines.join("\n"))
}

const DEFAULT: &str = "default";

fn bound(text: &str) -> Result<Said, String> {
    match text {
        "none" => Ok(Said(None)),
        text => text
            .replace('_', "")
            .parse()
            .map(|bound| Said(Some(bound)))
            .map_err(|_| "must be a whole number, or none".to_owned()),
    }
}

fn size(text: &str) -> Result<Said, String> {
    match text {
        "none" => Ok(Said(None)),
        text => parse_bytes(text).map(|bytes| Said(Some(bytes))),
    }
}

fn messages(text: &str) -> Result<String, String> {
    rate(text, Of::Messages)
}

fn bytes_rate(text: &str) -> Result<String, String> {
    rate(text, Of::Bytes)
}

fn rate(text: &str, of: Of) -> Result<String, String> {
    if text != DEFAULT {
        rates::parse(text, of)?;
    }
    Ok(text.to_owned())
}

/// A name, or a template: what stands for any run must leave a lawful name.
fn template(text: &str) -> Result<String, String> {
    Namespace::parse(&text.replace('*', "x")).map_err(|bad| bad.to_string())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{ChangeArgs, QuotaRow};

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ChangeArgs,
    }

    fn said(line: &str) -> ChangeArgs {
        let words = std::iter::once("x").chain(line.split(' ').filter(|word| !word.is_empty()));
        Line::try_parse_from(words).unwrap().args
    }

    #[test]
    fn an_update_changes_what_is_named_and_nothing_else() {
        let before = QuotaRow {
            sessions: Some(5),
            presences: Some(7),
            publish_rate: Some("5/s".to_owned()),
            patterns: true,
            ..QuotaRow::default()
        };
        let after = |line: &str| {
            let mut quota = before.clone();
            said(line).quota.put(&mut quota);
            quota
        };
        assert_eq!(after("acme"), before);
        assert!(said("acme").quota.is_nothing());
        assert_eq!(after("acme --sessions none"), QuotaRow { sessions: None, ..before.clone() });
        assert_eq!(
            after("acme --payload 64KiB --patterns false --publish-rate default"),
            QuotaRow {
                payload_bytes: Some(64 << 10),
                patterns: false,
                publish_rate: None,
                ..before.clone()
            }
        );
        for line in ["acme --sessions none", "acme --patterns true", "acme --publish-bytes default"]
        {
            assert!(!said(line).quota.is_nothing(), "{line}");
        }
    }
}
