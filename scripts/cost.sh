#!/usr/bin/env bash
# What a message costs two nodes: instructions (counted by the processor, kernel left out) and processor time of each delivery at one rate.
# Two settings take turns; medians and their ratio.
#
#   scripts/cost.sh BEFORE AFTER [ROUNDS]       programs of two builds: from one node to a subscriber on another
#   scripts/cost.sh --tls PROGRAM [ROUNDS]      one program without TLS and with it: between nodes, and for clients
#       default 9 rounds       RATE=100000  SECONDS_EACH=3
#
# Needs perf, and a machine that counts instructions. Ends with 1 where the instructions rose by more than a twentieth, or the time by
# more than a tenth; with --tls, where TLS between nodes adds more than three tenths to the time.
#
# There is no TLS between nodes without TLS for clients. So the same is measured on one node too, where clients alone have it: what TLS
# adds across, less what it adds there, is the link's part.
set -euo pipefail
exec </dev/null

usage="usage: scripts/cost.sh BEFORE AFTER [ROUNDS] | --tls PROGRAM [ROUNDS]"
mode=builds
[ "${1:-}" != --tls ] || mode=tls
before=${1:?$usage}
after=$(realpath "${2:?$usage}")
[ "$mode" = tls ] || before=$(realpath "$before")
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
if [ "$mode" = tls ]; then
    (cd "$work" && "$after" -q certs ca && "$after" -q certs node a && "$after" -q certs node b)
fi

start() { # PROGRAM NAME BASE [ARGUMENT..]
    local program=$1 name=$2 base=$3
    shift 3
    "$program" start --name "$name" --listen-grpc "127.0.0.1:$base" --listen-peer "127.0.0.1:$((base + 1))" \
        --listen-http "127.0.0.1:$((base + 2))" "$@" >"$work/$name.log" 2>&1 &
    nodes+=("$!")
}

measure() { # WHICH PROGRAM WHERE(across|here) [tls]
    local base=$((20000 + RANDOM % 600 * 20)) ask=("$2") a=() b=() across=()
    if [ "${4:-}" = tls ]; then
        ask+=(--tls-ca "$work/ca.pem")
        a=(--tls-cert "$work/a.pem" --tls-key "$work/a.key" --tls-peer-ca "$work/ca.pem")
        b=(--tls-cert "$work/b.pem" --tls-key "$work/b.key" --tls-peer-ca "$work/ca.pem")
    fi
    start "$2" a "$base" "${a[@]}"
    start "$2" b "$((base + 10))" --join "127.0.0.1:$((base + 1))" "${b[@]}"
    "${ask[@]}" --node "127.0.0.1:$base" --quiet --timeout 20s wait --members 2 --converged
    local pids at="127.0.0.1:$base"
    pids=$(IFS=,; echo "${nodes[*]}")
    if [ "$3" = across ]; then
        at+=",127.0.0.1:$((base + 10))"
        across=(--across)
    fi
    perf stat -x, -o "$work/perf" -e instructions:u -p "$pids" -- "${ask[@]}" --node "$at" --quiet \
        bench pubsub "${across[@]}" --rate "$rate" --duration "${seconds}s" --warmup 100ms -o json >"$work/bench"
    stop
    echo "$1 $(awk -F, '/instructions/ { print $1 }' "$work/perf") $(tr -d ' \n' <"$work/bench")" >>"$work/rows"
}

for _ in $(seq "$rounds"); do
    if [ "$mode" = builds ]; then
        measure before "$before" across
        measure after "$after" across
    else
        measure across "$after" across
        measure across-tls "$after" across tls
        measure here "$after" here
        measure here-tls "$after" here tls
    fi
done

python3 - "$work/rows" <<'PYTHON'
import collections, json, statistics, sys

seen = collections.defaultdict(list)
for line in open(sys.argv[1]):
    which, instructions, bench = line.split(" ", 2)
    bench = json.loads(bench)
    lost = bench["gaps"] + bench["missing"]
    if lost:
        sys.exit(f"cost: {which} lost messages: {bench}")
    delivered = bench["received"]
    seen[which].append((int(instructions) / delivered, bench["node_cpu_us_per_delivery"]))
median = {which: [statistics.median(row[at] for row in rows) for at in (0, 1)] for which, rows in seen.items()}
missed = 0
kinds = ((0, "instructions of the nodes, a delivery"), (1, "processor time of the nodes, us a delivery"))
if "before" in median:
    for (at, what), most in zip(kinds, (1.05, 1.10)):
        before, after = median["before"][at], median["after"][at]
        missed += after / before > most
        print(f"{what:<44} before {before:10.3f}   after {after:10.3f}   ratio {after / before:.3f} (at most {most})")
else:
    for at, what in kinds:
        across, across_tls, here, here_tls = (median[which][at] for which in ("across", "across-tls", "here", "here-tls"))
        links = (across_tls - across - (here_tls - here)) / across
        missed += at == 1 and links > 0.3
        print(f"{what:<44} across nodes {across:10.3f}   with TLS {across_tls:10.3f}   same node {here:10.3f}   with TLS {here_tls:10.3f}")
        print(f"{'':<44} TLS between nodes adds {links:+.1%}{' (at most 30%)' if at else ''}; clients' TLS {(here_tls - here) / here:+.1%} on one node")
sys.exit(1 if missed else 0)
PYTHON
