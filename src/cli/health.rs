//! `waxwing health`: quick enough for a container's health check.

use super::Globals;
use super::codec::is_serving;
use super::connect::connect;
use super::output::{json, line};

#[derive(Debug, clap::Args)]
#[command(after_help = "As a container's health check: HEALTHCHECK CMD [\"waxwing\", \"health\"]")]
pub struct HealthArgs {
    /// Fail unless the node may take clients, too.
    #[arg(long)]
    ready: bool,
}

pub(super) async fn run(args: &HealthArgs, globals: &Globals) -> anyhow::Result<()> {
    let connection = connect(globals).await?;
    let address = connection.address.clone();
    let serving = is_serving(connection, globals.timeout).await?;
    if globals.wants_json() {
        json(&serde_json::json!({ "node": address, "alive": true, "serving": serving }))?;
    } else if !globals.quiet {
        line(&format!(
            "{address} {}",
            if serving { "serves" } else { "lives, and takes no clients" }
        ))?;
    }
    if args.ready && !serving {
        anyhow::bail!("{address} is not ready to take clients");
    }
    Ok(())
}
