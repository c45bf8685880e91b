#!/usr/bin/env bash
# Clients that we did not write, against three real nodes: grpcio and @grpc/grpc-js by the examples, a reflection client, curl; by the Redis
# port redis-py, ioredis, node-redis, redis-cli, redis-benchmark, Socket.IO's adapter, channels_redis, Action Cable, and a stock redis-server to
# be compared with. Each publishes on one node and receives on another. What isn't here is told as not run. The last line counts; exit 0 only if
# none failed.
#
#   scripts/clients.sh          WAXWING_BIN=path  a node built before      PYTHON=path  a Python that has the requirements of examples/python
#                               and scripts/requirements.txt               REDIS_ONLY=1  those of the Redis port alone
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

python=${PYTHON:-python3}
if [ -z "${WAXWING_BIN:-}" ]; then
    cargo build --locked --bin waxwing --example chat --example room
    WAXWING_BIN=${CARGO_TARGET_DIR:-target}/debug/waxwing
fi
# Where cargo puts them, next to the program.
examples=$(dirname "$WAXWING_BIN")/examples
if [ -z "${REDIS_ONLY:-}" ] && { [ ! -x "$examples/chat" ] || [ ! -x "$examples/room" ]; }; then
    cargo build --locked --example chat --example room
    examples=${CARGO_TARGET_DIR:-target}/debug/examples
fi

work=$(mktemp -d)
nodes=
stop() {
    if [ -n "$nodes" ]; then
        kill "$nodes" 2>/dev/null || true
        for _ in $(seq 100); do
            kill -0 "$nodes" 2>/dev/null || break
            sleep 0.1
        done
        # The nodes end with the program that started them.
        kill -9 "$nodes" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap stop EXIT

# A node has a port for each door, on the ten above its base.
ports_are_free() {
    "$python" - "$1" <<'END'
import socket, sys
for port in range(int(sys.argv[1]), int(sys.argv[1]) + 30):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as s:
            s.bind(("127.0.0.1", port))
END
}
base=
for _ in $(seq 50); do
    try=$((10000 + RANDOM % 2000 * 10))
    if ports_are_free "$try" 2>/dev/null; then
        base=$try
        break
    fi
done
if [ -z "$base" ]; then
    echo "clients: no thirty free ports in a row" >&2
    exit 1
fi

"$WAXWING_BIN" dev --nodes 3 --base-port "$base" >"$work/nodes.log" 2>&1 &
nodes=$!
a=127.0.0.1:$base b=127.0.0.1:$((base + 10)) c=127.0.0.1:$((base + 20)) http=127.0.0.1:$((base + 2))
for node in "$a" "$b" "$c"; do
    # The first word may come before the port is open.
    ready=
    for _ in $(seq 20); do
        if "$WAXWING_BIN" --node "$node" --timeout 30s wait --members 3 --converged >>"$work/wait.log" 2>&1; then
            ready=1
            break
        fi
        kill -0 "$nodes" 2>/dev/null || break
        sleep 0.5
    done
    if [ -z "$ready" ]; then
        echo "clients: $node did not get ready" >&2
        tail -n 5 "$work/wait.log" >&2
        tail -n 40 "$work/nodes.log" >&2
        exit 1
    fi
done

passed=0
failed=0
skipped=0
# What it needs, and why it can't be run without.
skip() {
    skipped=$((skipped + 1))
    echo "client $1: NOT RUN: $2"
}
run() {
    local name=$1
    shift
    local code=0
    timeout "${LIMIT_S:-120}" "$@" >"$work/out.log" 2>&1 || code=$?
    if [ "$code" -eq 0 ]; then
        passed=$((passed + 1))
        echo "client $name: passed"
    else
        failed=$((failed + 1))
        echo "client $name: FAILED (exit $code)"
        sed 's/^/    /' "$work/out.log" | tail -n 40
    fi
}

# Publishes by JSON over HTTP on one node; the command line receives on another.
curl_to_subscriber() {
    "$WAXWING_BIN" --node "$c" --timeout 20s subscribe clients/curl --count 1 --raw >"$work/received" 2>"$work/subscribed" &
    local subscriber=$!
    for _ in $(seq 100); do
        grep -q subscribed "$work/subscribed" && break
        kill -0 "$subscriber" || break
        sleep 0.1
    done
    curl -fsS --max-time 10 -d 'told by curl' "http://$http/v1/topics/clients%2Fcurl/publish?confirm=cluster"
    wait "$subscriber"
    cat "$work/subscribed" "$work/received"
    grep -qx 'told by curl' "$work/received"
}

# An entry put by JSON over HTTP on one node, seen and counted by the command line on another, and gone when it is deleted on a third.
curl_presence() {
    local here="http://$http/v1/topics/clients%2Froom/presence" there="http://$http_b/v1/topics/clients%2Froom/presence"
    curl -fsS --max-time 10 -X PUT -d '{"job":"nightly"}' "$here/worker/1?ttl=60s"
    for _ in $(seq 100); do
        "$WAXWING_BIN" --node "$c" presence list clients/room -o json >"$work/listed"
        grep -q nightly "$work/listed" && break
        sleep 0.1
    done
    cat "$work/listed"
    grep -q '"meta":{"job":"nightly"}' "$work/listed"
    curl -fsS --max-time 10 "$there/count"
    curl -fsS --max-time 10 -X DELETE "$there/worker/1"
    for _ in $(seq 100); do
        [ "$("$WAXWING_BIN" --node "$c" presence count clients/room)" = 0 ] && return
        sleep 0.1
    done
    return 1
}
http_b=127.0.0.1:$((base + 12))
export WAXWING_BIN work c http http_b
export -f curl_to_subscriber curl_presence

if [ -z "${REDIS_ONLY:-}" ]; then
    run rust "$examples/chat" --smoke "$c" "$a"
    run rust-room "$examples/room" --smoke "$a" "$b"
    run python-room "$python" examples/python/room.py --smoke "$b" "$c"
    run node-room node examples/node/room.js --smoke "$c" "$a"
    run python-lease "$python" examples/python/leader.py --smoke "$a" "$c"
    run node-lease node examples/node/leader.js --smoke "$b" "$a"
    run http-presence bash -euo pipefail -c curl_presence
    run python "$python" examples/python/chat.py --smoke "$a" "$b"
    run node node examples/node/chat.js --smoke "$b" "$c"
    run reflection "$python" scripts/reflection_client.py "$c" "$a"
    run http bash -euo pipefail -c curl_to_subscriber
fi

# redis-cli subscribes on one node and publishes on another, in both protocols; redis-benchmark floods a third.
redis_tools() {
    local port protocol subscriber
    for protocol in -2 -3; do
        redis-cli "$protocol" -p "$port_a" subscribe clients:cli >"$work/cli" &
        subscriber=$!
        for _ in $(seq 100); do
            grep -q subscribe "$work/cli" && break
            sleep 0.1
        done
        [ "$(redis-cli "$protocol" -p "$port_b" publish clients:cli 'told by redis-cli')" = 1 ]
        for _ in $(seq 100); do
            grep -q 'told by redis-cli' "$work/cli" && break
            sleep 0.1
        done
        kill "$subscriber"
        cat "$work/cli"
        grep -q 'told by redis-cli' "$work/cli"
    done
    redis-cli -p "$port_b" info | grep '^role:master'
    redis-cli -p "$port_b" get key | grep 'data command'
    redis-cli -c -p "$port_b" spublish clients:cli x
    printf 'PING\nPUBSUB NUMPAT\n' | redis-cli -p "$port_b"
    for port in "$port_a" "$port_b"; do
        redis-benchmark -p "$port" -t ping -n 20000 -c 20 -q
        redis-benchmark -p "$port" -t ping -n 100000 -c 5 -P 100 -q
        redis-benchmark -p "$port" -n 100000 -c 5 -P 100 -q publish clients:bench hello
    done
}
port_a=$((base + 3)) port_b=$((base + 13)) port_c=$((base + 23))
redis_a=127.0.0.1:$port_a redis_b=127.0.0.1:$port_b redis_c=127.0.0.1:$port_c
export port_a port_b
export -f redis_tools
# Debian keeps servers where not everybody looks.
PATH=$PATH:/usr/sbin

run redis-py "$python" scripts/clients/redis_py.py --smoke "$redis_a" "$redis_b"
if "$python" -c 'import channels_redis' 2>/dev/null; then
    run channels_redis "$python" scripts/clients/channels_layer.py --smoke "$redis_a" "$redis_b"
else
    skip channels_redis "it is in scripts/requirements.txt"
fi
if command -v redis-cli >/dev/null; then
    run redis-cli bash -euo pipefail -c redis_tools
else
    skip redis-cli "install redis-tools"
fi
if command -v ruby >/dev/null && ruby -e 'require "action_cable"; require "redis"' 2>/dev/null; then
    run action-cable ruby scripts/clients/action_cable.rb --smoke "$redis_b" "$redis_c"
else
    skip action-cable "install ruby-actioncable and ruby-redis"
fi
if command -v redis-server >/dev/null; then
    # The same talk every time: what is new is looked for by hand, with another --seed.
    LIMIT_S=300 run differential "$python" scripts/clients/differential.py "$(command -v redis-server)" "$redis_a" "$redis_b" "$redis_c" --seed 1 --rounds 40
else
    skip differential "install redis-server: nothing was compared with Redis itself"
fi
if [ -d scripts/clients/node_modules ]; then
    run ioredis node scripts/clients/ioredis.js --smoke "$redis_b" "$redis_c"
    run ioredis-5 node scripts/clients/ioredis.js --smoke "$redis_c" "$redis_a" ioredis5
    run node-redis node scripts/clients/node_redis.js --smoke "$redis_c" "$redis_a"
    # A node is killed under it: nothing that needs all three may come after it but what starts nodes of its own.
    run socket.io node scripts/clients/socketio.js --smoke "$redis_a" "$redis_b" "$redis_c"
else
    skip "ioredis, node-redis, socket.io" "npm ci in scripts/clients"
fi
LIMIT_S=150 run redis-soak "$python" scripts/redis_soak.py "$WAXWING_BIN" --seconds "${SOAK_S:-45}" --every 12

if [ "$failed" -gt 0 ]; then
    echo "--- the nodes' last words"
    tail -n 60 "$work/nodes.log"
fi
echo "clients: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
