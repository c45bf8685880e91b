"""A chat room: python chat.py NAME ROOM ADDRESS..      A check of two nodes: python chat.py --smoke ADDRESS ADDRESS"""
import asyncio
import sys
import uuid

from waxwing_client import Client, pb


async def listen(client):
    while True:
        kind, *what = await client.events.get()
        if kind == "message":
            _, message = what
            print(f"{message.headers.get('from', '?')}: {message.payload.decode(errors='replace')}", flush=True)
        elif kind == "gap":
            gap = what[0]
            topics, origin = ", ".join(gap.topics) or "any topic", gap.origin or "any node"
            count = gap.missing if gap.HasField("missing") else "some"
            sure = "lost" if gap.certain else "perhaps lost"
            print(f"* {count} messages of {topics} from {origin} {sure}: {pb.Gap.Reason.Name(gap.reason)}", flush=True)
        else:
            print(f"* {kind} {what[0]}", flush=True)


async def chat(name, room, addresses):
    client = Client(addresses)
    listener = asyncio.create_task(listen(client))
    for result in await client.subscribe(room):
        print(f"* in {result.topic} ({result.confirmed}/{result.members} members)", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            await client.publish(room, line.rstrip("\n").encode(), headers={"from": name})
        except ConnectionError:
            print(f"* perhaps not said: {line}", end="", flush=True)
    listener.cancel()
    await client.close()


async def smoke(there, here):
    subscriber, publisher = Client([there]), Client([here])
    topic = f"smoke:{uuid.uuid4()}"
    await subscriber.subscribe(topic)
    published = await publisher.publish(topic, b"hello", pb.CONFIRM_CLUSTER, headers={"from": "python"})
    assert published.subscriptions == 1, published
    while True:
        kind, *what = await subscriber.events.get()
        if kind == "message":
            break
        assert kind == "attached", (kind, what)
    batch, message = what
    assert (batch.topic, message.payload, message.headers["from"]) == (topic, b"hello", "python"), what
    assert message.id == published.id, (message.id, published.id)
    await subscriber.close()
    await publisher.close()
    print("ok")


if __name__ == "__main__":
    args = sys.argv[1:]
    if len(args) == 3 and args[0] == "--smoke":
        asyncio.run(asyncio.wait_for(smoke(args[1], args[2]), 20))
    elif len(args) >= 3:
        asyncio.run(chat(args[0], args[1], args[2:]))
    else:
        sys.exit(__doc__)
