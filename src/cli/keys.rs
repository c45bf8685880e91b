//! `waxwing key`: makes keys, lists them, takes them back: those that the cluster agrees on, or, with `--file`, those of an access file
//! (`security.access_file`), for which no node is asked.
//!
//! A key is shown once, when it is made; what is kept is its hash. Entries are put behind what a file holds, and cut out of it, as text:
//! comments and order stay as they are.

mod agreed;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use toml::Value as Toml;

use super::Globals;
use super::edit::Editing;
use super::failure::Usage;
use super::output::{Mark, Table, harmless, json, line, talk};
use super::rights::RightsArgs;
use crate::config::secrets::read_private_long;
use crate::config::value::parse_duration;
use crate::rights::access::{KeyRow, Wrong};
use crate::rights::key::{self, KeyHash, RANDOM_LEN};
use crate::rights::said::RightsSaid;
use crate::rights::{Access, Right};
use crate::supervise::Clock;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  waxwing key create -n acme --publish 'room:*' --subscribe 'room:*' --presence 'room:*' --note 'chat servers' > chat.key\n  \
                  waxwing key list\n  waxwing key revoke k7m2qd9xwp\n  \
                  waxwing key create --file access.toml --admin --expires 90d > operator.key\n\n\
                  Without --file the cluster is asked, and a change holds on every node within a second. Nodes look at its keys where they have \
                  an access file, or --control-keys. The first key can't be made so where nobody is let in yet: make it into a file.\n\
                  With --file no node is asked: nodes read the file at their start (--access-file) and again on SIGHUP, each its own."
)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and print it. It is not shown again.
    Create(Box<CreateArgs>),
    /// List the keys, and what each may do; with -n those of one namespace.
    List(ListArgs),
    /// Take a key back: its sessions end, those of a file's at the next SIGHUP.
    #[command(visible_alias = "remove")]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct Place {
    /// The access file that is meant, as nodes read it; else the cluster is asked.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    rights: RightsArgs,
    /// It may look at nodes: status, metrics, members, sessions, topics.
    #[arg(long)]
    observe: bool,
    /// It may rule nodes: join, drain, leave, end sessions. And look at them.
    #[arg(long)]
    admin: bool,
    /// How long it is good for, as 90d or 12h; else for ever.
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<Duration>,
    /// What it is for.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The key's id, as `list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    namespace: String,
    note: String,
    expires: Option<String>,
    expired: bool,
    publish: Vec<String>,
    subscribe: Vec<String>,
    presence: Vec<String>,
    lease: Vec<String>,
    deny_publish: Vec<String>,
    deny_subscribe: Vec<String>,
    deny_presence: Vec<String>,
    deny_lease: Vec<String>,
    observe: bool,
    admin: bool,
    /// The node that was asked has another key of this id in its access file.
    #[serde(skip_serializing_if = "is_no")]
    overridden: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_no(said: &bool) -> bool {
    !*said
}

pub(super) async fn run(args: KeyArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        KeyCommand::Create(args) => {
            let allows = args.observe || args.admin || !args.rights.is_nothing();
            if !allows {
                let what = "a key that may do nothing opens nothing; say --publish, --subscribe, --presence, --lease, --observe or --admin";
                return Err(Usage(what.to_owned()).into());
            }
            let said =
                RightsSaid { observe: args.observe, admin: args.admin, ..args.rights.said() };
            match &args.place.file {
                Some(file) => create(&args, &said, file, globals),
                None => agreed::create(&args, said, globals).await,
            }
        }
        KeyCommand::List(args) => {
            let rows = match &args.place.file {
                Some(file) => list(file, globals)?,
                None => agreed::list(globals).await?,
            };
            if globals.wants_json() { json(&rows) } else { Ok(line(&draw(&rows))?) }
        }
        KeyCommand::Revoke(args) => match &args.place.file {
            Some(file) => remove(&args.id, file, globals),
            None => agreed::revoke(&args.id, globals).await,
        },
    }
}

fn create(
    args: &CreateArgs,
    said: &RightsSaid,
    path: &Path,
    globals: &Globals,
) -> anyhow::Result<()> {
    let editing = Editing::begin(path)?;
    let before = if path.exists() { read(path)? } else { BEGINNING.to_owned() };
    let mut random = [0; RANDOM_LEN];
    getrandom::fill(&mut random).context("find randomness")?;
    let (id, text) = key::make(&random);
    let namespace = globals.namespace.clone().unwrap_or_default();
    let mut entry = format!(
        "\n[[key]]\nid = \"{id}\"\nnamespace = \"{namespace}\"\nhash = \"{}\"\n",
        KeyHash::of(text.as_bytes())
    );
    if !args.note.is_empty() {
        entry += &format!("note = {}\n", Toml::String(args.note.clone()));
    }
    if let Some(lifetime) = args.expires {
        entry += &format!("expires = {}\n", humantime::format_rfc3339_seconds(now() + lifetime));
    }
    entry += &toml::to_string(said).context("write the rights")?;
    let after = before + &entry;
    judged(path, &after)?;
    editing.write(&after)?;
    talk(globals, &format!("key {id} of namespace {namespace} added to {}", path.display()));
    talk(globals, "it is not shown again; nodes read the file at their start and on SIGHUP");
    tell_made(&id, namespace.as_str(), &text, globals)
}

fn tell_made(id: &str, namespace: &str, text: &str, globals: &Globals) -> anyhow::Result<()> {
    if globals.wants_json() {
        return json(&serde_json::json!({ "id": id, "namespace": namespace, "key": text }));
    }
    Ok(line(text)?)
}

fn list(path: &Path, globals: &Globals) -> anyhow::Result<Vec<Listed>> {
    let rows = judged(path, &read(path)?)?.into_iter().map(listed);
    let of = globals.namespace.as_ref().map(|namespace| namespace.as_str());
    Ok(rows.filter(|row| of.is_none_or(|of| of == row.namespace)).collect())
}

fn draw(rows: &[Listed]) -> String {
    let mut table = Table::new(&["ID", "NAMESPACE", "EXPIRES", "MAY", "NOTE"]);
    for row in rows {
        let expires = match &row.expires {
            None => "never".to_owned(),
            Some(at) if row.expired => format!("{at} (over)"),
            Some(at) => at.clone(),
        };
        let mark = if row.expired || row.overridden { Mark::Warn } else { Mark::Plain };
        let id = if row.overridden {
            format!("{} (not looked at: the access file has this id)", row.id)
        } else {
            row.id.clone()
        };
        let cells = [id, row.namespace.clone(), expires, rights_of(row), row.note.clone()];
        table.row(cells.map(|cell| harmless(&cell)), mark);
    }
    table.render()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(Clock::new().unix_ms())
}

fn rights_of(row: &Listed) -> String {
    let mut said = Vec::new();
    for (word, globs) in [
        ("publish", &row.publish),
        ("subscribe", &row.subscribe),
        ("presence", &row.presence),
        ("lease", &row.lease),
        ("not publish", &row.deny_publish),
        ("not subscribe", &row.deny_subscribe),
        ("not presence", &row.deny_presence),
        ("not lease", &row.deny_lease),
    ] {
        if !globs.is_empty() {
            said.push(format!("{word} {}", globs.join(" ")));
        }
    }
    for (word, is_so) in [("observe", row.observe && !row.admin), ("admin", row.admin)] {
        if is_so {
            said.push(word.to_owned());
        }
    }
    said.join("; ")
}

impl Listed {
    fn new(
        id: String,
        namespace: String,
        note: String,
        ends_s: Option<u64>,
        rights: RightsSaid,
        overridden: bool,
    ) -> Self {
        // No time of four digits' year is later.
        const LAST_S: u64 = 253_402_300_799;
        let at = ends_s.map(|ends| UNIX_EPOCH + Duration::from_secs(ends.min(LAST_S)));
        Self {
            expires: at.map(|at| humantime::format_rfc3339_seconds(at).to_string()),
            expired: at.is_some_and(|at| at <= now()),
            publish: rights.publish,
            subscribe: rights.subscribe,
            presence: rights.presence,
            lease: rights.lease,
            deny_publish: rights.deny_publish,
            deny_subscribe: rights.deny_subscribe,
            deny_presence: rights.deny_presence,
            deny_lease: rights.deny_lease,
            observe: rights.observe,
            admin: rights.admin,
            id,
            namespace,
            note,
            overridden,
        }
    }
}

fn listed(row: KeyRow) -> Listed {
    let (allow, deny) = row.rules.said();
    let globs = |list: &[(Right, Box<[u8]>)], right: Right| -> Vec<String> {
        let of_right = list.iter().filter(|(of, _)| *of == right);
        of_right.map(|(_, glob)| String::from_utf8_lossy(glob).into_owned()).collect()
    };
    let has = |right: Right| allow.iter().any(|(of, _)| *of == right);
    let rights = RightsSaid {
        publish: globs(allow, Right::Publish),
        subscribe: globs(allow, Right::Subscribe),
        presence: globs(allow, Right::Presence),
        lease: globs(allow, Right::Lease),
        deny_publish: globs(deny, Right::Publish),
        deny_subscribe: globs(deny, Right::Subscribe),
        deny_presence: globs(deny, Right::Presence),
        deny_lease: globs(deny, Right::Lease),
        observe: has(Right::Observe),
        admin: has(Right::Admin),
    };
    Listed::new(row.id, row.namespace, row.note, row.ends_s, rights, false)
}

fn remove(id: &str, path: &Path, globals: &Globals) -> anyhow::Result<()> {
    let editing = Editing::begin(path)?;
    let before = read(path)?;
    let rows = judged(path, &before)?;
    let Some(row) = rows.iter().find(|row| row.id == id) else {
        anyhow::bail!(
            "{} has no key {}; see: waxwing key list --file FILE",
            path.display(),
            harmless(id)
        );
    };
    let after = without(&before, row.line);
    let left = judged(path, &after)?;
    if left.len() + 1 != rows.len() || left.iter().any(|row| row.id == id) {
        anyhow::bail!(
            "the entry of {id} in {} is written in a way that this command can't cut out; take it out by hand",
            path.display()
        );
    }
    editing.write(&after)?;
    talk(
        globals,
        &format!(
            "key {id} taken out of {}; its sessions end at the nodes' next SIGHUP",
            path.display()
        ),
    );
    if left.is_empty() {
        // Issuers may be left, which are not looked at here.
        let what = "no key is left in it: if there is no [[issuer]] either, nodes refuse the file at SIGHUP, and their sessions stay; \
                    make another key first, or start the nodes anew to let nobody in";
        let _ = writeln!(anstream::stderr().lock(), "{what}");
    }
    Ok(())
}

/// Without the table that begins on this line, up to the next one or what is said before it.
fn without(text: &str, from: usize) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    // Where serde says that a table begins is its header, or the first line below it.
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let mut first = from.saturating_sub(1).min(lines.len());
    while first > 0 && lines.get(first).is_none_or(|line| !is_header(line)) {
        first -= 1;
    }
    let behind = lines.iter().skip(first + 1).position(is_header);
    let mut end = behind.map_or(lines.len(), |at| first + 1 + at);
    // Comments above the next entry are that one's.
    while end > first + 1
        && behind.is_some()
        && lines
            .get(end - 1)
            .is_some_and(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        end -= 1;
    }
    lines[..first].concat() + &lines[end..].concat()
}

fn read(path: &Path) -> anyhow::Result<String> {
    read_private_long(path).map_err(anyhow::Error::msg)
}

fn judged(path: &Path, text: &str) -> anyhow::Result<Vec<KeyRow>> {
    Access::rows(text).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(|one| told(path, one)).collect();
        anyhow::anyhow!(lines.join("\n"))
    })
}

pub(super) fn told(path: &Path, (line, what): &Wrong) -> String {
    match line {
        0 => format!("{}: {what}", path.display()),
        line => format!("{}:{line}: {what}", path.display()),
    }
}

const BEGINNING: &str = "# Who is let in. Nodes read this at their start (--access-file) and again on SIGHUP; `waxwing key create --file` writes it.\n";

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = parse_duration(text)?;
    const LIFETIME_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
    match lifetime {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        longer if longer > LIFETIME_MAX => Err("must be at most 100 years".to_owned()),
        lifetime => Ok(lifetime),
    }
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn an_entry_is_cut_out_and_the_rest_stays_as_it_was() {
        let text = "# all\n\n# first\n[[key]]\nid = \"a\"\n\n# second\n[[key]]\nid = \"b\"\n\n[[key]]\nid = \"c\"\n";
        for (line, left) in [
            (4, "# all\n\n# first\n\n# second\n[[key]]\nid = \"b\"\n\n[[key]]\nid = \"c\"\n"),
            (8, "# all\n\n# first\n[[key]]\nid = \"a\"\n\n# second\n\n[[key]]\nid = \"c\"\n"),
            (11, "# all\n\n# first\n[[key]]\nid = \"a\"\n\n# second\n[[key]]\nid = \"b\"\n\n"),
        ] {
            assert_eq!(without(text, line), left);
        }
    }
}
