#!/usr/bin/env bash
# Fuzzes the parser of the Redis port by libFuzzer, on stable Rust. New inputs go to fuzz/corpus/resp, which an ordinary test replays; an
# input that breaks a rule stays beside it as crash-*: keep it in the corpus. Needs a C++ compiler.
#
#   scripts/fuzz.sh [SECONDS]           60 by default        ... -merge=1 and the like: libFuzzer's own options behind the seconds
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-60}
shift || true
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../target}/fuzz
passes="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
export RUSTFLAGS="$passes -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
cargo build --release --target "$target"
"$CARGO_TARGET_DIR/$target/release/resp" -max_total_time="$seconds" -max_len=4096 -timeout=5 -artifact_prefix=corpus/resp/ "$@" corpus/resp
