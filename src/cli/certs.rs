//! `waxwing certs`: an authority and certificates for those who have none, and a look at what a file holds.
//!
//! Keys are written for their owner alone. What is there already is left as it is, unless --replace is said; then the new file takes its
//! place in one step, so that a node which reads it gets the one or the other.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Globals;
use super::failure::Usage;
use super::output::{harmless, json, line, talk};
use crate::config::secrets::{read_private, read_public};
use crate::supervise::Clock;
use crate::tls::certificate::{Certificate, date};
use crate::tls::issue::{Authority, Issued, Validity, authority};
use crate::types::{ClusterName, NodeName};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  waxwing certs ca\n  waxwing certs node a --host a.example.com 10.0.0.5\n  waxwing certs client backend\n  waxwing certs show a.pem"
)]
pub struct CertsArgs {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Make an authority: ca.pem for everybody, ca.key for whoever signs.
    Ca(CaArgs),
    /// Make a node's certificate: for its clients and for the other nodes.
    Node(NodeArgs),
    /// Make a client's certificate, for nodes that ask for one (tls.client_ca).
    Client(ClientArgs),
    /// Show what certificates say: for whom, for what, until when.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct Place {
    /// Where the files are.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Put new ones in the place of those that are there.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
struct CaArgs {
    /// What it is called in certificates.
    #[arg(long, value_name = "NAME", default_value = "Waxwing authority")]
    name: String,
    /// How long it is valid.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct NodeArgs {
    /// The node's name, as in node.name.
    #[arg(value_name = "NAME", value_parser = node_name)]
    name: NodeName,
    /// The cluster's name, as in cluster.name.
    #[arg(long = "cluster", value_name = "NAME", default_value = "waxwing", value_parser = cluster_name)]
    cluster: ClusterName,
    /// Names and addresses under which clients reach it; localhost, 127.0.0.1 and ::1 are always among them.
    #[arg(long, value_name = "HOST", num_args = 1.., value_parser = host)]
    host: Vec<String>,
    /// How long it is valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ClientArgs {
    /// Whose it is.
    #[arg(value_name = "NAME", value_parser = node_name)]
    name: NodeName,
    /// How long it is valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Shown {
    file: String,
    subject: String,
    issuer: String,
    /// The node that it names, `cluster/node`.
    node: Option<String>,
    hosts: Vec<String>,
    purposes: Vec<&'static str>,
    not_before: String,
    not_after: String,
    days_left: i64,
}

pub(super) fn run(args: CertsArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        CertsCommand::Ca(args) => {
            let issued = authority(&args.name, validity(args.days)).map_err(anyhow::Error::msg)?;
            args.place.write("ca", &issued, globals)
        }
        CertsCommand::Node(args) => {
            let signer = args.place.authority()?;
            let made = signer.node(&args.cluster, &args.name, &args.host, validity(args.days));
            args.place.write(args.name.as_str(), &made.map_err(anyhow::Error::msg)?, globals)
        }
        CertsCommand::Client(args) => {
            let signer = args.place.authority()?;
            let made = signer.client(args.name.as_str(), validity(args.days));
            args.place.write(args.name.as_str(), &made.map_err(anyhow::Error::msg)?, globals)
        }
        CertsCommand::Show(args) => show(&args.files, globals),
    }
}

fn now() -> i64 {
    i64::try_from(Clock::new().unix_ms() / 1_000).unwrap_or(i64::MAX)
}

fn validity(days: u32) -> Validity {
    Validity { unix_s: now(), days }
}

impl Place {
    fn authority(&self) -> anyhow::Result<Authority> {
        let (cert, key) = (self.dir.join("ca.pem"), self.dir.join("ca.key"));
        if !cert.exists() {
            let dir = self.dir.display();
            return Err(Usage(format!(
                "{dir} has no ca.pem; make an authority first: waxwing certs ca --dir {dir}"
            ))
            .into());
        }
        let cert = read_public(&cert).map_err(anyhow::Error::msg)?;
        let key = read_private(&key).map_err(anyhow::Error::msg)?;
        Authority::read(&cert, &key).map_err(anyhow::Error::msg)
    }

    /// The key first: a node that sees the new certificate finds the key that belongs to it.
    fn write(&self, name: &str, issued: &Issued, globals: &Globals) -> anyhow::Result<()> {
        let (cert, key) =
            (self.dir.join(format!("{name}.pem")), self.dir.join(format!("{name}.key")));
        for file in [&cert, &key] {
            if !self.replace && file.exists() {
                let what = format!(
                    "{} is there already; --replace puts a new one in its place",
                    file.display()
                );
                return Err(Usage(what).into());
            }
        }
        write_file(&key, &issued.key, 0o600)?;
        write_file(&cert, &issued.cert, 0o644)?;
        talk(globals, &format!("made {} and {}", cert.display(), key.display()));
        Ok(())
    }
}

fn write_file(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || {
        // What an interrupted run has left may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn show(files: &[PathBuf], globals: &Globals) -> anyhow::Result<()> {
    let now = now();
    let mut all = Vec::new();
    for file in files {
        let text = read_public(file).map_err(anyhow::Error::msg)?;
        let read = Certificate::read_pem(&text)
            .map_err(|what| anyhow::anyhow!("{} {what}", file.display()))?;
        all.extend(read.iter().map(|one| shown(file, one, now)));
    }
    if globals.wants_json() {
        return json(&all);
    }
    let texts: Vec<String> = all.iter().map(paragraph).collect();
    Ok(line(&harmless(&texts.join("\n\n")))?)
}

fn shown(file: &Path, one: &Certificate, now: i64) -> Shown {
    let purposes = [
        (one.is_ca, "authority"),
        (!one.is_ca && one.for_servers, "answering"),
        (!one.is_ca && one.for_clients, "calling"),
    ];
    Shown {
        file: file.display().to_string(),
        subject: one.subject.clone(),
        issuer: one.issuer.clone(),
        node: one.node().map(|(cluster, node)| format!("{cluster}/{node}")),
        hosts: one.hosts.clone(),
        purposes: purposes.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect(),
        not_before: date(one.not_before),
        not_after: date(one.not_after),
        days_left: (one.not_after - now).div_euclid(86_400),
    }
}

fn paragraph(one: &Shown) -> String {
    let left = match one.days_left {
        days if days < 0 => "expired".to_owned(),
        days => format!("{days} days left"),
    };
    let mut text = format!("{}\n  subject  {}\n  issuer   {}", one.file, one.subject, one.issuer);
    if let Some(node) = &one.node {
        text += &format!("\n  node     {node}");
    }
    if !one.hosts.is_empty() {
        text += &format!("\n  hosts    {}", one.hosts.join(", "));
    }
    text + &format!(
        "\n  for      {}\n  valid    {} to {} ({left})",
        one.purposes.join(", "),
        one.not_before,
        one.not_after
    )
}

fn node_name(text: &str) -> Result<NodeName, String> {
    match NodeName::parse(text) {
        // Its files would take the place of the authority's.
        Ok(name) if name.as_str() == "ca" => {
            Err("that is the authority's; choose another".to_owned())
        }
        Ok(name) if name.as_str().starts_with('.') => Err("must not begin with a dot".to_owned()),
        parsed => parsed.map_err(|bad| bad.to_string()),
    }
}

fn cluster_name(text: &str) -> Result<ClusterName, String> {
    ClusterName::parse(text).map_err(|bad| bad.to_string())
}

fn host(text: &str) -> Result<String, String> {
    let lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*');
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.is_empty() || 253 < text.len() || !text.chars().all(lawful) {
        return Err("must be a host's name or an IP address, without a port".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}
