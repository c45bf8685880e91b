#!/usr/bin/env bash
# Makes what docker-compose.yml's nodes are locked with: certificates, keys, the cluster's secret, and .env, which tells compose of them.
#
#   scripts/compose-locks.sh [FOLDER]       beside docker-compose.yml; WAXWING_BIN=..: that program rather than the image's
#
# `compose/ca.key` signs and `compose/ops.key` rules the nodes: neither is mounted into any. A container's own key only looks.
set -euo pipefail
cd "${1:-"$(dirname "$0")/.."}"
umask 077
# What else .env says is somebody's own; a key of earlier locks opens nothing, and whoever has them may still want it.
if grep -qE '^(export )?WAXWING_(USER|KEY)=' .env 2>/dev/null; then
    echo "compose-locks: ./.env has WAXWING_USER or WAXWING_KEY; take them out to make all of it anew" >&2
    exit 1
fi
mkdir compose || { echo "compose-locks: ./compose is there; remove it to make all of it anew" >&2; exit 1; }
cd compose
mkdir shared
here=${PWD%/compose}
waxwing() {
    if [ -n "${WAXWING_BIN:-}" ]; then
        "$WAXWING_BIN" -q "$@"
    else
        docker run --rm --user "$(id -u):$(id -g)" --volume "$here:/here" --workdir /here/compose waxwing -q "$@"
    fi
}
waxwing certs ca
for node in a b c; do
    waxwing certs node $node --cluster compose --host $node
    mkdir -p $node/own $node/data
    mv $node.pem $node/own/node.pem
    mv $node.key $node/own/node.key
done
mv ca.pem shared/
waxwing key create --file shared/access.toml --admin --note operators >ops.key
waxwing key create --file shared/access.toml --publish '*' --subscribe '*' --presence '*' --note applications >app.key
watches=$(waxwing key create --file shared/access.toml --observe --note containers)
head -c 32 /dev/urandom | base64 >shared/gossip.keys
touch ../.env
chmod go-rwx ../.env
[ -z "$(tail -c 1 ../.env)" ] || echo >>../.env
printf 'WAXWING_USER=%s\nWAXWING_KEY=%s\n' "$(id -u):$(id -g)" "$watches" >>../.env
echo "made: ./compose and .env; clients take compose/shared/ca.pem and compose/app.key, you compose/ops.key"
