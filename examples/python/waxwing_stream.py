"""One stream to a Waxwing node, and the protocol's messages, compiled from the .proto files when this is imported."""
import asyncio
import os
import sys

import grpc
import grpc_tools

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(HERE, "..", "..", "proto"), os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")]
pb = grpc.protos("waxwing/v1/frames.proto")
services = grpc.services("waxwing/v1/session.proto")

KEEPALIVE = [("grpc.keepalive_time_ms", 5000), ("grpc.keepalive_timeout_ms", 5000), ("grpc.max_receive_message_length", 64 << 20)]


class Attachment:
    """One stream. Answers go to whoever asked, everything else into `inbox`, with None at its end."""

    def __init__(self, address, metadata):
        self.address, self.waiting, self.ids = address, {}, 0
        self.inbox, self.outbox, self.broke = asyncio.Queue(10_000), asyncio.Queue(10_000), False
        self.channel, self.metadata = grpc.aio.insecure_channel(address, options=KEEPALIVE), metadata

    async def hello(self, **fields):
        self.call = services.SessionStub(self.channel).Open(self.frames(), metadata=self.metadata)
        await self.outbox.put(pb.Request(id=1, hello=pb.Hello(client="waxwing-python-example", **fields)))
        first, *rest = (await asyncio.wait_for(self.call.read(), 5)).events
        if first.WhichOneof("kind") != "welcome":
            raise ConnectionError(f"{self.address} refused: {first.reply.error.message}")
        for event in rest:
            await self.inbox.put(event)
        self.reader = asyncio.create_task(self.read())
        return first.welcome

    async def frames(self):
        """Everything that waits goes out as one frame: batches grow by themselves under load."""
        while True:
            requests = [await self.outbox.get()]
            while not self.outbox.empty() and len(requests) < 500:
                requests.append(self.outbox.get_nowait())
            yield pb.ClientFrame(requests=requests)

    async def bye(self, keep_session):
        await self.outbox.put(pb.Request(bye=pb.Bye(keep_session=keep_session)))

    async def ask(self, **kind):
        """The future of the answer; it ends in ConnectionError when the connection breaks before."""
        self.ids += 2
        answer = self.waiting[self.ids] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())  # nobody need look
        if self.reader.done():
            answer.set_exception(ConnectionError("the connection broke"))
        await self.outbox.put(pb.Request(id=self.ids, **kind))
        return answer

    async def read(self):
        try:
            while (frame := await self.call.read()) is not grpc.aio.EOF:
                for event in frame.events:
                    answer = event.WhichOneof("kind") == "reply" and self.waiting.pop(event.reply.id, None)
                    if answer and not answer.done():
                        answer.set_result(event.reply)
                    elif not event.HasField("reply") or event.reply.HasField("error"):
                        await self.inbox.put(event)
        except grpc.RpcError:
            self.broke = True
        for answer in self.waiting.values():
            answer.done() or answer.set_exception(ConnectionError("the connection broke"))
        await self.inbox.put(None)
        await self.channel.close()
