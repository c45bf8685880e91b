"""Mixed use by redis-py of three nodes' Redis ports, while one node after the other is killed by SIGKILL and started again.

    redis_soak.py WAXWING [--seconds 600] [--every 45]

No client of a surviving node may see an error, or a message missing, twice, or out of order. Those of the killed node see their connection
close, and come back when it does. Exit 0 if all that was so.
"""
import argparse
import asyncio
import random
import sys
import time

import redis.asyncio as redis
from redis.backoff import NoBackoff
from redis.asyncio.retry import Retry
from redis.exceptions import RedisError

from redis_nodes import Nodes

COMES_BACK_S = 20


class Soak:
    def __init__(self, nodes):
        self.nodes = nodes
        self.down = set()
        self.problems = []
        self.counts = {"published": 0, "received": 0, "asked": 0, "changed": 0, "kills": 0, "came back": 0}
        # When a client of each node last got something done, by (kind, node).
        self.alive = {}
        self.over = False

    def client(self, node, protocol):
        return redis.Redis(port=self.nodes.port(node), protocol=protocol, socket_timeout=15, retry=Retry(NoBackoff(), 0))

    async def stay(self, kind, node, number, talk):
        """Talks until the end; comes back when its node does."""
        epoch = 0
        while not self.over:
            client = self.client(node, 2 + number % 2)
            try:
                await talk(client, node, f"{kind}-{node}-{number}", epoch)
            except (RedisError, OSError) as error:
                # The kill may be a moment older than its note, or the error a moment older than this.
                await asyncio.sleep(0.2)
                if node not in self.down and not self.over:
                    self.problems.append(f"{kind} {number} of node {node}, which lives: {error!r}")
            except Exception as error:  # A broken check, or a fault of this script.
                self.problems.append(f"{kind} {number} of node {node}: {error!r}")
            finally:
                try:
                    await client.aclose()
                except (RedisError, OSError):
                    pass
            epoch += 1
            await asyncio.sleep(0.1)

    def did(self, kind, node):
        self.alive[kind, node] = time.monotonic()

    async def publish(self, client, node, name, epoch):
        number = 0
        while not self.over:
            if random.random() < 0.3:
                pipeline = client.pipeline(transaction=False)
                for _ in range(20):
                    pipeline.publish(f"soak:{node}", f"{name}/{epoch}/{number}")
                    number += 1
                await pipeline.execute()
                self.counts["published"] += 20
            else:
                await client.publish(f"soak:{node}", f"{name}/{epoch}/{number}")
                number += 1
                self.counts["published"] += 1
            self.did("publish", node)
            await asyncio.sleep(random.random() * 0.04)

    async def subscribe(self, client, node, name, _):
        by_pattern = name.endswith("1")
        async with client.pubsub() as pubsub:
            if by_pattern:
                await pubsub.psubscribe("soak:*")
            else:
                await pubsub.subscribe(*(f"soak:{one}" for one in range(self.nodes.count)))
            last = {}
            while not self.over:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is None:
                    await pubsub.ping()
                    continue
                if message["type"] not in ("message", "pmessage"):
                    continue
                publisher, epoch, number = message["data"].decode().split("/")
                epoch, number = int(epoch), int(number)
                before = last.get(publisher)
                if before and before[0] == epoch:
                    assert number == before[1] + 1, f"{publisher}: {number} after {before[1]} of connection {epoch}"
                elif before:
                    assert epoch > before[0], f"{publisher}: connection {epoch} after {before[0]}"
                    assert number == 0, f"{publisher}: connection {epoch} begins with {number}"
                last[publisher] = (epoch, number)
                self.counts["received"] += 1
                self.did("subscribe", node)

    async def ask(self, client, node, name, _):
        while not self.over:
            assert await client.ping()
            await client.pubsub_numsub("soak:0")
            await client.pubsub_channels("soak:*")
            assert (await client.info())["role"] == "master"
            await client.client_list()
            self.counts["asked"] += 5
            self.did("ask", node)
            await asyncio.sleep(0.2)

    async def change(self, client, node, name, _):
        """Comes to channels and leaves them, and hears itself where it is."""
        async with client.pubsub() as pubsub:
            while not self.over:
                channel = f"{name}:{random.randrange(1000)}"
                await pubsub.subscribe(channel)
                message = await pubsub.get_message(timeout=10)
                assert message and message["type"] == "subscribe", message
                assert await client.publish(channel, "x") == 1, "an acknowledged subscription holds"
                message = await pubsub.get_message(timeout=10)
                assert message and message["data"] == b"x", message
                await pubsub.unsubscribe(channel)
                message = await pubsub.get_message(timeout=10)
                assert message and message["type"] == "unsubscribe", message
                self.counts["changed"] += 1
                self.did("change", node)
                await asyncio.sleep(0.05)

    async def kill(self, every, until):
        victim = 0
        while time.monotonic() + COMES_BACK_S < until:
            await asyncio.sleep(min(every / 2, 15))
            victim = (victim + 1) % self.nodes.count
            self.down.add(victim)
            await asyncio.to_thread(self.nodes.kill, victim)
            self.counts["kills"] += 1
            print(f"killed node {victim}: {self.counts}", flush=True)
            await asyncio.sleep(min(every / 4, 5))
            self.nodes.start(victim)
            await asyncio.to_thread(self.nodes.wait_ready, victim)
            back = time.monotonic()
            kinds = {kind for kind, node in self.alive if node == victim}
            while any(self.alive[kind, victim] < back for kind in kinds):
                if time.monotonic() > back + COMES_BACK_S:
                    late = [kind for kind in kinds if self.alive[kind, victim] < back]
                    self.problems.append(f"clients of node {victim} did not come back: {late}")
                    break
                await asyncio.sleep(0.05)
            else:
                self.counts["came back"] += 1
            self.down.discard(victim)
        await asyncio.sleep(max(0, until - time.monotonic()))

    async def run(self, seconds, every):
        talks = [("publish", self.publish, 2), ("subscribe", self.subscribe, 2), ("ask", self.ask, 1), ("change", self.change, 2)]
        tasks = [
            asyncio.create_task(self.stay(kind, node, number, talk))
            for kind, talk, count in talks
            for node in range(self.nodes.count)
            for number in range(count)
        ]
        await self.kill(every, time.monotonic() + seconds)
        self.over = True
        await asyncio.wait(tasks, timeout=20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("waxwing")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=45, help="about so many seconds from kill to kill")
    arguments = parser.parse_args()
    with Nodes(arguments.waxwing) as nodes:
        soak = Soak(nodes)
        asyncio.run(soak.run(arguments.seconds, arguments.every))
        if soak.problems:
            for node in range(nodes.count):
                print(f"--- node {node}\n{nodes.words(node)}")
    for problem in soak.problems[:20]:
        print("PROBLEM:", problem)
    print(f"redis soak: {soak.counts}, {len(soak.problems)} problems")
    sys.exit(1 if soak.problems or not soak.counts["kills"] or not soak.counts["received"] else 0)


if __name__ == "__main__":
    main()
