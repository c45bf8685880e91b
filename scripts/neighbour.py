"""What a noisy neighbour costs: B's p99 at 1,000 messages a second while namespace A publishes as fast as it can, beside a run in which an
unrelated process burns as much processor time as A took (A's clients' and, for A, the nodes').

    neighbour.py WAXWING [--seconds 5] [--rounds 5] [--only KIND,..] [--factor 2]

Two nodes with keys; A and B each have one, and a namespace with the default rate. Kinds:
  limited   A has a low rate: pipelined commands at the Redis port, most of which are refused
  redis     the same with the default rate: pipelined publishes to subscribers of A's
  grpc      streams that publish at no fixed rate, as many as there is room for, to subscribers at the same node
  link      the same across the link, which A's messages and B's share
  unlimited, unlimited-link   as grpc and link, where the file says that A's rate is unlimited: told, and not judged

What it says is worth something on a machine with nothing else to do, and of a release build. Exit 0 if, in the median round of each kind, p99 was at most `--factor` times that of its control run.
"""
import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

from redis_abuse import burn, wire
from redis_nodes import PATIENCE_S, Nodes

RATE, SUBSCRIBERS = 1000, 5
QUOTA = "sessions = 1000\nsubscriptions = 10000\ntopics = 1000\npresences = 5000\npayload = 65536\n"
LIMITS = {"limited": "publish_rate = 500\npublish_burst = 2000\n", "unlimited": 'publish_rate = "unlimited"\npublish_bytes = "unlimited"\n'}


class Locked(Nodes):
    """Nodes that ask for keys."""

    def __init__(self, program):
        super().__init__(program, 2)
        self.access = f"{self.folder.name}/access.toml"
        self.arguments = ["--access-file", self.access]
        self.keys = {}
        for name, rights in {"a": ["--publish", "*", "--subscribe", "*"], "b": ["--publish", "*", "--subscribe", "*"], "ops": ["--admin"]}.items():
            made = subprocess.run([program, "-q", "key", "create", "--file", self.access, "-n", name, *rights], check=True, capture_output=True, text=True)
            self.keys[name] = made.stdout.strip()
        with open(self.access) as file:
            self.listed = file.read()
        self.limit("")

    def limit(self, kind):
        """A's rate; B has the default. Ends when all nodes say that they have read it."""
        of_a = f'[[namespace]]\nname = "a"\n{QUOTA}{LIMITS.get(kind.removesuffix("-link"), "")}'
        with open(self.access, "w") as file:
            file.write(f'{self.listed}\n{of_a}\n[[namespace]]\nname = "*"\n{QUOTA}')
        running = [index for index, process in enumerate(self.processes) if process]
        before = {index: self.reads(index) for index in running}
        for index in running:
            self.processes[index].send_signal(signal.SIGHUP)
        until = time.monotonic() + PATIENCE_S
        while any(self.reads(index) == before[index] for index in running):
            if time.monotonic() > until:
                raise SystemExit("the nodes don't read their file again")
            time.sleep(0.01)

    def reads(self, index):
        """How often it has said that it has read its keys."""
        with open(f"{self.folder.name}/{index}.log") as log:
            return sum("settings read again" in line and " keys, " in line for line in log)

    def grpc(self, index):
        return f"127.0.0.1:{self.base + index * 10}"

    def command(self, who, *words):
        return [self.program, "-q", *words], {**os.environ, "WAXWING_KEY": self.keys[who]}

    def wait_ready(self, index):
        words, env = self.command("ops", "wait", "--members", str(self.count), "--converged", "--timeout", f"{PATIENCE_S}s", "--node", self.grpc(index))
        subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)


def flood(nodes, index, has_subscriber, stop):
    """Pipelined publishes; whether they are taken or refused is nothing to it."""

    def connect():
        one = socket.create_connection(("127.0.0.1", nodes.port(index)), timeout=5)
        one.sendall(wire("AUTH", "a", nodes.keys["a"]))
        one.recv(100)
        return one

    if has_subscriber:
        listener = connect()
        listener.sendall(wire("SUBSCRIBE", "flood"))
        listener.recv(100)
        listener.setblocking(False)
    one, batch = connect(), 500
    data = wire("PUBLISH", "flood", b"x" * 128) * batch
    while not stop.is_set():
        one.sendall(data)
        lines = 0
        while lines < batch:
            lines += one.recv(1 << 16).count(b"\r\n")
        while has_subscriber:
            try:
                listener.recv(1 << 20)
            except BlockingIOError:
                break


def streams(nodes, places, stop):
    """`bench pubsub`, again and again until it is enough."""
    words, env = nodes.command("a", "bench", "pubsub", "--publishers", "2", "--subscribers", "2", "--topics", "2", "--duration", "60s", "--warmup", "0s", "--node", ",".join(map(nodes.grpc, places)), *(["--across"] if len(places) > 1 else []))
    child = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)
    while not stop.is_set() and child.poll() is None:
        time.sleep(0.05)
    if child.poll() is not None:
        raise SystemExit(f"A's bench ended by itself: {child.returncode}")
    child.terminate()
    child.wait()


KINDS = {
    "limited": (flood, (0, False), [0]),
    "redis": (flood, (0, True), [0]),
    "grpc": (streams, ([0],), [0]),
    "link": (streams, ([0, 1],), [0, 1]),
    "unlimited": (streams, ([0],), [0]),
    "unlimited-link": (streams, ([0, 1],), [0, 1]),
}


def measure(nodes, places, seconds):
    """B's p99 in microseconds."""
    words, env = nodes.command("b", "bench", "latency", "--rate", str(RATE), "--subscribers", str(SUBSCRIBERS), "--duration", f"{seconds}s", "-o", "json", "--node", ",".join(map(nodes.grpc, places)), *(["--across"] if len(places) > 1 else []))
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"B's messages: {done.stdout}{done.stderr}")
    report = json.loads(done.stdout)
    if report["gaps"] or report["missing"]:
        raise SystemExit(f"B lost messages: {done.stdout}")
    return report["p99_us"]


def beside(nodes, targets, places, seconds):
    """B's p99 while `targets` run, and the processors that those and the nodes took."""
    stop = multiprocessing.Event()
    children = [multiprocessing.Process(target=target, args=(*arguments, stop)) for target, arguments in targets]
    for child in children:
        child.start()
    time.sleep(0.5)
    of_nodes, wall = nodes.cpu_s(), time.monotonic()
    before = sum(cpu_of(child.pid) for child in children)
    p99 = measure(nodes, places, seconds)
    of_clients = sum(cpu_of(child.pid) for child in children) - before
    of_nodes, wall = nodes.cpu_s() - of_nodes, time.monotonic() - wall
    stop.set()
    for child in children:
        child.join(10)
        if child.exitcode != 0:
            raise SystemExit(f"{child.name} did not end well: {child.exitcode}")
    return p99, of_clients / wall, of_nodes / wall


def cpu_of(pid):
    """Processor time of a process and what it has started."""
    total = 0
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return total + sum(cpu_of(int(child)) for child in children.read().split())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("waxwing")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--factor", type=float, default=2)
    arguments = parser.parse_args()
    kinds, seconds = arguments.only.split(","), arguments.seconds
    results = {kind: [] for kind in kinds}
    with Locked(os.path.realpath(arguments.waxwing)) as nodes:
        measure(nodes, [0, 1], 1)
        for kind in kinds:
            target, more, places = KINDS[kind]
            nodes.limit(kind)
            quiet, _, at_rest = beside(nodes, [], places, seconds)
            print(f"{kind}: nobody else: p99 {quiet:.0f} us", flush=True)
            for _ in range(arguments.rounds):
                noisy, of_clients, of_nodes = beside(nodes, [(target, (nodes, *more))], places, seconds)
                share = max(0.0, of_clients + of_nodes - at_rest)
                whole, rest = int(share), share % 1
                burners = [(burn, (1.0,))] * whole + [(burn, (rest,))] * (rest > 0.01)
                control, *_ = beside(nodes, burners, places, seconds)
                results[kind].append((noisy, control))
                print(f"{kind}: p99 {noisy:.0f} us, control {control:.0f} us at {share:.2f} processors", flush=True)
                time.sleep(0.5)
    failed = False
    for kind, rounds in results.items():
        ratio = statistics.median(noisy / control for noisy, control in rounds)
        judged = not kind.startswith("unlimited")
        failed |= judged and ratio > arguments.factor
        noisy, control = (statistics.median(one[at] for one in rounds) for at in (0, 1))
        verdict = ("ok" if ratio <= arguments.factor else "MISSED") if judged else "not judged"
        print(f"{kind:<14} p99 {noisy:>8.0f} us  control {control:>8.0f} us  ratio {ratio:5.2f}  {verdict}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
