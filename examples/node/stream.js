// One stream to a Waxwing node.
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const protos = fileURLToPath(new URL('../../proto', import.meta.url));
const definition = loader.loadSync('waxwing/v1/session.proto', { includeDirs: [protos], longs: Number, enums: String, defaults: true, oneofs: true });
const { Session } = grpc.loadPackageDefinition(definition).waxwing.v1;
const keepalive = { 'grpc.keepalive_time_ms': 5000, 'grpc.keepalive_timeout_ms': 5000, 'grpc.max_receive_message_length': 64 << 20 };
export const timeout = (ms, what) => sleep(ms, null, { ref: false }).then(() => { throw new Error(`${what}: timed out`); });

// grpc waits for a connection without saying why there is none.
const noConnection = 'connection refused, or no answer in time';

// One stream. Answers go to whoever asked; everything else is kept until somebody listens.
export class Attachment {
  constructor(address, { namespace, key }) {
    Object.assign(this, { address, ids: 0, waiting: new Map(), kept: [], listener: null, ended: false, broke: false });
    this.metadata = new grpc.Metadata();
    if (namespace) this.metadata.set('waxwing-namespace', namespace);
    if (key) this.metadata.set('authorization', `Bearer ${key}`);
    this.stub = new Session(address, grpc.credentials.createInsecure(), keepalive);
    this.end = new Promise((resolve) => { this.resolveEnd = resolve; });
  }

  connect() {
    return new Promise((resolve, reject) => this.stub.waitForReady(Date.now() + 2000, (err) => (err ? reject(new Error(noConnection)) : resolve())));
  }

  async hello(hello) {
    this.call = this.stub.Open(this.metadata);
    const welcomed = new Promise((resolve, reject) => { this.welcomed = { resolve, reject }; });
    this.call.on('data', (frame) => frame.events.forEach((event) => this.on(event)));
    this.call.on('error', (err) => { this.broke = true; this.close(err); });
    this.call.on('end', () => this.close(new Error('the node ended the stream')));
    this.send({ id: 1, hello: { client: 'waxwing-node-example', ...hello } });
    return Promise.race([welcomed, timeout(5000, this.address)]);
  }

  on(event) {
    if (event.kind === 'welcome') return this.welcomed.resolve(event.welcome);
    if (event.kind === 'reply') {
      const { id, error } = event.reply;
      if (id === 1) return this.welcomed.reject(new Error(error?.message));
      const answer = this.waiting.get(id);
      this.waiting.delete(id);
      if (answer && error) return answer.reject(Object.assign(new Error(error.message), { code: error.code }));
      if (answer) return answer.resolve(event.reply);
    }
    if (this.listener) this.listener(event);
    else this.kept.push(event);
  }

  // From now on events go to `listener`, first those that were kept.
  listen(listener) {
    this.kept.splice(0).forEach(listener);
    this.listener = listener;
  }

  send(request) { this.call.write({ requests: [request] }); }

  ask(kind) {
    if (this.ended) return Promise.reject(new Error('the connection broke'));
    const id = (this.ids += 2);
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    answer.catch(() => {}); // nobody need look
    this.send({ id, ...kind });
    this.waiting.get(id).answer = answer;
    return answer;
  }

  close(err) {
    if (this.ended) return;
    this.ended = true;
    this.welcomed?.reject(err);
    // Whether a publish among these was taken nobody knows; it is not repeated.
    this.waiting.forEach((answer) => answer.reject(Object.assign(err, { unknown: true })));
    this.stub.close();
    this.resolveEnd();
  }
}
