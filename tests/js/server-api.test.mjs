// The server API as a back end uses it: sockets of stock clients, and each answer held against the schema
// that /api/v1/openapi.json gives for it.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { Validator } from "@seriousme/openapi-schema-validator";

import { closeClients, connect } from "./client.mjs";
import { until } from "./deadline.mjs";
import { describedApi } from "./openapi.mjs";
import { request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

let server;
let document;
let call;

before(async () => {
  server = await startServer();
  ({ document, call } = await describedApi(server.url));
});

after(async () => {
  assert.equal(await server.stop(), 0, server.stderr);
});

afterEach(closeClients);

/** A user's connected client. */
async function enter(user, username = user) {
  const token = await mintToken(server.dataDir, user, { username });
  return connect(server.url, { token, transports: ["websocket"] });
}

test("the document is OpenAPI", async () => {
  const { valid, errors } = await new Validator().validate(structuredClone(document));
  assert.ok(valid, JSON.stringify(errors));
});

test("an event reaches a room, a user or everybody, and the answer counts their sockets", async () => {
  const [ada, bob] = [await enter("ada"), await enter("bob")];
  await ada.join("general");
  const emit = (audience, payload) =>
    call("emit", { body: { audience, event: "news", payload } });
  assert.deepEqual(await emit({ room: "general" }, "to the room"), { sockets: 1 });
  assert.deepEqual(await emit({ user: "bob" }, { to: "bob" }), { sockets: 1 });
  assert.deepEqual(await emit("all", [1, null]), { sockets: 2 });
  assert.deepEqual(await emit({ room: "nobody" }, 1), { sockets: 0 });
  assert.deepEqual(await emit({ user: "nobody" }, 1), { sockets: 0 });
  await ada.next("news", (payload) => Array.isArray(payload));
  await bob.next("news", (payload) => Array.isArray(payload));
  // Nothing but what was meant for them came before.
  assert.deepEqual(ada.seen("news"), ["to the room", [1, null]]);
  assert.deepEqual(bob.seen("news"), [{ to: "bob" }, [1, null]]);
});

test("an event that no client could tell from Socket.IO's own is refused by name", async () => {
  const body = { audience: "all", event: "disconnect", payload: 1 };
  const answer = await request(`${server.url}/api/v1/emit`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 400);
  assert.equal(answer.json().field, "event");
  const unnamed = { audience: { city: "Rome" }, event: "x", payload: 1 };
  assert.equal((await call("emit", { body: unnamed, status: 400 })).field, "audience");
});

test("members and history of a room are as its members see them", async () => {
  const ada = await enter("ada", "Ada");
  const again = await enter("ada", "Ada");
  const bob = await enter("bob", "Bob");
  for (const client of [ada, again, bob]) await client.join("lounge");
  for (const content of ["one", "two", "three"]) {
    await ada.call("message:send", { roomId: "lounge", content });
  }
  const members = await call("roomMembers", { path: { room: "lounge" } });
  assert.deepEqual(members, {
    roomId: "lounge",
    members: [
      { userId: "ada", username: "Ada", sockets: 2 },
      { userId: "bob", username: "Bob", sockets: 1 },
    ],
    more: false,
  });
  const page = await call("roomMembers", { path: { room: "lounge" }, query: { limit: 1 } });
  assert.equal(page.more, true);
  assert.equal(page.members.length, 1);
  const rest = { path: { room: "lounge" }, query: { limit: 1, after: page.members[0].userId } };
  assert.deepEqual((await call("roomMembers", rest)).members, [members.members[1]]);

  const history = await call("roomHistory", { path: { room: "lounge" }, query: { count: 2 } });
  const contents = history.messages.map(({ content }) => content);
  assert.deepEqual(contents, ["three", "two"]);
  assert.deepEqual(history.messages[0], ada.seen("message:new")[2]);
  // Nobody has to be there.
  for (const client of [ada, again, bob]) client.close();
  await until(5_000, "the room to be empty", async () => {
    return (await call("roomMembers", { path: { room: "lounge" } })).members.length === 0;
  });
  const alone = await call("roomHistory", { path: { room: "lounge" } });
  assert.equal(alone.messages.length, 3);
  assert.deepEqual((await call("roomHistory", { path: { room: "never" } })).messages, []);
});

test("presence is what the others see", async () => {
  const ada = await enter("ada");
  await ada.call("presence:update", "away");
  const presence = { userId: "ada", status: "away", sockets: 1 };
  assert.deepEqual(await call("getPresence", { path: { user: "ada" } }), presence);
  const { users } = await call("listPresence");
  assert.deepEqual(users.find(({ userId }) => userId === "ada"), presence);
  const nobody = { userId: "nobody", status: "offline", sockets: 0 };
  assert.deepEqual(await call("getPresence", { path: { user: "nobody" } }), nobody);
});

test("a user is disconnected, and only that user", async () => {
  const [ada, again, bob] = [await enter("ada"), await enter("ada"), await enter("bob")];
  assert.deepEqual(await call("disconnectUser", { path: { user: "ada" } }), { sockets: 2 });
  for (const client of [ada, again]) {
    assert.equal(await client.next("disconnect"), "io server disconnect");
    assert.equal(client.socket.active, false, "a stock client does not come back by itself");
  }
  await bob.next("presence:changed", ({ userId, status }) => userId === "ada" && status === "offline");
  assert.deepEqual(await call("disconnectUser", { path: { user: "ada" } }), { sockets: 0 });
  assert.ok(bob.socket.connected);
});

test("a user who polls is disconnected while a poll waits", async () => {
  const token = await mintToken(server.dataDir, "ada", { username: "ada" });
  const client = await connect(server.url, { token, transports: ["polling"] });
  assert.deepEqual(await call("disconnectUser", { path: { user: "ada" } }), { sockets: 1 });
  assert.equal(await client.next("disconnect"), "io server disconnect");
  assert.equal(client.socket.active, false, "a stock client does not come back by itself");
});

test("a user who polls is disconnected between two polls as well", async () => {
  const token = await mintToken(server.dataDir, "ada", { username: "ada" });
  const client = await connect(server.url, { token, transports: ["polling"] });
  // Held back until the server has closed the session: nobody polls then.
  const { transport } = client.socket.io.engine;
  const between = new Promise((resolve) => {
    transport.doPoll = () => resolve();
  });
  // Its answer ends the poll that waits.
  client.socket.emit("presence:update", "away", () => {});
  await between;
  assert.deepEqual(await call("disconnectUser", { path: { user: "ada" } }), { sockets: 1 });
  await until(5_000, "the end of the presence", async () => {
    const { status } = await call("getPresence", { path: { user: "ada" } });
    return status === "offline";
  });
  delete transport.doPoll;
  transport.doPoll();
  assert.equal(await client.next("disconnect"), "io server disconnect");
  assert.equal(client.socket.active, false, "a stock client does not come back by itself");
});

test("queues and their messages are as the document says", async () => {
  const queue = await call("listQueues", { query: { limit: 1 } });
  assert.equal(queue.queues.length, 1);
  const body = { exchange: "", routingKey: "nowhere", body: "x", properties: { priority: 3 } };
  assert.deepEqual(await call("publish", { body }), { routed: false });
  await call("getQueue", { path: { queue: "nowhere" }, status: 404 });
  await call("peek", { path: { queue: queue.queues[0].name } });
  await call("groups", { path: { queue: queue.queues[0].name } });
  await call("redriveProgress", { path: { queue: queue.queues[0].name }, status: 404 });
});
