#!/usr/bin/env bash
# Five processes under a mixed load and random faults: scripts/soak.sh MINUTES SEED. Prints a table and writes target/soak/SEED.json;
# histories that broke a promise are kept beside it. As root it makes network namespaces (and takes them away), for cuts in one
# direction; elsewhere those are not run, and the report says so. PROFILE=release runs optimized programs.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

minutes=${1:?usage: scripts/soak.sh MINUTES SEED}
seed=${2:?usage: scripts/soak.sh MINUTES SEED}
profile=${PROFILE:-dev}
folder=$([ "$profile" = dev ] && echo debug || echo "$profile")
target=${CARGO_TARGET_DIR:-target}
cargo build --package waxwing --package cluster-tests --bins --locked --profile "$profile"
mkdir -p "$target/soak"
WAXWING_BIN="$target/$folder/waxwing" exec "$target/$folder/soak" "$minutes" "$seed" \
    --json "$target/soak/$seed.json" --histories "$target/soak/histories"
