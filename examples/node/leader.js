// A job every so many seconds, done by one of all that run this: node leader.js NAME SECONDS ADDRESS..
// A check of two nodes: node leader.js --smoke ADDRESS ADDRESS
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { lease } from './lease.js';

async function lead(name, seconds, addresses) {
  for (;;) {
    const held = await lease(addresses, name, { note: `pid ${process.pid}` });
    console.log(`leading, token ${held.token}`);
    while (!held.signal.aborted) {
      console.log(`the job, fenced by ${held.token}`);
      await sleep(seconds * 1000, null, { signal: held.signal }).catch(() => {});
    }
    console.log('not leading any more');
  }
}

// One holds it, one is told that it is held, one waits and gets it; a token that rises; and it stays held by being renewed.
async function smoke(there, here) {
  const name = `smoke:${randomUUID()}`;
  const first = await lease([there], name, { ttl: 1.5 });
  await sleep(3000);
  assert.ok(first.heldFor() > 0);
  assert.equal(await lease([here], name, { wait: 0 }), null);
  let done = false;
  const waiting = lease([here, there], name, { ttl: 1.5, wait: 10 }).finally(() => { done = true; });
  await sleep(500);
  assert.ok(!done);
  await first.release();
  const second = await waiting;
  assert.ok(second.token > first.token);
  await second.release();
  console.log('ok');
}

const [name, seconds, ...addresses] = process.argv.slice(2);
if (name === '--smoke' && addresses.length === 1) {
  setTimeout(() => { throw new Error('not within 30 s'); }, 30_000).unref();
  await smoke(seconds, addresses[0]);
} else if (addresses.length > 0) {
  await lead(name, Number(seconds), addresses);
} else {
  console.error('usage: node leader.js NAME SECONDS ADDRESS.. | node leader.js --smoke ADDRESS ADDRESS');
  process.exitCode = 64;
}
