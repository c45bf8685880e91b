//! What a test measured: told on stderr, and appended to the file that `WAXWING_FIGURES` names.

use std::io::Write;
use std::time::Duration;

#[expect(clippy::print_stderr, reason = "a measured figure is for whoever runs the tests")]
pub fn tell(name: &str, value: f64, unit: &str) {
    eprintln!("figure: {name} = {value:.3} {unit}");
    let Some(path) = std::env::var_os("WAXWING_FIGURES") else { return };
    let line = serde_json::json!({ "name": name, "value": value, "unit": unit });
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        eprintln!("figure {name} is not in the file: {error}");
    }
}

pub fn tell_time(name: &str, value: Duration) {
    tell(name, value.as_secs_f64(), "s");
}
