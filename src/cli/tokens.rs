//! `waxwing token`: mints a token as an application server would, and looks at one. Neither asks a node.
//!
//! A token is a secret until it is over: it comes from a file or standard input, never from the arguments.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::Globals;
use super::failure::Usage;
use super::output::{harmless, json, line, talk};
use super::rights::RightsArgs;
use crate::config::secrets::{read_access, read_private};
use crate::rights::token::{Audience, Claims, Signer, TOKEN_LEN_MAX, inspect};
use crate::supervise::Clock;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  waxwing token mint --issuer https://app.example.com --sign-with app.secret -n acme --subscribe 'room:*' --expires 1h\n  \
                  waxwing token inspect token.jwt\n  waxwing token inspect --file access.toml < token.jwt"
)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Sign a token and print it.
    Mint(Box<MintArgs>),
    /// Show what a token says, and with --file whether a node with that file would believe it.
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
struct MintArgs {
    /// Who signs: the issuer's name in the nodes' access file.
    #[arg(long, value_name = "NAME")]
    issuer: String,
    /// Which of its keys.
    #[arg(long, value_name = "ID", default_value = "")]
    kid: String,
    /// Its shared secret (HS256), or its private key in PEM (EdDSA).
    #[arg(long, value_name = "FILE")]
    sign_with: PathBuf,
    /// For whom it is, as the issuer's entry says.
    #[arg(long, value_name = "NAME", default_value = "waxwing")]
    audience: String,
    /// Of whom it is.
    #[arg(long, value_name = "NAME", default_value = "")]
    subject: String,
    /// How long it is good for.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::globals::duration)]
    expires: Duration,
    #[command(flatten)]
    rights: RightsArgs,
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// The file that holds it; standard input where none is named.
    #[arg(value_name = "FILE")]
    token: Option<PathBuf>,
    /// The access file to believe it by.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(args: TokenArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        TokenCommand::Mint(args) => mint(*args, globals),
        TokenCommand::Inspect(args) => look(&args, globals),
    }
}

fn now_s() -> u64 {
    Clock::new().unix_ms() / 1_000
}

fn mint(args: MintArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.rights.is_nothing() {
        let what = "a token that may do nothing opens nothing; say --publish, --subscribe, --presence or --lease";
        return Err(Usage(what.to_owned()).into());
    }
    let text = read_private(&args.sign_with).map_err(anyhow::Error::msg)?;
    let shown = args.sign_with.display();
    let signer = Signer::read(&text).map_err(|what| anyhow::anyhow!("{shown} {what}"))?;
    let claims = Claims {
        iss: args.issuer,
        aud: Audience::One(args.audience),
        sub: args.subject,
        exp: now_s().saturating_add(args.expires.as_secs().max(1)),
        nbf: None,
        namespace: globals.namespace.as_ref().map(ToString::to_string),
        rights: args.rights.said(),
    };
    Ok(line(&signer.mint(&claims, &args.kid).map_err(anyhow::Error::msg)?)?)
}

fn look(args: &InspectArgs, globals: &Globals) -> anyhow::Result<()> {
    let text = match &args.token {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        }
        None => {
            let mut text = String::new();
            std::io::stdin().take(TOKEN_LEN_MAX as u64 + 2).read_to_string(&mut text)?;
            text
        }
    };
    let text = text.trim();
    let Some((header, claims)) = inspect(text) else {
        anyhow::bail!("this is no token: three parts of base64url with dots between them");
    };
    let verdict = match &args.file {
        None => None,
        Some(path) => {
            let access = read_access(path).map_err(anyhow::Error::msg)?;
            let access = access.map_err(|wrong| {
                let lines: Vec<String> =
                    wrong.iter().map(|one| super::keys::told(path, one)).collect();
                anyhow::anyhow!(lines.join("\n"))
            })?;
            Some(access.admit(text.as_bytes(), now_s()))
        }
    };
    if globals.wants_json() {
        let is_believed = verdict.as_ref().map(Result::is_ok);
        json(&serde_json::json!({ "header": header, "claims": claims, "believed": is_believed }))?;
    } else {
        let pretty = |value| serde_json::to_string_pretty(value).map(|text| harmless(&text));
        line(&format!("{}\n{}", pretty(&header)?, pretty(&claims)?))?;
    }
    match verdict {
        None => talk(globals, "nothing of this was verified; --file access.toml does"),
        Some(Ok(grant)) => talk(globals, &format!("believed: namespace {}", grant.namespace)),
        Some(Err(why)) => anyhow::bail!("not believed: {why}"),
    }
    Ok(())
}
