// One process of socketio.js: a Socket.IO server whose adapter stands on a Redis URL, steered by its parent's messages.
'use strict'
const { Server } = require('socket.io')
const { createAdapter, createShardedAdapter } = require('@socket.io/redis-adapter')
const net = require('node:net')
const { address } = require('./check.js')

/** What stands before the nodes in the field: connects to the first that takes it. Its port. */
async function balancer(nodes) {
  const server = net.createServer((client) => {
    const attempt = (left) => {
      const upstream = net.connect(address(left[0]))
      let connected = false
      upstream.once('connect', () => {
        connected = true
        client.pipe(upstream)
        upstream.pipe(client)
      })
      upstream.on('error', () => (!connected && left.length > 1 ? attempt(left.slice(1)) : client.destroy()))
      upstream.on('close', () => connected && client.destroy())
      client.on('error', () => upstream.destroy())
      client.on('close', () => upstream.destroy())
    }
    attempt(nodes)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server.address().port
}

async function clients(library, port) {
  const note = (client) => client.on('error', () => {})
  if (library === 'redis') {
    const { createClient } = require('redis')
    const make = () => note(createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: 50 } })).connect()
    return Promise.all([make(), make()])
  }
  const Redis = require(process.env.IOREDIS || 'ioredis')
  const make = () => note(new Redis({ host: '127.0.0.1', port, retryStrategy: () => 50, maxRetriesPerRequest: null }))
  return [make(), make()]
}

async function main([kind, library, name, ...nodes]) {
  const [pub, sub] = await clients(library, await balancer(nodes))
  const adapter = kind === 'sharded' ? createShardedAdapter(pub, sub, { subscriptionMode: 'dynamic' }) : createAdapter(pub, sub, { requestsTimeout: 5000 })
  const io = new Server({ adapter })
  io.on('connection', (socket) => {
    socket.data = { name: socket.handshake.auth.name, on: name }
    socket.on('join', async (room, done) => {
      await socket.join(room)
      done()
    })
    socket.on('say', (room, text) => io.to(room).emit('said', { from: socket.data.name, text, bytes: Buffer.from([0, 255, 13, 10]) }))
    socket.emit('ready')
  })
  io.on('who are you', (answer) => answer(name))
  io.listen(0)
  process.on('message', async ({ id, call, args }) => {
    try {
      process.send({ id, value: await calls[call](...args) })
    } catch (error) {
      process.send({ id, error: String(error.stack) })
    }
  })
  const calls = {
    port: () => io.httpServer.address().port,
    fetchSockets: async (room) => (await io.in(room).fetchSockets()).map((socket) => socket.data).sort((a, b) => a.name.localeCompare(b.name)),
    serverSideEmit: () => new Promise((resolve, reject) => io.serverSideEmit('who are you', (error, answers) => (error ? reject(error) : resolve(answers)))),
    broadcast: (text) => io.emit('said', { from: name, text }),
    emitTo: (room, text) => io.to(room).emit('said', { from: name, text }),
    socketsLeave: (room) => io.in(room).socketsLeave(room),
  }
  process.send({ id: 0 })
}

main(process.argv.slice(2))
process.on('disconnect', () => process.exit())
