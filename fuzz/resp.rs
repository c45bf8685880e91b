//! Any bytes on the Redis port: the parser takes the node's own file, and nothing else of the node.
#![no_main]

#[allow(dead_code, unreachable_pub, reason = "made for the node")]
#[path = "../src/front/resp/frame.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|input: &[u8]| frame::check::check(input));
