// The application's events, with the stock client over each of its transports.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { Client, MODES, closeClients, compareOffsets, connect, connectError } from "./client.mjs";
import { elapse, until, within } from "./deadline.mjs";
import { sample } from "./metrics.mjs";
import { post } from "./request.mjs";
import { startServer } from "./server.mjs";
import { inSeconds, mintToken, signToken } from "./token.mjs";

const HISTORY_SHOWN = 50;

let server;

before(async () => {
  server = await startServer({ args: ["--demo"] });
});

after(async () => {
  assert.equal(await server.stop(), 0, server.stderr);
});

afterEach(closeClients);

/** Closes a client and waits until the server knows, which nobody else may be told. */
async function closeSilently(client) {
  const count = () => sample(server, "websocket_connections");
  const before = await count();
  client.close();
  await until(5_000, "the server to drop the socket", async () => (await count()) === before - 1);
}

for (const [mode, transport] of Object.entries(MODES)) {
  describe(`over ${mode}`, () => {
    // Names of their own for every transport, since all share one server.
    const named = (name) => `${name}-${mode}`;

    /** A connected client of a user; `name` is both the id and the username. */
    async function enter(name, { rooms = ["*"], username = name } = {}) {
      const token = await mintToken(server.dataDir, named(name), { username, rooms });
      const client = await connect(server.url, { token, ...transport });
      client.userId = named(name);
      return client;
    }

    /** Two users in one room, the later one's arrival told to the earlier one. */
    async function pair(roomId) {
      const [ada, bob] = [await enter("ada"), await enter("bob")];
      await ada.join(roomId);
      await bob.join(roomId);
      await ada.next("user:joined", (user) => user.userId === bob.userId);
      return [ada, bob];
    }

    test("a guest signs in and connects", async () => {
      const answer = await post(`${server.url}/api/demo/guest`, { username: "Ada" });
      assert.equal(answer.status, 200, answer.text);
      const guest = answer.json();
      assert.deepEqual(Object.keys(guest).sort(), ["token", "userId", "username"]);
      assert.equal(guest.username, "Ada");

      const client = await connect(server.url, { token: guest.token, ...transport });
      const history = await client.join(named("guests"));
      assert.deepEqual(history, { roomId: named("guests"), messages: [] });
      const ack = await client.call("message:send", { roomId: named("guests"), content: "hello" });
      const message = await client.next("message:new");
      assert.equal(message.id, ack.id);
      assert.equal(message.userId, guest.userId);
      assert.equal(message.username, "Ada");
    });

    test("a token that is missing, garbage, foreign or expired is refused", async () => {
      const claims = { sub: "mallory", username: "Mallory", rooms: ["*"], exp: inSeconds(3600) };
      const unsigned = `${signToken("", claims, { alg: "none" }).split(".").slice(0, 2).join(".")}.`;
      const valid = await mintToken(server.dataDir, "mallory");
      const [header, , signature] = valid.split(".");
      const raised = Buffer.from(JSON.stringify({ ...claims, sub: "admin" })).toString("base64url");
      const wrong = {
        "no auth at all": { auth: null },
        "an empty auth": { auth: {} },
        "a token that is null": { token: null },
        "a token that is a number": { token: 42 },
        "a token that is an object": { token: { token: valid } },
        "an empty token": { token: "" },
        garbage: { token: "garbage" },
        "dots only": { token: ".." },
        "another key": { token: signToken("another key of at least 32 bytes!", claims) },
        "no signature (alg none)": { token: unsigned },
        "claims that were changed": { token: `${header}.${raised}.${signature}` },
        "a cut signature": { token: valid.slice(0, -2) },
      };
      for (const [what, credentials] of Object.entries(wrong)) {
        const message = await connectError(server.url, { ...credentials, ...transport });
        assert.equal(message, "Authentication failed", what);
      }

      // What is wrong above is the token alone.
      const client = await connect(server.url, { token: valid, ...transport });
      assert.ok(client.socket.connected);
    });

    test("a token is refused from the moment at which it expires", async () => {
      const token = await mintToken(server.dataDir, named("eve"), { ttl: "1s" });
      const { exp } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
      const left = exp * 1000 - Date.now();
      assert.ok(left <= 1000, `a token for 1s lives ${left} ms`);
      await elapse(left + 100);
      const message = await connectError(server.url, { token, ...transport });
      assert.equal(message, "Authentication failed");
    });

    test("a client that was refused connects with a better token", async () => {
      const client = new Client(server.url, { token: "garbage", ...transport });
      const error = await client.next("connect_error");
      assert.equal(error.message, "Authentication failed");
      assert.equal(client.socket.active, false, "it must not try again by itself");
      client.socket.auth = { token: await mintToken(server.dataDir, named("ada")) };
      client.socket.connect();
      await client.next("connect");
    });

    test("half of an emoji arrives as the replacement character", async () => {
      const [ada, bob] = await pair(named("halves"));
      ada.socket.emit("cut\ud83d", "\ude00");
      await ada.call("message:send", { roomId: named("halves"), content: "cut \ud83d, whole 🐇" });
      const { content } = await bob.next("message:new");
      assert.equal(content, "cut \ufffd, whole 🐇");
    });

    test("two users meet in a room, talk and part", async () => {
      const roomId = named("general");
      const ada = await enter("ada", { username: "Ada Lovelace" });
      assert.deepEqual(await ada.join(roomId), { roomId, messages: [] });

      const bob = await enter("bob", { username: "Bob 🐇" });
      assert.deepEqual(await bob.join(roomId), { roomId, messages: [] });
      const joined = await ada.next("user:joined");
      assert.deepEqual(joined, { userId: bob.userId, username: "Bob 🐇" });

      const sentAt = Date.now();
      const ack = await ada.call("message:send", { roomId, content: "Hello, “Bob” 🐇\n<b>&</b>" });
      assert.equal(typeof ack.id, "string");
      assert.ok(ack.offset !== undefined && ack.error === undefined, JSON.stringify(ack));
      const message = await bob.next("message:new");
      assert.ok(Math.abs(message.timestamp - sentAt) < 10_000, `sent ${message.timestamp}`);
      assert.deepEqual(message, {
        id: ack.id,
        roomId,
        userId: ada.userId,
        username: "Ada Lovelace",
        content: "Hello, “Bob” 🐇\n<b>&</b>",
        type: "text",
        timestamp: message.timestamp,
      });
      assert.deepEqual(await ada.next("message:new"), message, "the sender gets it as well");

      const picture = await bob.call("message:send", {
        roomId,
        content: "hare.png",
        type: "image",
      });
      assert.equal((await ada.next("message:new")).type, "image");
      assert.equal(compareOffsets(ack.offset, picture.offset), -1, "offsets rise");

      const history = await bob.join(roomId);
      assert.deepEqual(
        history.messages.map(({ id }) => id),
        [picture.id, ack.id],
      );
      assert.deepEqual(history.messages[1], message, "history keeps what was sent");

      assert.equal((await bob.call("leave:room", roomId)).error, undefined);
      const left = await ada.next("user:left");
      assert.deepEqual(left, { userId: bob.userId, username: "Bob 🐇" });
      assert.equal(ada.seen("user:joined").length, 1, "joining again tells nobody");
      assert.equal(bob.seen("user:joined").length, 0, "a user is not told of itself");
      assert.match(await bob.refused("message:send", { roomId, content: "late" }), /not a member/i);

      await ada.call("message:send", { roomId, content: "alone" });
      await ada.next("message:new", ({ content }) => content === "alone");
      await bob.call("presence:update", "online");
      assert.ok(!bob.seen("message:new").some(({ content }) => content === "alone"));
    });

    test("a user joins with the first socket and leaves with the last", async () => {
      const roomId = named("devices");
      const ada = await enter("ada");
      await ada.join(roomId);
      const [phone, laptop] = [await enter("bob"), await enter("bob")];
      await phone.join(roomId);
      await ada.next("user:joined");
      await laptop.join(roomId);
      await ada.call("message:send", { roomId, content: "to both" });
      for (const device of [ada, phone, laptop]) await device.next("message:new");
      assert.equal(ada.seen("user:joined").length, 1);

      await closeSilently(phone);
      await laptop.call("message:send", { roomId, content: "still here" });
      await ada.next("message:new", ({ content }) => content === "still here");
      assert.equal(ada.seen("user:left").length, 0);
      laptop.close();
      assert.equal((await ada.next("user:left")).userId, named("bob"));
    });

    test("typing is told to the other members only", async () => {
      const roomId = named("typing");
      const [ada, bob] = await pair(roomId);
      const stranger = await enter("stranger");

      assert.equal((await ada.call("typing:start", roomId)).error, undefined);
      assert.deepEqual(await bob.next("typing:user"), { userId: ada.userId, username: "ada" });
      assert.equal((await ada.call("typing:stop", { roomId })).error, undefined);
      assert.deepEqual(await bob.next("typing:stop"), { userId: ada.userId });

      assert.match(await stranger.refused("typing:start", roomId), /not a member/i);
      assert.match(await stranger.refused("typing:stop", roomId), /not a member/i);
      // A connection is ordered: what comes next proves that nothing came before.
      await ada.call("message:send", { roomId, content: "done" });
      for (const client of [ada, bob]) await client.next("message:new");
      await stranger.call("presence:update", "online");
      assert.equal(bob.seen("typing:user").length, 1);
      for (const client of [ada, stranger]) {
        assert.deepEqual(client.seen("typing:user"), [], client.userId);
        assert.deepEqual(client.seen("typing:stop"), [], client.userId);
      }
    });

    test("presence follows the first and the last socket, and what a user says", async () => {
      const ada = await enter("ada");
      const ofCarol = ({ userId }) => userId === named("carol");
      const first = await enter("carol");
      assert.deepEqual(await ada.next("presence:changed", ofCarol), {
        userId: named("carol"),
        status: "online",
      });
      const second = await enter("carol");

      assert.equal((await first.call("presence:update", { status: "away" })).error, undefined);
      assert.deepEqual(await ada.next("presence:changed", ofCarol), {
        userId: named("carol"),
        status: "away",
      });
      await first.call("presence:update", "busy");
      assert.equal((await ada.next("presence:changed", ofCarol)).status, "busy");

      await closeSilently(first);
      await second.call("presence:update", "still-here");
      assert.equal((await ada.next("presence:changed", ofCarol)).status, "still-here");
      second.close();
      assert.equal((await ada.next("presence:changed", ofCarol)).status, "offline");

      const statuses = ada
        .seen("presence:changed")
        .filter(ofCarol)
        .map(({ status }) => status);
      assert.deepEqual(statuses, ["online", "away", "busy", "still-here", "offline"]);
    });

    test("what may not be sent is refused in words, and the connection stays", async () => {
      const roomId = named("errors");
      const [ada, bob] = await pair(roomId);
      for (const content of ["", "   ", "\n\t ", "\u00a0\u2003"]) {
        assert.equal(await ada.refused("message:send", { roomId, content }), "Empty message");
      }
      const elsewhere = { roomId: named("elsewhere"), content: "hello" };
      assert.match(await ada.refused("message:send", elsewhere), /not a member/i);
      assert.match(await ada.refused("no:such:event", {}), /unknown event.*no:such:event/i);
      const long = "x".repeat(70_000);
      assert.match(await ada.refused("message:send", { roomId, content: long }), /content/);

      await ada.call("message:send", { roomId, content: "fine" });
      assert.equal((await bob.next("message:new")).content, "fine");
      assert.deepEqual(bob.seen("error"), [], "errors are for their cause alone");
      assert.deepEqual(ada.seen("disconnect"), []);
    });

    test("rooms are for those whose token names them", async () => {
      const client = await enter("dora", { rooms: [named("team-*"), named("lobby")] });
      await client.join(named("lobby"));
      await client.join(named("team-1").replace("team-1", "team-one"));
      const denied = [named("general"), named("lobby-2"), `x${named("lobby")}`, named("TEAM-1")];
      for (const roomId of denied) {
        assert.equal(await client.refused("join:room", roomId), "Access denied to room", roomId);
        const message = { roomId, content: "hello" };
        const refusal = await client.refused("message:send", message);
        assert.match(refusal, /^Access denied to room$/, roomId);
      }
      assert.equal(client.seen("room:history").length, 2, "a refused room shows no history");

      const nobody = await enter("nobody", { rooms: [] });
      assert.equal(await nobody.refused("join:room", named("lobby")), "Access denied to room");
    });

    test("personal rooms and sockets are out of the clients’ reach", async () => {
      const [ada, bob] = await pair(named("personal"));
      const own = [`user:${ada.userId}`, ada.id];
      for (const roomId of [`user:${bob.userId}`, bob.id, ...own, "user:nobody"]) {
        assert.equal(await ada.refused("join:room", roomId), "Access denied to room", roomId);
        for (const name of ["message:send", "typing:start", "typing:stop"]) {
          const refusal = await ada.refused(name, { roomId, content: "psst" });
          assert.match(refusal, /access denied|not a member/i, `${name} ${roomId}`);
        }
        await ada.refused("leave:room", roomId);
      }
      await bob.call("presence:update", "online");
      for (const name of ["message:new", "typing:user", "typing:stop", "user:joined"]) {
        assert.deepEqual(bob.seen(name), [], name);
      }

      // Neither is the personal room left by an attempt to leave it.
      const order = { userId: ada.userId, items: [], total: 1 };
      const { orderId } = (await post(`${server.url}/api/orders`, order)).json();
      const notification = await ada.next("notification");
      assert.deepEqual(notification, { type: "order_completed", orderId, userId: ada.userId });
    });

    test("a payload of a wrong shape is refused with the name of the field", async () => {
      const roomId = named("payloads");
      const [ada, bob] = await pair(roomId);
      const wrong = [
        ["join:room", /roomId/],
        ["join:room", /roomId/, null],
        ["join:room", /roomId/, 7],
        ["join:room", /roomId/, ""],
        ["join:room", /roomId/, {}],
        ["join:room", /roomId/, { roomId: ["a"] }],
        ["join:room", /roomId/, "r".repeat(5000)],
        ["leave:room", /roomId/, { roomId: false }],
        ["message:send", /object/],
        ["message:send", /object/, "hello"],
        ["message:send", /roomId/, { content: "hello" }],
        ["message:send", /content/, { roomId }],
        ["message:send", /content/, { roomId, content: 5 }],
        ["message:send", /content/, { roomId, content: null }],
        ["message:send", /content/, { roomId, content: { text: "hello" } }],
        ["message:send", /type/, { roomId, content: "hello", type: 5 }],
        ["message:send", /type/, { roomId, content: "hello", type: "" }],
        ["message:send", /type/, { roomId, content: "hello", type: "t".repeat(1000) }],
        ["typing:start", /roomId/],
        ["typing:start", /roomId/, []],
        ["typing:stop", /roomId/, {}],
        ["presence:update", /status/],
        ["presence:update", /status/, ""],
        ["presence:update", /status/, { status: 3 }],
        ["presence:update", /status/, "a\u0007b"],
        ["presence:update", /status/, "s".repeat(33)],
      ];
      for (const [name, field, ...args] of wrong) {
        assert.match(await ada.refused(name, ...args), field, `${name} ${JSON.stringify(args)}`);
      }
      // Binary arguments, and names that are special to JavaScript.
      await ada.refused("message:send", Buffer.from("binary"));
      await ada.refused("message:send", { roomId, content: Buffer.from("binary") });
      await ada.refused("__proto__", { roomId });
      await ada.refused("constructor");

      await ada.call("message:send", { roomId, content: "fine" });
      assert.equal((await bob.next("message:new")).content, "fine");
      assert.equal(bob.seen("message:new").length, 1);
    });

    test("every event is acknowledged, and none needs to be", async () => {
      const roomId = named("acks");
      const [ada, bob] = await pair(roomId);
      const events = [
        ["join:room", roomId],
        ["join:room", { roomId }],
        ["typing:start", { roomId }],
        ["typing:stop", roomId],
        ["message:send", { roomId, content: "hello" }],
        ["presence:update", "away"],
        ["leave:room", { roomId }],
        ["leave:room", roomId],
        ["unknown", roomId],
      ];
      for (const [name, payload] of events) {
        const ack = await ada.call(name, payload);
        assert.ok(ack && typeof ack === "object", `${name}: ${JSON.stringify(ack)}`);
      }

      bob.socket.emit("message:send", { roomId, content: "no acknowledgement" });
      await bob.next("message:new", ({ content }) => content === "no acknowledgement");
      bob.socket.emit("message:send", { roomId, content: "" });
      assert.deepEqual(await bob.next("error"), { message: "Empty message" });
    });

    test("history is the newest fifty, newest first", async () => {
      const roomId = named("history");
      const ada = await enter("ada");
      await ada.join(roomId);
      const contents = Array.from({ length: HISTORY_SHOWN + 13 }, (_, n) => `message ${n}`);
      // All in flight at once: order must not need a pause between two.
      const acks = await Promise.all(
        contents.map((content) => ada.call("message:send", { roomId, content })),
      );
      for (let n = 1; n < acks.length; n += 1) {
        assert.equal(compareOffsets(acks[n - 1].offset, acks[n].offset), -1, `offset ${n}`);
      }
      const heard = ada.seen("message:new").map(({ content }) => content);
      assert.deepEqual(heard, contents, "each comes before its acknowledgement, in order");

      const bob = await enter("bob");
      const { messages } = await bob.join(roomId);
      const newest = acks.slice(-HISTORY_SHOWN).reverse();
      assert.deepEqual(
        messages.map(({ id }) => id),
        newest.map(({ id }) => id),
      );
      const keys = ["content", "id", "roomId", "timestamp", "type", "userId", "username"];
      for (const message of messages) assert.deepEqual(Object.keys(message).sort(), keys);
    });

    test("one who joins while others talk sees every message once", async () => {
      const roomId = named("busy");
      const ada = await enter("ada");
      await ada.join(roomId);
      const late = await Promise.all(["bob", "carol", "dora"].map((name) => enter(name)));
      const sends = [];
      const joins = [];
      for (let n = 0; n < 45; n += 1) {
        sends.push(ada.call("message:send", { roomId, content: `${n}` }));
        if (n % 15 === 7) joins.push(late[joins.length].join(roomId));
        if (n % 5 === 0) await sends[n];
      }
      await Promise.all(sends);
      const histories = await Promise.all(joins);
      await ada.call("message:send", { roomId, content: "45" });
      const all = Array.from({ length: 46 }, (_, n) => `${n}`);
      for (const [index, history] of histories.entries()) {
        await late[index].next("message:new", ({ content }) => content === "45");
        const before = history.messages.map(({ content }) => content).reverse();
        const after = late[index].seen("message:new").map(({ content }) => content);
        assert.deepEqual([...before, ...after], all, `newcomer ${index}`);
      }
    });

    test("a large message arrives whole", async () => {
      const roomId = named("large");
      const [ada, bob] = await pair(roomId);
      const content = "hare 🐇 ".repeat(5_000).trim();
      await ada.call("message:send", { roomId, content });
      assert.equal((await bob.next("message:new")).content, content);
    });

    test(`the transport is ${mode === "polling" ? "polling" : "websocket"}`, async () => {
      const ada = await enter("ada");
      await ada.upgraded();
      assert.equal(ada.transport, mode === "polling" ? "polling" : "websocket");
      assert.equal((await ada.call("presence:update", "online")).error, undefined);
    });
  });
}
