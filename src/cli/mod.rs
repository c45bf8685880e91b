//! The command line: data to stdout, talk to stderr, meaning in the exit code (0 done, 1 failed or timed out, 64 usage).

mod attach;
mod bench;
mod certs;
mod codec;
mod complete;
pub mod connect;
mod control;
mod dev;
mod edit;
mod failure;
mod globals;
mod health;
mod keys;
mod lease;
mod members;
mod namespaces;
mod operate;
pub mod output;
mod presence;
mod publish;
mod rights;
mod sessions;
mod settings;
mod start;
mod status;
mod subscribe;
mod tokens;
mod topics;
mod unreachable;
mod wait;
mod watch;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Usage;
pub use globals::{ColorWhen, Globals, OutputForm};

#[derive(Debug, Parser)]
#[command(
    name = "waxwing",
    version,
    about = "A clustered pub/sub and presence node and the commands to look after it.",
    after_help = "A first look: start a node with `waxwing start`, then `waxwing status` and `waxwing members`.\n\
                  Exit codes: 0 done, 1 failed or timed out, 64 usage. Data goes to stdout, talk to stderr.",
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node until it is told to stop.
    Start(Box<start::StartArgs>),
    /// Run a whole cluster on this machine, to try things and to break them.
    Dev(dev::DevArgs),
    /// Judge a configuration without starting anything.
    CheckConfig(Box<settings::CheckArgs>),
    /// Show settings: the defaults, or what holds here and where it comes from.
    Config(settings::ConfigArgs),
    /// Make a small authority and certificates, or look at some.
    Certs(certs::CertsArgs),
    /// Make keys for clients, list them, take them back: in the cluster, or in an access file.
    #[command(alias = "keys")]
    Key(keys::KeyArgs),
    /// Make namespaces, say how much each may have, delete them.
    #[command(alias = "namespaces")]
    Namespace(namespaces::NamespaceArgs),
    /// Look at the group that agrees on namespaces, keys and leases; found it, save it, bring it back.
    Control(control::ControlArgs),
    /// Sign a token for a client, or look at one.
    Token(tokens::TokenArgs),
    /// Print a completion script for a shell.
    Completions(complete::CompletionArgs),
    /// Let a node join a cluster by its seeds.
    Join(operate::JoinArgs),
    /// Let a node hand over its clients, then stop.
    Drain(operate::DrainArgs),
    /// Let a node depart at once.
    Leave(operate::LeaveArgs),
    /// List the members as one node sees them.
    Members(members::MembersArgs),
    /// Ask whether a node lives, or may take clients.
    Health(health::HealthArgs),
    /// Show how a node and its cluster are doing.
    Status(status::StatusArgs),
    /// Wait until the cluster is as wanted.
    Wait(wait::WaitArgs),
    /// Change the log level of a running node.
    LogLevel(operate::LogLevelArgs),
    /// Publish messages to a topic.
    Publish(publish::PublishArgs),
    /// Subscribe to topics and print what comes.
    Subscribe(subscribe::SubscribeArgs),
    /// Look at who is there, or be there.
    Presence(presence::PresenceArgs),
    /// Have exactly one of many do something: leases.
    Lease(lease::LeaseArgs),
    /// Measure a running cluster; order and loss are always checked.
    Bench(bench::BenchArgs),
    /// Look at topics that have subscribers.
    Topics(topics::TopicsArgs),
    /// Look at the sessions of a node, or end one.
    Sessions(sessions::SessionsArgs),
}

impl Cli {
    /// How many threads the runtime is to have; None: one a core.
    pub fn threads(&self) -> Option<usize> {
        match &self.command {
            Command::Start(args) => args.threads,
            _ => Some(2),
        }
    }
}

/// What the arguments ask for; or the exit code, when that is told already: help, a version, wrong usage.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(args).map_err(|error| {
        // Nobody is there to be told that stderr is closed.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS }
    })
}

pub async fn run(cli: Cli) -> ExitCode {
    cli.globals.color.apply();
    let globals = &cli.globals;
    let done = match cli.command {
        Command::Start(args) => start::run(*args).await,
        Command::Dev(args) => dev::run(&args).await,
        Command::CheckConfig(args) => settings::check(*args, globals),
        Command::Config(args) => settings::run(args, globals),
        Command::Certs(args) => certs::run(args, globals),
        Command::Token(args) => tokens::run(args, globals),
        Command::Key(args) => keys::run(args, globals).await,
        Command::Namespace(args) => namespaces::run(args, globals).await,
        Command::Control(args) => control::run(args, globals).await,
        Command::Completions(args) => complete::run(&args),
        Command::Join(args) => operate::join(args, globals).await,
        Command::Drain(args) => operate::drain(args, globals).await,
        Command::Leave(args) => operate::leave(args, globals).await,
        Command::Members(args) => members::run(&args, globals).await,
        Command::Health(args) => health::run(&args, globals).await,
        Command::Status(args) => status::run(&args, globals).await,
        Command::Wait(args) => wait::run(&args, globals).await,
        Command::LogLevel(args) => operate::log_level(args, globals).await,
        Command::Publish(args) => publish::run(args, globals).await,
        Command::Subscribe(args) => subscribe::run(args, globals).await,
        Command::Presence(args) => presence::run(args, globals).await,
        Command::Lease(args) => lease::run(args, globals).await,
        Command::Bench(args) => bench::run(args, globals).await,
        Command::Topics(args) => topics::run(args, globals).await,
        Command::Sessions(args) => sessions::run(args, globals).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::tell(&error),
    }
}

/// There is no runtime to run on.
pub fn cannot_run(error: &std::io::Error) -> ExitCode {
    failure::tell(&anyhow::anyhow!("start threads: {error}"))
}
