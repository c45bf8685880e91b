//! Keys that the cluster agrees on.

use std::time::UNIX_EPOCH;

use anyhow::Context as _;

use super::{CreateArgs, Listed, now, tell_made};
use crate::cli::Globals;
use crate::cli::control::codec::{AgreedKeyRow, Control};
use crate::cli::output::talk;
use crate::rights::said::RightsSaid;

/// It names the file for a node that starts.
const VARIABLE: &str = "WAXWING_SECURITY_ACCESS_FILE";

/// Whoever means an access file is told how to say so.
async fn connect(globals: &Globals) -> anyhow::Result<Control> {
    if let Some(file) = std::env::var_os(VARIABLE) {
        let file = file.to_string_lossy();
        let what = format!(
            "the cluster is asked; for the access file that {VARIABLE} names, say --file {file}"
        );
        talk(globals, &what);
    }
    Control::connect(globals).await.context("ask the cluster (keys of an access file: --file FILE)")
}

pub(super) async fn create(
    args: &CreateArgs,
    said: RightsSaid,
    globals: &Globals,
) -> anyhow::Result<()> {
    let ends_s = args.expires.map(|lifetime| {
        (now() + lifetime).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    });
    let namespace = globals.namespace.clone().unwrap_or_default();
    let control = connect(globals).await?;
    let (key, text) = control.create_key(namespace.as_str(), &args.note, ends_s, said).await?;
    let made = format!("key {} of namespace {} is agreed on", key.id, key.namespace);
    talk(globals, &made);
    talk(
        globals,
        "it is not shown again; every node with an access file or --control-keys lets it in",
    );
    tell_made(&key.id, &key.namespace, &text, globals)
}

/// Of the namespace that was named, or of all.
pub(super) async fn list(globals: &Globals) -> anyhow::Result<Vec<Listed>> {
    let namespace = globals.namespace.as_ref().map(|namespace| namespace.as_str());
    let rows = connect(globals).await?.keys(namespace.unwrap_or_default()).await?;
    Ok(rows.into_iter().map(listed).collect())
}

pub(super) async fn revoke(id: &str, globals: &Globals) -> anyhow::Result<()> {
    connect(globals).await?.revoke_key(id).await?;
    talk(globals, &format!("key {id} is revoked; its sessions end within a second"));
    Ok(())
}

fn listed(row: AgreedKeyRow) -> Listed {
    let AgreedKeyRow { id, namespace, note, ends_s, rights, overridden } = row;
    Listed::new(id, namespace, note, ends_s, rights, overridden)
}
