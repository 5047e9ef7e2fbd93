// A connection that begins with polling and goes on over a WebSocket.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Client, MODES, closeClients, connect } from "./client.mjs";
import { within } from "./deadline.mjs";
import { startServer } from "./server.mjs";
import { slowUpgrades } from "./slow_upgrade.mjs";
import { mintToken } from "./token.mjs";

let server;

before(async () => {
  server = await startServer();
});

after(() => server?.stop());

const [MESSAGES_MIN, MESSAGES_AFTER_UPGRADE, BURST, IN_FLIGHT_MAX] = [200, 50, 10, 50];

// Sends while a connection upgrades, which it does `afterMs`, and checks that nothing is lost, repeated or
// reordered.
async function talkThroughUpgrade(network, roomId, afterMs) {
  const token = (name) => mintToken(server.dataDir, `${name}-${roomId}`);
  const listener = await connect(server.url, { token: await token("listener"), ...MODES.websocket });
  await listener.join(roomId);

  const sender = new Client(network.url, { token: await token("sender"), ...MODES.upgrade });
  let isUpgraded = false;
  const upgraded = new Promise((resolve) => {
    sender.socket.io.once("open", () => sender.socket.io.engine.once("upgrade", resolve));
  }).then(() => (isUpgraded = true));
  await sender.next("connect");
  assert.equal(sender.transport, "polling", "the first messages go over polling");
  setTimeout(network.release, afterMs);
  const joined = sender.join(roomId);

  const acks = [];
  let left = MESSAGES_AFTER_UPGRADE;
  while (acks.length < MESSAGES_MIN || left > 0) {
    for (let n = 0; n < BURST; n += 1) {
      acks.push(sender.call("message:send", { roomId, content: `${acks.length}` }));
    }
    if (isUpgraded) left -= BURST;
    await acks[acks.length - IN_FLIGHT_MAX];
    // Without it a server that never upgrades would keep the loop alive for ever.
    if (acks.length > 100 * MESSAGES_MIN) break;
  }
  await within(5_000, "the upgrade", upgraded);
  assert.equal(sender.transport, "websocket");
  await joined;

  const ids = (await Promise.all(acks)).map(({ id }) => id);
  const last = `${acks.length - 1}`;
  for (const client of [sender, listener]) {
    await client.next("message:new", ({ content }) => content === last);
    const heard = client.seen("message:new");
    assert.deepEqual(
      heard.map(({ content }) => content),
      ids.map((_, n) => `${n}`),
    );
    assert.deepEqual(
      heard.map(({ id }) => id),
      ids,
    );
  }
}

for (const afterMs of [0, 10, 20, 30, 40]) {
  test(`loses, repeats and reorders no message (after ${afterMs} ms)`, async () => {
    const network = await slowUpgrades(server.url);
    try {
      await talkThroughUpgrade(network, `upgrading-${afterMs}`, afterMs);
    } finally {
      closeClients();
      network.close();
    }
  });
}
