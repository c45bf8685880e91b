//! Judges histories that were kept: `judge FILE..`, one JSON record a line, as the soak and the tests write them. Ends with 1 where one
//! broke a promise.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cluster_tests::{check, history};

#[derive(Debug, Parser)]
#[command(about = "Judge histories that were kept")]
struct Arguments {
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Violations shown of each file.
    #[arg(long, default_value_t = 20)]
    shown: usize,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut broken = false;
    for file in &arguments.files {
        let records = match history::read(file) {
            Ok(records) => records,
            Err(error) => {
                eprintln!("{}: {error:#}", file.display());
                return ExitCode::from(2);
            }
        };
        let violations = check::judge(&records);
        println!("{}: {} records, {} violations", file.display(), records.len(), violations.len());
        for violation in violations.iter().take(arguments.shown) {
            println!("  {:?}: {}", violation.promise, violation.what);
        }
        broken |= !violations.is_empty();
    }
    ExitCode::from(u8::from(broken))
}
