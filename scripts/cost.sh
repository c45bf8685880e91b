#!/usr/bin/env bash
# What a message costs two nodes, before and after a change: instructions (counted by the processor, kernel left out) and processor time
# of each delivery from one node to a subscriber on another, at one rate. The two builds take turns; medians and their ratio.
#
#   scripts/cost.sh BEFORE AFTER [ROUNDS]       programs of two builds; default 9 rounds       RATE=100000  SECONDS_EACH=3
#
# Needs perf, and a machine that counts instructions. Ends with 1 where the instructions rose by more than a twentieth, or the time by
# more than a tenth.
set -euo pipefail
exec </dev/null

before=$(realpath "${1:?usage: scripts/cost.sh BEFORE AFTER [ROUNDS]}")
after=$(realpath "${2:?usage: scripts/cost.sh BEFORE AFTER [ROUNDS]}")
rounds=${3:-9}
rate=${RATE:-100000}
seconds=${SECONDS_EACH:-3}
perf stat -e instructions:u true 2>&1 | grep -q 'not supported' && {
    echo "cost: this machine counts no instructions" >&2
    exit 2
}

work=$(mktemp -d)
nodes=()
stop() {
    [ "${#nodes[@]}" -eq 0 ] || kill "${nodes[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    nodes=()
}
trap 'stop; rm -rf "$work"' EXIT
: >"$work/rows"

measure() { # WHICH PROGRAM
    local base=$((20000 + RANDOM % 1000 * 20))
    "$2" start --name a --listen-grpc "127.0.0.1:$base" --listen-peer "127.0.0.1:$((base + 1))" \
        --listen-http "127.0.0.1:$((base + 2))" >"$work/a.log" 2>&1 &
    nodes+=("$!")
    "$2" start --name b --listen-grpc "127.0.0.1:$((base + 10))" --listen-peer "127.0.0.1:$((base + 11))" \
        --listen-http "127.0.0.1:$((base + 12))" --join "127.0.0.1:$((base + 1))" >"$work/b.log" 2>&1 &
    nodes+=("$!")
    "$2" --node "127.0.0.1:$base" --quiet --timeout 20s wait --members 2 --converged
    local pids
    pids=$(IFS=,; echo "${nodes[*]}")
    perf stat -x, -o "$work/perf" -e instructions:u -p "$pids" -- "$2" --node "127.0.0.1:$base,127.0.0.1:$((base + 10))" --quiet \
        bench pubsub --across --rate "$rate" --duration "${seconds}s" --warmup 100ms -o json >"$work/bench"
    stop
    echo "$1 $(awk -F, '/instructions/ { print $1 }' "$work/perf") $(tr -d ' \n' <"$work/bench")" >>"$work/rows"
}

for _ in $(seq "$rounds"); do
    measure before "$before"
    measure after "$after"
done

python3 - "$work/rows" <<'PYTHON'
import json, statistics, sys

seen = {"before": [], "after": []}
for line in open(sys.argv[1]):
    which, instructions, bench = line.split(" ", 2)
    bench = json.loads(bench)
    lost = bench["gaps"] + bench["missing"]
    if lost:
        sys.exit(f"cost: {which} lost messages: {bench}")
    delivered = bench["received"]
    seen[which].append((int(instructions) / delivered, bench["node_cpu_us_per_delivery"]))
missed = 0
for at, what, most in ((0, "instructions of both nodes, a delivery", 1.05), (1, "processor time of both nodes, us a delivery", 1.10)):
    before, after = (statistics.median(row[at] for row in seen[which]) for which in ("before", "after"))
    ratio = after / before
    missed += ratio > most
    print(f"{what:<44} before {before:10.3f}   after {after:10.3f}   ratio {ratio:.3f} (at most {most})")
sys.exit(1 if missed else 0)
PYTHON
