//! `waxwing start`: from settings to a running node. Nothing opens before everything has been judged.

use anyhow::Context as _;

use super::settings::SettingArgs;
use crate::config::{Config, Loaded};
use crate::node::Node;
use crate::telemetry;

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
    /// Ends when standard input, a pipe, is closed at its other end.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
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
    let node = Node::start(config, log).await?;
    if args.exit_with_parent {
        node.end_with_parent()?;
    }
    node.run().await
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("must be 1 to 1024".to_owned()),
    }
}
