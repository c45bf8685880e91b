//! SIGHUP: limits, log level and secrets are read again. All of it is judged before any of it holds; one fault, and nothing changes.

use super::Parts;
use super::log_level::LogLevels;
use crate::config::{Config, Faults, Reloaded, keys};

/// `current`: the settings in force.
pub(super) fn reload(parts: &Parts, log: &LogLevels, current: &mut Config) {
    match read(parts, log, current) {
        Ok(changed) if changed.is_empty() => tracing::info!("settings read again; nothing changed"),
        Ok(changed) => {
            for change in changed {
                tracing::info!("settings read again: {change}");
            }
        }
        Err(faults) => {
            tracing::error!("settings read again are wrong; nothing changed");
            for fault in faults.iter() {
                tracing::error!("{fault}");
            }
        }
    }
}

/// What changed, in words.
fn read(parts: &Parts, log: &LogLevels, current: &mut Config) -> Result<Vec<String>, Faults> {
    let Reloaded { limits, log_level, secrets, waiting } = parts.config.reload()?;
    let mut before = current.clone();
    // Somebody may have set it since.
    before.log.level = log.lasting();
    current.limits = limits;
    current.log.level = log_level;
    current.cluster.secrets = secrets;

    let mut changed = keys::changed(&before, current);
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
