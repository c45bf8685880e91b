"""A small Waxwing client for asyncio: it resumes, subscribes and tracks again, reports gaps, moves when a node asks it to, and never publishes twice.

Take events in a task of its own: answers stand behind messages on the same stream.
"""
import asyncio
import os
import random

import grpc

from waxwing_lease import lease
from waxwing_stream import Attachment, pb


def reason(err):
    """grpc waits for a connection without saying why there is none, so a time-out stands for both."""
    if isinstance(err, asyncio.TimeoutError):
        return "connection refused, or no answer in time"
    return err.details() if isinstance(err, grpc.aio.AioRpcError) else str(err) or repr(err)


class Client:
    """`events` gives ("message", batch, message), ("gap", gap), ("presence", event), ("moved" | "attached" | "detached" | "refused", text)."""

    def __init__(self, addresses, namespace=None, key=os.environ.get("WAXWING_KEY")):
        """The key says which namespace is meant; without one it may be named."""
        self.addresses, self.endpoints = list(addresses), []
        said = (("waxwing-namespace", namespace), ("authorization", key and f"Bearer {key}"))
        self.metadata = tuple((name, value) for name, value in said if value)
        self.token, self.epoch, self.topics, self.patterns, self.seen = b"", 0, set(), set(), {}
        self.tracked, self.watched, self.revision = {}, set(), 0
        self.events, self.publisher, self.may_publish = asyncio.Queue(10_000), None, asyncio.Event()
        self.runner = asyncio.create_task(self.run())

    async def subscribe(self, *topics, patterns=()):
        """How far each name holds. After a break the client subscribes again by itself."""
        self.topics.update(topics), self.patterns.update(patterns)
        return list((await self.ask(subscribe=pb.SubscribeRequest(topics=topics, patterns=patterns))).topics)

    async def publish(self, topic, payload, confirm=pb.CONFIRM_NODE, **fields):
        """The node's answer. ConnectionError: it may have been published or not; it is never repeated here."""
        request = pb.PublishRequest(topic=topic, payload=payload, confirm=confirm or pb.CONFIRM_NODE, **fields)
        return (await self.ask(publish=request)).publish

    async def ask(self, **kind):
        await self.may_publish.wait()
        reply = await (await self.publisher.ask(**kind))
        if reply.HasField("error"):
            raise ValueError(f"{reply.error.code}: {reply.error.message}")
        return reply

    async def track(self, topic, key, id="", meta=b""):
        """Be there, until untracked or closed: the client tracks it again wherever it goes. Tracking it again changes the metadata."""
        self.revision += 1  # what is sent again is recognised by its number
        request = pb.TrackRequest(topic=topic, key=key, id=id, meta=meta, revision=self.revision)
        self.tracked[topic, key, id] = request
        return (await self.ask(track=request)).ref

    async def untrack(self, topic, key, id="", linger=0):
        """With a linger (seconds) another session may take it over; then nobody sees it go."""
        self.tracked.pop((topic, key, id), None)
        await self.ask(untrack=pb.UntrackRequest(topic=topic, key=key, id=id, linger={"nanos": int(linger * 1e9) % 10**9, "seconds": int(linger)}))

    async def watch(self, topic):
        """A snapshot, then what changes; a snapshot again after each move."""
        self.watched.add(topic)
        await self.ask(watch=pb.WatchRequest(topic=topic))

    def lease(self, name, ttl=15, **more):
        """`async with client.lease("nightly") as held`: see waxwing_lease. It is not the session's: it ends by itself, or when it is left."""
        held = lease([*self.endpoints, *self.addresses], name, ttl, **more)
        held.metadata = self.metadata
        return held

    async def close(self):
        self.runner.cancel()
        if self.publisher and self.may_publish.is_set():
            await self.publisher.bye(keep_session=False)
            await asyncio.wait_for(self.publisher.reader, 5)

    async def run(self):
        attachment, pause = None, 0.1
        while True:
            if attachment := attachment or await self.attach(None):
                attachment, pause = await self.deliver(attachment), 0.1
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, 5)

    async def attach(self, old):
        """On the first address that takes us. With `old`, that one goes on receiving meanwhile."""
        for address in dict.fromkeys(random.sample(self.endpoints, len(self.endpoints)) + self.addresses):
            if old and address == old.address:
                continue
            new = Attachment(address, self.metadata)
            try:
                await asyncio.wait_for(new.channel.channel_ready(), 2)
                if old:  # it may take no publish once the new one is welcomed: wait until it has answered for all
                    self.may_publish.clear()
                    fence = await old.ask(unsubscribe=pb.SubscribeRequest())
                    await asyncio.wait([fence, *old.waiting.values()], timeout=1.5)
                overlap = bool(old) and not old.reader.done()
                welcome = await new.hello(resume_token=self.token, epoch=self.epoch, overlap=overlap)
                self.token, self.epoch = welcome.resume_token, welcome.epoch
                self.endpoints, self.publisher = list(welcome.endpoints), new
                self.may_publish.set()
                again = await new.ask(subscribe=pb.SubscribeRequest(topics=self.topics, patterns=self.patterns))
                for request in self.tracked.values():
                    await new.ask(track=request)
                for topic in self.watched:
                    again = await new.ask(watch=pb.WatchRequest(topic=topic))
                if overlap:
                    await asyncio.wait_for(again, 5)
                if old and not overlap:  # it broke meanwhile; of a plain return the node itself reports the gap
                    await self.events.put(("gap", pb.Gap(reason=pb.Gap.RECONNECTED)))
                await self.events.put(("moved" if overlap else "attached", welcome.node))
                return new
            except (OSError, grpc.RpcError, asyncio.TimeoutError, AttributeError) as err:
                await new.channel.close()
                await self.events.put(("refused", f"{address}: {reason(err)}"))
        if old and not old.reader.done():
            self.may_publish.set()
        return None

    async def move(self, old):
        while not old.reader.done():
            if new := await self.attach(old):
                if not old.reader.done():
                    await old.bye(keep_session=True)
                return new
            await asyncio.sleep(0.5)

    async def deliver(self, attachment):
        """Until the stream ends; then the attachment made meanwhile. What that one holds is read only now: nothing overtakes."""
        move = None
        while event := await attachment.inbox.get():
            kind = event.WhichOneof("kind")
            if kind == "batch":
                batch, pair = event.batch, (event.batch.topic, event.batch.origin)
                for message in batch.messages:  # ids of an origin rise: what is not above the last one has been here before
                    if message.id > self.seen.get(pair, ""):
                        self.seen[pair] = message.id
                        await self.events.put(("message", batch, message))
            elif kind in ("gap", "presence"):
                await self.events.put((kind, getattr(event, kind)))
            elif kind == "reply":
                await self.events.put(("refused", event.reply.error.message))
            elif kind == "go_away" and not move:
                self.endpoints = list(event.go_away.endpoints) or self.endpoints
                move = asyncio.create_task(self.move(attachment))
        if move and (new := await move):
            if attachment.broke:  # with messages still to come, perhaps
                await self.events.put(("gap", pb.Gap(reason=pb.Gap.RECONNECTED)))
            return new
        self.may_publish.clear()
        await self.events.put(("detached", attachment.address))
