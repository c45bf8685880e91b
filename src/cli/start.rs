//! `waxwing start`: from settings to a running node. Nothing opens before everything has been judged.

use anyhow::Context as _;

use super::settings::SettingArgs;
use crate::config::{Config, Loaded};
use crate::telemetry::{self, LogLevel};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Settings: default < file < environment < flag. `waxwing config default` prints them all; SIGHUP reads limits, log level and secrets again.\n\
                  SIGTERM drains; a second one ends the node.\n\n\
                  Examples:\n  waxwing start --name a\n  waxwing start --config /etc/waxwing.toml --join 10.0.0.5:7401 10.0.0.6:7401"
)]
pub struct StartArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Worker threads; one a core unless said.
    #[arg(long, value_name = "N", env = "WAXWING_THREADS", value_parser = threads)]
    pub(super) threads: Option<usize>,
}

pub(super) async fn run(args: StartArgs) -> anyhow::Result<()> {
    let Loaded { config, .. } = Config::load(args.settings.sources())?;
    let stderr = std::io::stderr();
    let colours = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
    let log = telemetry::init(config.log.format, &config.log.level, colours)?;
    if let Some(dir) = &config.node.data_dir {
        let made = std::fs::create_dir(dir).or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        });
        made.with_context(|| format!("make {}", dir.display()))?;
    }
    if config.security.allow_plaintext || config.security.allow_anonymous {
        tracing::warn!(
            allow_plaintext = config.security.allow_plaintext,
            allow_anonymous = config.security.allow_anonymous,
            "insecure: whoever reaches the client ports is let in"
        );
    }
    serve(config, log).await
}

/// Until the node has ended.
async fn serve(config: Config, log: LogLevel) -> anyhow::Result<()> {
    let _ = log;
    anyhow::bail!("start {}: this build holds no node", config.node.name)
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("must be 1 to 1024".to_owned()),
    }
}
