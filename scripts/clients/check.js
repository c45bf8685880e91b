// What the scripts of this folder share: waiting for conditions, and saying what was expected.
'use strict'
const assert = require('node:assert/strict')

const PATIENCE_MS = 20000

/** Until `condition` gives something true; its value. */
async function until(what, condition, patience = PATIENCE_MS) {
  const end = Date.now() + patience
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > end) throw new Error(`not within ${patience} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** HOST:PORT as an object. */
function address(text) {
  const at = text.lastIndexOf(':')
  return { host: text.slice(0, at), port: Number(text.slice(at + 1)) }
}

function main(usage, smoke) {
  if (process.argv[2] !== '--smoke' || process.argv.length < 5) {
    console.error(usage)
    process.exit(64)
  }
  smoke(...process.argv.slice(3)).then(
    () => {
      console.log('ok')
      process.exit(0)
    },
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
}

module.exports = { assert, until, address, main }
