// Who is in the room: node room.js NAME ROOM ADDRESS..      A check of two nodes: node room.js --smoke ADDRESS ADDRESS
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Client } from './waxwing.js';

// The list, kept by applying each event. A snapshot replaces it, and only what differs is a change.
class Roster {
  entries = new Map();
  parts = new Map();

  // The lines to show: who came, who went, whose metadata are others.
  apply(event) {
    const before = new Map(this.entries);
    const came = [...event.joins, ...event.updates].map((entry) => [`${entry.key} ${entry.id}`, entry]);
    for (const { key, id } of event.leaves) this.entries.delete(`${key} ${id}`);
    if (event.snapshot) {
      came.forEach(([name, entry]) => this.parts.set(name, entry));
      if (event.more) return [];
      [this.entries, this.parts] = [this.parts, new Map()];
    } else came.forEach(([name, entry]) => this.entries.set(name, entry));
    return [
      ...[...before.keys()].filter((name) => !this.entries.has(name)).map((name) => `- ${name}`),
      ...[...this.entries.keys()].filter((name) => !before.has(name)).map((name) => `+ ${name}`),
      ...[...this.entries].filter(([name, { ref }]) => before.has(name) && before.get(name).ref !== ref).map(([name]) => `~ ${name}`),
    ];
  }
}

async function room(name, topic, addresses) {
  const [client, roster] = [new Client(addresses), new Roster()];
  client.on('presence', (event) => roster.apply(event).forEach((line) => console.log(line)));
  for (const what of ['attached', 'moved', 'detached', 'refused']) client.on(what, (text) => console.log(`* ${what} ${text}`));
  await client.track(topic, name, { meta: JSON.stringify({ with: 'node' }) });
  await client.watch(topic);
  await once(process, 'SIGINT');
  await client.close();
}

// Two tabs of one person; the first is reloaded through another application server, on another node: nobody sees that.
async function smoke(there, here) {
  const [watcher, first, second] = [new Client([there]), new Client([here]), new Client([there])];
  const [topic, roster, lines] = [`smoke:${randomUUID()}`, new Roster(), []];
  watcher.on('presence', (event) => lines.push(...roster.apply(event)));
  const told = async (...wanted) => {
    while (!wanted.every((line) => lines.includes(line))) await once(watcher, 'presence');
    return lines.splice(0);
  };
  await watcher.watch(topic);
  await first.track(topic, 'alice', { id: 'tab1', meta: '{"device":"phone"}' });
  await first.track(topic, 'alice', { id: 'tab2', meta: '{"device":"desk"}' });
  await told('+ alice tab1', '+ alice tab2');
  await first.untrack(topic, 'alice', { id: 'tab1', linger: 5 });
  const ref = await second.track(topic, 'alice', { id: 'tab1', meta: '{"device":"phone"}' });
  assert.equal(ref, roster.entries.get('alice tab1').ref);
  await first.track(topic, 'alice', { id: 'tab2', meta: '{"device":"none"}' });
  assert.deepEqual(await told('~ alice tab2'), ['~ alice tab2']);
  await first.close();
  assert.deepEqual(await told('- alice tab2'), ['- alice tab2']);
  await second.untrack(topic, 'alice', { id: 'tab1' });
  assert.deepEqual(await told('- alice tab1'), ['- alice tab1']);
  await Promise.all([second.close(), watcher.close()]);
  console.log('ok');
}

const [name, topic, ...addresses] = process.argv.slice(2);
if (name === '--smoke' && addresses.length === 1) {
  setTimeout(() => { throw new Error('not within 20 s'); }, 20_000).unref();
  await smoke(topic, addresses[0]);
} else if (addresses.length > 0) {
  await room(name, topic, addresses);
} else {
  console.error('usage: node room.js NAME ROOM ADDRESS.. | node room.js --smoke ADDRESS ADDRESS');
  process.exitCode = 64;
}
