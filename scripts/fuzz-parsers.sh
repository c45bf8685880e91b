#!/usr/bin/env bash
# Fuzzes every parser that reads a peer's, a client's or an operator's bytes by libFuzzer, on stable Rust; the names stand in
# src/parsers/mod.rs. New inputs go to fuzz/corpus/NAME, which an ordinary test replays; an input that breaks a rule stays there as
# crash-*: keep it. Needs a C++ compiler. (The Redis front's parser has a target and a script of its own.)
#
#   scripts/fuzz-parsers.sh [SECONDS [NAME ...]]           20 seconds each and all of them by default
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-20}
shift || true
names=("$@")
if [ ${#names[@]} = 0 ]; then
    mapfile -t names < <(sed -n 's/^    ("\([a-z-]*\)", .*/\1/p' ../src/parsers/mod.rs)
fi
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../target}/fuzz
passes="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
export RUSTFLAGS="$passes -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
cargo build --manifest-path parsers/Cargo.toml --release --target "$target"
for name in "${names[@]}"; do
    echo "== $name"
    WAXWING_PARSER=$name "$CARGO_TARGET_DIR/$target/release/parsers" -max_total_time="$seconds" -max_len=4096 -timeout=5 \
        -print_final_stats=1 -artifact_prefix="corpus/$name/" "corpus/$name"
done
