#!/usr/bin/env bash
# Waxwing beside Redis and NATS, on this machine: the systems take turns under one load, which checks every message. Prints medians, ratios,
# and what was aimed at. What can't be had is told as not run.
#
#   scripts/compare.sh                  five rounds, under 15 minutes
#   scripts/compare.sh --quick          one short round, under 2 minutes
#   scripts/compare.sh --help           all options, as --modes 1x1,fanout and --json FILE
#
# Needs two processors with nothing else to do, and 20,000 open files (ulimit -Hn). Beside a node of a release build, it takes redis-server and
# nats-server from PATH, or, as root on Debian, installs them.   WAXWING_BIN=path  a node built before
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
PATH=$PATH:/usr/sbin:/usr/local/sbin

for program in redis-server nats-server; do
    if ! command -v "$program" >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        # A policy of 101: the packages must not start servers of their own.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
            trap 'rm -f "$policy"' EXIT
        fi
        { apt-get install -y --no-install-recommends "$program" ||
            { apt-get update && apt-get install -y --no-install-recommends "$program"; }; } >/dev/null 2>&1 ||
            echo "compare: $program can't be installed here" >&2
    fi
done

if [ "$(ulimit -Hn)" != unlimited ] && [ "$(ulimit -Hn)" -lt 11000 ]; then
    echo "compare: ulimit -Hn is $(ulimit -Hn): ten thousand connections need 11000; try --connections $(($(ulimit -Hn) - 1000))" >&2
fi

target=${CARGO_TARGET_DIR:-target}
if [ -z "${WAXWING_BIN:-}" ]; then
    cargo build --release --locked --bin waxwing
    WAXWING_BIN=$target/release/waxwing
fi
WAXWING_BIN=$(realpath "$WAXWING_BIN")
export WAXWING_BIN
cargo build --release --locked --package cluster-tests --bin compare
case " $*" in
*" --json"* | *" --help"* | *" -h"*) ;;
*) set -- --json "$target/compare.json" "$@" ;;
esac
"$target/release/compare" "$@"
