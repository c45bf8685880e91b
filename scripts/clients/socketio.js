// A small Socket.IO chat on two processes, each on a node of its own, by @socket.io/redis-adapter, unmodified: classic and sharded, by node-redis
// and ioredis. Rooms, broadcast, fetchSockets, serverSideEmit. With a third node, the second is killed by SIGKILL and the chat goes on.
//
//     socketio.js --smoke HOST:PORT HOST:PORT [HOST:PORT]        exit 0 if all came
'use strict'
const { fork } = require('node:child_process')
const path = require('node:path')
const { io } = require('socket.io-client')
const { assert, until, address, main } = require('./check.js')

class Process {
  constructor(...args) {
    this.calls = new Map()
    this.next = 1
    this.child = fork(path.join(__dirname, 'socketio_node.js'), args)
    this.started = new Promise((resolve, reject) => {
      this.calls.set(0, { resolve, reject })
      this.child.once('exit', (code) => reject(new Error(`a Socket.IO process ended with ${code}`)))
    })
    this.child.on('message', ({ id, value, error }) => {
      const { resolve, reject } = this.calls.get(id)
      this.calls.delete(id)
      if (error) reject(new Error(error))
      else resolve(value)
    })
  }

  call(call, ...args) {
    const id = this.next++
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject })
      this.child.send({ id, call, args })
    })
  }
}

class Person {
  constructor(port, name) {
    this.name = name
    this.heard = []
    this.socket = io(`http://127.0.0.1:${port}`, { transports: ['websocket'], auth: { name } })
    this.socket.on('said', ({ from, text, bytes }) => {
      if (bytes) assert.deepEqual(Buffer.from(bytes), Buffer.from([0, 255, 13, 10]))
      this.heard.push(`${from}: ${text}`)
    })
    this.ready = new Promise((resolve) => this.socket.once('ready', resolve))
  }

  join(room) {
    return new Promise((resolve) => this.socket.emit('join', room, resolve))
  }

  say(room, text) {
    this.socket.emit('say', room, text)
  }
}

/** Everybody has heard exactly this since they were last asked. Emptied. */
async function heard(people, ...lines) {
  for (const person of people) {
    await until(`${person.name} hears ${lines}, and heard ${person.heard}`, () => person.heard.length >= lines.length)
    assert.deepEqual(person.heard.splice(0), lines, person.name)
  }
}

/** Forgets what they have heard, and what is still on its way. */
async function quiet(people) {
  const total = () => people.reduce((sum, one) => sum + one.heard.length, 0)
  for (let before = -1; before !== total(); ) {
    before = total()
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  people.forEach((one) => (one.heard = []))
}

async function chat(kind, library, there, here, spare, kill) {
  const first = new Process(kind, library, 'first', there, ...spare)
  const second = new Process(kind, library, 'second', here, ...spare)
  await Promise.all([first.started, second.started])
  const ports = [await first.call('port'), await second.call('port')]
  const alice = new Person(ports[0], 'alice'), bob = new Person(ports[1], 'bob'), carol = new Person(ports[1], 'carol')
  const all = [alice, bob, carol]
  await Promise.all(all.map((one) => one.ready))

  // The adapters don't wait for their subscriptions either.
  await until('the processes know of each other', async () => {
    const others = [await first.call('serverSideEmit'), await second.call('serverSideEmit')]
    return String(others) === 'second,first'
  })
  await first.call('broadcast', 'to all')
  await heard(all, 'first: to all')
  await alice.join('room')
  await bob.join('room')
  // The sharded adapter's join doesn't wait for its subscription, whatever server it stands on.
  await until('the room is open', async () => {
    alice.say('room', 'open?')
    await new Promise((resolve) => setTimeout(resolve, 100))
    return alice.heard.includes('alice: open?') && bob.heard.includes('alice: open?')
  })
  await quiet(all)
  alice.say('room', 'hi')
  await heard([alice, bob], 'alice: hi')
  bob.say('room', 'hello')
  await heard([alice, bob], 'bob: hello')
  await second.call('emitTo', 'room', 'from outside')
  await heard([alice, bob], 'second: from outside')
  assert.deepEqual(carol.heard, [])
  const members = [{ name: 'alice', on: 'first' }, { name: 'bob', on: 'second' }]
  assert.deepEqual(await first.call('fetchSockets', 'room'), members)
  assert.deepEqual(await second.call('fetchSockets', 'room'), members)
  assert.deepEqual(await first.call('serverSideEmit'), ['second'])
  assert.deepEqual(await second.call('serverSideEmit'), ['first'])
  for (let number = 0; number < 500; number++) alice.say('room', number)
  await heard([alice, bob], ...[...Array(500).keys()].map((number) => `alice: ${number}`))

  if (kill) {
    await kill()
    // The second process comes back by another node; both adapters find each other again.
    await until('both processes count both', async () => {
      try {
        return (await first.call('fetchSockets', 'room')).length === 2 && (await second.call('fetchSockets', 'room')).length === 2
      } catch {
        return false
      }
    })
    await quiet(all)
    alice.say('room', 'still there?')
    await heard([alice, bob], 'alice: still there?')
    bob.say('room', 'yes')
    await heard([alice, bob], 'bob: yes')
    await second.call('broadcast', 'to all')
    await heard(all, 'second: to all')
    assert.deepEqual(await first.call('serverSideEmit'), ['second'])
  }
  await first.call('socketsLeave', 'room')
  await until('the room is empty', async () => (await second.call('fetchSockets', 'room')).length === 0)
  all.forEach((one) => one.socket.close())
  first.child.disconnect()
  second.child.disconnect()
}

/** Ends the node behind this address as a crash would. */
async function killNode(where) {
  const Redis = require('ioredis')
  const client = new Redis({ ...address(where), retryStrategy: null })
  client.on('error', () => {})
  const pid = Number(/process_id:(\d+)/.exec(await client.info('server'))[1])
  process.kill(pid, 'SIGKILL')
  client.disconnect()
}

async function smoke(there, here, third) {
  for (const library of ['redis', 'ioredis']) {
    for (const kind of ['classic', 'sharded']) await chat(kind, library, there, here, [])
    console.log(`${library}: rooms, broadcast, fetchSockets, serverSideEmit`)
  }
  if (third) {
    // Both at once: a node can be killed once.
    let killed
    const waiting = []
    const kill = () => {
      const all = new Promise((resolve) => waiting.push(resolve))
      if (waiting.length === 2) {
        killed = killNode(here)
        killed.then(() => waiting.forEach((resolve) => resolve()))
        console.log('killed a node')
      }
      return all
    }
    await Promise.all([chat('classic', 'redis', there, here, [third], kill), chat('sharded', 'ioredis', there, here, [third], kill)])
  }
}

main('socketio.js --smoke HOST:PORT HOST:PORT [HOST:PORT]', smoke)
