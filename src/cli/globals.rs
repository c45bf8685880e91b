//! The arguments that every command takes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::output::talk;
use crate::client::ClientTls;
use crate::config::Secret;
use crate::config::address;
use crate::config::secrets::{read_private, read_public};
use crate::config::value::parse_duration;
use crate::types::Namespace;

const GRPC_PORT: u16 = 7400;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// Where to ask: the first node that answers is taken.
    #[arg(
        long,
        global = true,
        value_name = "ADDR[,ADDR]",
        env = "WAXWING_NODE",
        default_value = "127.0.0.1:7400",
        value_delimiter = ',',
        value_parser = node_address
    )]
    pub node: Vec<String>,
    /// The tenant whose topics are meant.
    #[arg(short, long, global = true, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<Namespace>,
    /// File that holds the key to be let in with; or the key itself in WAXWING_KEY.
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Speak TLS with nodes that this authority's file (PEM) has signed for.
    #[arg(long, global = true, value_name = "FILE", env = "WAXWING_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// The certificate to show, for nodes that ask for one.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "WAXWING_CLIENT_CERT",
        requires = "tls_ca",
        requires = "client_key"
    )]
    pub client_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "WAXWING_CLIENT_KEY",
        requires = "client_cert"
    )]
    pub client_key: Option<PathBuf>,
    /// A table for people or JSON for programs; a stream is one object a line.
    #[arg(short, long, global = true, value_enum, default_value_t = OutputForm::Table)]
    pub output: OutputForm,
    /// How long to wait for a connection, and for an answer.
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = timeout)]
    pub timeout: Duration,
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto, help = "Colours")]
    pub color: ColorWhen,
    /// Say nothing but data and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

impl ColorWhen {
    pub(super) fn apply(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

impl Globals {
    /// None: in the clear.
    pub fn tls(&self) -> anyhow::Result<Option<ClientTls>> {
        let Some(ca) = &self.tls_ca else { return Ok(None) };
        let read = |text: Result<String, String>| text.map_err(anyhow::Error::msg);
        let authority = read(read_public(ca)).context("read --tls-ca")?;
        let own = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                let cert = read(read_public(cert)).context("read --client-cert")?;
                Some((cert, read(read_private(key)).context("read --client-key")?))
            }
            _ => None,
        };
        let own = own.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()));
        let tls = ClientTls::new(&authority, own);
        tls.map(Some).map_err(|what| anyhow::anyhow!("read {}: it {what}", ca.display()))
    }

    /// Once, where a key is about to be sent so that others on the way can read it.
    pub(super) fn warn_of_plaintext(&self, addresses: &[String]) {
        static SAID: AtomicBool = AtomicBool::new(false);
        let has_key = self.key_file.is_some() || std::env::var_os("WAXWING_KEY").is_some();
        let far = addresses.iter().find(|address| !address::is_near(address));
        if let Some(far) = far
            && has_key
            && self.tls_ca.is_none()
            && !SAID.swap(true, Ordering::Relaxed)
        {
            let what = format!(
                "warning: the key goes to {far} in the clear, and whoever is on the way can take it; say --tls-ca FILE"
            );
            talk(self, &what);
        }
    }

    /// The key to be let in with. Never from the arguments, which others on the host can read.
    pub fn key(&self) -> anyhow::Result<Option<Secret>> {
        let text = match &self.key_file {
            Some(path) => read_private(path).map_err(anyhow::Error::msg).context("read key")?,
            None => match std::env::var("WAXWING_KEY") {
                Ok(text) => text,
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => {
                    anyhow::bail!("read key: WAXWING_KEY is no text");
                }
            },
        };
        let mut lines =
            text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        match (lines.next(), lines.next()) {
            (Some(key), None) => Ok(Some(Secret::new(key.into()))),
            (None, _) => anyhow::bail!("read key: it is empty"),
            (Some(_), Some(_)) => anyhow::bail!("read key: there is more than one line"),
        }
    }
}

/// `HOST:PORT`; the port may be left out.
fn node_address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let text = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .unwrap_or(text)
        .trim_end_matches('/');
    let bare = !text.contains(':') || text.ends_with(']');
    if bare { address::dial(&format!("{text}:{GRPC_PORT}")) } else { address::dial(text) }
}

fn namespace(text: &str) -> Result<Namespace, String> {
    Namespace::parse(text).map_err(|bad| bad.to_string())
}

fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        duration => Ok(duration),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    if DURATION_MAX < duration { Err("must be at most 7 days".to_owned()) } else { Ok(duration) }
}
