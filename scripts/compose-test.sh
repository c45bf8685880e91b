#!/usr/bin/env bash
# Brings docker-compose.yml up for real, locks on: three containers, publish and subscribe across them, one killed, one disconnected.
#
#   scripts/compose-test.sh [BINARY]        default: the workspace's debug build
#
# Nothing is pulled: the image is FROM scratch with the binary, and with the libraries that it asks for where it isn't static. Needs
# root, dockerd (20.10 or later), docker-compose and iptables (Debian: docker.io docker-compose iptables). The engine is started here,
# in a network namespace of its own, so that its firewall rules stay there, and everything is taken away at the end. Where it can't be
# had this says "not run" and succeeds; with REQUIRE=1 it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

not_run() {
    echo "compose-test: not run ($*)"
    [ "${REQUIRE:-}" = 1 ] && exit 1
    exit 0
}
[ "$(id -u)" = 0 ] || not_run "not root"
for tool in ip nsenter dockerd docker docker-compose iptables; do
    command -v "$tool" >/dev/null || not_run "$tool is missing"
done

binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --locked --quiet --bin waxwing
    binary=${CARGO_TARGET_DIR:-target}/debug/waxwing
fi
binary=$(realpath "$binary")

work=$(mktemp -d /tmp/waxwing-compose.XXXXXX)
space=wxdock$$
export DOCKER_HOST=unix://$work/docker.sock
inside() { nsenter --net="/run/netns/$space" "$@"; }
compose() { inside docker-compose --project-name waxwingtest --file "$work/compose.yml" "$@"; }
daemon=
finish() {
    status=$?
    [ $status = 0 ] || { compose logs --tail 30 2>/dev/null || true; tail -20 "$work/dockerd.log" 2>/dev/null || true; }
    compose down --volumes --timeout 1 >/dev/null 2>&1 || true
    [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
    ip netns del "$space" 2>/dev/null || true
    grep -o "$work[^ ]*" /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT

ip netns add "$space" || not_run "no network namespaces"
ip -n "$space" link set lo up
# Not through a function, whose shell would be killed in its place.
nsenter --net="/run/netns/$space" dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" --host "$DOCKER_HOST" \
    >"$work/dockerd.log" 2>&1 &
daemon=$!

# Runs until it succeeds, at most so many seconds.
within() {
    local seconds=$1 end=$((SECONDS + $1))
    shift
    until "$@" >"$work/last" 2>&1; do
        if [ $SECONDS -ge $end ]; then
            echo "compose-test: not within $seconds s: $*" >&2
            cat "$work/last" >&2
            return 1
        fi
        sleep 0.2
    done
}
within 60 docker info || not_run "dockerd does not start: $(tail -1 "$work/dockerd.log")"

mkdir -p "$work/image/var/lib/waxwing"
cp "$binary" "$work/image/waxwing"
{
    echo "FROM scratch"
    # The loader and libraries, each where it is looked for; none for a static binary.
    ldd "$binary" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$work/image$(dirname "$library")"
        cp -L "$library" "$work/image$library"
        echo "COPY .$library $library"
    done
    echo "COPY waxwing /waxwing"
    sed -n '/^COPY .*var.lib.waxwing/s/--from=build \(--chown=[^ ]*\).*/\1 var\/lib\/waxwing \/var\/lib\/waxwing/p; /^USER/,$p' Dockerfile
} >"$work/image/Dockerfile"
docker build --quiet --tag waxwing "$work/image" >/dev/null
# The compose file as it is, but for what an older docker-compose doesn't know, and with the image that is there.
sed '/^name:/d; /^  build:/d' docker-compose.yml >"$work/compose.yml"
WAXWING_BIN=$binary scripts/compose-locks.sh "$work" >/dev/null
set -a
# shellcheck source=/dev/null
. "$work/.env"
set +a
compose up --detach --no-build >"$work/up.log" 2>&1

unset WAXWING_KEY
as() { local who=$1 port=$2; shift 2; inside "$binary" --tls-ca "$work/compose/shared/ca.pem" --key-file "$work/compose/$who.key" --node "127.0.0.1:$port" "$@"; }
at() { as app "$@"; }
ready_members() { as ops "$1" members -o json | grep -oE '"state": ?"ready"' | wc -l; }
sees() { [ "$(ready_members "$1")" = "$2" ]; }
all_see() { sees 7400 "$1" && sees 7410 "$1"; }
step() { echo "compose-test: $*"; }

# What is published on a container reaches a subscriber on another.
crosses() { # FROM TO TOPIC
    at "$2" subscribe "$3" --count 1 --raw >"$work/got" 2>&1 &
    local subscriber=$! try
    for try in $(seq 100); do
        kill -0 $subscriber 2>/dev/null || break
        at "$1" publish "$3" "message of $3" >/dev/null 2>&1 || true
        sleep 0.1
    done
    wait $subscriber
    grep -q "message of $3" "$work/got"
}

step "three nodes find each other"
within 60 all_see 3
within 20 sees 7420 3
step "publish and subscribe across containers"
crosses 7400 7410 first
crosses 7420 7400 second

step "strangers stay outside"
stranger() { ! inside "$binary" --timeout 2s --node 127.0.0.1:7400 "$@" >/dev/null 2>&1; }
stranger publish first x
stranger --tls-ca "$work/compose/shared/ca.pem" publish first x
step "health checks pass"
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(compose ps --quiet a)")" = healthy ]; }
within 30 healthy

step "a node is killed"
compose kill -s SIGKILL c >/dev/null 2>&1
within 15 all_see 2
crosses 7400 7410 after-the-kill
compose start c >/dev/null 2>&1
within 40 all_see 3
crosses 7420 7410 back

step "a node is disconnected"
network=$(docker network ls --quiet --filter name=waxwingtest)
container=$(compose ps --quiet c)
docker network disconnect "$network" "$container"
within 15 all_see 2
crosses 7410 7400 beside-the-cut
docker network connect --alias c "$network" "$container"
within 60 all_see 3
crosses 7400 7410 healed
step "passed"
