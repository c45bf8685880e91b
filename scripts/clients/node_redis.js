// node-redis, unmodified, against two nodes: subscribes on one, publishes on the other, in both protocols; alone and as a cluster client.
//
//     node_redis.js --smoke HOST:PORT HOST:PORT        exit 0 if all came, once and in order
'use strict'
const { createClient, createCluster } = require('redis')
const { assert, until, address, main } = require('./check.js')

const PIPELINED = 5000

async function connect(where, RESP) {
  const client = createClient({ RESP, socket: address(where) })
  client.on('error', (error) => console.error(error))
  return client.connect()
}

async function speak(there, here, RESP) {
  const subscriber = await connect(there, RESP), publisher = await connect(here, RESP)
  const room = `node-redis:${RESP}:${Date.now()}`
  const came = []
  const note = (kind) => (data, channel) => came.push(`${kind} ${channel} ${data}`)
  await subscriber.subscribe(room, note('message'))
  await subscriber.pSubscribe(`${room}*`, note('pmessage'))
  await subscriber.sSubscribe(room, note('smessage'))
  assert.equal(Number(await publisher.publish(room, 'one')), 2)
  assert.equal(Number(await publisher.sPublish(room, 'two')), 1)
  await until('three messages', () => came.length >= 3)
  assert.deepEqual(new Set(came.splice(0)), new Set([`message ${room} one`, `pmessage ${room} one`, `smessage ${room} two`]))
  assert.equal(Number((await publisher.pubSubNumSub([room]))[room]), 1)
  assert.equal(Number((await publisher.pubSubShardNumSub([room]))[room]), 1)
  assert.deepEqual(await publisher.pubSubChannels(`${room}*`), [room])
  await assert.rejects(publisher.get('key'), /data command/)
  await assert.rejects(publisher.multi().publish(`${room.replace('node', 'no')}`, 'x').exec(), /transaction command/)
  assert.equal(await publisher.ping(), 'PONG')
  await subscriber.pUnsubscribe(`${room}*`)

  const counts = await Promise.all([...Array(PIPELINED).keys()].map((number) => publisher.publish(room, String(number))))
  assert.deepEqual(new Set(counts.map(Number)), new Set([1]))
  await until('all that was pipelined', () => came.length >= PIPELINED)
  assert.deepEqual(came.splice(0), [...Array(PIPELINED).keys()].map((number) => `message ${room} ${number}`))

  const payload = Buffer.from([...Array(256).keys()])
  const bytes = []
  await subscriber.subscribe(`${room}:bytes`, (data) => bytes.push(data), true)
  await publisher.publish(`${room}:bytes`, payload)
  await until('bytes that are no text', () => bytes.length)
  assert.deepEqual(bytes, [payload])
  if (RESP === 3) assert.equal(await subscriber.ping(), 'PONG')
  await subscriber.unsubscribe()
  await subscriber.sUnsubscribe()
  await Promise.all([subscriber.close(), publisher.quit()])
}

async function cluster(there, here) {
  const make = (where) => createCluster({ rootNodes: [{ socket: address(where) }] }).connect()
  const watcher = await make(there), publisher = await make(here)
  const room = `node-redis:cluster:${Date.now()}`, came = []
  await watcher.sSubscribe(room, (data, channel) => came.push([channel, data]))
  assert.equal(Number(await publisher.sPublish(room, 'three')), 1)
  await until('a message of a cluster client', () => came.length)
  assert.deepEqual(came, [[room, 'three']])
  assert.equal(publisher.masters.length, 1)
  await Promise.all([watcher.close(), publisher.close()])
}

async function smoke(there, here) {
  await speak(there, here, 2)
  await speak(there, here, 3)
  await cluster(there, here)
}

main('node_redis.js --smoke HOST:PORT HOST:PORT', smoke)
