// The browser client at /leveret.js, in the browser, against the server.

import assert from "node:assert/strict";
import { after, before, beforeEach, afterEach, test } from "node:test";
import { rm } from "node:fs/promises";
import { launchBrowser } from "./browser.mjs";
import { halt, startServer } from "./server.mjs";

let server;
let browser;
let page;

before(async () => {
  server = await startServer({ args: ["--demo"] });
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

beforeEach(async () => {
  page = await browser.newPage();
  await prepare(page, server.url);
});

afterEach(() => page.close());

/** Puts `connect`, a guest's `token` and `event(socket, name)` into the page. */
async function prepare(page, url) {
  await page.goto(`${url}/demo`);
  await page.evaluate(async () => {
    const { connect } = await import("/leveret.js");
    const guest = await fetch("/api/demo/guest", {
      method: "POST", headers: { "content-type": "application/json" }, body: '{"username":"Ada"}',
    });
    const { token } = await guest.json();
    const event = (socket, name) => new Promise((resolve) => socket.once(name, (...args) => resolve(args)));
    Object.assign(window, { connect, token, event });
  });
}

test("an event is acknowledged by promise and by callback", async () => {
  const answers = await page.evaluate(async () => {
    const socket = connect(location.origin, { auth: { token } });
    await event(socket, "connect");
    const id = socket.id;
    const joined = await socket.emitWithAck("join:room", "acks");
    const sent = await new Promise((resolve) => socket.emit("message:send", { roomId: "acks", content: "Hi" }, resolve));
    socket.close();
    return { id, joined, sent, connected: socket.connected };
  });
  assert.ok(answers.id);
  assert.equal(answers.joined.error, undefined);
  assert.ok(answers.sent.id && answers.sent.offset);
  assert.equal(answers.connected, false);
});

test("what is emitted before the connection waits, behind what connect handlers emit", async () => {
  const { contents, error } = await page.evaluate(async () => {
    const socket = connect(location.origin, { auth: async () => ({ token }) });
    const contents = [];
    socket.on("message:new", ({ content }) => contents.push(content));
    const sent = [1, 2, 3].map((n) => socket.emitWithAck("message:send", { roomId: "buffer", content: `${n}` }));
    socket.on("connect", () => socket.emit("join:room", "buffer"));
    await Promise.all(sent);
    socket.close();
    let error;
    try {
      for (let n = 0; n < 1000; n += 1) socket.emit("message:send", {});
    } catch (thrown) {
      error = thrown.name;
    }
    return { contents, error };
  });
  assert.deepEqual(contents, ["1", "2", "3"]);
  assert.equal(error, "RangeError", "the buffer is bounded, and says so");
});

test("a refused token is told, and not tried again until asked", async () => {
  const outcome = await page.evaluate(async () => {
    let current = "no token";
    let asked = 0;
    const socket = connect(location.origin, { auth: () => ({ token: (asked += 1, current) }) });
    const [error] = await event(socket, "connect_error");
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const attempts = asked;
    current = token;
    socket.connect();
    await event(socket, "connect");
    socket.close();
    return { message: error.message, attempts };
  });
  assert.deepEqual(outcome, { message: "Authentication failed", attempts: 1 });
});

test("handlers are removed, called once, and do not break one another", async () => {
  const calls = await page.evaluate(async () => {
    addEventListener("error", (event) => event.preventDefault());
    const socket = connect(location.origin, { auth: { token } });
    await event(socket, "connect");
    const calls = [];
    const removed = () => calls.push("removed");
    socket.on("room:history", () => { throw new Error("a handler's own mistake"); });
    socket.on("room:history", removed);
    socket.off("room:history", removed);
    socket.once("room:history", () => calls.push("once"));
    socket.on("room:history", () => calls.push("each"));
    await socket.emitWithAck("join:room", "handlers");
    await socket.emitWithAck("join:room", "handlers");
    socket.close();
    return calls;
  });
  assert.deepEqual(calls, ["once", "each", "each"]);
});

test("an acknowledgement that the connection took with it rejects; then it reconnects in 1 s to 5 s", async (t) => {
  const own = await startServer({ args: ["--demo"] });
  let again;
  t.after(async () => {
    await own.kill9();
    await again?.stop();
    await rm(own.dataDir, { recursive: true, force: true });
  });
  await prepare(page, own.url);
  await page.evaluate(async () => {
    // Three waits before it connects again may take 11 s together.
    window.socket = connect(location.origin, { auth: { token }, ackTimeout: 60_000 });
    window.times = [];
    await event(socket, "connect");
    socket.on("disconnect", (reason) => times.push([reason, performance.now()]));
    socket.on("reconnect_attempt", (count) => times.push([count, performance.now()]));
  });
  // A server that hears nothing any more, and then is gone.
  await halt(own.pid);
  // On its way before the kill: what is emitted later waits for the next connection.
  await page.evaluate(() => {
    window.lost = socket.emitWithAck("join:room", "lost").catch((error) => error.message);
  });
  await own.kill9();
  assert.equal(await page.evaluate(() => window.lost), "disconnected: transport close");
  const waiting = page.evaluate(() => socket.emitWithAck("join:room", "later"));
  await page.waitForFunction(() => times.length >= 3);
  again = await startServer({ args: ["--demo", "--http", own.url.replace("http://", "")], dataDir: own.dataDir });
  assert.equal((await waiting).error, undefined);
  const times = await page.evaluate(() => times);
  for (let at = 1; at < times.length; at += 1) {
    const pause = times[at][1] - times[at - 1][1];
    assert.ok(pause > 950 && pause < 8_000, `attempt ${times[at][0]} after ${pause} ms`);
  }
  await page.evaluate(() => socket.close());
});

test("close is for good whichever handler calls it, and connect opens one transport", async () => {
  const opened = await page.evaluate(async () => {
    let opened = 0;
    const { WebSocket, fetch } = window;
    window.WebSocket = class extends WebSocket {
      constructor(url) {
        super(url);
        opened += 1;
      }
    };
    window.fetch = (...args) => ((opened += 1), fetch(...args));
    const outcome = {};
    // Nobody listens there.
    const nowhere = "http://127.0.0.1:1";
    for (const [name, url] of [["connect_error", nowhere], ["reconnect_attempt", nowhere], ["connect", location.origin]]) {
      const socket = connect(url, { auth: { token } });
      await new Promise((resolve) => socket.once(name, () => (socket.close(), resolve())));
      outcome[name] = [];
      for (const event of ["reconnect_attempt", "connect_error", "connect"]) socket.on(event, () => outcome[name].push(event));
    }
    let before = opened;
    // The first wait is no longer.
    await new Promise((resolve) => setTimeout(resolve, 2_100));
    outcome.later = opened - before;
    const socket = connect(nowhere, { auth: { token } });
    await new Promise((resolve) => socket.once("reconnect_attempt", () => {
      before = opened;
      socket.connect();
      setTimeout(resolve);
    }));
    socket.close();
    outcome.connectIn = opened - before;
    Object.assign(window, { WebSocket, fetch });
    return outcome;
  });
  assert.deepEqual(opened, { connect_error: [], reconnect_attempt: [], connect: [], later: 0, connectIn: 1 });
});

test("an auth function that fails after close says nothing of the next connection", async () => {
  const outcome = await page.evaluate(async () => {
    const told = [];
    let asked;
    const isAsked = new Promise((resolve) => (asked = resolve));
    let fail;
    const auths = [() => (asked(), new Promise((_, reject) => (fail = reject))), () => ({ token })];
    const socket = connect(location.origin, { auth: () => auths.shift()() });
    socket.on("connect_error", (error) => told.push(error.message));
    await isAsked;
    socket.close();
    socket.connect();
    fail(new Error("too late"));
    await event(socket, "connect");
    const joined = await socket.emitWithAck("join:room", "late");
    socket.close();
    return { told, joined };
  });
  assert.deepEqual(outcome.told, []);
  assert.equal(outcome.joined.error, undefined);
});
