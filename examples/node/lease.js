// A lease: at most one holder of a name in the cluster, renewed by itself, with a fencing token.
//
//   const held = await lease(addresses, 'nightly', { ttl: 15 });
//   held.signal.addEventListener('abort', stop);   // it is not surely held any more: somebody else may have it
//   await store.write(row, { fence: held.token }); // the store refuses a token below the highest that it has seen
//   await held.release();
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const protos = fileURLToPath(new URL('../../proto', import.meta.url));
const definition = loader.loadSync('waxwing/v1/control.proto', { includeDirs: [protos], longs: Number, enums: String, defaults: true, oneofs: true });
const { Control } = grpc.loadPackageDefinition(definition).waxwing.v1;
const keepalive = { 'grpc.keepalive_time_ms': 5000, 'grpc.keepalive_timeout_ms': 5000 };
const drift = 1 - 1 / 128; // two hosts' clocks don't go alike: this part of a TTL is given away for it
const now = () => performance.now() / 1000;
const duration = (seconds) => ({ seconds: Math.floor(seconds), nanos: Math.floor((seconds % 1) * 1e9) });
const { INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED } = grpc.status;
const isNotHeld = (err) => err.metadata?.get('waxwing-code')[0] === 'not_held';
const isFinal = (err) => [INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED].includes(err.code) || isNotHeld(err);

// Null: somebody else has it, all the time that it was waited for (`wait`: seconds; as long as it takes).
export async function lease(addresses, name, { ttl = 15, wait = Infinity, note = '', namespace = null, key = process.env.WAXWING_KEY } = {}) {
  const held = new Lease(addresses, name, ttl, note, { namespace, key });
  return (await held.acquire(now() + wait)) ? held : null;
}

export class Lease {
  constructor(addresses, name, ttl, note, { namespace, key }) {
    // The owner renews and releases it, and nobody else does. One all the time: what was granted to an answer that got lost is ours.
    Object.assign(this, { addresses: [...new Set(addresses)], name, ttl, note, owner: randomBytes(16), token: 0, until: 0, stub: null });
    this.metadata = new grpc.Metadata();
    if (namespace) this.metadata.set('waxwing-namespace', namespace);
    if (key) this.metadata.set('authorization', `Bearer ${key}`);
    this.lost = new AbortController();
    this.stopped = new AbortController();
    this.signal = this.lost.signal;
  }

  // For how many more seconds it is surely held, by this host's clock, counted from when the last renewal was sent.
  heldFor() { return this.signal.aborted ? 0 : Math.max(0, this.until - now()); }

  // Of the first node that does it; the node that did it last comes first. When it was sent, and the answer.
  async call(method, request, seconds) {
    let last;
    for (const address of [...this.addresses]) {
      this.stub ??= new Control(address, grpc.credentials.createInsecure(), keepalive);
      const sent = now();
      try {
        const answer = await new Promise((resolve, reject) => {
          const deadline = Date.now() + seconds * 1000;
          this.stub[method](request, this.metadata, { deadline }, (err, answer) => (err ? reject(err) : resolve(answer)));
        });
        return [sent, answer];
      } catch (err) {
        if (isFinal(err)) throw err;
        last = err;
        this.stub.close();
        this.stub = null;
        this.addresses.push(this.addresses.shift());
      }
    }
    throw last;
  }

  async acquire(end) {
    for (let pause = 0.1; ;) {
      const wait = Math.max(0, Math.min(20, end - now()));
      try {
        const { name, owner, note, ttl } = this;
        const [sent, answer] = await this.call('AcquireLease', { name, owner, note, ttl: duration(ttl), wait: duration(wait) }, wait + 5);
        if (answer.granted) {
          [this.token, this.until] = [answer.token, sent + ttl * drift];
          if (now() - sent > ttl / 3) await this.renew(); // an answer that was waited for says nothing of how much of the time is over
          this.keep();
          return true;
        }
        if (now() >= end) return false;
      } catch (err) {
        if (now() >= end || (isFinal(err) && !isNotHeld(err))) throw err;
        await sleep(pause * 1000 * (0.5 + Math.random() / 2));
        pause = Math.min(pause * 2, 2);
      }
    }
  }

  async renew() {
    const { name, owner, token, ttl } = this;
    const [sent] = await this.call('RenewLease', { name, owner, token }, Math.max(0.25, Math.min(5, ttl / 6)));
    this.until = sent + ttl * drift;
  }

  // Renews it at a third of its time, until it is released or lost.
  async keep() {
    // A renewal that hangs must not hide that the time is over.
    const watch = () => {
      if (this.stopped.signal.aborted) return;
      if (this.heldFor()) setTimeout(watch, this.heldFor() * 1000 + 1);
      else this.lost.abort();
    };
    watch();
    for (let pause = this.ttl / 3; ;) {
      await sleep(Math.min(pause, this.heldFor()) * 1000);
      if (this.stopped.signal.aborted || !this.heldFor()) return;
      try {
        await this.renew();
        pause = this.ttl / 3;
      } catch (err) {
        if (this.stopped.signal.aborted) return;
        if (isNotHeld(err)) return this.lost.abort();
        pause = Math.min(1, this.ttl / 12);
      }
    }
  }

  async release() {
    this.stopped.abort();
    const { name, owner, token } = this;
    if (this.heldFor()) await this.call('ReleaseLease', { name, owner, token }, 5).catch(() => {}); // else others wait for its time to be over
    this.until = 0;
    this.stub?.close();
  }
}
