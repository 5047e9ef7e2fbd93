// Three processes on one RabbitMQ and one Redis are one server to stock clients, and to who places orders.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, test } from "node:test";

import { MODES, closeClients, compareOffsets, connect } from "./client.mjs";
import { LEASE_MS, startCluster, tokenOf } from "./cluster.mjs";
import { elapse, until, within } from "./deadline.mjs";
import { PollingSession } from "./raw.mjs";
import { post, request } from "./request.mjs";

// The stock client tries again after 1 s, 2 s, 4 s and 5 s, each half as long or half as long again.
const RECONNECT_MS = 20_000;
const ORDER_MS = 30_000;
// Beyond the lease: a survivor looks every third of it, and this machine has other work.
const SLACK_MS = LEASE_MS / 3 + 2_000;
/** Between two messages of one client. */
const TALK_MS = 50;

let cluster;

before(async () => {
  cluster = await startCluster(3);
});

afterEach(closeClients);
after(() => cluster?.stop());

/** A client through the balancer, which gives it any node each time. */
const roaming = (user, options = {}) =>
  connect(cluster.url, { token: tokenOf(user), ...MODES.websocket, ...options });

/** What the client was told of a room by `message:new`, from before it was away and since. */
const contentsOf = (client, roomId) =>
  client
    .seen("message:new")
    .filter((message) => message.roomId === roomId)
    .map(({ content }) => content);

/** Messages that are sent again until they are acknowledged, one after the other: how many, so far. */
class Talker {
  sent = [];
  #isOver = false;

  constructor(client, roomId) {
    this.client = client;
    this.roomId = roomId;
    this.talking = this.#talk();
    // Told by whoever awaits it, also when something else fails first.
    this.talking.catch(() => {});
  }

  async #talk() {
    while (!this.#isOver) {
      const content = `${this.client.name} ${this.sent.length}`;
      const message = { roomId: this.roomId, content, clientId: randomUUID() };
      await until(RECONNECT_MS, `${content} to be acknowledged`, async () => {
        const ack = await this.client.socket.timeout(2_000).emitWithAck("message:send", message);
        return ack.error === undefined;
      });
      this.sent.push(content);
      await elapse(TALK_MS);
    }
  }

  async stop() {
    this.#isOver = true;
    await this.talking;
    return this.sent;
  }
}

test("clients on different nodes chat: everybody gets each message once, all in one order", async () => {
  const modes = ["websocket", "polling", "upgrade"];
  const clients = await Promise.all(
    cluster.nodes.map(({ url }, n) =>
      connect(url, { token: tokenOf(`chat-${n}`), ...MODES[modes[n]] }),
    ),
  );
  for (const client of clients) await client.join("chat");
  const acks = await Promise.all(
    clients.flatMap(({ socket }, n) =>
      Array.from({ length: 50 }, (_, number) =>
        within(
          10_000,
          "an acknowledgement",
          socket.emitWithAck("message:send", { roomId: "chat", content: `${n} ${number}` }),
        ),
      ),
    ),
  );
  const ids = acks.toSorted((a, b) => compareOffsets(a.offset, b.offset)).map(({ id }) => id);
  assert.equal(new Set(ids).size, 150);
  for (const client of clients) {
    await client.next("message:new", ({ id }) => id === ids.at(-1));
    const heard = client.seen("message:new");
    assert.deepEqual(
      heard.map(({ id }) => id),
      ids,
    );
    for (const n of [0, 1, 2]) {
      const numbers = heard.map(({ content }) => content.split(" ").map(Number));
      const own = numbers.filter(([from]) => from === n).map(([, number]) => number);
      assert.deepEqual(own, own.toSorted((a, b) => a - b));
    }
  }
});

test("WebSocket-only clients need no affinity; a poll at a foreign node is told why it fails", async () => {
  const clients = [];
  for (let n = 0; n < 6; n += 1) clients.push(await roaming(`affine-${n}`));
  assert.deepEqual(new Set(clients.map(cluster.nodeOf)), new Set([0, 1, 2]));
  for (const client of clients) await client.join("affine");
  const [first, ...others] = clients;
  const { id } = await first.call("message:send", { roomId: "affine", content: "hi" });
  for (const client of others) await client.next("message:new", (message) => message.id === id);

  const [here, there] = cluster.nodes.map(({ url }) => url);
  const session = await PollingSession.open(here);
  assert.equal((await session.send(`40${JSON.stringify({ token: tokenOf("poller") })}`)).status, 200);
  session.url = session.url.replace(here, there);
  const answer = await session.poll();
  assert.deepEqual(
    [answer.status, answer.json()],
    [400, { code: 1, message: "Session ID unknown" }],
  );
});

/** Places one order after the other at `url` until told to stop; adds the accepted ones to `orders`. */
async function buy(url, buyer, orders, isOver) {
  for (let n = 0; !isOver(); n += 1) {
    const userId = `${buyer}-${Math.floor(n / 10)}`;
    try {
      const answer = await post(`${url}/api/orders`, { userId, items: [{ n }], total: n });
      if (answer.status === 201) orders.set(answer.json().orderId, userId);
    } catch {
      // The node is dead: this order was not accepted.
      if (isOver()) return;
      await elapse(20);
    }
  }
}

test("kill -9 of a node: its users go on elsewhere and miss nothing, it is offline once, orders are completed once", async () => {
  const users = [];
  for (let n = 0; n < 6; n += 1) {
    // Long before anybody could take them for gone.
    const client = await roaming(`kill-${n}`, { reconnectionDelay: 100, randomizationFactor: 0 });
    client.name = `kill-${n}`;
    users.push(client);
    await client.join("kill");
  }
  const killed = cluster.nodeOf(users[0]);
  const on = (n) => users.filter((client) => cluster.nodeOf(client) === n);
  const orphans = on(killed);
  assert.equal(orphans.length, 2);
  const watchers = users.filter((client) => !orphans.includes(client));
  const ghost = await connect(cluster.nodes[killed].url, {
    token: tokenOf("ghost"),
    reconnection: false,
    ...MODES.websocket,
  });
  for (const watcher of watchers) {
    await watcher.next("presence:changed", ({ userId }) => userId === "ghost");
  }
  await ghost.join("kill");
  for (const watcher of watchers) {
    await watcher.next("user:joined", ({ userId }) => userId === "ghost");
  }

  const updates = [];
  const subscriber = cluster.redis.client();
  await subscriber.subscribe("order-updates");
  subscriber.on("message", (_, text) => updates.push(JSON.parse(text)));
  const orders = new Map();
  let isOver = false;
  const buyers = cluster.nodes.map(({ url }, n) => buy(url, `buyer-${n}`, orders, () => isOver));
  const talkers = users.map((client) => new Talker(client, "kill"));
  await until(10_000, "the load to run", () => orders.size > 10 && talkers.every((t) => t.sent.length > 1));

  const killedAt = performance.now();
  await cluster.nodes[killed].kill9();
  await within(5_000, "the ghost to notice", ghost.next("disconnect"));
  for (const orphan of orphans) {
    await orphan.next("connect", undefined, RECONNECT_MS);
    assert.notEqual(cluster.nodeOf(orphan), killed);
    assert.equal(orphan.socket.recovered, true, "another node knows its session");
  }
  const told = await Promise.all(
    watchers.map(async (watcher) => {
      const is = ({ userId, status }) => userId === "ghost" && status === "offline";
      await watcher.next("presence:changed", is, LEASE_MS + SLACK_MS + 10_000);
      const { at } = watcher.log.find(({ name, args }) => name === "presence:changed" && is(args[0]));
      return at - killedAt;
    }),
  );
  assert.ok(Math.max(...told) < LEASE_MS + SLACK_MS, `offline after ${told} ms`);

  // What comes twice comes within another lease.
  await elapse(LEASE_MS);
  isOver = true;
  await within(15_000, "the buyers", Promise.all(buyers));
  const sent = (await Promise.all(talkers.map((talker) => talker.stop()))).flat();
  for (const watcher of watchers) {
    const offline = watcher.seen("presence:changed").filter(({ status }) => status === "offline");
    const of = (prefix) => offline.filter(({ userId }) => userId.startsWith(prefix));
    assert.equal(of("ghost").length, 1, "once");
    assert.deepEqual(of("kill-"), [], "who came back elsewhere in time was never away");
    const left = watcher.seen("user:left").map(({ userId }) => userId);
    assert.deepEqual(left, ["ghost"], "nor out of the room");
  }
  const survivors = cluster.nodes.filter((_, n) => n !== killed);
  for (const { url } of survivors) {
    const answer = await request(`${url}/api/v1/presence/ghost`);
    assert.equal(answer.json().status, "offline");
    const { members, missingNodes } = (await request(`${url}/api/v1/rooms/kill/members`)).json();
    assert.deepEqual(
      members.map(({ userId, sockets }) => [userId, sockets]),
      users.map(({ name }) => [name, 1]),
    );
    assert.equal(missingNodes, undefined, "who is dead is not missed");
  }

  for (const client of users) {
    await until(10_000, `${client.name} to have everything`, () => {
      return new Set(contentsOf(client, "kill")).size === sent.length;
    });
    const heard = contentsOf(client, "kill");
    assert.deepEqual(heard.toSorted(), sent.toSorted(), "each once");
    assert.deepEqual(heard, contentsOf(watchers[0], "kill"), "in the order of the others");
  }

  const [{ url }] = survivors;
  for (const id of orders.keys()) {
    await until(ORDER_MS, `order ${id} to be completed`, async () => {
      return (await request(`${url}/api/orders/${id}`)).json().status === "completed";
    });
    const completed = updates.filter(({ orderId, status }) => orderId === id && status === "completed");
    assert.ok(completed.length <= 1, "it turned completed once");
  }

  await cluster.startAgain(killed);
});

test("a rolling restart under chat loses nothing", async () => {
  const users = [];
  for (let n = 0; n < 3; n += 1) {
    const client = await roaming(`roll-${n}`);
    client.name = `roll-${n}`;
    users.push(client);
    await client.join("roll");
  }
  const talkers = users.map((client) => new Talker(client, "roll"));
  for (let number = 0; number < 3; number += 1) {
    await until(10_000, "everybody to talk", () => talkers.every((t) => t.client.socket.connected));
    await cluster.restart(number);
  }
  for (const client of users) {
    await until(RECONNECT_MS, `${client.name} to be there`, () => client.socket.connected);
  }
  const sent = (await Promise.all(talkers.map((talker) => talker.stop()))).flat();
  for (const client of users) {
    await until(10_000, `${client.name} to have everything`, () => {
      return new Set(contentsOf(client, "roll")).size === sent.length;
    });
    assert.deepEqual(contentsOf(client, "roll").toSorted(), sent.toSorted(), "each once");
    assert.deepEqual(contentsOf(client, "roll"), contentsOf(users[0], "roll"));
    assert.ok(client.seen("disconnect").length >= 1, "its node was restarted");
    assert.equal(client.socket.recovered, true);
  }
});
