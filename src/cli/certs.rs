//! `waxwing certs`: an authority and certificates for those who have none, and a look at what a file holds.
//!
//! Keys are written for their owner alone. What is there already is left as it is, unless --replace is said; then the new file takes its
//! place in one step, so that a node which reads it gets the one or the other.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Globals;
use super::edit::replace;
use super::failure::Usage;
use super::output::{harmless, harmless_line, json, line, talk};
use crate::config::secrets::{read_private, read_public};
use crate::supervise::Clock;
use crate::tls::certificate::{Certificate, date};
use crate::tls::issue::{Authority, Issued, LOCAL, Validity, authority};
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
    /// The cluster's name, as in cluster.name. [default: that of the certificate replaced, or waxwing]
    #[arg(long = "cluster", value_name = "NAME", value_parser = cluster_name)]
    cluster: Option<ClusterName>,
    /// Names and addresses under which clients reach it; localhost, 127.0.0.1 and ::1 are always among them. [default: those of the
    /// certificate replaced]
    #[arg(long, value_name = "HOST", num_args = 1.., value_parser = host)]
    host: Option<Vec<String>>,
    /// How long it is valid. [default: as long as the certificate replaced, or 365]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ClientArgs {
    /// Whose it is.
    #[arg(value_name = "NAME", value_parser = node_name)]
    name: NodeName,
    /// How long it is valid. [default: as long as the certificate replaced, or 365]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
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
            let replaced = args.place.replaced(args.name.as_str())?;
            let Renewed { cluster, hosts, days, said } = Renewed::of(replaced.as_ref(), &args);
            let cluster = match cluster {
                Some(cluster) => cluster,
                None => cluster_name(CLUSTER).map_err(anyhow::Error::msg)?,
            };
            let made = signer.node(&cluster, &args.name, &hosts, validity(days));
            args.place.write(args.name.as_str(), &made.map_err(anyhow::Error::msg)?, globals)?;
            for line in said {
                talk(globals, &harmless_line(&line));
            }
            Ok(())
        }
        CertsCommand::Client(args) => {
            let signer = args.place.authority()?;
            let replaced = args.place.replaced(args.name.as_str())?;
            let days = args.days.or_else(|| replaced.as_ref().map(days_of)).unwrap_or(DAYS);
            let made = signer.client(args.name.as_str(), validity(days));
            args.place.write(args.name.as_str(), &made.map_err(anyhow::Error::msg)?, globals)
        }
        CertsCommand::Show(args) => show(&args.files, globals),
    }
}

/// Of a certificate of which nothing else is said.
const CLUSTER: &str = "waxwing";
const DAYS: u32 = 365;

fn now() -> i64 {
    i64::try_from(Clock::new().unix_ms() / 1_000).unwrap_or(i64::MAX)
}

fn validity(days: u32) -> Validity {
    Validity { unix_s: now(), days }
}

/// What a node's new certificate says, where the command does not.
struct Renewed {
    cluster: Option<ClusterName>,
    hosts: Vec<String>,
    days: u32,
    /// What was taken over from the one replaced, and what of it goes.
    said: Vec<String>,
}

impl Renewed {
    fn of(replaced: Option<&Certificate>, args: &NodeArgs) -> Self {
        let before = replaced.iter().flat_map(|one| &one.hosts);
        let before: Vec<String> =
            before.filter(|host| !LOCAL.contains(&host.as_str())).cloned().collect();
        let mut said = Vec::new();
        let hosts = match &args.host {
            Some(hosts) => {
                let gone: Vec<&str> =
                    before.iter().map(String::as_str).filter(|host| !holds(hosts, host)).collect();
                if !gone.is_empty() {
                    said.push(format!("no longer for {}", gone.join(", ")));
                }
                hosts.clone()
            }
            None => {
                if !before.is_empty() {
                    said.push(format!("for {}, as the one replaced", before.join(", ")));
                }
                before
            }
        };
        let was_in = replaced.and_then(Certificate::node).map(|(cluster, _)| cluster);
        match (&args.cluster, &was_in) {
            (Some(cluster), Some(was_in)) if cluster != was_in => {
                said.push(format!("of the cluster {cluster}, no longer of {was_in}"));
            }
            (None, Some(was_in)) if was_in.as_str() != CLUSTER => {
                said.push(format!("of the cluster {was_in}, as the one replaced"));
            }
            _ => {}
        }
        let was_for = replaced.map_or(DAYS, days_of);
        if args.days.is_none() && was_for != DAYS {
            said.push(format!("valid for {was_for} days, as the one replaced"));
        }
        let cluster = args.cluster.clone().or(was_in);
        Self { cluster, hosts, days: args.days.unwrap_or(was_for), said }
    }
}

fn holds(hosts: &[String], host: &str) -> bool {
    hosts.iter().any(|one| one == host)
}

/// Whole ones: what it is backdated by is less than one.
fn days_of(one: &Certificate) -> u32 {
    let days = one.not_after.saturating_sub(one.not_before) / 86_400;
    u32::try_from(days).unwrap_or(DAYS).clamp(1, 36_500)
}

impl Place {
    /// What is there already, if it is to be replaced.
    fn replaced(&self, name: &str) -> anyhow::Result<Option<Certificate>> {
        let path = self.dir.join(format!("{name}.pem"));
        if !self.replace || !path.exists() {
            return Ok(None);
        }
        let read = read_public(&path).and_then(|text| Certificate::read_pem(&text));
        match read.map(|all| all.into_iter().next()) {
            Ok(found) => Ok(found),
            // Its hosts would be lost without a word.
            Err(what) => {
                let path = path.display();
                anyhow::bail!(
                    "{path} {what}: what it was for can't be taken over; move it away and make a new one"
                )
            }
        }
    }

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
        replace(&key, &issued.key, 0o600, |_| Ok(()))?;
        replace(&cert, &issued.cert, 0o644, |_| Ok(()))?;
        talk(globals, &format!("made {} and {}", cert.display(), key.display()));
        Ok(())
    }
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
