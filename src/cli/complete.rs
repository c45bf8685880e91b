//! `waxwing completions`: scripts for shells.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use super::output::line;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  waxwing completions bash > /etc/bash_completion.d/waxwing")]
pub struct CompletionArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "waxwing", &mut script);
    Ok(line(String::from_utf8(script)?.trim_end())?)
}
