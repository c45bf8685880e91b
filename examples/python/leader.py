"""A job every so many seconds, done by one of all that run this: python leader.py NAME SECONDS ADDRESS..      A check of two nodes: python leader.py --smoke ADDRESS ADDRESS"""
import asyncio
import os
import sys
import uuid

from waxwing_lease import Busy, LeaseLost, lease


async def lead(name, seconds, addresses):
    while True:
        try:
            async with lease(addresses, name, note=f"pid {os.getpid()}") as held:
                print(f"leading, token {held.token}", flush=True)
                while True:
                    print(f"the job, fenced by {held.token}", flush=True)
                    await asyncio.sleep(seconds)
        except LeaseLost as lost:
            print(f"not leading any more: {lost}", flush=True)


async def smoke(there, here):
    """One holds it, one is told who does, one waits and gets it; a token that rises; and it stays held by being renewed."""
    name = f"smoke:{uuid.uuid4()}"
    async with lease([there], name, ttl=1.5) as first:
        await asyncio.sleep(3)
        assert first.held_for() > 0
        try:
            async with lease([here], name, wait=0):
                raise AssertionError("two at once")
        except Busy as busy:
            assert str(first.token) in str(busy), busy
        second = lease([here, there], name, ttl=1.5, wait=10)
        waiting = asyncio.create_task(second.__aenter__())
        await asyncio.sleep(0.5)
        assert not waiting.done()
    await waiting
    assert second.token > first.token
    second.keeper.cancel()
    await second.__aexit__(None, None, None)
    print("ok")


if __name__ == "__main__":
    args = sys.argv[1:]
    if len(args) == 3 and args[0] == "--smoke":
        asyncio.run(asyncio.wait_for(smoke(args[1], args[2]), 30))
    elif len(args) >= 3:
        asyncio.run(lead(args[0], float(args[1]), args[2:]))
    else:
        sys.exit(__doc__)
