//! The parser that WAXWING_PARSER names, under libFuzzer.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use waxwing::parsers::{self, Understood};

static PARSER: OnceLock<fn(&[u8]) -> Understood> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let parser = PARSER.get_or_init(|| {
        parsers::named(&std::env::var("WAXWING_PARSER").expect("WAXWING_PARSER names a parser"))
    });
    let _ = parser(bytes);
});
