// The former JavaScript client (nats 2) against a server. Usage: node former.mjs URL. Prints "ok" or throws.
import assert from "node:assert/strict";
import { AckPolicy, connect, consumerOpts, ErrorCode, headers, StringCodec } from "nats";

const nc = await connect({ servers: process.argv[2] });
const codec = StringCodec();

const wild = nc.subscribe("a.>", { max: 1 });
const first = (async () => {
  for await (const message of wild) return message;
})();
nc.subscribe("work", { queue: "q", callback: (_error, message) => message.respond(message.data) });
const block = headers();
block.set("Key", "value");
nc.publish("a.b", codec.encode("hello"), { headers: block });
assert.equal((await first).headers.get("Key"), "value");
assert.equal(codec.decode((await nc.request("work", codec.encode("echo"))).data), "echo");
await assert.rejects(nc.request("nobody"), (error) => error.code === ErrorCode.NoResponders);

const jsm = await nc.jetstreamManager();
const js = nc.jetstream();
await jsm.streams.add({ name: "NODE", subjects: ["node.*"] });
for (let number = 0; number < 10; number++) {
  assert.equal((await js.publish("node.a", codec.encode(`${number}`))).seq, number + 1);
}
assert.equal((await jsm.streams.getMessage("NODE", { seq: 3 })).seq, 3);

await jsm.consumers.add("NODE", { durable_name: "pull", ack_policy: AckPolicy.Explicit });
const pull = await js.consumers.get("NODE", "pull");
let count = 0;
for await (const one of await pull.fetch({ max_messages: 5, expires: 2000 })) {
  count++;
  assert.equal(await one.ackAck(), true);
}
assert.equal(count, 5);
count = 0;
for await (const one of await js.fetch("NODE", "pull", { batch: 5, expires: 2000 })) {
  count++;
  one.ack();
}
assert.equal(count, 5);

const options = consumerOpts();
options.durable("push").manualAck().ackExplicit().deliverTo("deliver").idleHeartbeat(500).flowControl();
const sub = await js.subscribe("node.*", options);
count = 0;
for await (const one of sub) {
  one.ack();
  if (++count === 10) break;
}
await sub.destroy();

const ordered = await js.consumers.get("NODE");
const last = [];
for await (const one of await ordered.consume()) {
  last.push(one.seq);
  if (one.info.pending === 0) break;
}
assert.equal(last.length, 10);
assert.equal(await jsm.streams.delete("NODE"), true);
await nc.drain();
console.log("ok");
