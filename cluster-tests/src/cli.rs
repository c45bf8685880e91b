//! Runs the real command line.

use std::process::Stdio;
use std::time::Duration;

use crate::{binary, process};

/// Far more than any command's own patience.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Output {
    /// None: a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is no JSON ({error}): {self:?}"))
    }

    /// The output, if the exit code is this one.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {self:?}");
        self
    }
}

/// `waxwing ARGS`, to its end.
pub async fn run(args: &[&str]) -> Output {
    let mut command = std::process::Command::new(binary::path());
    process::without_our_environment(&mut command);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("waxwing {args:?} did not end within {PATIENCE:?}"))
        .expect("run waxwing");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
