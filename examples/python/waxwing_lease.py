"""A lease for asyncio: at most one holder of a name in the cluster, renewed by itself, with a fencing token.

    async with lease(addresses, "nightly", ttl=15) as held:
        store.write(row, fence=held.token)   # the store refuses a token below the highest that it has seen
        ...                                  # when the lease is lost, the body is cancelled: then LeaseLost is raised
"""
import asyncio
import os
import random
import time

import grpc

from waxwing_stream import KEEPALIVE

pb = grpc.protos("waxwing/v1/control.proto")
services = grpc.services("waxwing/v1/control.proto")
DRIFT = 128  # two hosts' clocks don't go alike: this part of a TTL is given away for it


class LeaseLost(Exception):
    """It is not surely held any more: somebody else may have it."""


class Busy(Exception):
    """Somebody else has it, all the time that it was waited for."""


def code(err):
    return dict(err.trailing_metadata() or ()).get("waxwing-code", "")


class lease:
    """`wait`: how many seconds to wait for it; None: as long as it takes."""

    def __init__(self, addresses, name, ttl=15, wait=None, note="", namespace=None, key=os.environ.get("WAXWING_KEY")):
        self.addresses, self.name, self.ttl, self.wait, self.note = list(dict.fromkeys(addresses)), name, ttl, wait, note
        said = (("waxwing-namespace", namespace), ("authorization", key and f"Bearer {key}"))
        self.metadata = tuple((name, value) for name, value in said if value)
        # Renews and releases it, and nobody else does. One all the time: what was granted to an answer that got lost is ours.
        self.owner, self.token, self.until, self.lost, self.channel = os.urandom(16), 0, 0.0, False, None

    def held_for(self):
        """For how many more seconds it is surely held, by this host's clock, counted from when the last renewal was sent."""
        return 0 if self.lost else max(0, self.until - time.monotonic())

    async def call(self, method, request, timeout):
        """Of the first node that does it; the node that did it last comes first. When it was sent, and the answer."""
        last = None
        for address in list(self.addresses):
            if not self.channel:
                self.channel = grpc.aio.insecure_channel(address, options=KEEPALIVE)
            sent = time.monotonic()
            try:
                stub = getattr(services.ControlStub(self.channel), method)
                return sent, await stub(request, timeout=timeout, metadata=self.metadata)
            except grpc.aio.AioRpcError as err:
                if err.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED) or code(err) == "not_held":
                    raise
                last = err
                await self.channel.close()
                self.channel = None
                self.addresses.append(self.addresses.pop(0))
        raise last

    async def acquire(self):
        end, pause = time.monotonic() + (float("inf") if self.wait is None else self.wait), 0.1
        while True:
            wait = max(0, min(20, end - time.monotonic()))
            try:
                request = pb.AcquireLeaseRequest(name=self.name, owner=self.owner, note=self.note, ttl=duration(self.ttl), wait=duration(wait))
                sent, answer = await self.call("AcquireLease", request, wait + 5)
                if answer.granted:
                    self.token, self.until = answer.token, sent + self.ttl * (1 - 1 / DRIFT)
                    # An answer that was waited for says nothing of how much of the time is over.
                    if time.monotonic() - sent > self.ttl / 3:
                        await self.renew()
                    return
                if time.monotonic() >= end:
                    raise Busy(f"somebody else has {self.name}, token {answer.token}")
            except grpc.aio.AioRpcError as err:
                if time.monotonic() >= end or err.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
                    raise
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, 2)

    async def renew(self):
        request = pb.RenewLeaseRequest(name=self.name, owner=self.owner, token=self.token)
        sent, _ = await self.call("RenewLease", request, max(0.25, min(5, self.ttl / 6)))
        self.until = sent + self.ttl * (1 - 1 / DRIFT)

    async def keep(self, task):
        """Renews it at a third of its time; when it is lost, cancels what was done under it."""
        pause = self.ttl / 3
        while True:
            await asyncio.sleep(min(pause, self.held_for()))
            try:
                if not self.held_for():
                    break
                await asyncio.wait_for(self.renew(), self.held_for())
                pause = self.ttl / 3
            except asyncio.TimeoutError:
                pause = 0
            except grpc.aio.AioRpcError as err:
                if code(err) == "not_held":
                    break
                pause = min(1, self.ttl / 12)
        self.lost = True
        task.cancel()

    async def __aenter__(self):
        await self.acquire()
        self.keeper = asyncio.create_task(self.keep(asyncio.current_task()))
        return self

    async def __aexit__(self, kind, *_):
        self.keeper.cancel()
        if not self.lost:
            try:
                await self.call("ReleaseLease", pb.ReleaseLeaseRequest(name=self.name, owner=self.owner, token=self.token), 5)
            except grpc.aio.AioRpcError:
                pass  # others have to wait for its time to be over
        if self.channel:
            await self.channel.close()
        if self.lost and kind in (None, asyncio.CancelledError):
            getattr(asyncio.current_task(), "uncancel", int)()  # from Python 3.11 on
            raise LeaseLost(f"{self.name}, token {self.token}")


def duration(seconds):
    return {"seconds": int(seconds), "nanos": int(seconds % 1 * 1e9)}
