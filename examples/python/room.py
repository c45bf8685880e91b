"""Who is in the room: python room.py NAME ROOM ADDRESS..      A check of two nodes: python room.py --smoke ADDRESS ADDRESS"""
import asyncio
import json
import sys
import uuid

from waxwing_client import Client


class Roster:
    """The list, kept by applying each event. A snapshot replaces it, and only what differs is a change."""

    def __init__(self):
        self.entries, self.parts = {}, {}

    def apply(self, event):
        """The lines to show: who came, who went, whose metadata are others."""
        before = dict(self.entries)
        for entry in event.leaves:
            self.entries.pop((entry.key, entry.id), None)
        came = {(entry.key, entry.id): entry for entry in [*event.joins, *event.updates]}
        if event.snapshot:
            self.parts.update(came)
            if event.more:
                return []
            self.entries, self.parts = self.parts, {}
        else:
            self.entries.update(came)
        lines = [f"- {key} {id}" for key, id in before if (key, id) not in self.entries]
        lines += [f"+ {key} {id}" for key, id in self.entries if (key, id) not in before]
        return lines + [f"~ {key} {id}" for (key, id), entry in self.entries.items() if before.get((key, id), entry).ref != entry.ref]

    def keys(self):
        return {key for key, _ in self.entries}


async def room(name, topic, addresses):
    client, roster = Client(addresses), Roster()
    await client.track(topic, name, meta=json.dumps({"with": "python"}).encode())
    await client.watch(topic)
    try:
        while True:
            kind, *what = await client.events.get()
            lines = roster.apply(what[0]) if kind == "presence" else [f"* {kind} {what[0]}"]
            for line in lines:
                print(line, flush=True)
    finally:
        await client.close()


async def told(client, roster, wanted):
    """Lines until all that is wanted has come."""
    lines = []
    while not set(wanted) <= set(lines):
        kind, *what = await client.events.get()
        assert kind in ("presence", "attached"), (kind, what)
        lines += roster.apply(what[0]) if kind == "presence" else []
    return lines


async def smoke(there, here):
    """Two tabs of one person; the first is reloaded through another application server, on another node: nobody sees that."""
    watcher, first, second = Client([there]), Client([here]), Client([there])
    topic, roster = f"smoke:{uuid.uuid4()}", Roster()
    await watcher.watch(topic)
    await first.track(topic, "alice", "tab1", b'{"device":"phone"}')
    await first.track(topic, "alice", "tab2", b'{"device":"desk"}')
    await told(watcher, roster, ["+ alice tab1", "+ alice tab2"])
    assert roster.keys() == {"alice"}
    await first.untrack(topic, "alice", "tab1", linger=5)
    ref = await second.track(topic, "alice", "tab1", b'{"device":"phone"}')
    assert ref == roster.entries["alice", "tab1"].ref
    await first.track(topic, "alice", "tab2", b'{"device":"none"}')
    lines = await told(watcher, roster, ["~ alice tab2"])
    assert lines == ["~ alice tab2"], lines
    await first.close()
    assert await told(watcher, roster, ["- alice tab2"]) == ["- alice tab2"]
    await second.untrack(topic, "alice", "tab1")
    assert await told(watcher, roster, ["- alice tab1"]) == ["- alice tab1"]
    await second.close()
    await watcher.close()
    print("ok")


if __name__ == "__main__":
    args = sys.argv[1:]
    if len(args) == 3 and args[0] == "--smoke":
        asyncio.run(asyncio.wait_for(smoke(args[1], args[2]), 20))
    elif len(args) >= 3:
        asyncio.run(room(args[0], args[1], args[2:]))
    else:
        sys.exit(__doc__)
