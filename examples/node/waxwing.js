// A small Waxwing client: it resumes, subscribes and tracks again, reports gaps, moves when a node asks it to, and never publishes twice.
import { EventEmitter, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { lease } from './lease.js';
import { Attachment, timeout } from './stream.js';

// Events: message(batch, message), gap(gap), presence(event), attached(node), moved(node), detached(address), refused(text).
export class Client extends EventEmitter {
  // The key says which namespace is meant; without one it may be named.
  constructor(addresses, { namespace = null, key = process.env.WAXWING_KEY } = {}) {
    super();
    Object.assign(this, { addresses, credentials: { namespace, key }, endpoints: [], token: Buffer.alloc(0), epoch: 0, closed: false });
    Object.assign(this, { topics: new Set(), patterns: new Set(), seen: new Map(), publisher: null });
    Object.assign(this, { tracked: new Map(), watched: new Set(), revision: 0 });
    this.run();
  }

  async ready() {
    while (!this.publisher) await once(this, 'ready');
    return this.publisher;
  }

  async subscribe(topics, patterns = []) {
    topics.forEach((topic) => this.topics.add(topic));
    patterns.forEach((pattern) => this.patterns.add(pattern));
    return (await (await this.ready()).ask({ subscribe: { topics, patterns } })).topics;
  }

  // An error with `unknown`: it may have been published or not.
  async publish(topic, payload, { confirm = 'CONFIRM_NODE', ...rest } = {}) {
    return (await (await this.ready()).ask({ publish: { topic, payload: Buffer.from(payload), confirm, ...rest } })).publish;
  }

  // Be there, until untracked or closed: it is tracked again wherever the client goes. Tracking it again changes the metadata.
  async track(topic, key, { id = '', meta = '' } = {}) {
    const track = { topic, key, id, meta: Buffer.from(meta), revision: (this.revision += 1) }; // what is sent again is recognised by its number
    this.tracked.set(JSON.stringify([topic, key, id]), track);
    return (await (await this.ready()).ask({ track })).ref;
  }

  // With a linger (seconds) another session may take it over; then nobody sees it go.
  async untrack(topic, key, { id = '', linger = 0 } = {}) {
    this.tracked.delete(JSON.stringify([topic, key, id]));
    await (await this.ready()).ask({ untrack: { topic, key, id, linger: { seconds: linger } } });
  }

  // A snapshot, then what changes; a snapshot again after each move.
  async watch(topic) {
    this.watched.add(topic);
    await (await this.ready()).ask({ watch: { topic } });
  }

  // See lease.js. It is not the session's: it ends by itself, or when it is released.
  lease(name, options = {}) {
    return lease([...this.endpoints, ...this.addresses], name, { ...this.credentials, ...options });
  }

  async close() {
    this.closed = true;
    this.publisher?.send({ bye: {} });
    await Promise.race([this.publisher?.end, sleep(5000, null, { ref: false })]);
  }

  publishes(attachment) {
    this.publisher = attachment;
    if (attachment) this.emit('ready');
  }

  async run() {
    for (let attachment = null, pause = 100; !this.closed;) {
      attachment ??= await this.attach(null);
      if (attachment) {
        attachment = await this.deliver(attachment);
        pause = 100;
      } else {
        await sleep(pause * (0.5 + Math.random() / 2));
        pause = Math.min(pause * 2, 5000);
      }
    }
  }

  // On the first address that takes us. With `old`, that one goes on receiving meanwhile.
  async attach(old) {
    const named = this.endpoints.map((address) => [Math.random(), address]).sort().map(([, address]) => address);
    for (const address of new Set([...named, ...this.addresses])) {
      if (address === old?.address) continue;
      const next = new Attachment(address, this.credentials);
      try {
        await next.connect();
        if (old && !old.ended) { // it may take no publish once the new one is welcomed: wait until it has answered for all
          this.publishes(null);
          old.ask({ unsubscribe: {} });
          await Promise.race([Promise.allSettled([...old.waiting.values()].map((a) => a.answer)), sleep(1500)]);
        }
        const overlap = Boolean(old) && !old.ended;
        const welcome = await next.hello({ resumeToken: this.token, epoch: this.epoch, overlap });
        Object.assign(this, { token: welcome.resumeToken, epoch: welcome.epoch, endpoints: welcome.endpoints });
        this.publishes(next);
        const again = next.ask({ subscribe: { topics: [...this.topics], patterns: [...this.patterns] } });
        const held = [again, ...[...this.tracked.values()].map((track) => next.ask({ track }))];
        held.push(...[...this.watched].map((topic) => next.ask({ watch: { topic } })));
        if (overlap) await Promise.race([Promise.all(held), timeout(5000, address)]);
        if (old && !overlap) this.emit('gap', { topics: [], reason: 'RECONNECTED' }); // it broke meanwhile; else the node says it
        this.emit(overlap ? 'moved' : 'attached', welcome.node);
        return next;
      } catch (err) {
        next.close(err);
        this.emit('refused', `${address}: ${err.message}`);
      }
    }
    if (old && !old.ended) this.publishes(old);
    return null;
  }

  async move(old) {
    while (!old.ended) {
      const next = await this.attach(old);
      if (next && !old.ended) old.send({ bye: { keepSession: true } });
      if (next) return next;
      await sleep(500);
    }
    return null;
  }

  // Until the stream ends; then the attachment made meanwhile. What that one has kept is told only then: nothing overtakes.
  async deliver(attachment) {
    let move = null;
    attachment.listen(({ kind, batch, gap, reply, presence, goAway }) => {
      if (kind === 'batch') {
        const pair = `${batch.origin}\0${batch.topic}`;
        for (const message of batch.messages) { // ids of an origin rise: what is not above the last one has been here before
          if (message.id <= (this.seen.get(pair) ?? '')) continue;
          this.seen.set(pair, message.id);
          this.emit('message', batch, message);
        }
      } else if (kind === 'gap') this.emit('gap', gap);
      else if (kind === 'presence') this.emit('presence', presence);
      else if (kind === 'reply') this.emit('refused', reply.error?.message);
      else if (kind === 'goAway' && !move) {
        if (goAway.endpoints.length) this.endpoints = goAway.endpoints;
        move = this.move(attachment);
      }
    });
    await attachment.end;
    const next = await move;
    if (next && attachment.broke) this.emit('gap', { topics: [], reason: 'RECONNECTED' }); // with messages still to come, perhaps
    if (!next) {
      this.publishes(null);
      if (!this.closed) this.emit('detached', attachment.address);
    }
    return next;
  }
}
