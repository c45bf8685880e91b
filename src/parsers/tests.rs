//! Corpora and recorded frames, replayed.

use std::fs;
use std::path::{Path, PathBuf};

use super::ALL;
use crate::{link, membership, router};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// As it is, cut at every length, and with one bit of every byte turned: what was near a parser's edge once, is near it again.
fn disturb(parser: fn(&[u8]) -> super::Understood, bytes: &[u8]) {
    const BYTES_MAX: usize = 600;
    parser(bytes);
    for at in 0..bytes.len().min(BYTES_MAX) {
        parser(&bytes[..at]);
        let mut turned = bytes.to_vec();
        turned[at] ^= 1 << (at % 8);
        parser(&turned);
    }
}

#[test]
fn corpora_and_what_is_near_them_panic_nowhere() {
    for (name, parser) in ALL {
        let corpus = files(&root().join("fuzz/corpus").join(name));
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for file in corpus {
            disturb(*parser, &fs::read(file).unwrap());
        }
    }
}

/// Frames as this release writes them, by parser.
fn written_now() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |parser, frames: Vec<(&'static str, Vec<u8>)>| {
        all.extend(frames.into_iter().map(|(name, bytes)| (parser, name, bytes)));
    };
    add("link-frame", link::rules::written());
    add("router-control", router::rules::written());
    add("gossip-envelope", membership::rules::written_envelopes());
    add("gossip-control", membership::rules::written_controls());
    all
}

/// What a release wrote is understood for ever as it was then. `WAXWING_RECORD=1` records what this release writes and has not
/// recorded yet; what is recorded is never written again.
#[test]
fn frames_of_every_release_are_understood() {
    let recorded = root().join("testdata/frames");
    let own = recorded.join(env!("CARGO_PKG_VERSION"));
    for (parser, name, bytes) in written_now() {
        let file = own.join(parser).join(name);
        if !file.exists() && std::env::var_os("WAXWING_RECORD").is_some() {
            let understood = super::named(parser)(&bytes).expect("what we write, we understand");
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &bytes).unwrap();
            fs::write(file.with_extension("txt"), understood).unwrap();
        }
        assert!(
            file.exists(),
            "{parser}/{name} is not recorded: run this test with WAXWING_RECORD=1"
        );
    }
    let mut replayed = 0;
    for release in files(&recorded) {
        for (name, parser) in ALL {
            for file in files(&release.join(name)) {
                if file.extension().is_some_and(|extension| extension == "txt") {
                    continue;
                }
                let wanted = fs::read_to_string(file.with_extension("txt")).unwrap();
                let understood = parser(&fs::read(&file).unwrap());
                assert_eq!(understood.as_deref(), Some(&*wanted), "{}", file.display());
                replayed += 1;
            }
        }
    }
    assert!(replayed >= written_now().len());
}
