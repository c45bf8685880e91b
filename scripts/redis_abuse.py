"""What bad clients of the Redis port cost the others: their p99 while somebody abuses the port, beside a run in which an unrelated process burns
as much processor time as the abuse took (the abusers' and the node's).

    redis_abuse.py WAXWING [--seconds 6] [--rounds 3] [--only KIND,..] [--factor 2]

Exit 0 if, in the median round of each kind, p99 was at most `--factor` times that of its control run, and the node kept its memory.
"""
import argparse
import multiprocessing
import os
import resource
import select
import socket
import statistics
import sys
import time

from redis_nodes import Nodes

RATE, SUBSCRIBERS = 500, 5
RSS_MAX_MB = 600


def connect(port, timeout=5):
    one = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def wire(*words):
    words = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def until_stopped(stop, once):
    while not stop.is_set():
        try:
            once()
        except OSError:
            pass


def junk(port, stop):
    """Bytes that are no commands, from many connections that come again."""

    def once():
        some = [connect(port) for _ in range(20)]
        for one, data in zip(some, [b"*1000000000\r\n", b"*1\r\n$-5\r\n", b"\xff" * 70000, b"*1\r\n:1\r\n", b"POST / HTTP/1.1\r\n\r\n"] * 4):
            one.sendall(data)
            one.close()

    until_stopped(stop, once)


def flood(port, stop):
    """Pipelined commands without end, whose answers nobody reads."""
    data = b"PING\r\n" * 2000 + b"NOSUCH x\r\n" * 500

    def once():
        one = connect(port)
        one.setblocking(False)
        while not stop.is_set():
            _, writable, _ = select.select([], [one], [], 0.05)
            if writable:
                one.send(data)

    until_stopped(stop, once)


def publishers(port, stop):
    """Publishes to nobody, as many as there is room for."""
    data = wire("PUBLISH", "abuse:nobody", b"x" * 100) * 500

    def once():
        one = connect(port)
        while not stop.is_set():
            one.sendall(data)
            left = 500 * 4
            while left > 0:
                got = len(one.recv(1 << 16))
                if not got:
                    raise OSError
                left -= got

    until_stopped(stop, once)


def half_open(port, stop):
    """Many who come and say nothing, or half a command, byte by byte."""
    some = []
    while not stop.is_set():
        try:
            if len(some) < 400:
                one = connect(port)
                one.sendall(b"*2\r\n$4\r\nECHO\r\n$60000\r\n")
                some.append(one)
            for one in some:
                one.send(b"x")
        except OSError:
            some = []
        time.sleep(0.01)


def storm(port, stop):
    """Connections that come, subscribe and go."""

    def once():
        one = connect(port)
        one.sendall(wire("SUBSCRIBE", f"abuse:{os.getpid()}:{time.monotonic_ns()}"))
        one.recv(100)
        one.close()

    until_stopped(stop, once)


def patterns(port, stop):
    """Patterns made to be dear, and names made to match them slowly."""
    one = connect(port)
    for number in range(100):
        one.sendall(wire("PSUBSCRIBE", b"*" + b"a*" * 100 + b"b%d" % number))
        one.recv(4096)
    other = connect(port)

    def once():
        other.sendall(wire("PUBLISH", b"a" * 200, "x"))
        other.recv(100)

    until_stopped(stop, once)


def slow_reader(port, stop):
    """Subscribers that never read a channel that is flooded."""
    some = []
    for _ in range(5):
        one = connect(port)
        one.sendall(wire("SUBSCRIBE", "abuse:flooded"))
        some.append(one)
    publisher = connect(port)
    data = wire("PUBLISH", "abuse:flooded", b"x" * 10_000) * 20

    def once():
        publisher.sendall(data)
        left = 20
        while left > 0:
            left -= publisher.recv(1 << 16).count(b"\r\n") or 1

    until_stopped(stop, once)


KINDS = {one.__name__: one for one in (junk, flood, publishers, half_open, storm, patterns, slow_reader)}


def burn(share, stop):
    """So much of one processor, in slices of 10 ms."""
    while not stop.is_set():
        begin = time.monotonic()
        while time.monotonic() - begin < 0.01 * share:
            pass
        time.sleep(max(0.0, 0.01 * (1 - share)))


def measure(port, seconds):
    """Latencies of `RATE` messages a second to some subscribers, in microseconds, in order."""
    subscribers = []
    for _ in range(SUBSCRIBERS):
        one = connect(port)
        one.sendall(wire("SUBSCRIBE", "victim"))
        one.recv(100)
        one.setblocking(False)
        subscribers.append(one)
    publisher = connect(port)
    poll = select.poll()
    by_fd = {one.fileno(): [one, b""] for one in subscribers}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    publisher.setblocking(False)
    latencies, begin, sent = [], time.monotonic(), 0
    total = int(RATE * seconds)
    while len(latencies) < total * SUBSCRIBERS and time.monotonic() < begin + seconds + 10:
        now = time.monotonic()
        if sent < total and now >= begin + sent / RATE:
            publisher.send(wire("PUBLISH", "victim", b"%020d" % time.monotonic_ns()))
            sent += 1
            try:
                publisher.recv(1 << 16)
            except BlockingIOError:
                pass
        wait = max(0, begin + sent / RATE - time.monotonic()) if sent < total else 0.1
        for fd, _ in poll.poll(wait * 1000):
            entry = by_fd[fd]
            data = entry[1] + entry[0].recv(1 << 16)
            at, arrived = 0, time.monotonic_ns()
            while (end := data.find(b"$20\r\n", at)) >= 0 and len(data) >= end + 27:
                latencies.append((arrived - int(data[end + 5 : end + 25])) / 1000)
                at = end + 27
            entry[1] = data[at:]
    for one in subscribers + [publisher]:
        one.close()
    if len(latencies) < total * SUBSCRIBERS:
        raise SystemExit(f"{total * SUBSCRIBERS - len(latencies)} of {total * SUBSCRIBERS} messages did not come")
    return sorted(latencies)


def p99(latencies):
    return latencies[int(len(latencies) * 0.99)]


def beside(targets, port, seconds):
    """Latencies while `targets` run, and the processor time that those took."""
    stop = multiprocessing.Event()
    children = [multiprocessing.Process(target=target, args=(*arguments, stop)) for target, arguments in targets]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for child in children:
        child.start()
    time.sleep(0.3)
    latencies = measure(port, seconds)
    stop.set()
    for child in children:
        child.join(5)
        if child.is_alive():
            child.kill()
            child.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return latencies, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rss_mb(nodes):
    with open(f"/proc/{nodes.processes[0].pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("waxwing")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--factor", type=float, default=2)
    arguments = parser.parse_args()
    kinds = arguments.only.split(",")
    results = {kind: [] for kind in kinds}
    with Nodes(arguments.waxwing, 1) as nodes:
        port, seconds = nodes.port(0), arguments.seconds
        measure(port, 1)
        cpu = nodes.cpu_s()
        quiet = p99(measure(port, seconds))
        at_rest = nodes.cpu_s() - cpu
        print(f"nobody else: p99 {quiet:.0f} us", flush=True)
        for _ in range(arguments.rounds):
            for kind in kinds:
                cpu, wall = nodes.cpu_s(), time.monotonic()
                abused, took = beside([(KINDS[kind], (port,))], port, seconds)
                wall = time.monotonic() - wall
                share = max(0.0, (took + nodes.cpu_s() - cpu - at_rest) / wall)
                whole, rest = int(share), share % 1
                burners = [(burn, (1.0,))] * whole + [(burn, (rest,))] * (rest > 0.01)
                control, _ = beside(burners, port, seconds)
                results[kind].append((p99(abused), p99(control), share))
                print(f"{kind}: p99 {p99(abused):.0f} us, control {p99(control):.0f} us at {share:.2f} processors, {rss_mb(nodes):.0f} MB", flush=True)
                time.sleep(0.5)
        memory = rss_mb(nodes)
    failed = memory > RSS_MAX_MB
    for kind, rounds in results.items():
        ratio = statistics.median(abused / control for abused, control, _ in rounds)
        verdict = "ok" if ratio <= arguments.factor else "MISSED"
        failed |= ratio > arguments.factor
        print(f"{kind:<12} p99 {statistics.median(one[0] for one in rounds):>8.0f} us  control {statistics.median(one[1] for one in rounds):>8.0f} us  ratio {ratio:5.2f}  {verdict}")
    print(f"memory at the end {memory:.0f} MB")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
