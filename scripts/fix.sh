#!/usr/bin/env bash
# Mends what can be mended by a program: format and those lints that know their own cure. Look at the difference before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
cargo fmt --all
git diff --stat
