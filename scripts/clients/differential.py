"""The Redis front beside a stock redis-server: the same bytes to both, what they answer compared.

    differential.py REDIS_SERVER HOST:PORT [HOST:PORT ...]     [--seed N] [--rounds N]

Starts REDIS_SERVER (a path) on a free port. Scenarios that people have thought of run first, then random talk of several connections. With
several addresses all of it runs twice: on the first node alone, and with each connection on another node, where what one Redis counts is what
the whole cluster must count. Exit 0: no difference but those in KNOWN.
"""
import itertools
import random
import re
import socket
import subprocess
import sys
import tempfile
import time

from talk import SCENARIOS, random_globs, random_talk

PATIENCE_S = 5
# A node lists and kills its own clients alone.
OF_ONE_NODE = {"killed"}
# What other nodes count follows within this, with room for a busy machine.
COUNTS_FOLLOW_S = 0.4

# Where this front means to differ: what stock Redis says, and what stands there instead (both match at the beginning).
KNOWN = [
    # Data, scripts, transactions: none here, and told so.
    (rb"[\s\S]*", rb"-ERR '[a-z_]+' is a (data|scripting|transaction) command; Waxwing is pub/sub and presence"),
    # The first digits of an endless length are enough.
    (rb"-ERR Protocol error: too big bulk count string", rb"-ERR Protocol error: invalid bulk length"),
    # More or fewer subcommands are told by HELP.
    (rb"\*\d+\r\n\+[A-Z]+ <subcommand>", rb"\*\d+\r\n\+[A-Z]+ (\[?<subcommand>)"),
]


def masked(reply):
    """Without what differs from server to server and from moment to moment."""
    reply = re.sub(rb"\r\n\$2\r\nid\r\n:\d+", b"\r\n$2\r\nid\r\n:ID", reply)
    reply = re.sub(rb"\$7\r\nversion\r\n\$\d+\r\n[0-9.]+", b"version", reply)
    return reply


class Lost(Exception):
    pass


def end_of(data, at=0):
    """Where the reply at `at` ends; None: it has not come yet."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    mark, text, after = data[at : at + 1], data[at + 1 : line], line + 2
    if mark in b"+-:_,#(":
        return after
    count = int(text)
    if count < 0:
        return after
    if mark in b"$=":
        return after + count + 2 if len(data) >= after + count + 2 else None
    if mark not in b"*~>%":
        raise Lost(f"no reply begins with {data[at:at + 40]!r}")
    for _ in range(count * (2 if mark == b"%" else 1)):
        after = end_of(data, after)
        if after is None:
            return None
    return after


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.data, self.closed = b"", False

    def send(self, data):
        try:
            self.socket.setblocking(True)
            self.socket.settimeout(PATIENCE_S)
            self.socket.sendall(data)
        except OSError:
            pass  # It has been closed; reading says so.
        finally:
            self.socket.setblocking(False)

    def fill(self):
        while not self.closed:
            try:
                more = self.socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                more = b""
            self.data += more
            self.closed = not more

    def take(self):
        """All whole replies so far."""
        self.fill()
        replies, at = [], 0
        while at < len(self.data):
            end = end_of(self.data, at)
            if end is None:
                break
            replies.append(masked(self.data[at:end]))
            at = end
        self.data = self.data[at:]
        return replies + ([b"(closed)"] if self.closed and not self.data else [])


class Server:
    def __init__(self, addresses):
        self.addresses, self.connections = addresses, {}

    def connection(self, name):
        if name not in self.connections:
            self.connections[name] = Connection(self.addresses[len(self.connections) % len(self.addresses)])
        return self.connections[name]

    def end(self):
        for connection in self.connections.values():
            connection.socket.close()
        self.connections = {}


class Stock(Server):
    """One thread: what it has to say is on its way once it has answered on another connection, twice."""

    def __init__(self, address):
        super().__init__([address])
        self.control = Connection(address)

    def settle(self):
        for _ in range(3):
            self.control.send(b"PING\r\n")
            until = time.monotonic() + PATIENCE_S
            while not self.control.take():
                if time.monotonic() > until:
                    raise Lost("stock Redis does not answer")


def wire(words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def is_known(stock, ours):
    return any(re.match(one, stock) and re.match(other, ours) for one, other in KNOWN)


MESSAGE = re.compile(rb">[34]\r\n\$\d+\r\n[ps]?message\r\n")


def in_any_order(replies):
    """What an argument-less unsubscribe ends comes in no order; the counts run on all the same. One message by several patterns comes in no
    order either, and in RESP3 messages may stand anywhere among answers."""
    replies = [one for one in replies if not MESSAGE.match(one)] + [one for one in replies if MESSAGE.match(one)]
    replies = [b"".join(sorted(run)) for _, run in itertools.groupby(replies, key=same_message)]
    runs, names = [], []
    for reply in replies:
        found = re.match(rb"([>*]3\r\n\$\d+\r\n(?:p|s)?unsubscribe\r\n)\$\d+\r\n([\s\S]*)\r\n(:\d+\r\n)$", reply)
        if found:
            names.append(found[2])
            runs.append(found[1] + found[3])
        else:
            runs.append(reply)
    return runs + sorted(names)


def same_message(reply):
    """Equal for neighbours whose order doesn't matter."""
    found = re.match(rb"[*>]4\r\n\$8\r\npmessage\r\n\$(\d+)\r\n", reply)
    if not found:
        same_message.last = object()
        return same_message.last
    return reply[found.end() + int(found[1]) :]


def compare(stock, ours, steps, spread):
    """None, or where they part."""
    problems = []
    for step in steps:
        name, words = step[0], step[1:]
        if words == ("CONNECT",):
            stock.connection(name)
            ours.connection(name)
            continue
        raw = words[0] if len(words) == 1 and isinstance(words[0], bytes) else wire(words)
        stock.connection(name).send(raw)
        ours.connection(name).send(raw)
        stock.settle()
        wanted = {one: connection.take() for one, connection in stock.connections.items()}
        got = {one: [] for one in wanted}
        until = time.monotonic() + PATIENCE_S
        while any(len(got[one]) < len(wanted[one]) for one in wanted) and time.monotonic() < until:
            for one in wanted:
                connection = ours.connection(one)
                more = connection.take()
                if more == [b"(closed)"] and got[one][-1:] == more:
                    continue
                got[one] += more
            time.sleep(0.0005)
        for one in wanted:
            left, right = in_any_order(wanted[one]), in_any_order(got[one])
            same = all(a == b or is_known(a, b) for a, b in itertools.zip_longest(left, right, fillvalue=b""))
            if not same:
                problems.append(f"after {step!r}\n      {one} of Redis:   {wanted[one]!r}\n      {one} of Waxwing: {got[one]!r}")
        if problems:
            return problems
        if spread and b"subscribe" in raw.lower() or spread and any(w in raw.lower() for w in (b"reset", b"quit", b"kill")):
            time.sleep(COUNTS_FOLLOW_S)
    time.sleep(0.02)
    stock.settle()
    for one in list(stock.connections):
        left, right = stock.connections[one].take(), ours.connection(one).take()
        if left != right:
            problems.append(f"at the end\n      {one} of Redis:   {left!r}\n      {one} of Waxwing: {right!r}")
    return problems


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def main():
    arguments, options = [], {"--seed": str(random.randrange(1 << 32)), "--rounds": "40"}
    given = iter(sys.argv[1:])
    for one in given:
        if one in options:
            options[one] = next(given)
        else:
            arguments.append(one)
    if len(arguments) < 2:
        sys.exit(__doc__)
    seed, rounds = int(options["--seed"]), int(options["--rounds"])
    redis_server, nodes = arguments[0], arguments[1:]
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = open(f"{folder}/log", "w")
        command = [redis_server, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(command + ["--enable-debug-command", "yes"], stdout=log, stderr=log)
        try:
            until = time.monotonic() + 20
            while True:
                try:
                    stock = Stock(f"127.0.0.1:{port}")
                    stock.settle()
                    break
                except OSError:
                    if time.monotonic() > until:
                        sys.exit(f"{redis_server} does not start: {open(f'{folder}/log').read()}")
                    time.sleep(0.05)
            failed = passed = 0
            for spread in [False, True] if len(nodes) > 1 else [False]:
                ours = Server(nodes if spread else nodes[:1])
                cases = list(SCENARIOS.items())
                for number in range(rounds // (8 if spread else 1)):
                    chance = random.Random(f"{seed}/{number}")
                    cases.append((f"random talk {number} (--seed {seed})", random_talk(chance)))
                    cases.append((f"random globs {number} (--seed {seed})", random_globs(chance)))
                for name, steps in cases:
                    if spread and name in OF_ONE_NODE:
                        continue
                    # Names of their own in each case: what others left must not count.
                    problems = compare(stock, ours, steps, spread)
                    stock.end()
                    ours.end()
                    stock.settle()
                    if spread:
                        time.sleep(COUNTS_FOLLOW_S)
                    else:
                        wait_empty(nodes[0])
                    if problems:
                        failed += 1
                        print(f"DIFFERENT: {name}{' (spread over nodes)' if spread else ''}: " + "\n    ".join(problems))
                    else:
                        passed += 1
            print(f"differential: {passed} the same, {failed} different, beside {version(stock)}")
            sys.exit(1 if failed else 0)
        finally:
            process.kill()
            process.wait()


def wait_empty(node):
    """Until nothing of the last case is counted any more."""
    control = Connection(node)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        control.send(wire(["PUBSUB", "CHANNELS"]) + wire(["PUBSUB", "NUMPAT"]) + wire(["PUBSUB", "SHARDCHANNELS"]))
        replies = []
        while len(replies) < 3 and time.monotonic() < until:
            replies += control.take()
        if replies == [b"*0\r\n", b":0\r\n", b"*0\r\n"]:
            break
    control.socket.close()


def version(stock):
    stock.control.send(b"INFO server\r\n")
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for reply in stock.control.take():
            return re.search(rb"redis_version:(\S+)", reply)[1].decode()
    return "?"


if __name__ == "__main__":
    main()
