//! The settings as arguments, made from the table of keys; `check-config` and `config`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use serde::Serialize;

use super::Globals;
use super::output::{harmless, json, line, talk};
use crate::config::keys::{KEYS, Key, default_file};
use crate::config::{Config, Host, Loaded, Sources};

/// Every key as a flag, and where else settings come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingArgs {
    file: Option<PathBuf>,
    insecure: bool,
    dial: Vec<String>,
    flags: Vec<(usize, String)>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 64 and one line a fault, when there is any.\n\nExample:\n  waxwing check-config /etc/waxwing.toml --insecure"
)]
pub struct CheckArgs {
    /// The file to judge, rather than that of --config.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// What holds with this file, environment and flags, and where each value comes from.
    Show(Box<SettingArgs>),
    /// A commented file of the defaults.
    #[command(after_help = "Example:\n  waxwing config default > waxwing.toml")]
    Default,
}

#[derive(Serialize)]
struct Shown {
    key: String,
    value: toml::Value,
    from: String,
}

impl SettingArgs {
    pub(super) fn sources(self) -> Sources {
        Sources {
            file: self.file,
            flags: self.flags,
            insecure: self.insecure,
            dial: self.dial,
            ..Sources::from_env()
        }
    }
}

pub(super) fn check(args: CheckArgs, globals: &Globals) -> anyhow::Result<()> {
    let mut sources = args.settings.sources();
    sources.file = args.file.or(sources.file);
    let Loaded { config, .. } = Config::load(sources)?;
    let file = config.sources.file.map(|path| path.display().to_string());
    talk(globals, &format!("{}: no faults", file.as_deref().unwrap_or("environment and flags")));
    let security = &config.security;
    if security.control_keys && security.access_file.is_none() {
        let what = "keys are asked for and there is no access file: if the cluster has agreed on no key yet, nobody can make the first one; make it \
                    into a file: waxwing key create --admin --file access.toml, then --access-file access.toml";
        talk(globals, what);
    }
    Ok(())
}

pub(super) fn run(args: ConfigArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        ConfigCommand::Default => {
            Ok(line(default_file(&Config::defaults(Host::look().name)).trim_end())?)
        }
        ConfigCommand::Show(settings) => show(&Config::load(settings.sources())?, globals),
    }
}

fn show(loaded: &Loaded, globals: &Globals) -> anyhow::Result<()> {
    let shown = KEYS.iter().enumerate().map(|(index, key)| Shown {
        key: key.path(),
        value: key.value(&loaded.config),
        from: loaded.origins.get(index).to_string(),
    });
    if globals.wants_json() {
        return json(&shown.collect::<Vec<_>>());
    }
    let settings: Vec<(&Key, String, String)> = KEYS
        .iter()
        .zip(shown)
        .map(|(key, shown)| (key, format!("{} = {}", key.name, shown.value), shown.from))
        .collect();
    let width = settings.iter().map(|(_, setting, _)| setting.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    let mut section = "";
    for (key, setting, from) in settings {
        if key.section != section {
            section = key.section;
            lines.push(format!("[{section}]"));
        }
        lines.push(format!("{setting:<width$}  # {from}"));
    }
    let secrets = loaded.config.cluster.secrets.len();
    lines.push(format!("# cluster secrets: {secrets}, not shown"));
    Ok(line(&harmless(&lines.join("\n")))?)
}

const CONFIG: &str = "config";
const INSECURE: &str = "insecure";
const DIAL: &str = "dial";

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let command = command
            .arg(
                Arg::new(CONFIG)
                    .long("config")
                    .value_name("FILE")
                    .env("WAXWING_CONFIG")
                    .value_parser(clap::value_parser!(PathBuf))
                    .help("Read settings from this file"),
            )
            .arg(
                Arg::new(INSECURE)
                    .long("insecure")
                    .action(ArgAction::SetTrue)
                    .help("Let anybody who reaches the client ports in: --allow-plaintext and --allow-anonymous"),
            )
            .arg(
                Arg::new(DIAL)
                    .long("dial")
                    .value_name("NAME=ADDR")
                    .action(ArgAction::Append)
                    .hide(true)
                    .help("Dial and gossip to a member here instead of where it says it is"),
            );
        let defaults = Config::defaults(Host::look().name);
        KEYS.iter().fold(command, |command, key| command.arg(flag(key, &defaults)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(key: &'static Key, defaults: &Config) -> Arg {
    let default = match key.value(defaults) {
        toml::Value::String(text) => text,
        toml::Value::Array(_) => String::new(),
        other => other.to_string(),
    };
    let default = match default.as_str() {
        // Found out where nobody says it.
        _ if key.is_found_out() => String::new(),
        "" => default,
        _ => format!(" [default: {default}]"),
    };
    let arg = Arg::new(key.path())
        .long(key.flag())
        .value_name(key.shape)
        .allow_negative_numbers(true)
        .help_heading(format!("[{}]", key.section))
        .help(format!("{}{default} [env: {}]", key.meaning(), key.env()))
        // The common ones on the first screen, all of them with --help.
        .hide_short_help(!key.at_limit.is_empty());
    if key.is_switch() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else if key.is_list() {
        arg.num_args(1..).action(ArgAction::Append)
    } else {
        arg
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>(CONFIG).cloned();
        self.insecure = matches.get_flag(INSECURE);
        self.dial = matches.get_many::<String>(DIAL).unwrap_or_default().cloned().collect();
        for (index, key) in KEYS.iter().enumerate() {
            if let Some(values) = matches.get_many::<String>(&key.path()) {
                self.flags.push((index, values.cloned().collect::<Vec<_>>().join(",")));
            }
        }
        Ok(())
    }
}
