//! Imports point downwards: what each top module of the library may name of the others, and where generated types may stand. The table is
//! the one of ARCHITECTURE.md in another form; whoever needs a new arrow draws it in both.

#![allow(clippy::expect_used, reason = "a helper that cannot go on fails its test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. An arrow points to something above its row only, so there is no circle.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("plants", &[]),
    ("types", &["plants"]),
    ("metrics", &[]),
    ("net", &[]),
    ("wire", &[]),
    ("tls", &["metrics", "net", "types"]),
    ("pubsub", &["plants", "types"]),
    ("rights", &["pubsub", "types"]),
    ("config", &["rights", "tls", "types"]),
    ("telemetry", &["config"]),
    ("supervise", &["metrics", "types"]),
    ("presence", &["types"]),
    ("client", &["supervise", "tls", "types", "wire"]),
    ("proxy", &["supervise", "types"]),
    ("membership", &["config", "metrics", "net", "supervise", "types"]),
    (
        "link",
        &["config", "membership", "metrics", "net", "plants", "supervise", "tls", "types", "wire"],
    ),
    ("control", &["link", "membership", "pubsub", "rights", "supervise", "types"]),
    (
        "router",
        &[
            "config",
            "link",
            "membership",
            "metrics",
            "plants",
            "pubsub",
            "supervise",
            "types",
            "wire",
        ],
    ),
    ("replicator", &["link", "membership", "metrics", "presence", "supervise", "types", "wire"]),
    (
        "broker",
        &[
            "config",
            "control",
            "membership",
            "metrics",
            "plants",
            "presence",
            "pubsub",
            "replicator",
            "rights",
            "router",
            "supervise",
            "types",
        ],
    ),
    (
        "status",
        &[
            "broker",
            "config",
            "control",
            "link",
            "membership",
            "metrics",
            "pubsub",
            "replicator",
            "router",
            "supervise",
            "tls",
            "types",
        ],
    ),
    (
        "front",
        &[
            "broker",
            "config",
            "control",
            "membership",
            "metrics",
            "net",
            "presence",
            "pubsub",
            "replicator",
            "rights",
            "router",
            "status",
            "supervise",
            "tls",
            "types",
            "wire",
        ],
    ),
    (
        "node",
        &[
            "broker",
            "config",
            "control",
            "front",
            "link",
            "membership",
            "metrics",
            "net",
            "replicator",
            "rights",
            "router",
            "status",
            "supervise",
            "telemetry",
            "tls",
            "types",
        ],
    ),
    (
        "cli",
        &[
            "client",
            "config",
            "node",
            "proxy",
            "rights",
            "status",
            "supervise",
            "telemetry",
            "tls",
            "types",
            "wire",
        ],
    ),
    // Only tests and fuzzing have it.
    ("parsers", &["config", "front", "link", "membership", "replicator", "router"]),
];

/// Where tonic's service traits force generated types in, besides `codec.rs` and `convert.rs`.
const FORCED: &[&str] = &[
    "front/grpc/admin.rs",
    "front/grpc/control/access.rs",
    "front/grpc/control/group.rs",
    "front/grpc/control/leases.rs",
    "front/grpc/control/mod.rs",
    "front/grpc/mod.rs",
    "front/grpc/presence/mod.rs",
    "front/grpc/pubsub.rs",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The source without comments and without its tests: those may look anywhere.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Of a path inside `src`: what the folders above are named says nothing.
fn is_test(inside: &Path) -> bool {
    inside.components().any(|part| {
        matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "check" | "rules.rs"))
    })
}

/// The first words after each `crate::`, braces opened.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            // One level is enough: `crate::{a, b::{c, d}}` is nowhere, since rustfmt would not tell it apart.
            Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let word = |c: char| c.is_ascii_lowercase() || c == '_';
            let end = name.trim().find(|c| !word(c)).unwrap_or(name.trim().len());
            found.insert(name.trim()[..end].to_owned());
        }
    }
    found
}

/// A file of the library.
struct Source {
    /// The top module it belongs to.
    top: String,
    /// Its path inside `src`.
    inside: PathBuf,
    path: PathBuf,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let of = |path: PathBuf| {
        let inside = path.strip_prefix(&root).expect("below src").to_owned();
        let top = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        Source { top: top.trim_end_matches(".rs").to_owned(), inside, path }
    };
    let sources: Vec<_> =
        found.into_iter().map(of).filter(|source| !is_test(&source.inside)).collect();
    assert!(sources.len() > MAY_IMPORT.len(), "only {} files in {}", sources.len(), root.display());
    sources
}

#[test]
fn imports_point_downwards() {
    let mut wrong = Vec::new();
    let all = sources();
    for Source { top, path, .. } in all.iter().filter(|at| !matches!(&at.top[..], "lib" | "main")) {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == top) else {
            wrong.push(format!("{top} is not in the table"));
            continue;
        };
        for name in imports(&code(path)) {
            let known = MAY_IMPORT.iter().any(|(other, _)| *other == name);
            if known && name != *top && !allowed.contains(&&name[..]) {
                wrong.push(format!("{}: {top} may not import {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_circle() {
    for (row, (name, allowed)) in MAY_IMPORT.iter().enumerate() {
        for one in *allowed {
            let below = MAY_IMPORT[..row].iter().any(|(other, _)| other == one);
            assert!(below, "{name} imports {one}, which stands no lower");
        }
    }
}

#[test]
fn no_front_imports_another() {
    let all = sources();
    let name = |source: &Source| {
        let part = source.inside.components().nth(1)?;
        Some(part.as_os_str().to_string_lossy().into_owned())
    };
    let fronts: Vec<_> = all.iter().filter(|source| source.top == "front").collect();
    let names: BTreeSet<String> = fronts.iter().filter_map(|source| name(source)).collect();
    assert!(names.len() > 2, "{names:?}");
    for source in fronts {
        let code = code(&source.path);
        for other in names.iter().filter(|other| Some(*other) != name(source).as_ref()) {
            let import = format!("front::{other}");
            assert!(!code.contains(&import), "{} imports {other}", source.path.display());
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::types::Time;\nuse crate::{link, router::Publish};\nfn f() { crate::wire::v1::f() }";
    let found: Vec<_> = imports(code).into_iter().collect();
    assert_eq!(found, ["link", "router", "types", "wire"]);
}

#[test]
fn generated_types_stay_at_the_edge() {
    let mut wrong = Vec::new();
    for Source { top, inside, path } in sources().iter().filter(|source| source.top != "wire") {
        let name = inside.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let lawful = matches!(name, "codec.rs" | "convert.rs")
            || FORCED.iter().any(|forced| inside == Path::new(forced));
        let code = code(path);
        if !lawful && (code.contains("wire::v1") || code.contains("wire::peer")) {
            wrong.push(format!("{} ({top})", path.display()));
        }
    }
    assert!(wrong.is_empty(), "generated types outside their files:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_holds() {
    for Source { path, .. } in sources() {
        let text = fs::read_to_string(&path).expect("a source file");
        assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
    }
}
