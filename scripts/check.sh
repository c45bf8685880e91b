#!/usr/bin/env bash
# The gate. Writes nothing but build products; scripts/fix.sh is its twin that mends.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

step() {
    echo
    echo "== $*"
    "$@"
}

step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
step cargo test --workspace --locked
step scripts/simulate.sh sweep 0 120
if cargo deny --version >/dev/null 2>&1; then
    step cargo deny --locked check
else
    echo
    echo "cargo deny: not run (cargo-deny is not installed)"
fi
echo
echo "check: passed"
