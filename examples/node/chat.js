// A chat room: node chat.js NAME ROOM ADDRESS..      A check of two nodes: node chat.js --smoke ADDRESS ADDRESS
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Client } from './waxwing.js';

async function chat(name, room, addresses) {
  const client = new Client(addresses);
  client.on('message', (_, message) => console.log(`${message.headers.from ?? '?'}: ${message.payload}`));
  client.on('gap', ({ topics, origin, missing, certain, reason }) => {
    const what = `${missing ?? 'some'} messages of ${topics.join(', ') || 'any topic'} from ${origin || 'any node'}`;
    console.log(`* ${what} ${certain ? 'lost' : 'perhaps lost'}: ${reason}`);
  });
  for (const what of ['attached', 'moved', 'detached', 'refused']) client.on(what, (text) => console.log(`* ${what} ${text}`));
  const [result] = await client.subscribe([room]);
  console.log(`* in ${room} (${result.confirmed}/${result.members} members)`);
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      await client.publish(room, line, { headers: { from: name } });
    } catch (err) {
      console.log(err.unknown ? `* perhaps not said: ${line}` : `* not said: ${err.message}`);
    }
  }
  await client.close();
}

async function smoke(there, here) {
  const [subscriber, publisher] = [new Client([there]), new Client([here])];
  const topic = `smoke:${randomUUID()}`;
  await subscriber.subscribe([topic]);
  const came = once(subscriber, 'message');
  const published = await publisher.publish(topic, 'hello', { confirm: 'CONFIRM_CLUSTER', headers: { from: 'node' } });
  assert.equal(published.subscriptions, 1);
  const [batch, message] = await came;
  assert.deepEqual([batch.topic, `${message.payload}`, message.headers.from, message.id], [topic, 'hello', 'node', published.id]);
  await Promise.all([subscriber.close(), publisher.close()]);
  console.log('ok');
}

const [name, room, ...addresses] = process.argv.slice(2);
if (name === '--smoke' && addresses.length === 1) {
  setTimeout(() => { throw new Error('not within 20 s'); }, 20_000).unref();
  await smoke(room, addresses[0]);
} else if (addresses.length > 0) {
  await chat(name, room, addresses);
} else {
  console.error('usage: node chat.js NAME ROOM ADDRESS.. | node chat.js --smoke ADDRESS ADDRESS');
  process.exitCode = 64;
}
