// The program itself with stock clients of several versions, as it is by default: with recovery, of which the
// older ones know nothing. Each event that is kept brings its offset behind its argument.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { within } from "./deadline.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

const WAIT_MS = 5_000;
/** And whether they ask for what they missed, which began with 4.6. */
const VERSIONS = { "socket.io-client": true, "socket.io-client-4.7": true, "socket.io-client-4.5": false, "socket.io-client-4.0": false };

let server;
const open = [];

before(async () => {
  server = await startServer();
});

after(async () => {
  assert.equal(await server.stop(), 0, server.stderr);
});

afterEach(() => {
  for (const socket of open.splice(0)) socket.disconnect();
});

/** The arguments of the next such event. */
function next(socket, name) {
  return within(WAIT_MS, `the event ${name}`, new Promise((resolve) => {
    socket.once(name, (...args) => resolve(args));
  }));
}

/** Emits, and hands back what the acknowledgement carries; older clients have no `emitWithAck`. */
function call(socket, name, payload) {
  return within(WAIT_MS, `the acknowledgement of ${name}`, new Promise((resolve) => {
    socket.emit(name, payload, resolve);
  }));
}

for (const [version, asks] of Object.entries(VERSIONS)) {
  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
    const kind = `${version}, ${transports.join(" then ")}`;
    describe(kind, async () => {
      const { io } = await import(version);
      const roomId = kind.replaceAll(/\W+/g, "-");

      async function enter(user) {
        const token = await mintToken(server.dataDir, user, { username: user });
        const socket = io(server.url, { forceNew: true, auth: { token }, transports, reconnectionDelay: 10 });
        open.push(socket);
        await next(socket, "connect");
        return socket;
      }

      async function join(socket) {
        const history = next(socket, "room:history");
        assert.deepEqual(await call(socket, "join:room", roomId), { ok: true, roomId });
        const [{ messages }] = await history;
        return messages.map(({ content }) => content);
      }

      test("two users meet in a room and talk", async () => {
        const [ada, bob] = [await enter("ada"), await enter("bob")];
        assert.deepEqual(await join(ada), []);
        const joined = next(ada, "user:joined");
        assert.deepEqual(await join(bob), []);
        assert.deepEqual((await joined)[0], { userId: "bob", username: "bob" });

        const arrived = next(bob, "message:new");
        const ack = await call(ada, "message:send", { roomId, content: "hello" });
        const [message, offset, ...more] = await arrived;
        assert.deepEqual([message.id, message.content, message.userId], [ack.id, "hello", "ada"]);
        assert.match(offset, /^[0-9a-f]{16}-\d+$/);
        assert.deepEqual(more, []);

        const typing = next(bob, "typing:user");
        assert.equal((await call(ada, "typing:start", roomId)).ok, true);
        assert.deepEqual(await typing, [{ userId: "ada", username: "ada" }]);

        // Its network is gone, and back.
        const back = next(bob, "connect");
        const before = bob.id;
        bob.io.engine.close();
        await back;
        assert.deepEqual([bob.id === before, bob.recovered ?? false], [asks, asks]);
        if (!asks) assert.deepEqual(await join(bob), ["hello"]);
        const again = next(bob, "message:new");
        await call(ada, "message:send", { roomId, content: "again" });
        assert.equal((await again)[0].content, "again");
      });
    });
  }
}
