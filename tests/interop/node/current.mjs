// The current JavaScript clients (@nats-io) against a server. Usage: node current.mjs URL. Prints "ok" or throws.
import assert from "node:assert/strict";
import { connect, headers, RequestError } from "@nats-io/transport-node";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";

const nc = await connect({ servers: process.argv[2] });
const text = (data) => new TextDecoder().decode(data);

// core
const wild = nc.subscribe("a.*.>", { max: 1 });
const first = (async () => {
  for await (const message of wild) return message;
})();
nc.subscribe("work", { queue: "q", callback: (_error, message) => message.respond(message.data) });
const block = headers();
block.set("Key", "value");
nc.publish("a.b.c", "hello", { headers: block });
const message = await first;
assert.equal(message.headers.get("Key"), "value");
assert.equal(text((await nc.request("work", "echo")).data), "echo");
await assert.rejects(nc.request("nobody", ""), (error) => error instanceof RequestError && error.isNoResponders());

// streams
const js = jetstream(nc);
const jsm = await jetstreamManager(nc);
await jsm.streams.add({ name: "NODE", subjects: ["node.>"], allow_direct: true });
for (let number = 0; number < 10; number++) {
  const ack = await js.publish(`node.${number % 2}`, `${number}`, { msgID: `${number}` });
  assert.equal(ack.seq, number + 1);
}
assert.equal((await js.publish("node.0", "", { msgID: "3" })).duplicate, true);
await assert.rejects(js.publish("node.0", "", { expect: { lastSequence: 3 } }));
const info = await jsm.streams.info("NODE", { subjects_filter: ">" });
assert.deepEqual(info.state.subjects, { "node.0": 5, "node.1": 5 });
assert.equal((await jsm.streams.getMessage("NODE", { last_by_subj: "node.1" })).seq, 10);
assert.equal((await jsm.direct.getMessage("NODE", { seq: 3 })).string(), "2");
assert.equal(await jsm.streams.deleteMessage("NODE", 5), true);
assert.equal(await jsm.streams.getMessage("NODE", { seq: 5 }), null);
await jsm.streams.update("NODE", { max_msgs: 1000 });
const names = [];
for await (const name of jsm.streams.names()) names.push(name);
assert.deepEqual(names, ["NODE"]);
assert.equal((await jsm.getAccountInfo()).streams, 1);

// consumers
await jsm.consumers.add("NODE", { durable_name: "pull", ack_policy: AckPolicy.Explicit });
const pull = await js.consumers.get("NODE", "pull");
let count = 0;
for await (const one of await pull.fetch({ max_messages: 4, expires: 2000 })) {
  count++;
  if (count === 1) assert.equal(await one.ackAck(), true);
  else if (count === 2) one.nak();
  else if (count === 3) one.term("done");
  else {
    one.working();
    one.ack();
  }
}
assert.equal(count, 4);
const seen = [];
for await (const one of await pull.consume({ max_messages: 3 })) {
  seen.push(`${one.seq}/${one.info.deliveryCount}`);
  one.ack();
  if (seen.length === 6) break;
}
assert.ok(seen.includes("2/2"));
assert.equal(await pull.next({ expires: 1000 }), null);

const ordered = await js.consumers.get("NODE", { filter_subjects: ["node.1"], deliver_policy: DeliverPolicy.All });
const sequences = [];
for await (const one of await ordered.consume()) {
  sequences.push(one.seq);
  if (one.info.pending === 0) break;
}
assert.deepEqual(sequences, [2, 4, 6, 8, 10]);

await jsm.consumers.add("NODE", { durable_name: "push", deliver_subject: "deliver", ack_policy: AckPolicy.None });
const push = await js.consumers.getPushConsumer("NODE", "push");
count = 0;
for await (const _one of await push.consume()) {
  if (++count === 9) break;
}
assert.equal((await jsm.streams.purge("NODE", { filter: "node.0" })).purged, 4);
const consumers = [];
for await (const one of jsm.consumers.list("NODE")) consumers.push(one.name);
assert.ok(consumers.includes("pull") && consumers.includes("push"));
assert.equal(await jsm.consumers.delete("NODE", "push"), true);
assert.equal(await jsm.streams.delete("NODE"), true);
await nc.drain();
console.log("ok");
