//! SIGHUP: limits, log level, certificates, keys and secrets are read again. All of it is judged before any of it holds; one fault, and nothing changes.

use super::Parts;
use super::certificates::Certificates;
use super::log_level::LogLevels;
use crate::config::{Config, Faults, Reloaded, TlsConfig, keys};
use crate::rights::Access;
use crate::tls::certificate::date;
use std::sync::Arc;

/// `current`: the settings in force.
pub(super) fn reload(parts: &Parts, log: &LogLevels, current: &mut Config) -> bool {
    match read(parts, log, current) {
        Ok(changed) => {
            if changed.is_empty() {
                tracing::info!("settings read again; nothing changed");
            }
            for change in changed {
                tracing::info!("settings read again: {change}");
            }
            true
        }
        Err(faults) => {
            tracing::error!("settings read again are wrong; nothing changed");
            for fault in faults.iter() {
                tracing::error!("{fault}");
            }
            false
        }
    }
}

/// What changed, in words.
fn read(parts: &Parts, log: &LogLevels, current: &mut Config) -> Result<Vec<String>, Faults> {
    let Reloaded { limits, log_level, secrets, tls, access, mut waiting } =
        parts.config.reload()?;
    let mut before = current.clone();
    // Somebody may have set it since.
    before.log.level = log.lasting();
    current.limits = limits;
    current.log.level = log_level;
    current.cluster.secrets = secrets;
    let certificate = take_tls(parts, current, tls, &mut waiting);

    let access = take_access(parts, access, &mut waiting);

    let mut changed = keys::changed(&before, current);
    changed.extend(certificate);
    changed.extend(access);
    parts.limits.set(current.limits.clone());
    if before.log.level != current.log.level {
        // It has been judged already; what is still wrong concerns the log alone.
        if let Err(error) = log.set(&current.log.level, None) {
            tracing::error!(error, level = current.log.level, "this log level can't be set");
        }
    }
    if before.cluster.secrets != current.cluster.secrets {
        parts.membership.set_secrets(&current.cluster.secrets);
        parts.links.set_secrets(&current.cluster.secrets);
        changed.push(format!("{} cluster secrets", current.cluster.secrets.len()));
    }
    if !waiting.is_empty() {
        tracing::warn!(
            settings = waiting.join(", "),
            "changed settings that wait for the next start"
        );
    }
    Ok(changed)
}

/// What changed, in words.
fn take_access(
    parts: &Parts,
    access: Option<Arc<Access>>,
    waiting: &mut Vec<String>,
) -> Option<String> {
    let Some(access) = access else {
        if parts.access.has_file() {
            waiting.push("security.access_file".to_owned());
        }
        return None;
    };
    let (keys, issuers) = (access.keys(), access.issuers());
    match parts.access.set_file(access) {
        Some(put_out) => Some(format!(
            "{}, {}; {} ended whose keys are gone or changed",
            counted(keys, "key"),
            counted(issuers, "issuer"),
            counted(put_out, "session")
        )),
        None => {
            waiting.push("security.access_file".to_owned());
            None
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The certificates' files have changed; nobody has said that anything else has.
pub(super) fn reload_tls(parts: &Parts, current: &mut Config, certificates: &mut Certificates) {
    let mut waiting = Vec::new();
    match current.reload_tls() {
        Ok(tls) => {
            if let Some(changed) = take_tls(parts, current, tls, &mut waiting) {
                tracing::info!("{changed}");
            }
        }
        // Certificate and key are two files: between the two they don't belong together.
        Err(faults) => {
            certificates.forget();
            for fault in faults.iter() {
                tracing::warn!("changed certificates are not taken yet: {fault}");
            }
        }
    }
}

/// What changed, in words.
fn take_tls(
    parts: &Parts,
    current: &mut Config,
    new: TlsConfig,
    waiting: &mut Vec<String>,
) -> Option<String> {
    let (tls, material) = match (&parts.tls, &new.material) {
        (None, None) => return None,
        (Some(tls), Some(material)) if material.is_for_peers() == tls.material().is_for_peers() => {
            (tls, material.clone())
        }
        // What is on the other side of a port must know which it is.
        _ => {
            waiting.push("TLS on or off".to_owned());
            return None;
        }
    };
    let is_same = tls.material().digest() == material.digest();
    current.tls = new;
    if is_same {
        return None;
    }
    let expires = date(material.not_after());
    tls.set(material);
    Some(format!("certificates read again; this node's expires {expires}"))
}
