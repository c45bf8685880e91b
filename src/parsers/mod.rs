//! Every parser that reads bytes of a socket, by name: what fuzzing calls, and what an ordinary test calls with the corpora in
//! `fuzz/corpus` and with the frames of earlier releases in `testdata/frames`.
//!
//! A parser tells what it understood, or nothing; whatever the bytes are, it does not panic. The rules themselves stand beside each
//! parser. (The Redis front's are in `front::resp`.)

#[cfg(test)]
mod tests;

use crate::{config, front, link, membership, replicator, router};

/// What was understood, in words that don't change while its meaning stays.
pub type Understood = Option<String>;

pub type Parser = fn(&[u8]) -> Understood;

pub const ALL: &[(&str, Parser)] = &[
    ("gossip-datagram", membership::rules::datagram),
    ("gossip-envelope", membership::rules::envelope),
    ("gossip-control", membership::rules::control),
    ("gossip-message", membership::rules::message),
    ("gossip-pieces", membership::rules::pieces),
    ("link-frame", link::rules::frame),
    ("router-control", router::rules::control),
    ("router-item", router::rules::item),
    ("router-ping", router::rules::ping),
    ("presence-frame", replicator::rules::frame),
    ("grpc-frames", front::grpc::rules::frames),
    ("config-file", config::rules::file),
];

/// For fuzzing: the parser of this name, or a panic.
pub fn named(name: &str) -> fn(&[u8]) -> Understood {
    let found = ALL.iter().find(|(of, _)| *of == name);
    found.map_or_else(|| panic!("no parser is called {name:?}"), |(_, parser)| *parser)
}
