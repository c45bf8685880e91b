#!/usr/bin/env bash
# Three nodes on loopback with every lock on: what a node without them says, messages while certificates, keys, issuers and cluster secrets are
# changed on all three, strangers on every port, and (as root, where tcpdump is) a capture that must hold no plain text.
#
#   scripts/locks.sh            WAXWING_BIN=..: another program than target/debug/waxwing
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(readlink -f "${WAXWING_BIN:-target/debug/waxwing}")
base=${BASE_PORT:-27400}
messages=${MESSAGES:-4000}
dir=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait || true
    [ "${KEEP:-}" ] && echo "kept: $dir" || rm -rf "$dir"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; tail -n 5 "$dir"/*.log >&2 || true; exit 1; }
port() { echo $((base + 10 * $1 + $2)); }
cd "$dir"

# 1. Without locks it refuses, and says what is missing.
if "$bin" check-config --name a --listen-grpc 0.0.0.0:7400 --listen-peer 0.0.0.0:7401 --listen-http 0.0.0.0:7402 2> refused; then
    fail "a node without locks may leave loopback"
fi
for says in 'listen.grpc: .*neither keys nor TLS: waxwing certs ca' 'listen.http: ' 'listen.peer: .*cluster secret' 'listen.peer: .*TLS between nodes'; do
    grep -q -- "$says" refused || fail "the refusal does not say: $says"
done

# 2. As README says it.
"$bin" -q certs ca
for node in a b c; do "$bin" -q certs node "$node"; done
"$bin" -q certs client ops
"$bin" -q key create --file access.toml --admin > ops.access
"$bin" -q key create --file access.toml --publish 'roo*' --subscribe 'room' > backend.access
"$bin" -q key create --file access.toml --subscribe '*' > late.access
head -c 32 /dev/urandom | base64 > app.secret
head -c 32 /dev/urandom | base64 > foe.secret
cat >> access.toml <<'TOML'

[[issuer]]
name = "app"
algorithm = "HS256"
secret_file = "app.secret"
audience = "waxwing"
namespaces = ["default"]
TOML
chmod 600 ./*.secret
mint() { "$bin" -q token mint --issuer app --sign-with "$1.secret" --subscribe 'room:*' --expires "$2"; }
mint app 1h > token.access
mint foe 1h > forged.access
chmod 600 ./*.access
"$bin" -q token inspect token.access --file access.toml > /dev/null || fail "a token that was just minted is not believed"
head -c 32 /dev/urandom | base64 > first.key
head -c 32 /dev/urandom | base64 > second.key
install -m 600 first.key gossip.keys
if [ "$(id -u)" = 0 ] && command -v tcpdump > /dev/null; then
    tcpdump -i lo -w capture.pcap -B 65536 "portrange $base-$((base + 29))" 2> tcpdump.log &
    pids+=($!)
    capture=$!
fi
i=0
for node in a b c; do
    "$bin" start --name "$node" --listen-grpc "127.0.0.1:$(port $i 0)" --listen-peer "127.0.0.1:$(port $i 1)" \
        --listen-http "127.0.0.1:$(port $i 2)" --listen-redis "127.0.0.1:$(port $i 3)" \
        --join "127.0.0.1:$(port 0 1)" "127.0.0.1:$(port 1 1)" --expect 3 --secret-file gossip.keys \
        --tls-cert "$node.pem" --tls-key "$node.key" --tls-peer-ca ca.pem --tls-client-ca ca.pem --access-file access.toml 2> "$node.log" &
    pids+=($!)
    declare "pid_$node=$!"
    i=$((i + 1))
done
shows() { local key=$1; shift; "$bin" --tls-ca ca.pem --client-cert ops.pem --client-key ops.key --key-file "$key" "$@"; }
ask() { shows ops.access "$@"; }
ask wait --members 3 --converged --timeout 30s --node "127.0.0.1:$(port 0 0)" || fail "the three don't find each other"

# 3. Messages from a to c, while everything is changed.
shows backend.access subscribe room --raw --count "$messages" --node "127.0.0.1:$(port 2 0)" > received 2> subscriber.log &
subscriber=$!
for _ in $(seq 100); do grep -q subscribed subscriber.log && break; sleep 0.1; done
# Held back by the clock, so that it goes on all through the changes.
(for n in $(seq "$messages"); do echo "canary-message-$n"; [ $((n % 20)) = 0 ] && sleep 0.1; done) \
    | shows backend.access publish room --lines --node "127.0.0.1:$(port 0 0)" > published 2> publisher.log &
publisher=$!
reload() { kill -HUP "$pid_a" "$pid_b" "$pid_c"; sleep 1; }
cat first.key second.key > gossip.keys; reload
cat second.key first.key > gossip.keys; reload
cat second.key > gossip.keys; reload
# A key is taken back: whoever came by it is put out within a second.
shows late.access subscribe 'room:late' --node "127.0.0.1:$(port 1 0)" > /dev/null 2> late.log &
late=$!
for _ in $(seq 100); do grep -q subscribed late.log && break; sleep 0.1; done
"$bin" -q key revoke --file access.toml "$("$bin" key list --file access.toml -o json | grep -o '"id":"[^"]*"' | sed -n '3s/"id":"\(.*\)"/\1/p')"
reload
grep -q 'taken back' late.log || fail "the session of a key that was taken back is still there"
kill "$late" 2>/dev/null || true
# A token ends when it says, and whatever its issuer had signed when that is taken out.
mint app 2s > short.access
chmod 600 short.access
shows short.access subscribe 'room:short' --node "127.0.0.1:$(port 1 0)" > /dev/null 2> short.log &
short=$!
for _ in $(seq 100); do grep -q expired short.log && break; sleep 0.1; done
grep -q subscribed short.log || fail "a token that is good opens nothing"
grep -q expired short.log || fail "a token's stream went on after its end"
kill "$short" 2>/dev/null || true
shows token.access subscribe 'room:token' --node "127.0.0.1:$(port 1 0)" > /dev/null 2> token.log &
token=$!
for _ in $(seq 100); do grep -q subscribed token.log && break; sleep 0.1; done
sed -i '/^\[\[issuer/,/^namespaces/d' access.toml
reload
grep -q 'taken back' token.log || fail "the session of an issuer that was taken out is still there"
kill "$token" 2>/dev/null || true
before=$(ask status -o json --node "127.0.0.1:$(port 1 0)" | grep -o '"certificate_expires":"[^"]*"')
for node in a b c; do "$bin" -q certs node "$node" --days 90 --replace; done
for _ in $(seq 100); do
    now=$(ask status -o json --node "127.0.0.1:$(port 1 0)" | grep -o '"certificate_expires":"[^"]*"')
    [ "$now" != "$before" ] && break
    sleep 0.2
done
[ "$now" != "$before" ] || fail "the new certificate is not shown"
wait "$publisher" || fail "the publisher had errors"
wait "$subscriber" || fail "the subscriber had errors"
seq -f 'canary-message-%.0f' "$messages" | cmp -s - received || fail "not what was published, in that order"
grep -q gap subscriber.log && fail "there were gaps"
for i in 0 1 2; do
    ask status -o json --node "127.0.0.1:$(port $i 0)" | grep -q '"gaps_total":0[,}]' || fail "node $i counted gaps"
    ask wait --members 3 --converged --timeout 5s --node "127.0.0.1:$(port $i 0)" || fail "node $i has lost somebody"
done
if grep -h 'is down\|panicked' a.log b.log c.log; then fail "false deaths"; fi

# 4. Strangers: who shows no certificate, who speaks no TLS, who knows no secret.
if "$bin" --tls-ca ca.pem status --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "let in without a certificate"; fi
if "$bin" status --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "let in in the clear"; fi
if "$bin" --tls-ca ca.pem --client-cert ops.pem --client-key ops.key status --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "let in without a key"; fi
if shows late.access publish room x --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "let in by a key that was taken back"; fi
if shows forged.access publish room:x x --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "let in by a forged token"; fi
if shows token.access publish room:x x --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "let in by a token of nobody who is believed"; fi
if shows backend.access status --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "a backend's key looks at nodes"; fi
if shows backend.access publish lobby x --confirm node --timeout 2s --node "127.0.0.1:$(port 0 0)" > /dev/null 2>&1; then fail "a key publishes where it may not"; fi
if ask status --timeout 2s --node "127.0.0.1:$(port 0 1)" > /dev/null 2>&1; then fail "a client was let in by the peer port"; fi
python3 - "$(port 0 1)" <<'PY'
import os, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(1)
for size in (1, 40, 200, 1200, 8000):
    udp.sendto(os.urandom(size), ("127.0.0.1", int(sys.argv[1])))
try:
    sys.exit(f"FAILED: a stranger got {len(udp.recv(65535))} bytes on the gossip port")
except TimeoutError:
    pass
PY
if [ "${capture:-}" ]; then
    sleep 1; kill -INT "$capture"; wait "$capture" || true
    for plain in canary-message room wx_ eyJ waxwing.v1 waxwing.peer.v1.Link PUBLISH; do
        if grep -q -a -- "$plain" capture.pcap; then fail "the capture holds $plain"; fi
    done
    echo "a capture of $(stat -c %s capture.pcap) bytes holds no plain text"
else
    echo "no capture: not root, or no tcpdump"
fi
echo "all locks hold: $messages messages in order and no gap while certificates, keys and secrets were changed on three nodes; strangers got nothing"
