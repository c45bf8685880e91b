//! `-w`: the status again every second. A terminal is redrawn; anything else gets one JSON object a line.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::Globals;
use super::codec::Admin;
use super::output::{json, line, talk};
use crate::status::StatusReport;

const EVERY: Duration = Duration::from_secs(1);

/// Until interrupted. Fails only if no node answers at first: later it looks for one again.
pub(super) async fn watch<T: Serialize>(
    globals: &Globals,
    draw: impl Fn(&StatusReport) -> String,
    object: impl Fn(StatusReport) -> T,
) -> anyhow::Result<()> {
    let mut admin = Some(Admin::connect(globals).await?);
    let redraw = std::io::stdout().is_terminal() && !globals.wants_json();
    loop {
        match look(&mut admin, globals).await {
            Ok(report) if redraw => {
                // Home, then clear to the end: less flicker than the other way round.
                std::io::stdout().write_all(b"\x1b[H\x1b[J")?;
                line(&draw(&report))?;
            }
            Ok(report) => json(&object(report))?,
            Err(error) => {
                admin = None;
                talk(globals, &format!("{error:#}; trying again"));
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(admin: &mut Option<Admin>, globals: &Globals) -> anyhow::Result<StatusReport> {
    let admin = match admin {
        Some(admin) => admin,
        None => admin.insert(Admin::connect(globals).await?),
    };
    admin.status().await
}
