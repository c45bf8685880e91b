//! What a failed command says, and its exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use super::output::harmless;
use crate::config::Faults;

pub(super) const FAILED: u8 = 1;
pub(super) const USAGE: u8 = 64;

/// The arguments make no sense, seen only after they were parsed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// An error with the next thing to try.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Hinted {
    pub(crate) what: String,
    pub(crate) hint: String,
}

/// Everything was said already; this is the exit code.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub(crate) struct Ended(pub(crate) u8);

pub(super) fn tell(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    if let Some(Ended(code)) = error.downcast_ref::<Ended>() {
        return ExitCode::from(*code);
    }
    // Nobody is there to be told that stderr is closed.
    let _ = say(error);
    let usage = error.is::<Usage>() || error.is::<Faults>();
    ExitCode::from(if usage { USAGE } else { FAILED })
}

fn say(error: &anyhow::Error) -> io::Result<()> {
    let mut stderr = anstream::stderr().lock();
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    if let Some(faults) = error.downcast_ref::<Faults>() {
        let count = faults.iter().count();
        let noun = if count == 1 { "fault" } else { "faults" };
        writeln!(stderr, "{red}error:{red:#} {count} {noun} in the configuration")?;
        for fault in faults.iter() {
            writeln!(stderr, "{}", harmless(&fault.to_string()))?;
        }
        return Ok(());
    }
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    writeln!(stderr, "{red}error:{red:#} {}", harmless(&chain.join(": ")))?;
    if let Some(hinted) = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()) {
        let cyan = Style::new().fg_color(Some(AnsiColor::Cyan.into()));
        writeln!(stderr, "{cyan}hint:{cyan:#} {}", harmless(&hinted.hint))?;
    }
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
