// node-nats-streaming, steered by lines of JSON; what the lines mean stands in tests/stan/program.py.
import { createInterface } from 'node:readline'
import stan from 'node-nats-streaming'

const connections = new Map()
const subscriptions = new Map()
const messages = new Map()

const tell = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const words = (error) => (error instanceof Error ? error.message : String(error))

const connect = ({ connection, url, cluster, client, wait_seconds, ack_seconds, ping_seconds, ping_out }) =>
  new Promise((resolve, reject) => {
    const session = stan.connect(cluster, client, {
      url,
      connectTimeout: wait_seconds * 1000,
      ackTimeout: ack_seconds * 1000,
      stanPingInterval: ping_seconds * 1000,
      stanMaxPingOut: ping_out,
      maxPubAcksInflight: 100000,
      reconnectTimeWait: 50,
    })
    session.on('connect', () => {
      connections.set(connection, session)
      resolve(null)
    })
    session.on('error', reject) // of the connect; later ones come when a server stops
    session.on('reconnect', () => tell({ event: 'reconnected', connection }))
    session.on('connection_lost', (error) => tell({ event: 'lost', connection, error: words(error) }))
  })

const publishOne = (session, channel, text) =>
  new Promise((resolve, reject) => {
    session.publish(channel, Buffer.from(text), (error) => (error ? reject(error) : resolve(null)))
  })

const publish = async ({ connection, channel, data }) => {
  for (const text of data) await publishOne(connections.get(connection), channel, text)
}

const publishAsync = async ({ connection, channel, data }) => {
  const acked = []
  const errors = []
  await Promise.all(
    data.map((text, index) =>
      publishOne(connections.get(connection), channel, text).then(
        () => acked.push(index),
        (error) => words(error) === 'stan: publish ack timeout' || errors.push(words(error))
      )
    )
  )
  return { acked, errors }
}

const start = (options, [kind, value]) => {
  if (kind === 'last') options.setStartWithLastReceived()
  else if (kind === 'first') options.setDeliverAllAvailable()
  else if (kind === 'sequence') options.setStartAtSequence(value)
  else if (kind === 'ago') options.setStartAtTimeDelta(value * 1000)
  else if (kind === 'time') options.setStartTime(new Date(value * 1000))
  else options.setStartAt(stan.StartPosition.NEW_ONLY)
}

const subscribe = (wanted) =>
  new Promise((resolve, reject) => {
    const session = connections.get(wanted.connection)
    const options = session.subscriptionOptions()
    options.setMaxInFlight(wanted.in_flight).setAckWait(wanted.ack_seconds * 1000).setManualAckMode(wanted.manual)
    start(options, wanted.start)
    if (wanted.durable !== null) options.setDurableName(wanted.durable)
    const made = wanted.queue === null
      ? session.subscribe(wanted.channel, options)
      : session.subscribe(wanted.channel, wanted.queue, options)
    made.on('ready', () => {
      subscriptions.set(wanted.subscription, made)
      resolve(null)
    })
    made.on('error', reject)
    made.on('timeout', reject)
    made.on('message', (message) => {
      const sequence = message.getSequence()
      messages.set(`${wanted.subscription} ${sequence}`, message)
      tell({
        event: 'message',
        subscription: wanted.subscription,
        channel: message.getSubject(),
        sequence,
        data: message.getRawData().toString('utf8'),
        redelivered: message.isRedelivered(),
        count: message.getRedeliveryCount(),
        timestamp_us: Math.floor(message.getTimestampRaw() / 1000),
      })
    })
  })

const flush = (session) => new Promise((resolve) => session.nc.flush(resolve))

const ack = async ({ connection, subscription, sequence }) => {
  messages.get(`${subscription} ${sequence}`).ack()
  await flush(connections.get(connection))
}

const end = (subscription, verb, event) =>
  new Promise((resolve, reject) => {
    const made = subscriptions.get(subscription)
    made.on(event, () => resolve(null))
    made.on('error', reject)
    made.on('timeout', reject)
    made[verb]()
  })

const close = ({ connection }) =>
  new Promise((resolve, reject) => {
    connections.get(connection).on('close', (error) => (error ? reject(error) : resolve(null)))
    connections.get(connection).close()
  })

const drop = async ({ connection }) => {
  connections.get(connection).nc.close()
}

const verbs = {
  connect,
  publish,
  publish_async: publishAsync,
  subscribe,
  ack,
  unsubscribe: ({ subscription }) => end(subscription, 'unsubscribe', 'unsubscribed'),
  close_subscription: ({ subscription }) => end(subscription, 'close', 'closed'),
  close,
  drop,
}

for await (const line of createInterface({ input: process.stdin })) {
  const { number, verb, arguments: given } = JSON.parse(line)
  verbs[verb](given).then(
    (result) => tell({ number, result: result ?? null }),
    (error) => tell({ number, error: words(error) })
  )
}
