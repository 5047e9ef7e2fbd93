// A planned restart: the server drains, and clients come back by themselves.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";

import { MODES, closeClients, compareOffsets, connect } from "./client.mjs";
import { until, within } from "./deadline.mjs";
import { post, request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

const DRAIN_MS_MAX = 5_000;
const STOP_MS = 30_000;
// The stock client tries again after 1 s, 2 s, 4 s and 5 s, each half as long or half as long again.
const RECONNECT_MS = 15_000;

let dataDir;
let server;

beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), "leveret-restart-"));
  server = await startServer({ dataDir, args: ["--demo"] });
});

afterEach(async () => {
  closeClients();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
});

/** Stops the server as a supervisor does; it must end by itself, clean and in time. */
async function drain() {
  const begun = performance.now();
  const code = await within(STOP_MS, "the drain", server.stop());
  const ms = performance.now() - begun;
  assert.equal(code, 0, server.stderr);
  assert.ok(ms < DRAIN_MS_MAX, `the drain took ${ms} ms`);
}

async function startAgain() {
  server = await startServer({ dataDir, args: ["--demo", "--http", new URL(server.url).host] });
}

for (const [mode, transport] of Object.entries(MODES)) {
  describe(`over ${mode}`, () => {
    const enter = async (name) => {
      const client = await connect(server.url, { token: await mintToken(dataDir, name), ...transport });
      await client.upgraded();
      return client;
    };

    test("a client reconnects by itself and finds the history whole", async () => {
      const [ada, bob] = [await enter("ada"), await enter("bob")];
      for (const client of [ada, bob]) await client.join("general");
      const contents = Array.from({ length: 20 }, (_, n) => `before ${n}`);
      const before = await Promise.all(
        contents.map((content) => ada.call("message:send", { roomId: "general", content })),
      );
      await bob.next("message:new", ({ content }) => content === contents.at(-1));

      await drain();
      for (const client of [ada, bob]) {
        await client.next("disconnect");
        // 'io server disconnect' would tell the client to stay away.
        const [reason] = client.seen("disconnect");
        assert.match(reason, /^transport (close|error)$/);
        assert.equal(client.socket.active, true, "it tries again");
      }

      await startAgain();
      for (const client of [ada, bob]) await client.next("connect", undefined, RECONNECT_MS);
      const { messages } = await ada.join("general");
      const ids = before.map(({ id }) => id).reverse();
      assert.deepEqual(
        messages.map(({ id }) => id),
        ids,
      );
      assert.deepEqual(
        messages.map(({ content }) => content),
        contents.toReversed(),
      );

      await bob.join("general");
      const after = await ada.call("message:send", { roomId: "general", content: "after" });
      assert.equal((await bob.next("message:new", ({ id }) => id === after.id)).content, "after");
      assert.equal(compareOffsets(before.at(-1).offset, after.offset), -1, "offsets go on rising");
    });

    test("what was acknowledged while the server drained is kept", async () => {
      const [ada, bob] = [await enter("ada"), await enter("bob")];
      for (const client of [ada, bob]) await client.join("general");
      const acknowledged = [];
      let sent = 0;
      const down = new Promise((resolve) => ada.socket.once("disconnect", resolve));
      const enough = new Promise((resolve) => {
        const send = () => {
          if (!ada.socket.connected || sent === 45) return;
          sent += 1;
          ada.socket.emit("message:send", { roomId: "general", content: `${sent}` }, (ack) => {
            if (ack.id !== undefined) acknowledged.push(ack);
            if (acknowledged.length === 5) resolve();
            send();
          });
        };
        for (let inFlight = 0; inFlight < 8; inFlight += 1) send();
      });
      await within(5_000, "the first acknowledgements", enough);
      await drain();
      await within(5_000, "the disconnect", down);

      await startAgain();
      const carol = await enter("carol");
      const kept = (await carol.join("general")).messages.map(({ id }) => id).reverse();
      assert.equal(new Set(kept).size, kept.length, "no duplicate");
      const ids = acknowledged
        .toSorted((a, b) => compareOffsets(a.offset, b.offset))
        .map(({ id }) => id);
      assert.deepEqual(
        kept.filter((id) => ids.includes(id)),
        ids,
      );
      const heard = bob.seen("message:new").map(({ id }) => id);
      assert.deepEqual(kept.slice(0, heard.length), heard, "what was heard is the log");
    });
  });
}

test("a drain waits for nobody who is idle", async () => {
  const { hostname, port } = new URL(server.url);
  const idle = [];
  for (const head of [
    "",
    "GET /health HT",
    "POST /api/orders HTTP/1.1\r\ncontent-length: 9\r\n\r\n{",
  ]) {
    const socket = net.connect(Number(port), hostname);
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("connect", resolve));
    socket.write(head);
    idle.push(socket);
  }
  assert.equal((await request(`${server.url}/health`)).status, 200);
  const begun = performance.now();
  const code = await within(STOP_MS, "the drain", server.stop());
  for (const socket of idle) socket.destroy();
  assert.equal(code, 0, server.stderr);
  // A request that is cut short may be given ten seconds to end.
  assert.ok(performance.now() - begun < 12_000);
});

test("orders, dead letters and tokens outlive a restart", async () => {
  const place = async (total) => {
    const answer = await post(`${server.url}/api/orders`, {
      userId: "ada",
      items: ["hare"],
      total,
    });
    assert.equal(answer.status, 201, answer.text);
    return answer.json().orderId;
  };
  const token = await mintToken(dataDir, "ada");
  const ada = await connect(server.url, { token });
  await ada.upgraded();
  const good = await place(12.5);
  await ada.next("notification", ({ orderId }) => orderId === good);
  const failing = await place(-1);
  await drain();
  await startAgain();

  const order = (await request(`${server.url}/api/orders/${good}`)).json();
  assert.equal(order.status, "completed");
  await ada.next("connect", undefined, RECONNECT_MS);

  // Its state is written first, and what reads it may be faster than its way to the dead letters.
  const messages = await until(15_000, "the failing order to be given up", async () => {
    const { messages } = (await request(`${server.url}/api/demo/dead-letters`)).json();
    return messages.length > 0 && messages;
  });
  const { status, error } = (await request(`${server.url}/api/orders/${failing}`)).json();
  assert.equal(status, "failed");
  assert.match(error, /negative/);
  assert.deepEqual(
    messages.map(({ orderId }) => orderId),
    [failing],
  );
});
