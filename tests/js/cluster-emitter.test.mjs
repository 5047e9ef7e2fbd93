// The stock @socket.io/redis-emitter reaches the sockets of two nodes.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { Emitter } from "@socket.io/redis-emitter";
import msgpackParser from "socket.io-msgpack-parser";

import { MODES, closeClients, connect } from "./client.mjs";
import { startCluster, tokenOf } from "./cluster.mjs";
import { until } from "./deadline.mjs";
import { request } from "./request.mjs";

let cluster;
let redis;
let emitter;

before(async () => {
  cluster = await startCluster(2, { args: ["--bridge-events", "order:*", "--bridge-namespace", "/orders"] });
  redis = cluster.redis.client();
  emitter = new Emitter(redis);
});

afterEach(closeClients);
after(() => cluster?.stop());

/** Clients of one room and of another on each node, over different transports and parsers. */
async function enter(room, other) {
  const [one, two] = cluster.nodes.map(({ url }) => url);
  const clients = {
    here: await connect(one, { token: tokenOf("here"), ...MODES.websocket }),
    there: await connect(two, { token: tokenOf("there"), ...MODES.polling }),
    packed: await connect(two, {
      token: tokenOf("packed"),
      parser: msgpackParser,
      ...MODES.websocket,
    }),
    apart: await connect(one, { token: tokenOf("apart"), ...MODES.websocket }),
  };
  for (const name of ["here", "there", "packed"]) await clients[name].join(room);
  await clients.apart.join(other);
  return clients;
}

/** What each client has got of these events when all have got the last one, which goes to everybody. */
async function told(clients, ...events) {
  emitter.emit("end");
  for (const client of Object.values(clients)) await client.next("end");
  const of = ({ log }) => log.filter(({ name }) => events.includes(name));
  return Object.fromEntries(
    Object.entries(clients).map(([name, client]) => [
      name,
      of(client).map(({ name: event, args }) => [event, ...args]),
    ]),
  );
}

test("events reach rooms, users and everybody on both nodes, once and in order", async () => {
  const clients = await enter("red", "blue");
  const heard = (number) => ["news", { number }];
  emitter.emit("news", { number: 1 });
  emitter.to("red").emit("news", { number: 2 });
  emitter.in(["red", "blue"]).emit("news", { number: 3 });
  emitter.to("red").except("user:there").emit("news", { number: 4 });
  emitter.except("red").emit("news", { number: 5 });
  emitter.to("user:packed").emit("news", { number: 6 });
  emitter.to(clients.apart.id).compress(true).emit("news", { number: 7 });
  assert.deepEqual(await told(clients, "news"), {
    here: [1, 2, 3, 4].map(heard),
    there: [1, 2, 3].map(heard),
    packed: [1, 2, 3, 4, 6].map(heard),
    apart: [1, 3, 5, 7].map(heard),
  });
});

test("binary data, many arguments and none arrive as they were; volatile events reach who is idle", async () => {
  const clients = await enter("red", "blue");
  emitter.to("red").emit("file", "name", Buffer.from([1, 2, 255]), [{ deep: Buffer.from("x") }], null, 1.5);
  emitter.to("red").emit("bare");
  const plain = (value) => JSON.parse(JSON.stringify(value));
  const expected = plain([
    ["file", "name", Buffer.from([1, 2, 255]), [{ deep: Buffer.from("x") }], null, 1.5],
    ["bare"],
  ]);
  const { here, there, packed, apart } = await told(clients, "file", "bare");
  for (const heard of [here, there, packed]) {
    // Behind a last argument that is a text, or none, the client would look for an offset.
    assert.deepEqual(plain(heard).map((event, n) => event.slice(0, expected[n].length)), expected);
  }
  assert.deepEqual(apart, []);

  await until(5_000, "a volatile event", () => {
    emitter.volatile.emit("fleeting", 1);
    return Object.values(clients).every((client) => client.seen("fleeting").length > 0);
  });
});

test("another namespace is another audience", async () => {
  const [{ url }] = cluster.nodes;
  const root = await connect(url, { token: tokenOf("root"), ...MODES.websocket });
  const orders = await connect(`${url}/orders`, { token: tokenOf("orders"), ...MODES.websocket });
  emitter.of("orders").emit("news", 1);
  emitter.of("/orders").emit("news", 2);
  await orders.next("news", (number) => number === 2);
  assert.deepEqual(orders.seen("news"), [1, 2]);
  assert.deepEqual((await told({ root }, "news")).root, []);
});

test("sockets join, leave and are disconnected as the emitter says", async () => {
  const clients = await enter("red", "blue");
  emitter.in("red").socketsJoin(["green", "yellow"]);
  emitter.to("green").emit("news", 1);
  emitter.in("user:there").socketsLeave("green");
  emitter.to("green").emit("news", 2);
  emitter.to("yellow").emit("news", 3);
  assert.deepEqual(await told(clients, "news"), {
    here: [1, 2, 3].map((number) => ["news", number]),
    there: [1, 3].map((number) => ["news", number]),
    packed: [1, 2, 3].map((number) => ["news", number]),
    apart: [],
  });
  emitter.in("user:there").disconnectSockets();
  emitter.in("user:here").disconnectSockets(true);
  for (const name of ["there", "here"]) {
    await clients[name].next("disconnect");
    assert.deepEqual(clients[name].seen("disconnect"), ["io server disconnect"]);
  }
  const { packed, apart } = clients;
  await told({ packed, apart });
  for (const client of [packed, apart]) assert.deepEqual(client.seen("disconnect"), []);
});

test("who was away is not sent what an emitter said meanwhile, and resumes all the same", async () => {
  const [{ url }] = cluster.nodes;
  const client = await connect(url, { token: tokenOf("away"), ...MODES.websocket });
  await client.join("red");
  emitter.to("red").emit("news", "a text as the last argument");
  const { id } = await client.call("message:send", { roomId: "red", content: "before" });
  await client.next("message:new", (message) => message.id === id);
  client.socket.io.engine.close();
  await client.next("disconnect");
  emitter.to("red").emit("news", "while away");
  await client.next("connect");
  assert.equal(client.socket.recovered, true);
  const { client: heard } = await told({ client }, "news");
  assert.deepEqual(heard.map(([, text]) => text), ["a text as the last argument"]);
});

test("what can't be done is counted and logged with the reason, and harms nobody", async () => {
  const clients = await enter("red", "blue");
  const refused = async () => {
    const texts = await Promise.all(
      cluster.nodes.map(async ({ url }) => (await request(`${url}/metrics`)).text),
    );
    return texts.map((text) => Number(/^leveret_emitter_refused_total (\d+)$/m.exec(text)?.[1] ?? 0));
  };
  const before = await refused();
  emitter.serverSideEmit("hello", 1);
  await redis.publish("socket.io#/#", "no MessagePack");
  await redis.publish("socket.io#/#red#", Buffer.from([0x93, 0xa1, 0x78]));
  await redis.publish("socket.io-request#/#", '{"type":2,"rooms":"red"}');
  await until(5_000, "both nodes to refuse all four", async () => {
    return (await refused()).every((count, n) => count === before[n] + 4);
  });
  for (const { stderr } of cluster.nodes) assert.match(stderr, /serverSideEmit has no listeners here/);
  emitter.to("red").emit("news", 1);
  assert.deepEqual((await told(clients, "news")).there, [["news", 1]]);
});
