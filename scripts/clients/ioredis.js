// ioredis, unmodified, against two nodes: subscribes on one, publishes on the other; alone and as a cluster client.
//
//     ioredis.js --smoke HOST:PORT HOST:PORT [PACKAGE]        exit 0 if all came, once and in order
'use strict'
const { assert, until, address, main } = require('./check.js')

const PIPELINED = 5000

async function smoke(there, here, name = 'ioredis') {
  const Redis = require(name)
  const subscriber = new Redis(address(there)), publisher = new Redis(address(here))
  const room = `${name}:${Date.now()}`
  const came = []
  subscriber.on('message', (channel, data) => came.push(['message', channel, data]))
  subscriber.on('pmessage', (pattern, channel, data) => came.push(['pmessage', pattern, channel, data]))
  subscriber.on('smessage', (channel, data) => came.push(['smessage', channel, data]))
  assert.equal(await subscriber.subscribe(room, `${room}:other`), 2)
  assert.equal(await subscriber.psubscribe(`${room}*`), 3)
  assert.equal(await subscriber.ssubscribe(room), 1)
  assert.equal(await publisher.publish(room, 'one'), 2)
  assert.equal(await publisher.spublish(room, 'two'), 1)
  await until('three messages', () => came.length >= 3)
  assert.deepEqual(new Set(came.splice(0).map((one) => one.join(' '))), new Set([`message ${room} one`, `pmessage ${room}* ${room} one`, `smessage ${room} two`]))
  assert.deepEqual(await publisher.pubsub('NUMSUB', room), [room, 1])
  assert.deepEqual((await publisher.pubsub('CHANNELS', `${room}*`)).sort(), [room, `${room}:other`])
  await assert.rejects(publisher.get('key'), /data command/)
  assert.equal(await publisher.ping(), 'PONG')
  await subscriber.punsubscribe(`${room}*`)

  const pipeline = publisher.pipeline()
  for (let number = 0; number < PIPELINED; number++) pipeline.publish(room, number)
  for (const [error] of await pipeline.exec()) assert.equal(error, null)
  await until('all that was pipelined', () => came.length >= PIPELINED)
  assert.deepEqual(came.splice(0).map(([, , data]) => Number(data)), [...Array(PIPELINED).keys()])

  // Bytes that are no text, as Socket.IO sends them.
  const payload = Buffer.from([...Array(256).keys()])
  const bytes = new Promise((resolve) => subscriber.once('messageBuffer', (channel, data) => resolve([channel.toString(), data])))
  await publisher.publish(room, payload)
  assert.deepEqual(await bytes, [room, payload])
  assert.equal(await subscriber.unsubscribe(room, `${room}:other`), 0)

  const cluster = new Redis.Cluster([address(here)], { redisOptions: { maxRetriesPerRequest: 3 } })
  const shards = []
  const watcher = new Redis.Cluster([address(there)], { shardedSubscribers: true })
  watcher.on('smessage', (channel, data) => shards.push([channel, data]))
  watcher.on('message', (channel, data) => shards.push([channel, data]))
  await watcher.ssubscribe(`${room}:shard`)
  await watcher.subscribe(`${room}:plain`)
  assert.equal(await cluster.spublish(`${room}:shard`, 'three'), 1)
  assert.equal(await cluster.publish(`${room}:plain`, 'four'), 1)
  await until('messages of a cluster client', () => shards.length >= 2)
  assert.deepEqual(new Set(shards.map(String)), new Set([`${room}:shard,three`, `${room}:plain,four`]))
  assert.equal(cluster.nodes('master').length, 1)
  await Promise.all([subscriber.quit(), publisher.quit(), cluster.quit(), watcher.quit()])
}

main('ioredis.js --smoke HOST:PORT HOST:PORT [PACKAGE]', smoke)
