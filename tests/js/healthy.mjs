// Two well-behaved users who talk while something else happens to their server.

import assert from "node:assert/strict";

import { MODES, connect } from "./client.mjs";
import { request } from "./request.mjs";
import { mintToken } from "./token.mjs";

// Far more than a message takes, far less than a stall.
const NOTICED_MS = 3_000;

let pairs = 0;

/**
 * Hands back what `attack` does, while two users talk. They must miss nothing and wait for nothing, and
 * the server must be the same process afterwards.
 */
export async function undisturbed(server, attack) {
  pairs += 1;
  const roomId = `healthy-${pairs}`;
  const enter = async (name, mode) => {
    const token = await mintToken(server.dataDir, `${name}-${pairs}`);
    const client = await connect(server.url, { token, ...MODES[mode] });
    await client.join(roomId);
    return client;
  };
  const [ada, bob] = [await enter("ada", "websocket"), await enter("bob", "polling")];

  const sent = [];
  let slowestMs = 0;
  const exchange = async () => {
    const begun = performance.now();
    const ack = await ada.call("message:send", { roomId, content: `${sent.length}` });
    assert.equal(ack.error, undefined);
    sent.push(ack.id);
    await bob.next("message:new", ({ id }) => id === ack.id);
    slowestMs = Math.max(slowestMs, performance.now() - begun);
  };

  let isOver = false;
  const talk = (async () => {
    while (!isOver) await exchange();
    await exchange();
  })();
  // Told by the await below, also when the attack ends first with an error of its own.
  talk.catch(() => {});
  try {
    return await attack();
  } finally {
    isOver = true;
    await talk;
    for (const client of [ada, bob]) {
      assert.deepEqual(
        client.seen("message:new").map(({ id }) => id),
        sent,
        "a healthy client missed messages",
      );
      assert.deepEqual(client.seen("disconnect"), [], "a healthy client was disconnected");
      assert.deepEqual(client.seen("error"), []);
      client.close();
    }
    assert.ok(slowestMs < NOTICED_MS, `a message took ${slowestMs} ms`);
    process.kill(server.pid, 0);
    const health = await request(`${server.url}/health`);
    assert.equal(health.status, 200, health.text);
  }
}
