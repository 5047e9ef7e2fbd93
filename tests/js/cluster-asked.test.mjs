// What the server API of one process tells of the sockets of all, and whose session is whose.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { MODES, closeClients, connect } from "./client.mjs";
import { LEASE_MS, startCluster, tokenOf } from "./cluster.mjs";
import { until } from "./deadline.mjs";
import { post, request } from "./request.mjs";
import { halt } from "./server.mjs";

let cluster;

before(async () => {
  cluster = await startCluster(2);
});

afterEach(closeClients);
after(() => cluster?.stop());

const get = async (url, path) => (await request(`${url}/api/v1${path}`)).json();

/** A socket of one user on each node, in the room, and one more user on the second. */
async function enter(room) {
  const [one, two] = cluster.nodes.map(({ url }) => url);
  const clients = [];
  for (const [url, user] of [
    [one, "ada"],
    [two, "ada"],
    [two, "bob"],
  ]) {
    const client = await connect(url, { token: tokenOf(user), ...MODES.websocket });
    await client.join(room);
    clients.push(client);
  }
  return clients;
}

test("each node tells of the members, the presence and the counts of all", async () => {
  const clients = await enter("told");
  await clients[2].call("presence:update", "away");
  for (const { url } of cluster.nodes) {
    assert.deepEqual(await get(url, "/rooms/told/members"), {
      roomId: "told",
      members: [
        { userId: "ada", username: "ada", sockets: 2 },
        { userId: "bob", username: "bob", sockets: 1 },
      ],
      more: false,
    });
    assert.deepEqual((await get(url, "/rooms/told/members?limit=1")).more, true);
    assert.deepEqual(await get(url, "/presence/bob"), { userId: "bob", status: "away", sockets: 1 });
    const emitted = { audience: { room: "told" }, event: "news", payload: 1 };
    assert.deepEqual((await post(`${url}/api/v1/emit`, emitted)).json(), { sockets: 3 });
  }
  for (const client of clients) {
    await client.next("news");
    await client.next("news");
  }
  const [{ url }] = cluster.nodes;
  const gone = await request(`${url}/api/v1/users/ada/sockets`, { method: "DELETE" });
  assert.deepEqual(gone.json(), { sockets: 2 });
  for (const client of clients.slice(0, 2)) await client.next("disconnect");
});

test("a node that is stopped is told apart from one without sockets, until its lease has ended", async () => {
  const [one, two] = cluster.nodes;
  await enter("halted");
  await halt(two.pid);
  try {
    // At once: each waits a second for the other node, and its lease has three.
    const [{ members, missingNodes }, presence] = await Promise.all(
      ["/rooms/halted/members", "/presence"].map((path) => get(one.url, path)),
    );
    assert.deepEqual(members, [{ userId: "ada", username: "ada", sockets: 1 }]);
    assert.equal(missingNodes, 1);
    assert.equal(presence.missingNodes, 1);
    await until(LEASE_MS + 5_000, "the lease to end", async () => {
      return (await get(one.url, "/rooms/halted/members")).missingNodes === undefined;
    });
  } finally {
    process.kill(two.pid, "SIGCONT");
  }
  // It is back with what it had.
  await until(LEASE_MS + 5_000, "all to be there again", async () => {
    const { members, missingNodes } = await get(one.url, "/rooms/halted/members");
    return missingNodes === undefined && members.length === 2 && members[0].sockets === 2;
  });
});

test("who names another's session on another node gets one of its own, and throws nobody out", async () => {
  const [one, two] = cluster.nodes.map(({ url }) => url);
  const client = await connect(one, { token: tokenOf("ada"), ...MODES.websocket });
  await client.join("mine");
  const { id } = await client.call("message:send", { roomId: "mine", content: "hi" });
  await client.next("message:new", (message) => message.id === id);
  const { _pid: pid, _lastOffset: offset } = client.socket;
  const copy = await connect(two, {
    auth: { token: tokenOf("ada"), pid, offset },
    ...MODES.websocket,
  });
  assert.notEqual(copy.id, client.id);
  assert.equal(copy.socket.recovered, false);
  await client.call("message:send", { roomId: "mine", content: "still there" });
  assert.deepEqual(client.seen("disconnect"), []);
});
