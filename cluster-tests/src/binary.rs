//! The `waxwing` program under test: built once a run, or what `WAXWING_BIN` names.
//!
//! Cargo does not build another package's binary for a test, and a binary that merely lies in the target directory may be stale.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Panics, with cargo's own words on stderr, when it can't be built: no test could run.
pub fn path() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("WAXWING_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// Into the target directory and profile that this test itself was built with, so that everything is shared.
fn build() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this test");
    // TARGET[/TRIPLE]/PROFILE/deps/cluster-HASH
    let profile_dir = exe.ancestors().nth(2).expect("a test lies in PROFILE/deps").to_path_buf();
    let above = profile_dir.parent().expect("a profile lies in a target directory");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };

    let mut cargo = Command::new(env!("CARGO"));
    // The features of everything below depend on what is asked for: with the whole workspace and one (small) test among it, they are
    // those of `cargo test --workspace`, and nothing is built twice.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "waxwing", "--test", "layers"]);
    cargo.args(["--profile", profile]);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace"));
    // Cargo keeps this file at the top of the target directory alone. (CACHEDIR.TAG is there only if cargo made the directory itself.)
    let is_top = |dir: &Path| dir.join(".rustc_info.json").exists();
    match (above.file_name(), above.parent()) {
        (Some(triple), Some(target)) if !is_top(above) && is_top(target) => {
            cargo.arg("--target").arg(triple).arg("--target-dir").arg(target);
        }
        _ => {
            cargo.arg("--target-dir").arg(above);
        }
    }
    let status = cargo.status().expect("run cargo");
    assert!(status.success(), "cargo could not build the waxwing program: {status}");
    profile_dir.join("waxwing")
}
