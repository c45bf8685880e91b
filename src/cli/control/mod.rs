//! `waxwing control`: the group that agrees on namespaces, keys and leases. How it stands, how it begins, and copies of what it holds.

pub(super) mod codec;

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::Globals;
use super::failure::{Hinted, Usage};
use super::members::or_none;
use super::output::{Mark, Table, counted, harmless, json, line, talk, thousands};
use codec::{Control, GroupRow};

/// No backup is larger.
const BACKUP_LEN_MAX: u64 = 96 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  waxwing control status\n  waxwing control backup control.backup\n  waxwing control audit --limit 20\n\n\
                  Namespaces, keys and leases are agreed on by a group inside the cluster, which begins by itself: on a lone node without seeds, \
                  or where the nodes are started with --expect N. Without a quorum they can't be changed, and everything else goes on."
)]
pub struct ControlArgs {
    #[command(subcommand)]
    command: ControlCommand,
}

#[derive(Debug, Subcommand)]
enum ControlCommand {
    /// Who is in the group, who leads, and what is wrong.
    Status,
    /// Begin a group by hand.
    #[command(
        after_help = "Without --from-copy: where the nodes have seeds and were not told how many there will be (--expect N), nobody begins one.\n\
                      With it: where most of the voters are lost for good. Ask the member whose `applied` is the highest in its own `control status`: \
                      what the lost ones had and it lacks is lost. Members that are left of the old group join the new one.\n\n\
                      Examples:\n  waxwing control init\n  waxwing control init --from-copy --node 10.0.0.5:7400"
    )]
    Init(InitArgs),
    /// Save all that is agreed on, as one node has it, into a file.
    #[command(
        after_help = "The file is as private as keys: it holds their hashes. `-` is stdout.\n\nExample:\n  waxwing control backup control-$(date +%F).backup"
    )]
    Backup {
        /// Where to; it must not be there yet.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Bring back what a backup holds, into a cluster that has nothing yet.
    #[command(
        after_help = "Leases in it run out unless their holders renew them; keys and namespaces are as they were then, so a key that was revoked \
                      since is a key again.\n\nExample:\n  waxwing control restore control.backup"
    )]
    Restore {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Who changed which namespaces and keys, newest last.
    #[command(
        after_help = "The newest 1,000 are kept.\n\nExample:\n  waxwing control audit --limit 20"
    )]
    Audit {
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

#[derive(Debug, Args)]
struct InitArgs {
    /// From the copy of the node asked, where most of its group's voters are lost for good.
    #[arg(long)]
    from_copy: bool,
    /// Don't ask whether that is meant.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: ControlArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        ControlCommand::Status => {
            let row = Control::connect(globals).await?.status().await?;
            if globals.wants_json() { json(&row) } else { Ok(line(&draw(&row))?) }
        }
        ControlCommand::Init(args) => init(&args, globals).await,
        ControlCommand::Backup { file } => backup(&file, globals).await,
        ControlCommand::Restore { file } => restore(&file, globals).await,
        ControlCommand::Audit { limit } => {
            let rows = Control::connect(globals).await?.audit(limit).await?;
            if globals.wants_json() {
                return json(&rows);
            }
            let mut table = Table::new(&["NUMBER", "AT", "BY", "WHAT"]);
            for row in rows {
                table.row([thousands(row.number), row.at, row.by, row.what], Mark::Plain);
            }
            Ok(line(&table.render())?)
        }
    }
}

fn draw(row: &GroupRow) -> String {
    let mut lines = Vec::new();
    let quorum = if row.quorum { "quorum" } else { "no quorum" };
    match &*row.group {
        "" => lines.push("group    none yet".to_owned()),
        group => {
            let is_empty = if row.written { "" } else { ", empty" };
            lines.push(format!("group    {}{is_empty}", harmless(group)));
            let leader = or_none(&row.leader);
            lines.push(format!("leader   {}, term {}, {quorum}", harmless(&leader), row.term));
            lines.push(format!("applied  {}", thousands(row.applied)));
        }
    }
    if !row.problem.is_empty() {
        lines.push(format!("problem  {}", harmless(&row.problem)));
    }
    let mut table = Table::new(&["NODE", "ROLE", "STATE", "DISK", "RAFT ID"]);
    for seat in &row.members {
        let mark = match (&*seat.role, &*seat.state) {
            ("voter" | "leader", "down" | "gone") => Mark::Bad,
            (_, "ready") => Mark::Plain,
            _ => Mark::Warn,
        };
        let disk = if seat.durable { "yes" } else { "no" };
        let cells =
            [&seat.node, &seat.role, &seat.state, disk, &or_none(&seat.raft_id)].map(str::to_owned);
        table.row(cells, mark);
    }
    format!("{}\n\n{}", lines.join("\n"), table.render())
}

async fn init(args: &InitArgs, globals: &Globals) -> anyhow::Result<()> {
    let control = Control::connect(globals).await?;
    if args.from_copy {
        let status = control.status().await?;
        let what = format!(
            "found a new group from the copy of {}, which has applied {}; what the lost voters had beyond that is lost",
            control.address,
            thousands(status.applied)
        );
        confirm(&what, args.yes)?;
    }
    let group = control.init(args.from_copy).await?;
    if globals.wants_json() {
        return json(&serde_json::json!({ "group": group }));
    }
    talk(globals, &format!("the group {group} has begun; see: waxwing control status"));
    Ok(())
}

/// Whether it is meant: asked at a terminal, else said by `--yes`.
pub(super) fn confirm(what: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Usage(format!("this would {what}; say --yes")).into());
    }
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{}. Go on? [y/N] ", harmless(what))?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    anyhow::bail!("nothing was done")
}

async fn backup(path: &Path, globals: &Globals) -> anyhow::Result<()> {
    let is_stdout = path == Path::new("-");
    if !is_stdout && path.exists() {
        anyhow::bail!("{} is there already; name another file", path.display());
    }
    let control = Control::connect(globals).await?;
    let mut parts = control.backup().await?;
    let mut whole = Vec::new();
    while let Some(part) = parts.next().await? {
        whole.extend_from_slice(&part);
    }
    let len = whole.len() as u64;
    if is_stdout {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&whole)?;
        stdout.flush()?;
    } else {
        write_new(path, &whole).with_context(|| format!("write {}", path.display()))?;
    }
    if globals.wants_json() && !is_stdout {
        return json(&serde_json::json!({ "file": path.display().to_string(), "bytes": len }));
    }
    talk(globals, &format!("{} saved, {} bytes", path.display(), thousands(len)));
    Ok(())
}

/// Whole, or not at all; for its owner alone.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, it takes nobody's place.
        fs::hard_link(&temporary, path)
    };
    let written = write();
    let _ = fs::remove_file(&temporary);
    written
}

async fn restore(path: &Path, globals: &Globals) -> anyhow::Result<()> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut from: Box<dyn io::Read> = match path == Path::new("-") {
            true => Box::new(io::stdin().lock()),
            false => Box::new(File::open(path)?),
        };
        from.as_mut().take(BACKUP_LEN_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 > BACKUP_LEN_MAX || bytes.is_empty() {
        let what = format!("{} is no backup: it has {} bytes", path.display(), bytes.len());
        let hint = "name a file that `waxwing control backup` has made".to_owned();
        return Err(Hinted { what, hint }.into());
    }
    let control = Control::connect(globals).await?;
    let row = control.restore(bytes).await?;
    if globals.wants_json() {
        return json(&row);
    }
    talk(
        globals,
        &format!(
            "{}, {} and {} are back, in the group {}",
            counted(row.namespaces, "namespace"),
            counted(row.keys, "key"),
            counted(row.leases, "lease"),
            row.group
        ),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::codec::{GroupRow, SeatRow};
    use super::{draw, write_new};

    #[test]
    fn how_a_group_looks() {
        let seat = |node: &str, role: &str, state: &str| SeatRow {
            node: node.to_owned(),
            role: role.to_owned(),
            state: state.to_owned(),
            durable: role != "none",
            raft_id: if role == "none" { String::new() } else { "00ff".to_owned() },
        };
        let row = GroupRow {
            group: "ab12".to_owned(),
            leader: String::new(),
            term: 3,
            quorum: false,
            applied: 1_204,
            written: true,
            problem: "no quorum\u{7}".to_owned(),
            members: vec![seat("a", "voter", "ready"), seat("d", "none", "joining")],
        };
        let wanted = "\
group    ab12
leader   -, term 3, no quorum
applied  1,204
problem  no quorum\\u{7}

NODE  ROLE   STATE    DISK  RAFT ID
a     voter  ready    yes   00ff
d     none   joining  no    -";
        assert_eq!(anstream::adapter::strip_str(&draw(&row)).to_string(), wanted);
    }

    #[test]
    fn a_backup_takes_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.backup");
        write_new(&path, b"one").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_new(&path, b"two").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
