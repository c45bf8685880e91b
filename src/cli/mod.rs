//! The command line. (A part of the command line's own, to compile against.)

mod attach;
pub mod bench;
mod failure;
pub mod output;
pub mod publish;
pub mod subscribe;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

pub use failure::Usage;

use crate::config::Secret;
use crate::types::Namespace;

#[derive(Debug, Clone, clap::Args)]
pub struct Globals {
    #[arg(long, global = true, default_value = "127.0.0.1:7400", value_delimiter = ',')]
    pub node: Vec<String>,
    #[arg(short, long, global = true, value_parser = |text: &str| Namespace::parse(text).map_err(|bad| bad.to_string()))]
    pub namespace: Option<Namespace>,
    #[arg(long, global = true)]
    pub key_file: Option<PathBuf>,
    #[arg(short, long, global = true, value_enum, default_value_t = OutputForm::Table)]
    pub output: OutputForm,
    #[arg(long, global = true, default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    Table,
    Json,
}

impl Globals {
    pub fn key(&self) -> anyhow::Result<Option<Secret>> {
        Ok(None)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|err| err.to_string())
}
