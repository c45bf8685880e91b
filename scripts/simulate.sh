#!/usr/bin/env bash
# Simulated worlds: whole nodes in one thread, on simulated network and time; a seed decides everything.
#
#   scripts/simulate.sh [sweep [FROM [COUNT]]] [--jobs N] [--json FILE]    200 worlds from seed 0 by default
#   scripts/simulate.sh run SEED [--log] [--history FILE]                  one world again; the same seed does the same
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

[ $# -gt 0 ] || set -- sweep
# Worlds spend their time in our own code: a little optimization halves it, and dependencies are shared with other builds.
optimized=(--config profile.dev.package.waxwing.opt-level=1 --config profile.dev.package.cluster-tests.opt-level=1
    --config profile.dev.package.world.opt-level=1)
cargo build --workspace --bin world --locked --quiet "${optimized[@]}"
exec "${CARGO_TARGET_DIR:-target}/debug/world" "$@"
