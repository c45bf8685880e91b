#!/usr/bin/env bash
# Presence figures of three nodes on loopback: many presences from one node to another, one at a time, a newcomer that learns them
# all, and a storm of joins. Run it on a quiet machine.
#
#   scripts/presence.sh         WAXWING_BIN=path  a node built before      PRESENCES=100000      ATTACHMENTS=2000
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${WAXWING_BIN:-}" ]; then
    cargo build --locked --release --bin waxwing
    WAXWING_BIN=${CARGO_TARGET_DIR:-target}/release/waxwing
fi
presences=${PRESENCES:-100000}
attachments=${ATTACHMENTS:-2000}

work=$(mktemp -d)
mkfifo "$work/keys"
base=$((10000 + RANDOM % 2000 * 10))
"$WAXWING_BIN" dev --nodes 3 --base-port "$base" <"$work/keys" >"$work/nodes.log" 2>&1 &
nodes=$!
exec 3>"$work/keys"
stop() {
    echo q >&3 || true
    wait "$nodes" || true
    rm -rf "$work"
}
trap stop EXIT
a=127.0.0.1:$base b=127.0.0.1:$((base + 10)) c=127.0.0.1:$((base + 20))
ready() {
    for _ in $(seq 60); do
        "$WAXWING_BIN" --node "$1" --timeout 30s wait --members "$2" --converged >/dev/null 2>&1 && return
        sleep 0.5
    done
    tail -n 20 "$work/nodes.log" >&2
    exit 1
}
for node in "$a" "$b" "$c"; do ready "$node" 3; done

echo "--- $presences through one session on a, until complete on b; then one at a time"
"$WAXWING_BIN" --node "$a,$b" --timeout 60s bench presence --presences "$presences" -o json

echo "--- a node that starts while they exist: seconds from ready until it has all"
"$WAXWING_BIN" --node "$a,$b" --timeout 60s bench presence --presences "$presences" --singles 0 --hold 15s -o json >"$work/held" &
held=$!
for _ in $(seq 600); do
    total=$("$WAXWING_BIN" --node "$b" status -o json | sed 's/.*"presence":{"presences":\([0-9]*\).*/\1/')
    [ "$total" = "$presences" ] && break
    sleep 0.05
done
echo k3 >&3
for _ in $(seq 100); do
    curl -fsS --max-time 1 "http://127.0.0.1:$((base + 22))/healthz" >/dev/null 2>&1 || break
    sleep 0.05
done
echo r3 >&3
until curl -fsS --max-time 1 "http://127.0.0.1:$((base + 22))/readyz" >/dev/null 2>&1; do sleep 0.02; done
began=$(date +%s.%N)
for _ in $(seq 1000); do
    total=$(curl -fsS "http://127.0.0.1:$((base + 22))/status" | tr -d ' \n' | sed 's/.*"presence":{"presences":\([0-9]*\).*/\1/')
    [ "$total" = "$presences" ] && break
    sleep 0.02
done
echo "$(date +%s.%N) $began $total" | awk '{ printf "{\"newcomer_s\":%.3f,\"presences\":%d}\n", $1 - $2, $3 }'
wait "$held"
ready "$c" 3

echo "--- $attachments join one room at once, each watching and checking every event"
"$WAXWING_BIN" --node "$a,$b,$c" --timeout 120s bench storm --attachments "$attachments" -o json
