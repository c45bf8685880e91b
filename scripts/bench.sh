#!/usr/bin/env bash
# The figures of README, made anew: nodes of the release build on loopback, `waxwing bench` beside them on the same cores.
#
#   scripts/bench.sh [SECONDS]        how long each measurement takes; default 5
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

seconds=${1:-5}
cargo build --release --locked --quiet
bin=${CARGO_TARGET_DIR:-target}/release/waxwing
base=${BASE_PORT:-17400}
work=$(mktemp -d)
nodes=()
stop() {
    kill "${nodes[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    nodes=()
}
trap 'stop; rm -rf "$work"' EXIT

node() { # NAME PORT [JOIN]
    "$bin" start --name "$1" --listen-grpc "127.0.0.1:$2" --listen-peer "127.0.0.1:$(($2 + 1))" \
        --listen-http "127.0.0.1:$(($2 + 2))" ${3:+--join "127.0.0.1:$(($3 + 1))"} >"$work/$1.log" 2>&1 &
    nodes+=("$!")
}

run() {
    echo
    echo "\$ waxwing bench $*"
    "$bin" --node "$where" --quiet bench "$@"
}

# More sockets than a shell usually allows.
ulimit -n "$(ulimit -Hn)"
a=127.0.0.1:$base b=127.0.0.1:$((base + 10))

node a "$base"
"$bin" --node "$a" --quiet --timeout 20s wait --ready
where=$a
for subscribers in 1 100 1000; do
    run pubsub --subscribers "$subscribers" --duration "${seconds}s"
done
run latency --rate 5000 --subscribers 10 --duration "${seconds}s"
run fanout --subscribers 10000 --rounds 10
stop

node a "$base"
"$bin" --node "$a" --quiet --timeout 20s wait --ready
run idle --sessions 10000
stop

node a "$base"
node b $((base + 10)) "$base"
"$bin" --node "$a" --quiet --timeout 20s wait --members 2 --converged
where=$a,$b
for subscribers in 1 100; do
    run pubsub --across --subscribers "$subscribers" --duration "${seconds}s"
done
