#!/bin/sh
# Links under cuts at full size: a minute of cuts at RATE messages a second (half of what the link carries without a gap, measured first,
# unless said), links held for 20 and 40 s, 10,000 subscribes under cuts.
# usage: scripts/links.sh [RATE]
set -eu
cd "$(dirname "$0")/.."
export WAXWING_LONG=1
[ $# -eq 0 ] || export WAXWING_RATE="$1"
cargo test --release --package cluster-tests --test cluster -- --nocapture window::
