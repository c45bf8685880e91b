#!/usr/bin/env python3
"""What control promises, seen from outside: groups begin, survive and go on. Real processes on loopback; needs Python 3 alone.

    WAXWING_BIN=target/release/waxwing scripts/control.py [--times N] [--memory] WHAT..

found     three nodes with --expect 3 in any order, N times: one group within 3 s
majority  two of three die: messages go on, changes say no quorum; they return: changes are made within 3 s
crash     all three killed at once with changes under way, N times: whatever was acknowledged is there
rolling   restart of all three, one after the other, N times: no change fails for longer than 3 s
lost      two of three lose their disks: the third goes on from its copy, and the two join
meet      two lone nodes are joined: one group; two that were written to: neither ends, and status says so
full      the disk of one of three is full: the others go on, it says so; with room again it takes part by itself (needs root)
idle      what nodes with nothing to do take of a core
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from redis_nodes import free_base

PATIENCE_S = 60
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("WAXWING_")}


class Node:
    def __init__(self, cluster, index):
        self.cluster, self.index, self.name, self.process = cluster, index, "abcdefgh"[index], None
        self.data = f"{cluster.folder.name}/{self.name}"

    def at(self, offset):
        return f"127.0.0.1:{self.cluster.base + self.index * 10 + offset}"

    def start(self):
        cluster = self.cluster
        command = [cluster.program, "start", "--name", self.name]
        for offset, door in enumerate(["grpc", "peer", "http"]):
            command += [f"--listen-{door}", self.at(offset)]
        if cluster.joined:
            for node in cluster.nodes:
                command += [] if node is self else ["--join", node.at(1)]
        if cluster.expect:
            command += ["--expect", str(cluster.expect)]
        if cluster.durable:
            command += ["--data-dir", self.data]
        with open(f"{cluster.folder.name}/{self.name}.log", "a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=ENVIRONMENT)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def drain(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            raise SystemExit(f"{self.name} ended with {self.process.returncode}\n{self.words()}")

    def status(self):
        try:
            with urllib.request.urlopen(f"http://{self.at(2)}/status", timeout=2) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def words(self):
        with open(f"{self.cluster.folder.name}/{self.name}.log") as log:
            return log.read()[-3000:]

    def run(self, *arguments):
        return run(self.cluster.program, [self], *arguments)


def run(program, nodes, *arguments, timeout="10s"):
    """Exit code, what was said, and how long it took."""
    began = time.monotonic()
    at = ",".join(node.at(0) for node in nodes)
    ran = subprocess.run(
        [program, "--node", at, "--timeout", timeout, *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    return ran.returncode, ran.stdout + ran.stderr, time.monotonic() - began


class Cluster:
    def __init__(self, program, count=3, durable=True, joined=True, expect=None):
        self.program, self.durable, self.joined = program, durable, joined
        self.expect = count if expect is None else expect
        self.base = free_base(count * 10)
        self.folder = tempfile.TemporaryDirectory(prefix="waxwing-control-")
        self.nodes = [Node(self, index) for index in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.kill()
        self.folder.cleanup()

    def controls(self, nodes=None):
        return [(node.status() or {}).get("control", {}) for node in nodes or self.nodes]

    def one_group(self, within, nodes=None):
        """How long until these are one group that has a leader; exits where that takes too long."""
        def is_one():
            controls = self.controls(nodes)
            return all(control.get("quorum") and control.get("leader") for control in controls) \
                and len({(control["group"], control["leader"]) for control in controls}) == 1
        return self.until("one group", within, is_one)

    def until(self, what, within, is_so):
        began = time.monotonic()
        while not is_so():
            if time.monotonic() - began > within:
                print(f"NEVER: {what} within {within} s", file=sys.stderr)
                for node in self.nodes:
                    print(node.name, json.dumps((node.status() or {}).get("control")), node.words()[-1500:], file=sys.stderr)
                raise SystemExit(1)
            time.sleep(0.02)
        return time.monotonic() - began

    def create(self, name, nodes=None):
        return run(self.program, nodes or self.nodes, "namespace", "create", name)

    def namespaces(self, node):
        code, said, _ = node.run("namespace", "list", "-o", "json")
        if code != 0:
            return set()
        listed = json.loads(said)
        return {row["name"] for row in listed}

    def until_created(self, name, within, nodes=None):
        def is_made():
            code, said, _ = self.create(name, nodes)
            return code == 0 or "there is such a namespace" in said
        return self.until(f"{name} is made", within, is_made)


def check(is_so, what):
    if not is_so:
        raise SystemExit(f"NOT SO: {what}")


def found(options):
    times = []
    for _ in range(options.times):
        with Cluster(options.program, durable=not options.memory) as cluster:
            order = cluster.nodes[:]
            random.shuffle(order)
            for node in order:
                node.start()
                time.sleep(random.choice([0, 0.05, 0.2, 0.6]))
            times.append(cluster.one_group(PATIENCE_S))
    print(f"found: {len(times)} times one group, after the last start within {max(times):.2f} s (aim 3), median {sorted(times)[len(times) // 2]:.2f}")
    check(max(times) < 3, "within 3 s")


def majority(options):
    with Cluster(options.program, durable=not options.memory) as cluster:
        for node in cluster.nodes:
            node.start()
        cluster.one_group(10)
        cluster.until_created("before", 5)
        a, b, c = cluster.nodes
        leader = next(node for node in cluster.nodes if node.name == cluster.controls()[0]["leader"])
        for left in (leader, next(node for node in cluster.nodes if node is not leader)):
            others = [node for node in cluster.nodes if node is not left]
            for node in others:
                node.kill()
            cluster.until("no quorum in status", 10, lambda: not cluster.controls([left])[0]["quorum"])
            watching = subprocess.Popen(
                [cluster.program, "--node", left.at(0), "subscribe", "room", "--count", "1"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
            check("subscribed" in watching.stderr.readline(), "it subscribes")
            tracking = subprocess.Popen(
                [cluster.program, "--node", left.at(0), "presence", "track", "room", "alice"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
            cluster.until("presence", 5, lambda: "alice" in left.run("presence", "list", "room")[1])
            check(left.run("publish", "room", "hello")[0] == 0, "it publishes")
            check("hello" in watching.communicate(timeout=10)[0], "it is delivered")
            code, said, took = cluster.create("meanwhile", [left])
            check(code == 1 and "quorum" in said and took < 4, f"a change says no quorum: {code} {said} {took:.1f} s")
            tracking.kill()
            tracking.wait()
            for node in others:
                node.start()
            cluster.until("they are back", 20, lambda: all(node.status() for node in others))
            took = cluster.until_created(f"after-{left.name}", 10)
            print(f"majority: with only {left.name} left ({'it led' if left is leader else 'it followed'}) messages and presence go on, "
                  f"a change is refused after {said.strip().splitlines()[0]!r}; back: made after {took:.2f} s (aim 3)")
            check(took < 3, "within 3 s")
            cluster.one_group(10)


def crash(options):
    total = 0
    with Cluster(options.program) as cluster:
        acknowledged, lock, stop = set(), threading.Lock(), threading.Event()
        for node in cluster.nodes:
            node.start()
        cluster.one_group(10)

        def write(writer):
            number = 0
            while not stop.is_set():
                number += 1
                name = f"w{writer}-{number}"
                if cluster.create(name, [cluster.nodes[writer]])[0] == 0:
                    with lock:
                        acknowledged.add(name)

        writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
        for writer in writers:
            writer.start()
        for turn in range(options.times):
            time.sleep(random.uniform(0.5, 2))
            with lock:
                before = len(acknowledged)
            for node in cluster.nodes:
                node.process.send_signal(signal.SIGKILL)
            for node in cluster.nodes:
                node.process.wait()
            with lock:
                known = set(acknowledged)
            for node in random.sample(cluster.nodes, 3):
                node.start()
            cluster.one_group(20)
            for node in cluster.nodes:
                cluster.until("all is there", 10, lambda: known <= cluster.namespaces(node))
            total = len(known)
            check(total >= before, "it only grows")
        stop.set()
        for writer in writers:
            writer.join()
    print(f"crash: all three killed with -9 {options.times} times; all {total} acknowledged changes are on all three")


def rolling(options):
    with Cluster(options.program, durable=not options.memory) as cluster:
        for node in cluster.nodes:
            node.start()
        cluster.one_group(10)
        stop, made = threading.Event(), []

        def write():
            number, since = 0, None
            while not stop.is_set():
                number += 1
                began = time.monotonic()
                code, said, took = run(cluster.program, cluster.nodes, "namespace", "create", f"r-{number}", timeout="3s")
                now = time.monotonic()
                if code == 0:
                    # From when the first that failed was asked, or this one.
                    made.append((now - (since or began), said))
                    since = None
                else:
                    since = since or began
                    print(f"  {number}: after {took:.2f} s: {said.strip().splitlines()[0]}", file=sys.stderr)
                time.sleep(0.05)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(options.times):
            for node in cluster.nodes:
                node.drain()
                node.start()
                cluster.one_group(20)
                cluster.until("it votes again", 20, lambda: all(
                    control["role"] in ("leader", "voter") for control in cluster.controls()))
        stop.set()
        writer.join()
        longest = max(gap for gap, _ in made)
        print(f"rolling: {options.times} times all three ({'durable' if cluster.durable else 'in memory'}); {len(made)} changes, "
              f"none had to wait for longer than {longest:.2f} s (aim 3); quorum at the end")
        everything = cluster.namespaces(cluster.nodes[0])
        check(len(everything) >= len(made), f"all are there: {len(everything)} of {len(made)}")
        check(longest < 3, "no change fails for longer than 3 s")


def lost(options):
    with Cluster(options.program) as cluster:
        a, b, c = cluster.nodes
        for node in cluster.nodes:
            node.start()
        cluster.one_group(10)
        cluster.until_created("kept", 5)
        cluster.until("c has it", 5, lambda: "kept" in cluster.namespaces(c))
        before = cluster.controls()[0]["group"]
        for node in (a, b):
            node.kill()
            shutil.rmtree(node.data)
        cluster.until("no quorum", 10, lambda: not cluster.controls([c])[0]["quorum"])
        code, said, _ = c.run("control", "init", "--from-copy", "--yes")
        check(code == 0, said)
        for node in (a, b):
            node.start()
        cluster.one_group(20)
        check(cluster.controls()[0]["group"] != before, "it is a new group")
        cluster.until("all have what was kept", 10, lambda: all("kept" in cluster.namespaces(node) for node in cluster.nodes))
        cluster.until_created("new", 5)
        # A member that is left of the old group comes along, and is not asked.
        cluster.until("three vote", 20, lambda: all(
            control["role"] in ("leader", "voter") for control in cluster.controls()))
    with Cluster(options.program) as cluster:
        a, b, c = cluster.nodes
        d = Node(cluster, 3)
        d.data = f"{cluster.folder.name}/d"
        for node in cluster.nodes:
            node.start()
        cluster.one_group(10)
        cluster.until_created("kept", 5)
        d.start()
        cluster.one_group(20, [a, b, c, d])
        cluster.until("d has it", 5, lambda: "kept" in cluster.namespaces(d))
        for node in (a, b):
            node.kill()
        cluster.until("no quorum", 10, lambda: not cluster.controls([c])[0]["quorum"])
        check(c.run("control", "init", "--from-copy", "--yes")[0] == 0, "c goes on")
        took = cluster.one_group(30, [c, d])
        print(f"lost: the third goes on from its copy, two with empty disks join it; one that was left of the old group came along after {took:.1f} s")
        d.kill()


def meet(options):
    with Cluster(options.program, count=2, joined=False, expect=0) as cluster:
        a, b = cluster.nodes
        for node in cluster.nodes:
            node.start()
        cluster.until("each its own", 10, lambda: len({control.get("group") for control in cluster.controls()} - {"", None}) == 2)
        cluster.until_created("kept", 5, [b])
        check(a.run("join", b.at(1))[0] == 0, "they are joined")
        took = cluster.one_group(30)
        check(all("kept" in cluster.namespaces(node) for node in cluster.nodes), "what was written is there")
    with Cluster(options.program, count=2, joined=False, expect=0) as cluster:
        a, b = cluster.nodes
        for node in cluster.nodes:
            node.start()
        cluster.until("each its own", 10, lambda: len({control.get("group") for control in cluster.controls()} - {"", None}) == 2)
        cluster.until_created("of-a", 5, [a])
        cluster.until_created("of-b", 5, [b])
        check(a.run("join", b.at(1))[0] == 0, "they are joined")
        both = lambda: all(any(problem["code"] == "control_two_groups" for problem in node.status()["problems"]) for node in cluster.nodes)
        cluster.until("both say that there are two", 10, both)
        check(len({control["group"] for control in cluster.controls()}) == 2, "neither ended")
        code, said, _ = b.run("control", "backup", f"{cluster.folder.name}/b.backup")
        check(code == 0, said)
        b.drain()
        shutil.rmtree(b.data)
        b.start()
        cluster.until("b is up", 10, lambda: b.status())
        check(a.run("join", b.at(1))[0] == 0, "they are joined")
        cluster.one_group(30)
        check("of-a" in cluster.namespaces(b), "b has what a had")
        print(f"meet: two lone nodes are one group after {took:.1f} s; two that were written to stay apart and say so, until one is wiped")


def full(options):
    if os.geteuid() != 0:
        print("full: NOT RUN: a small disk is mounted for it, which needs root")
        return
    with Cluster(options.program) as cluster:
        c = cluster.nodes[2]
        os.makedirs(c.data)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", c.data], check=True)
        try:
            for node in cluster.nodes:
                node.start()
            cluster.one_group(10)
            cluster.until_created("before", 5)
            ballast = f"{c.data}/ballast"
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            made = 0
            def stopped():
                nonlocal made
                made += cluster.create(f"meanwhile-{made}", cluster.nodes[:2])[0] == 0
                return any(problem["code"] == "control_stopped" for problem in c.status()["problems"])
            cluster.until("the full one says so", 60, stopped)
            check(made > 0, "the others go on")
            check(c.run("publish", "room", "x")[0] == 0, "messages go on there, too")
            os.remove(ballast)
            everything = cluster.namespaces(cluster.nodes[0])
            took = cluster.until("it takes part again", 60, lambda: everything <= cluster.namespaces(c))
            cluster.one_group(20)
            print(f"full: with a full disk one of three says that it has stopped, {made} changes were made meanwhile; with room again it has all of them after {took:.1f} s")
        finally:
            if c.process and c.process.poll() is None:
                c.kill()
            subprocess.run(["umount", c.data], check=True)


def idle(options):
    with Cluster(options.program) as cluster:
        for node in cluster.nodes:
            node.start()
        cluster.one_group(10)
        cluster.until_created("one", 5)
        time.sleep(3)
        before, began = [node.cpu_s() for node in cluster.nodes], time.monotonic()
        time.sleep(options.seconds)
        took = time.monotonic() - began
        shares = [(node.cpu_s() - was) / took for node, was in zip(cluster.nodes, before)]
        print("idle: " + ", ".join(f"{node.name} {share:.2%}" for node, share in zip(cluster.nodes, shares)) + f" of a core, over {took:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {kind.__name__: kind for kind in (found, majority, crash, rolling, lost, meet, full, idle)}
    parser.add_argument("what", nargs="+", choices=kinds)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--memory", action="store_true", help="nodes without a data directory")
    options = parser.parse_args()
    options.program = os.path.abspath(os.environ.get("WAXWING_BIN", "target/release/waxwing"))
    for what in options.what:
        kinds[what](options)


if __name__ == "__main__":
    main()
