"""Three nodes of one cluster with a Redis port each, for the scripts beside this one: started, killed, started again."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

PATIENCE_S = 60


def free_base(count):
    """The first of `count` ports in a row that are free, TCP and UDP."""
    for base in range(23000 + os.getpid() % 5000, 60000, 50):
        try:
            for port in range(base, base + count):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(socket.AF_INET, kind) as one:
                        one.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
    raise SystemExit("no free ports in a row")


class Nodes:
    def __init__(self, program, count=3, arguments=()):
        self.program, self.count, self.arguments = program, count, list(arguments)
        self.base = free_base(count * 10)
        self.folder = tempfile.TemporaryDirectory()
        self.processes = [None] * count

    def __enter__(self):
        for index in range(self.count):
            self.start(index)
        for index in range(self.count):
            self.wait_ready(index)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process:
                process.kill()
                process.wait()
        self.folder.cleanup()

    def port(self, index):
        return self.base + index * 10 + 3

    def start(self, index):
        at = lambda offset, node=index: f"127.0.0.1:{self.base + node * 10 + offset}"
        command = [self.program, "start", "--name", "abcdefgh"[index]]
        for offset, door in enumerate(["grpc", "peer", "http", "redis"]):
            command += [f"--listen-{door}", at(offset)]
        for node in range(self.count):
            if node != index:
                command += ["--join", at(1, node)]
        if self.count > 1:
            command += ["--expect", str(self.count)]
        log = open(f"{self.folder.name}/{index}.log", "a")
        self.processes[index] = subprocess.Popen(command + self.arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_ready(self, index):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.base + index * 10 + 2}/status", timeout=2) as answer:
                    status = json.load(answer)
                if status["node"]["state"] == "ready" and status["cluster"]["ready"] == self.count:
                    return
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.05)
        raise SystemExit(f"node {index} does not get ready:\n{self.words(index)}")

    def kill(self, index):
        self.processes[index].send_signal(signal.SIGKILL)
        self.processes[index].wait()

    def words(self, index):
        with open(f"{self.folder.name}/{index}.log") as log:
            return log.read()[-3000:]

    def cpu_s(self):
        """Processor time that all nodes have used."""
        total = 0
        for process in self.processes:
            with open(f"/proc/{process.pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")
