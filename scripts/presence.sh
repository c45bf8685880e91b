#!/usr/bin/env bash
# Presence figures beside their aims, of three nodes on loopback with default settings: one table, what was seen and whether it is what it
# should be. Run it on a quiet machine; it takes about ten minutes, and most of that is building. Ends with 1 where an aim was missed.
#
#   scripts/presence.sh [part ..]       parts: spread newcomer storm memory killed rolling; all of them where none is named
#
#   WAXWING_BIN=path        a node built before            PRESENCES=100000  ATTACHMENTS=2000  SESSIONS=1000
#   MEMORY_BIN=path         examples/presence_memory built before
#
# `killed` and `rolling` are tests of cluster-tests (clients that check every event) against that node.
set -euo pipefail
cd "$(dirname "$0")/.."

parts=" ${*:-spread newcomer storm memory killed rolling} "
presences=${PRESENCES:-100000}
attachments=${ATTACHMENTS:-2000}
sessions=${SESSIONS:-1000}
wants() { [[ $parts == *" $1 "* ]]; }

if [ -z "${WAXWING_BIN:-}" ]; then
    cargo build --locked --release --bin waxwing
    WAXWING_BIN=$(realpath "${CARGO_TARGET_DIR:-target}/release/waxwing")
fi
export WAXWING_BIN

work=$(mktemp -d)
nodes=
stop() {
    if [ -n "$nodes" ]; then
        echo q >&3 || true
        wait "$nodes" || true
    fi
    rm -rf "$work"
}
trap stop EXIT
: >"$work/figures"
# What went wrong is told at once, and is a row of the table.
note() { echo "{\"name\":\"$1\",\"value\":$2}" >>"$work/figures"; }
failed() {
    echo "presence.sh: $1 failed; what it said:" >&2
    tail -n 20 "$2" >&2
    note "$1.failed" 1
}
ready() {
    for _ in $(seq 60); do
        "$WAXWING_BIN" --node "$1" --timeout 30s wait --members "$2" --converged >/dev/null 2>&1 && return
        sleep 0.5
    done
    tail -n 20 "$work/nodes.log" >&2
    exit 1
}
listed_by() {
    curl -fsS --max-time 2 "http://127.0.0.1:$1/status" | tr -d ' \n' | sed 's/.*"presence":{"presences":\([0-9]*\).*/\1/'
}

if wants spread || wants newcomer || wants storm; then
    mkfifo "$work/keys"
    base=$((10000 + RANDOM % 2000 * 10))
    "$WAXWING_BIN" dev --nodes 3 --base-port "$base" <"$work/keys" >"$work/nodes.log" 2>&1 &
    nodes=$!
    exec 3>"$work/keys"
    a=127.0.0.1:$base b=127.0.0.1:$((base + 10)) c=127.0.0.1:$((base + 20))
    for node in "$a" "$b" "$c"; do ready "$node" 3; done
fi

if wants spread; then
    echo "--- $presences through one session on a, until complete on b; then one at a time" >&2
    "$WAXWING_BIN" --node "$a,$b" --timeout 60s bench presence --presences "$presences" -o json >"$work/spread" 2>"$work/spread.err" ||
        failed spread "$work/spread.err"
fi

if wants newcomer; then
    echo "--- a node that starts while they exist: seconds from ready until it has all" >&2
    "$WAXWING_BIN" --node "$a,$b" --timeout 60s bench presence --presences "$presences" --singles 0 --hold 20s -o json >"$work/held" 2>"$work/held.err" &
    held=$!
    for _ in $(seq 600); do
        [ "$(listed_by $((base + 12)))" = "$presences" ] && break
        sleep 0.05
    done
    echo k3 >&3
    for _ in $(seq 100); do
        curl -fsS --max-time 1 "http://127.0.0.1:$((base + 22))/healthz" >/dev/null 2>&1 || break
        sleep 0.05
    done
    echo r3 >&3
    for _ in $(seq 1000); do
        curl -fsS --max-time 1 "http://127.0.0.1:$((base + 22))/readyz" >/dev/null 2>&1 && break
        sleep 0.02
    done
    began=$(date +%s.%N)
    total=0
    for _ in $(seq 500); do
        total=$(listed_by $((base + 22)) || echo 0)
        [ "$total" = "$presences" ] && break
        sleep 0.02
    done
    if [ "$total" = "$presences" ]; then
        note newcomer.s "$(echo "$(date +%s.%N) $began" | awk '{ printf "%.3f", $1 - $2 }')"
    else
        echo "it lists $total of $presences" >"$work/newcomer.err"
        failed newcomer "$work/newcomer.err"
    fi
    wait "$held" || failed held "$work/held.err"
    ready "$c" 3
fi

if wants storm; then
    echo "--- $attachments join one room at once, each watching and checking every event" >&2
    "$WAXWING_BIN" --node "$a,$b,$c" --timeout 120s bench storm --attachments "$attachments" -o json >"$work/storm" 2>"$work/storm.err" ||
        failed storm "$work/storm.err"
fi

if [ -n "$nodes" ]; then
    echo q >&3
    wait "$nodes" || true
    nodes=
fi

if wants memory; then
    echo "--- memory of remote presences, and merging into many" >&2
    if [ -z "${MEMORY_BIN:-}" ]; then
        cargo build --locked --release --example presence_memory
        MEMORY_BIN=${CARGO_TARGET_DIR:-target}/release/examples/presence_memory
    fi
    "$MEMORY_BIN" >"$work/memory" 2>"$work/memory.err" || failed memory "$work/memory.err"
fi

# Each test says for itself whether nobody saw what nobody should see.
judge() {
    local part=$1 test=$2
    echo "--- $test" >&2
    if PRESENCE_SESSIONS=$sessions WAXWING_FIGURES=$work/figures \
        cargo test --locked -p cluster-tests --test cluster -- --exact "presence::$test" >"$work/$part.log" 2>&1; then
        note "$part.passed" 1
    else
        failed "$part" "$work/$part.log"
    fi
}
if wants killed; then
    judge kill_0 killed_with_its_clients_without_linger_one_leave_each_soon
    judge kill_back killed_and_its_clients_come_back_elsewhere_nobody_sees_it
    judge kill_5 killed_with_its_clients_one_leave_each_after_the_linger
fi
if wants rolling; then
    judge rolling a_rolling_restart_is_not_seen_by_watchers_that_move_too
fi

python3 - "$work" "$presences" "$attachments" "$sessions" <<'PYTHON'
import json, pathlib, re, sys

work = pathlib.Path(sys.argv[1])
presences, attachments, sessions = sys.argv[2:]
rows, missed = [], 0


def read(name):
    path = work / name
    text = path.read_text() if path.exists() else ""
    return json.loads(text) if text.strip() else {}


figures = {}
for line in (work / "figures").read_text().splitlines():
    one = json.loads(line)
    figures.setdefault(one["name"], []).append(one["value"])


def figure(name):
    return max(figures[name]) if name in figures else None


def row(what, aim, seen, unit, most=None, strict=False):
    """`most`: the aim as a number."""
    global missed
    if seen is None:
        rows.append((what, aim, "-", "not measured"))
        return
    met = most is None or (seen < most if strict else seen <= most)
    missed += not met
    rows.append((what, aim, f"{seen:.3g} {unit}".strip(), "reached" if met else "MISSED"))


def judged(what, aim, part, seen=None, most=None):
    global missed
    if f"{part}.passed" not in figures:
        missed += f"{part}.failed" in figures
        rows.append((what, aim, "-", "FAILED" if f"{part}.failed" in figures else "not measured"))
    elif seen is None:
        rows.append((what, aim, "as it should be", "reached"))
    else:
        row(what, aim, seen, "s", most)


spread, storm = read("spread"), read("storm")
row(f"{presences} tracked on a, complete on b, from the first", "3 s", spread.get("complete_from_first_s"), "s", 3)
row("the same, from the last", "1 s", spread.get("complete_from_last_s"), "s", 1)
row("all of them gone again, from the end of their session", "", spread.get("gone_s"), "s")
row("one track until seen on b, p50", "under 20 ms", spread.get("one_p50_ms"), "ms", 20, True)
row("the same, p99", "under 60 ms", spread.get("one_p99_ms"), "ms", 60, True)
row(f"a node that starts lists {presences}, from ready", "2 s", figure("newcomer.s"), "s", 2)
judged("kill -9, linger 0: one leave each", "2 s", "kill_0", figure("presence.kill9.linger_0"), 2)
judged("kill -9, linger 5 s, clients come back: no event", "no event", "kill_back")
judged("kill -9, linger 5 s, clients too: one leave each", "8 s", "kill_5", figure("presence.kill9.linger_5s"), 8)
row(f"{attachments} join one room: all have seen all", "3 s", storm.get("all_saw_all_s"), "s", 3)
row("  events that should not have been", "0", sum(storm.get(key, 0) for key in ("false_leaves", "double_joins", "updates", "strangers")) if storm else None, "", 0)
row("  the load generator's processor time", "", storm.get("bench_cpu_s"), "s")
text = (work / "memory").read_text() if (work / "memory").exists() else ""
each = re.findall(r"^(.*): (\d+) B of resident", text, re.M)
for case, size in each:
    row(f"a remote presence, {case}", "under 400 B", float(size), "B", 400, True)
scale = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def times(pattern):
    found = re.findall(pattern + r"([\d.]+)(ns|µs|ms|s)\b", text)
    return max((float(number) * scale[unit] for number, unit in found), default=None)


if not each:
    row("a remote presence", "under 400 B", None, "B")
row("merging 1,000 into 1,000,000, median", "under 2 ms", times("median "), "ms", 2, True)
count = times(r"counting \d+: ")
row("count of 1,000,000", "under 10 us", None if count is None else count * 1e3, "us", 10, True)
judged(f"rolling restart, {sessions} sessions and watchers: no event", "no event", "rolling")

wide = [max(len(str(cells[at])) for cells in [*rows, ("WHAT", "AIM", "SEEN", "")]) for at in range(3)]
for cells in [("WHAT", "AIM", "SEEN", ""), *rows]:
    print("  ".join(str(cell).ljust(width) for cell, width in zip(cells, [*wide, 0])).rstrip())
sys.exit(1 if missed else 0)
PYTHON
