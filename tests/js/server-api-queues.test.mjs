// The server API's queues: consumed, settled, explained, purged and redriven, and the policies over them; each
// answer held against the schema that /api/v1/openapi.json gives for it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { until } from "./deadline.mjs";
import { describedApi } from "./openapi.mjs";
import { startServer } from "./server.mjs";

// Two queues of the demo that nobody consumes.
const QUEUE = "orders.failed";
const DEAD = "user-events.failed";

let server;
let call;
let consume;

before(async () => {
  server = await startServer({ args: ["--demo"] });
  ({ call, consume } = await describedApi(server.url));
});

after(async () => {
  assert.equal(await server.stop(), 0, server.stderr);
});

const publish = (body, id) => {
  const [headers, properties] = [{ origin: "a test" }, { messageId: id, persistent: true }];
  return call("publish", { body: { exchange: "", routingKey: QUEUE, body, headers, properties } });
};

/** Waits until so many messages are ready. */
const ready = (queue, count) =>
  until(5_000, `${count} messages in ${queue}`, async () => {
    return (await call("getQueue", { path: { queue } })).ready === count;
  });

const policy = {
  pattern: "^orders\\.failed$",
  priority: 7,
  "apply-to": "queues",
  definition: { "dead-letter-exchange": "dlx", "dead-letter-routing-key": DEAD },
};

test("a policy is set, shown, changed and removed", async () => {
  const whole = {
    name: "whole",
    pattern: "^nothing$",
    priority: -1,
    "apply-to": "all",
    definition: {
      "message-ttl": 60_000,
      expires: 60_000,
      "max-length": 10,
      "max-length-bytes": 1_000,
      overflow: "reject-publish",
      "dead-letter-exchange": "dlx",
      "dead-letter-routing-key": "x",
      "delivery-limit": 3,
      "consumer-timeout": 60_000,
      "alternate-exchange": "dlx",
      retry: { "max-attempts": 3, backoff: "exponential", delay: 10, "max-delay": 50, jitter: 0.5 },
    },
  };
  const path = { policy: "whole" };
  assert.deepEqual(await call("putPolicy", { path, body: whole }), whole);
  assert.deepEqual(await call("getPolicy", { path }), whole);
  const fixed = { pattern: "^none$", definition: { retry: { "max-attempts": 1, backoff: "fixed", delay: 0 } } };
  const again = await call("putPolicy", { path, body: fixed });
  assert.equal(again.pattern, "^none$");
  const { policies } = await call("listPolicies");
  assert.deepEqual(policies.find(({ name }) => name === "whole"), again);
  assert.deepEqual(await call("deletePolicy", { path }), again);
  await call("getPolicy", { path, status: 404 });
  await call("deletePolicy", { path, status: 404 });
  for (const body of [
    { pattern: "(", definition: {} },
    { pattern: "x", definition: { "max-length": -1 } },
    { pattern: "x", definition: { overflow: "spill" } },
    { name: "another", pattern: "x", definition: {} },
  ]) {
    await call("putPolicy", { path, body, status: 400 });
  }
});

test("deliveries are settled each way, and their paths explained", async () => {
  await call("putPolicy", { path: { policy: "dead" }, body: policy });
  for (const id of ["kept", "back", "bad"]) assert.deepEqual(await publish(id, id), { routed: true });
  await call("peek", { path: { queue: QUEUE }, query: { count: 2, bodyBytes: 1 } });
  const stream = await consume(QUEUE, { prefetch: 10 });
  const deliveries = [];
  for (let n = 0; n < 3; n += 1) deliveries.push(await stream.next());
  assert.deepEqual(deliveries.map(({ body }) => body), ["kept", "back", "bad"]);
  const [kept, back, bad] = deliveries.map(({ tag }) => tag);

  const path = { consumer: stream.consumer };
  const settle = (body, status = 200) => call("settle", { path, body, status });
  assert.deepEqual(await settle({ ack: [kept, 999] }), { settled: 1, unknown: [999] });
  const fail = [{ tag: bad, error: "no such order" }];
  assert.deepEqual(await settle({ requeue: [back], fail }), { settled: 2, unknown: [] });
  assert.equal((await stream.next()).body, "back");
  await settle({ ack: ["one"] }, 400);
  await call("settle", { path: { consumer: "nobody" }, body: {}, status: 404 });
  assert.deepEqual(await call("cancelConsumer", { path }), { consumer: stream.consumer });
  assert.equal(typeof (await stream.next()).ended, "string");
  assert.equal(await stream.next(), undefined);
  await call("cancelConsumer", { path, status: 404 });
  await ready(QUEUE, 1);
  await ready(DEAD, 1);

  const { steps } = await call("explain", { path: { id: "bad" } });
  const events = new Set(steps.map(({ event }) => event));
  for (const event of ["published", "routed", "delivered", "deadLettered"]) {
    assert.ok(events.has(event), JSON.stringify(steps));
  }
  const acked = (await call("explain", { path: { id: "kept" } })).steps;
  assert.ok(acked.some(({ event }) => event === "acked"), JSON.stringify(acked));
  await call("explain", { path: { id: "never" }, status: 404 });

  const limited = await consume(QUEUE, { limit: 1, noAck: true });
  assert.equal((await limited.next()).body, "back");
  await call("cancelConsumer", { path: { consumer: limited.consumer } });
  await ready(QUEUE, 0);
});

test("dead letters are grouped, planned, redriven and purged", async () => {
  const dead = { queue: DEAD };
  const { groups } = await call("groups", { path: dead });
  assert.deepEqual(groups.map(({ error, queue, count }) => [error, queue, count]), [
    ["no such order", QUEUE, 1],
  ]);
  const plan = await call("redrive", { path: dead, body: { dryRun: true } });
  assert.deepEqual([plan.moved, plan.queues], [1, { [QUEUE]: 1 }]);
  await call("redrive", { path: dead, body: { ids: ["x"], error: "y" }, status: 400 });
  await call("redrive", { path: { queue: "none" }, body: {}, status: 404 });

  const run = await call("redrive", { path: dead, body: { error: "no such", ratePerSecond: 100 }, status: 202 });
  assert.ok(["running", "done"].includes(run.state));
  const done = await call("redriveProgress", { path: dead, query: { waitSeconds: 5 } });
  assert.deepEqual([done.state, done.moved], ["done", 1]);
  await ready(QUEUE, 1);
  await call("redriveProgress", { path: { queue: QUEUE }, status: 404 });

  // It dies again, twice over, and is mended, watched, or removed.
  for (const id of ["worse", "worst"]) await publish(id, id);
  const stream = await consume(QUEUE);
  const fail = [];
  for (let n = 0; n < 3; n += 1) fail.push({ tag: (await stream.next()).tag, error: "still bad" });
  await call("settle", { path: { consumer: stream.consumer }, body: { fail } });
  await call("cancelConsumer", { path: { consumer: stream.consumer } });
  await ready(DEAD, 3);
  const { messages } = await call("peek", { path: dead });
  const named = (body) => messages.find((message) => message.body === body).id;
  const mended = { body: "better", headers: { mended: true } };
  const one = { path: { ...dead, id: named("bad") }, body: mended };
  assert.deepEqual(await call("redriveOne", one), { queues: [QUEUE] });
  await call("redriveOne", { ...one, status: 404 });
  await ready(QUEUE, 1);

  const slow = { path: dead, body: { ratePerSecond: 1 }, status: 202 };
  await call("redrive", slow);
  const cancelled = await call("cancelRedrive", { path: dead });
  assert.ok(["cancelled", "done"].includes(cancelled.state), cancelled.state);
  const left = 2 - cancelled.moved;
  await ready(DEAD, left);
  if (left === 2) {
    assert.deepEqual(await call("purge", { path: dead, query: { ids: named("worse") } }), { purged: 1 });
  }
  const { purged } = await call("purge", { path: dead });
  assert.equal(purged, Math.min(left, 1));
  assert.deepEqual(await call("purge", { path: { queue: QUEUE } }), { purged: 1 + cancelled.moved });
  await call("purge", { path: { queue: "none" }, status: 404 });
});
