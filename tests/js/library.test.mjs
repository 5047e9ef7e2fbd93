// The Rust library as tests/examples/axum.rs uses it, with stock clients of several versions and both parsers.
// Each test holds for Socket.IO's own server too, so neither is bent to the other.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, afterEach, before, describe, test } from "node:test";

import msgpack from "socket.io-msgpack-parser";

import { within } from "./deadline.mjs";
import { request } from "./request.mjs";
import { BINARY } from "./server.mjs";
import { startStockServer } from "./stock_server.mjs";

const WAIT_MS = 5_000;
const EXAMPLE = path.join(path.dirname(BINARY), "examples", "axum");

/** examples/axum.rs; it takes clients of either parser. An address may have so many sockets. */
async function startExample(_parser, sockets = []) {
  const child = spawn(EXAMPLE, ["127.0.0.1:0", ...sockets], { stdio: ["ignore", "pipe", "inherit"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const [line] = await within(WAIT_MS, "the example", once(createInterface(child.stdout), "line"));
  const stop = async () => {
    kill();
    process.removeListener("exit", kill);
  };
  return { url: line.replace(/^http\s+/, ""), stop };
}

const VERSIONS = ["socket.io-client", "socket.io-client-4.7", "socket.io-client-4.5", "socket.io-client-4.0"];
const modules = new Map();
for (const name of VERSIONS) modules.set(name, await import(name));

const SERVERS = {
  "the library": startExample,
  "the stock server": startStockServer,
};
const CLIENTS = [
  ...VERSIONS.map((version) => ({ version, transports: ["websocket"] })),
  { version: VERSIONS[0], transports: ["polling"] },
  { version: VERSIONS[0], transports: ["polling", "websocket"] },
  { version: VERSIONS[0], transports: ["websocket"], parser: msgpack },
  { version: VERSIONS[0], transports: ["polling"], parser: msgpack },
  { version: VERSIONS[2], transports: ["polling", "websocket"], parser: msgpack },
];

const open = [];

afterEach(() => {
  for (const socket of open.splice(0)) socket.disconnect();
});

/** The arguments of the next such event. */
function next(socket, name) {
  return within(WAIT_MS, `the event ${name}`, new Promise((resolve) => {
    socket.once(name, (...args) => resolve(args));
  }));
}

/**
 * Why the socket of this id left, and from which rooms, once `socket` is told. The sockets of the test before
 * may leave as late as now: one that is upgrading says so afterwards.
 */
function departure(socket, id) {
  return within(WAIT_MS, `the departure of ${id}`, new Promise((resolve) => {
    socket.on("left", function told(who, ...left) {
      if (who !== id) return;
      socket.off("left", told);
      resolve(left);
    });
  }));
}

/** Emits, and hands back the arguments of the acknowledgement. */
function call(socket, name, ...args) {
  return within(WAIT_MS, `the acknowledgement of ${name}`, new Promise((resolve) => {
    socket.emit(name, ...args, (...answer) => resolve(answer));
  }));
}

/** Everything `socket` hears under `name` because of `during`. */
async function heard(socket, name, during) {
  // What was sent to it before comes before.
  await call(socket, "echo", 1, 2);
  const seen = [];
  const note = (...args) => seen.push(args);
  socket.on(name, note);
  await during();
  await call(socket, "echo", 1, 2);
  socket.off(name, note);
  return seen;
}

for (const [name, start] of Object.entries(SERVERS)) {
  for (const { version, transports, parser } of CLIENTS) {
    const kind = `${version}, ${transports.join(" then ")}${parser ? ", MessagePack" : ""}`;
    describe(`${name} with ${kind}`, () => {
      const { io } = modules.get(version);
      let server;

      before(async () => {
        server = await start(parser);
      });
      after(() => server?.stop());

      function client(namespace = "/", auth = {}, options = {}) {
        const socket = io(server.url + namespace, {
          transports, parser, auth, forceNew: true, reconnectionDelay: 50, ...options,
        });
        open.push(socket);
        return socket;
      }

      /** A client that was let in, with its id. */
      async function enter() {
        const socket = client();
        const [id, namespace] = await next(socket, "welcome");
        assert.equal(id, socket.id);
        assert.equal(namespace, "/");
        return socket;
      }

      test("arguments and acknowledgements are what was sent", async () => {
        const socket = await enter();
        const values = [
          ["é\u0000\u2028", { a: [1, -1.5, null, true], "": {} }],
          [[], 2 ** 53 - 1],
          [-(2 ** 31) - 1, { _placeholder: true, num: 0 }],
          ["x".repeat(70_000), Array.from({ length: 300 }, (_, at) => at * 300)],
        ];
        for (const [first, second] of values) {
          assert.deepEqual(await call(socket, "echo", first, second), [first, second]);
        }
      });

      test("binary data goes both ways, at any depth", async () => {
        const socket = await enter();
        const bytes = Uint8Array.from({ length: 1000 }, (_, at) => at).buffer;
        const parts = [Uint8Array.of(1).buffer, new ArrayBuffer(0), Uint8Array.of(2, 3).buffer];
        const uploaded = next(socket, "uploaded");
        const [length, back] = await call(socket, "upload", bytes, { name: "é", parts });
        assert.equal(length, 1000);
        const plain = (data) => [...new Uint8Array(data)];
        assert.deepEqual(plain(back), plain(bytes));
        const [again, upload] = await uploaded;
        assert.deepEqual(plain(again), plain(bytes));
        assert.equal(upload.name, "é");
        assert.deepEqual(upload.parts.map(plain), [[1], [], [2, 3]]);
      });

      test("rooms, the rest of them, and everybody", async () => {
        const [ada, bob, eve] = [await enter(), await enter(), await enter()];
        for (const socket of [ada, bob, eve]) await call(socket, "join", "one");
        await call(eve, "join", "two");
        assert.deepEqual((await call(ada, "members", "one"))[0], [ada.id, bob.id, eve.id].sort());
        assert.deepEqual((await call(ada, "members", eve.id))[0], [eve.id]);

        const say = (...args) => async () => {
          ada.emit(...args);
          await call(ada, "echo", 1, 2);
        };
        assert.deepEqual(await heard(bob, "said", say("say", "one", null, "a")), [["a", ada.id]]);
        assert.deepEqual(await heard(ada, "said", say("say", "one", null, "b")), []);
        assert.deepEqual(await heard(eve, "said", say("say", "one", "two", "c")), []);
        assert.deepEqual(await heard(bob, "said", say("say", bob.id, null, "d")), [["d", ada.id]]);
        assert.deepEqual(await heard(eve, "said", say("say to two", "one", "two", "e")), [["e"]]);
        assert.deepEqual(await heard(ada, "said", say("say to all", "f")), [["f"]]);

        await call(bob, "leave", "one");
        assert.deepEqual(await heard(bob, "said", say("say", "one", null, "g")), []);
        await call(ada, "move", "one", "three");
        assert.deepEqual((await call(ada, "members", "one"))[0], []);
        assert.deepEqual((await call(ada, "members", "three"))[0], [ada.id, eve.id].sort());
      });

      test("the server asks, and somebody answers or nobody does", async () => {
        const [ada, bob, eve] = [await enter(), await enter(), await enter()];
        ada.once("question", (how, much, answer) => answer({ [how]: much }));
        assert.deepEqual(await call(ada, "ask me", 5_000), [{ how: "much" }]);
        const [late] = await call(ada, "ask me", 20);
        assert.ok(late.error.length > 0);

        for (const socket of [ada, bob, eve]) await call(socket, "join", "asked");
        bob.once("question", (answer) => answer("bob"));
        assert.deepEqual(await call(ada, "ask room", "asked"), [["bob"], 1]);
      });

      // One connection, two namespaces.
      const multiplexed = async () => {
        const root = client("/", {}, { forceNew: false, multiplex: true });
        await next(root, "welcome");
        const second = root.io.socket("/private", { auth: { name: "bob" } });
        open.push(second);
        await next(second, "connect");
        return [root, second];
      };

      test("a namespace is refused with its reason, and another is let in beside it", async () => {
        const refused = client("/private");
        const [error] = await next(refused, "connect_error");
        assert.equal(error.message, "who are you?");
        assert.deepEqual(error.data, { code: 7 });
        refused.auth = { name: "ada" };
        refused.connect();
        await next(refused, "connect");
        assert.deepEqual(await call(refused, "who am I"), ["ada"]);

        const [unknown] = await next(client("/nowhere"), "connect_error");
        assert.equal(unknown.message, "Invalid namespace");

        const [root, second] = await multiplexed();
        assert.notEqual(second.id, root.id);
        assert.deepEqual(await call(second, "who am I"), ["bob"]);
        second.disconnect();
        assert.deepEqual(await call(root, "echo", 1, 2), [1, 2]);
      });

      test("who is disconnected from the whole stays away from each namespace", async () => {
        const [root, second] = await multiplexed();
        const whys = Promise.all([root, second].map((socket) => next(socket, "disconnect")));
        root.emit("end me");
        for (const [why] of await whys) assert.equal(why, "io server disconnect");
        assert.deepEqual([root.active, second.active], [false, false]);
      });

      test("who leaves is told of with the reason and the rooms", async () => {
        const [ada, bob, eve] = [await enter(), await enter(), await enter()];
        await call(bob, "join", "one");
        let left = departure(ada, bob.id);
        bob.disconnect();
        assert.deepEqual(await left, ["client namespace disconnect", ["one"]]);

        left = departure(ada, eve.id);
        let why = next(eve, "disconnect");
        eve.emit("leave me");
        assert.deepEqual(await left, ["server namespace disconnect", []]);
        assert.equal((await why)[0], "io server disconnect");

        const cut = await enter();
        // The stock server leaves a client that is upgrading waiting for its ping.
        const { engine } = cut.io;
        if (transports.length > 1 && engine.transport.name === "polling") {
          await within(WAIT_MS, "the upgrade", new Promise((done) => engine.once("upgrade", done)));
        }
        [left, why] = [departure(ada, cut.id), next(cut, "disconnect")];
        const back = next(cut, "connect");
        cut.emit("cut me");
        assert.match((await left)[0], /forced server close|forced close|transport close/);
        assert.equal((await why)[0], "transport close");
        await back;
      });
    });
  }
}

test("in a program's own router the other routes answer, and an address has so many sockets", async () => {
  const { url, stop } = await startExample(undefined, ["2"]);
  try {
    const hello = await request(`${url}/hello`);
    assert.deepEqual([hello.status, hello.text], [200, "hello"]);
    const open = async () => (await request(`${url}/socket.io/?EIO=4&transport=polling`)).status;
    assert.deepEqual([await open(), await open(), await open()], [200, 200, 429]);
  } finally {
    await stop();
  }
});
