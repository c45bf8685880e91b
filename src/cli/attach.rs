//! From the arguments that every command takes to a client with a session.

use anyhow::Context as _;

use super::Globals;
use super::failure::Hinted;
use super::unreachable::unreachable;
use crate::client::{Client, ClientError, Events, Options};

/// What a client of this command line is to be.
pub(super) fn options(globals: &Globals, command: &str) -> anyhow::Result<Options> {
    let mut options = Options::new(globals.node.iter().cloned());
    if let Some(namespace) = &globals.namespace {
        options.namespace = namespace.to_string();
    }
    if let Some(key) = globals.key()? {
        let key = std::str::from_utf8(key.expose()).context("read key: it is no text")?;
        options.key = Some(key.to_owned());
    }
    options.tls = globals.tls()?;
    options.client = format!("waxwing-{command}/{}", env!("CARGO_PKG_VERSION"));
    Ok(options)
}

/// A session on the first of `--node` that takes it; when none does, what was tried.
pub(super) async fn attach(globals: &Globals, command: &str) -> anyhow::Result<(Client, Events)> {
    attach_with(globals, command, |_| {}).await
}

/// As `attach`, with something otherwise.
pub(super) async fn attach_with(
    globals: &Globals,
    command: &str,
    change: impl FnOnce(&mut Options),
) -> anyhow::Result<(Client, Events)> {
    let mut options = options(globals, command)?;
    change(&mut options);
    globals.warn_of_plaintext(&options.addresses);
    let tried = options.addresses.clone();
    match tokio::time::timeout(globals.timeout, Client::connect(options)).await {
        Ok(Ok(attached)) => Ok(attached),
        Ok(Err(ClientError::Unreachable { tried })) => {
            let tried = tried.iter().map(|(address, why)| format!("\n  {address}: {why}"));
            Err(unreachable(&tried.collect::<String>()))
        }
        Ok(Err(err)) => Err(err.into()),
        Err(_) => {
            let time = humantime::format_duration(globals.timeout);
            let tried = tried.iter().map(|address| format!("\n  {address}: tried for {time}"));
            Err(unreachable(&tried.collect::<String>()))
        }
    }
}

/// A refusal with its hint, which is said apart.
pub(super) fn refused(err: ClientError) -> anyhow::Error {
    match err {
        ClientError::Refused(error) if !error.hint.is_empty() => {
            Hinted { what: error.to_string(), hint: error.hint }.into()
        }
        err => err.into(),
    }
}

/// A repeated `--header`, or the like: `K=V`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
