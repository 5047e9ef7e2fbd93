// kill -9 under load, again and again on one data folder: what was acknowledged is there afterwards,
// once and in order, and every accepted order comes to its end.
//
// A kill leaves the page cache, so this says nothing about fsync: the journal's own crash tests do.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";

import { MODES, closeClients, compareOffsets, connect } from "./client.mjs";
import { elapse, until, within } from "./deadline.mjs";
import { post, request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

const ROUNDS = Number(process.env.LEVERET_KILL_ROUNDS ?? 20);
const LOAD_MS = { min: 50, max: 400 };

const SENDERS = ["websocket", "websocket", "upgrade", "polling"];
const IN_FLIGHT = 16;
// A room shows its newest fifty: as many are sent to each, acknowledged or not, so that none drops out.
const ROOMS_A_ROUND = 24;
const MESSAGES_A_ROOM = 50;

const BUYERS = 3;
const ORDERS_A_USER = 10;
// The list of dead letters ends at a hundred.
const FAILING_ORDERS_MAX = 90;

/** What the clients were told, over all rounds. */
class Record {
  /** @type {Map<string, Map<string, {offset: string, content: string}>>} by room, then by message id */
  acknowledged = new Map();
  /** @type {Map<string, Set<string>>} ids that a client heard of, by room */
  heard = new Map();
  /** @type {Map<string, number>} the total of every accepted order, by id */
  orders = new Map();
  failing = 0;

  addRoom(roomId) {
    this.acknowledged.set(roomId, new Map());
    this.heard.set(roomId, new Set());
  }

  get messages() {
    return [...this.acknowledged.values()].reduce((sum, { size }) => sum + size, 0);
  }
}

/** Sends messages from every client, many in flight, until the connections break. */
async function talk(clients, roomIds, record) {
  const contents = roomIds.flatMap((roomId) =>
    Array.from({ length: MESSAGES_A_ROOM }, (_, n) => ({ roomId, n })),
  );
  // One message to each room in turn.
  contents.sort((a, b) => a.n - b.n);
  let next = 0;
  for (const [index, { socket }] of clients.entries()) {
    socket.on("message:new", ({ id, roomId }) => record.heard.get(roomId).add(id));
    const send = () => {
      if (next === contents.length || !socket.connected) return;
      const { roomId } = contents[next];
      // A sender's own messages are told by a rising number.
      const content = `${index} ${next}`;
      next += 1;
      socket.emit("message:send", { roomId, content }, (ack) => {
        assert.equal(ack.error, undefined, "no message is refused");
        record.acknowledged.get(roomId).set(ack.id, { offset: ack.offset, content });
        send();
      });
    };
    for (let n = 0; n < IN_FLIGHT; n += 1) send();
  }
}

/** Places one order after the other until the server is gone; resolves then. */
async function buy(url, buyer, record, isOver) {
  for (let n = 0; !isOver(); n += 1) {
    const fails = n % 4 === 0 && record.failing < FAILING_ORDERS_MAX;
    if (fails) record.failing += 1;
    const total = fails ? -1 - n : n;
    const userId = `${buyer}-${Math.floor(n / ORDERS_A_USER)}`;
    try {
      const answer = await post(`${url}/api/orders`, {
        userId,
        items: [{ sku: "hare", n }],
        total,
      });
      assert.equal(answer.status, 201, answer.text);
      record.orders.set(answer.json().orderId, total);
    } catch (error) {
      if (error instanceof assert.AssertionError || !isOver()) throw error;
    }
  }
}

/** Loads the server, and kills it in the middle of its work. */
async function loadAndKill(server, round, token, record) {
  const roomIds = Array.from({ length: ROOMS_A_ROUND }, (_, n) => `kill-${round}-${n}`);
  for (const roomId of roomIds) record.addRoom(roomId);
  const clients = await Promise.all(
    SENDERS.map((mode) => connect(server.url, { token, reconnection: false, ...MODES[mode] })),
  );
  await Promise.all(clients.flatMap((client) => roomIds.map((roomId) => client.join(roomId))));
  await Promise.all(clients.map((client) => client.upgraded()));

  let isKilled = false;
  const broken = clients.map(
    ({ socket }) => new Promise((resolve) => socket.once("disconnect", resolve)),
  );
  talk(clients, roomIds, record);
  const buyers = Array.from({ length: BUYERS }, (_, n) =>
    buy(server.url, `buyer-${round}-${n}`, record, () => isKilled),
  );
  await elapse(LOAD_MS.min + Math.random() * (LOAD_MS.max - LOAD_MS.min));
  isKilled = true;
  await server.kill9();
  assert.equal(await server.exited, null, `it ended before: ${server.stderr}`);
  await within(5_000, "the clients to notice", Promise.all([...broken, ...buyers]));
  closeClients();
}

/** Compares the rooms' histories with what the clients were told. */
async function checkRooms(server, token, roomIds, record) {
  const client = await connect(server.url, { token, ...MODES.websocket });
  for (const roomId of roomIds) {
    const log = (await client.join(roomId)).messages.reverse();
    await client.call("leave:room", roomId);
    const ids = log.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, `${roomId} holds a message twice`);
    const contents = log.map(({ content }) => content);
    assert.equal(new Set(contents).size, contents.length, `${roomId} stored a message twice`);

    const acknowledged = record.acknowledged.get(roomId);
    const inOffsetOrder = [...acknowledged].sort(([, a], [, b]) =>
      compareOffsets(a.offset, b.offset),
    );
    assert.deepEqual(
      log.filter(({ id }) => acknowledged.has(id)).map(({ id, content }) => [id, content]),
      inOffsetOrder.map(([id, { content }]) => [id, content]),
      `${roomId} lost or reordered acknowledged messages`,
    );
    const lost = [...record.heard.get(roomId)].filter((id) => !ids.includes(id));
    assert.deepEqual(lost, [], `${roomId} lost messages that were heard`);

    const last = new Map();
    for (const [sender, number] of contents.map((content) => content.split(" ").map(Number))) {
      assert.ok(number > (last.get(sender) ?? -1), `${roomId} reordered a sender's messages`);
      last.set(sender, number);
    }
  }
  client.close();
}

/** Waits until every accepted order has come to its end, and checks that it is the right one. */
async function checkOrders(server, record) {
  const find = (orderId) => request(`${server.url}/api/orders/${orderId}`);
  const lost = [];
  for (const [orderId, total] of record.orders) {
    if ((await find(orderId)).status !== 200) lost.push(`${orderId} (total ${total})`);
  }
  assert.deepEqual(lost, [], `${lost.length} of ${record.orders.size} accepted orders are lost`);

  const statuses = new Map();
  for (const [orderId, total] of record.orders) {
    const order = await until(20_000, `order ${orderId} to come to its end`, async () => {
      const order = (await find(orderId)).json();
      return order.status !== "processing" && order;
    });
    assert.equal(order.status, total < 0 ? "failed" : "completed", `order ${orderId}`);
    statuses.set(orderId, order.status);
  }
  const failed = [...statuses].filter(([, status]) => status === "failed").map(([id]) => id);
  // The state of an order is written before it goes to the dead letters.
  const messages = await until(5_000, "the dead letters", async () => {
    const { messages } = (await request(`${server.url}/api/demo/dead-letters`)).json();
    const ids = messages.map(({ orderId }) => orderId);
    return failed.every((id) => ids.includes(id)) && messages;
  });
  const dead = messages.map(({ orderId }) => orderId);
  assert.equal(new Set(dead).size, dead.length, "an order is dead-lettered twice");
  const accepted = dead.filter((orderId) => record.orders.has(orderId)).sort();
  assert.deepEqual(accepted, failed.sort(), "every failed order, and no other, is a dead letter");
  for (const { order, error, attempts } of messages) {
    assert.ok(order.total < 0, JSON.stringify(order));
    assert.match(error, /negative/);
    assert.equal(attempts, 3);
  }
}

test(`${ROUNDS} times kill -9 under load lose nothing that was acknowledged`, async (t) => {
  assert.ok(ROUNDS >= 1, "LEVERET_KILL_ROUNDS is a number of rounds");
  const dataDir = await mkdtemp(path.join(tmpdir(), "leveret-kill9-"));
  const record = new Record();
  let server;
  try {
    server = await startServer({ dataDir, args: ["--demo"] });
    const token = await mintToken(dataDir, "tester", { ttl: "12h" });
    for (let round = 0; round < ROUNDS; round += 1) {
      const known = record.acknowledged.size;
      await loadAndKill(server, round, token, record);
      server = await startServer({ dataDir, args: ["--demo"] });
      const roomIds = [...record.acknowledged.keys()].slice(known);
      await checkRooms(server, token, roomIds, record);
    }
    await checkRooms(server, token, [...record.acknowledged.keys()], record);
    await checkOrders(server, record);
    assert.ok(record.messages >= 5 * ROUNDS && record.orders.size >= ROUNDS, "hardly any load");
    t.diagnostic(
      `${ROUNDS} rounds, ${record.messages} acknowledged messages, ` +
        `${record.orders.size} accepted orders`,
    );
  } finally {
    closeClients();
    await server?.kill9();
    await rm(dataDir, { recursive: true, force: true });
  }
});
