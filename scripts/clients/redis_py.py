"""redis-py, unmodified, against two nodes: subscribes on one, publishes on the other; sync and asyncio, in both protocols; as a cluster
client too.

    redis_py.py --smoke HOST:PORT HOST:PORT        exit 0 if all came, once and in order
"""
import asyncio
import sys
import time

import redis
import redis.asyncio

PIPELINED = 10_000
PATIENCE_S = 20


def connect(module, address, protocol, **more):
    host, port = address.rsplit(":", 1)
    return module.Redis(host=host, port=int(port), protocol=protocol, socket_timeout=10, **more)


def take(pubsub, count):
    taken, until = [], time.monotonic() + PATIENCE_S
    while len(taken) < count and time.monotonic() < until:
        message = pubsub.get_message(timeout=1)
        if message:
            taken.append((message["type"], message["channel"], message["data"]))
    return taken


def check(got, expected, what):
    if got != expected:
        sys.exit(f"{what}: got {got!r}, expected {expected!r}")


def sync(there, here, protocol):
    subscriber, publisher = connect(redis, there, protocol), connect(redis, here, protocol)
    room = f"redis-py:{protocol}:{time.time_ns()}"
    channel, payload = room.encode(), bytes(range(256))
    pubsub = subscriber.pubsub()
    pubsub.subscribe(room)
    pubsub.psubscribe(room + "*")
    acknowledged = [("subscribe", channel, 1), ("psubscribe", channel + b"*", 2)]
    check(take(pubsub, 2), acknowledged, "acknowledgements")
    check(publisher.publish(room, payload), 2, "receivers in the cluster")
    check(take(pubsub, 2), [("message", channel, payload), ("pmessage", channel, payload)], "a message for each match")
    pipeline = publisher.pipeline(transaction=False)
    for number in range(PIPELINED):
        pipeline.publish(room, number)
    check(set(pipeline.execute()), {2}, "pipelined publishes")
    came = [(kind, int(data)) for kind, _, data in take(pubsub, 2 * PIPELINED)]
    for kind in ("message", "pmessage"):
        check([number for one, number in came if one == kind], list(range(PIPELINED)), f"{kind}s in order")
    check(publisher.pubsub_numsub(room), [(channel, 1)], "PUBSUB NUMSUB")
    check(publisher.pubsub_channels(room), [channel], "PUBSUB CHANNELS")
    pubsub.ping()
    check([kind for kind, _, _ in take(pubsub, 1)], ["pong"], "PING while subscribed")
    refused(lambda: publisher.get("key"))
    check(publisher.ping(), True, "the connection stays")
    pubsub.unsubscribe()
    pubsub.punsubscribe()
    check([(kind, data) for kind, _, data in take(pubsub, 2)], [("unsubscribe", 1), ("punsubscribe", 0)], "ends")
    subscriber.close()
    publisher.close()


def refused(call):
    try:
        call()
    except redis.ResponseError as error:
        check("data command" in str(error), True, str(error))
    else:
        sys.exit("a data command was not refused")


async def take_later(pubsub, count):
    taken, until = [], time.monotonic() + PATIENCE_S
    while len(taken) < count and time.monotonic() < until:
        message = await pubsub.get_message(timeout=1)
        if message:
            taken.append((message["type"], message["channel"], message["data"]))
    return taken


async def concurrent(there, here, protocol):
    subscriber, publisher = connect(redis.asyncio, there, protocol), connect(redis.asyncio, here, protocol)
    room = f"redis-py:asyncio:{protocol}:{time.time_ns()}"
    channel = room.encode()
    pubsub = subscriber.pubsub()
    await pubsub.subscribe(room)
    await pubsub.psubscribe(room + "*")
    check(await take_later(pubsub, 2), [("subscribe", channel, 1), ("psubscribe", channel + b"*", 2)], "acknowledgements")
    counts = await asyncio.gather(*(publisher.publish(room, number) for number in range(50)))
    check(set(counts), {2}, "receivers in the cluster")
    came = await take_later(pubsub, 100)
    for kind in ("message", "pmessage"):
        check(sorted(int(data) for one, _, data in came if one == kind), list(range(50)), f"{kind}s, each once")
    pipeline = publisher.pipeline(transaction=False)
    for number in range(PIPELINED // 10):
        pipeline.publish(room, number)
    await pipeline.execute()
    came = [int(data) for kind, _, data in await take_later(pubsub, 2 * PIPELINED // 10) if kind == "message"]
    check(came, list(range(PIPELINED // 10)), "in order")
    await pubsub.aclose()
    await subscriber.aclose()
    await publisher.aclose()


def cluster(there, here):
    def node(address):
        host, port = address.rsplit(":", 1)
        return redis.RedisCluster(host=host, port=int(port), socket_timeout=10)

    subscriber, publisher = node(there), node(here)
    room = f"redis-py:cluster:{time.time_ns()}"
    pubsub = subscriber.pubsub()
    pubsub.ssubscribe(room)
    until = time.monotonic() + PATIENCE_S
    got = []
    while len(got) < 2 and time.monotonic() < until:
        message = pubsub.get_sharded_message(timeout=1)
        if message:
            got.append((message["type"], message["channel"], message["data"]))
            if len(got) == 1:
                check(publisher.spublish(room, "x"), 1, "receivers of a sharded channel")
    check(got, [("ssubscribe", room.encode(), 1), ("smessage", room.encode(), b"x")], "sharded")
    subscriber.close()
    publisher.close()


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "--smoke":
        sys.exit(__doc__)
    nodes = sys.argv[2:]
    for wanted in (2, 3):
        sync(*nodes, wanted)
        asyncio.run(concurrent(*nodes, wanted))
    cluster(*nodes)
    print("ok")
