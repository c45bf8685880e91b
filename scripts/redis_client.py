"""redis-py, unmodified, against two nodes: subscribes on one, publishes on the other, in both protocols.

    redis_client.py --smoke HOST:PORT HOST:PORT        exit 0 if all came, once and in order
"""
import sys
import time

import redis

PIPELINED = 10_000


def connect(address, protocol):
    host, port = address.rsplit(":", 1)
    return redis.Redis(host=host, port=int(port), protocol=protocol, socket_timeout=10)


def take(pubsub, count):
    taken, until = [], time.monotonic() + 20
    while len(taken) < count and time.monotonic() < until:
        message = pubsub.get_message(timeout=1)
        if message:
            taken.append((message["type"], message["channel"], message["data"]))
    return taken


def check(got, expected, what):
    if got != expected:
        sys.exit(f"{what}: got {got!r}, expected {expected!r}")


def smoke(there, here, protocol):
    subscriber, publisher = connect(there, protocol), connect(here, protocol)
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
    try:
        publisher.get("key")
        sys.exit("a data command was not refused")
    except redis.ResponseError as error:
        check("data command" in str(error), True, str(error))
    check(publisher.ping(), True, "the connection stays")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "--smoke":
        sys.exit(__doc__)
    for protocol in (2, 3):
        smoke(sys.argv[2], sys.argv[3], protocol)
    print("ok")
