"""channels_redis' pub/sub layer, unmodified, on two nodes, as two Django processes would have it: groups, and messages to one channel.

    channels_layer.py --smoke HOST:PORT HOST:PORT        exit 0 if all came
"""
import asyncio
import sys

import redis.asyncio
from channels_redis.pubsub import RedisPubSubChannelLayer

PATIENCE_S = 20


async def subscribed(nodes, name, count):
    """The layer doesn't wait for its subscriptions: they hold when every node counts so many."""
    for node in nodes:
        client = redis.asyncio.Redis.from_url(f"redis://{node}")
        for _ in range(PATIENCE_S * 50):
            if await client.pubsub_numsub(name) == [(name.encode(), count)]:
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError(f"{node} counts {await client.pubsub_numsub(name)}, not {count}")
        await client.aclose()


async def smoke(there, here):
    first = RedisPubSubChannelLayer(hosts=[f"redis://{there}"])
    second = RedisPubSubChannelLayer(hosts=[f"redis://{here}"])
    alice, bob = await first.new_channel(), await second.new_channel()
    await first.group_add("room", alice)
    await second.group_add("room", bob)
    for name in (alice, bob):
        await subscribed((there, here), name, 1)
    await subscribed((there, here), first._get_group_channel_name("room"), 2)
    for number in range(100):
        await second.group_send("room", {"type": "chat.message", "number": number})
    for layer, channel in ((first, alice), (second, bob)):
        for number in range(100):
            message = await asyncio.wait_for(layer.receive(channel), PATIENCE_S)
            assert message == {"type": "chat.message", "number": number}, message
    await first.send(bob, {"type": "whisper", "data": b"\x00\xff"})
    message = await asyncio.wait_for(second.receive(bob), PATIENCE_S)
    assert message == {"type": "whisper", "data": b"\x00\xff"}, message
    await second.group_discard("room", bob)
    await first.group_send("room", {"type": "chat.message", "number": 100})
    message = await asyncio.wait_for(first.receive(alice), PATIENCE_S)
    assert message["number"] == 100, message
    try:
        raise AssertionError(f"came though the group was left: {await asyncio.wait_for(second.receive(bob), 0.3)}")
    except asyncio.TimeoutError:
        pass
    await first.flush()
    await second.flush()


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "--smoke":
        sys.exit(__doc__)
    asyncio.run(smoke(*sys.argv[2:]))
    print("ok")
