// The browser client of ours where no WebSocket can be opened: it polls, and says so.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";

import WebSocketOfWs from "ws";

import { launchBrowser } from "./browser.mjs";
import { until, within } from "./deadline.mjs";
import { sample } from "./metrics.mjs";
import { request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

/** As a browser's, which throws nothing that nobody listens for. */
class WebSocket extends WebSocketOfWs {
  constructor(...args) {
    super(...args);
    this.on("error", () => {});
  }
}

const WAIT_MS = 10_000;
const ownWebSocket = globalThis.WebSocket;
const sockets = new Set();
let server;
let token;
let connect;
let upgrades;
let proxy;

before(async () => {
  server = await startServer({ args: ["--path", "/chat", "--max-payload", "2kB", "--demo"] });
  token = await mintToken(server.dataDir, "ada");
  // As the server gives it out, which says where Socket.IO is.
  const { text } = await request(`${server.url}/leveret.js`);
  const script = path.join(server.dataDir, "leveret.mjs");
  await writeFile(script, text);
  ({ connect } = await import(script));
  proxy = await startProxy(server.url);
});

after(async () => {
  proxy?.close();
  assert.equal(await server.stop(), 0, server.stderr);
});

beforeEach(() => {
  upgrades = "refused";
  delete globalThis.WebSocket;
});

afterEach(() => {
  globalThis.WebSocket = ownWebSocket;
  for (const socket of sockets) socket.close();
  sockets.clear();
});

/** A proxy that passes requests on, and upgrades if `upgrades` says so. */
async function startProxy(target) {
  const { hostname, port } = new URL(target);
  const open = new Set();
  const proxy = http.createServer((incoming, outgoing) => {
    const { method, url, headers } = incoming;
    const passed = http.request({ hostname, port, method, path: url, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on("error", () => outgoing.destroy());
    outgoing.on("close", () => passed.destroy());
    incoming.pipe(passed);
  });
  proxy.on("upgrade", (incoming, socket, head) => {
    socket.on("error", () => {});
    if (upgrades === "left unanswered") return;
    if (upgrades === "refused") return void socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    const passed = net.connect(Number(port), hostname, () => {
      const lines = incoming.rawHeaders.map((text, at) => (at % 2 ? `${text}\r\n` : `${text}: `));
      passed.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join("")}\r\n`);
      passed.write(head);
      socket.pipe(passed).pipe(socket);
    });
    passed.on("error", () => socket.destroy());
    socket.on("close", () => passed.destroy());
  });
  proxy.on("connection", (socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    cut: () => open.forEach((socket) => socket.destroy()),
    close() {
      this.cut();
      proxy.close();
    },
  };
}

const event = (socket, name) =>
  within(WAIT_MS, `the event ${name}`, new Promise((resolve) => socket.once(name, (...args) => resolve(args))));

async function connected(url, options = { auth: { token } }) {
  const socket = connect(url, options);
  sockets.add(socket);
  await event(socket, "connect");
  return socket;
}

test("without WebSocket it polls, at the server's path", async () => {
  const socket = await connected(server.url);
  assert.equal(socket.transport, "polling");
  const told = [];
  socket.on("message:new", ({ content }) => told.push(content));
  await socket.emitWithAck("join:room", "polled");
  // More than one request may hold: they go in several, in order.
  const contents = Array.from({ length: 30 }, (_, n) => `${n} ${"é".repeat(200)}`);
  const sent = contents.map((content) => socket.emitWithAck("message:send", { roomId: "polled", content }));
  for (const ack of await Promise.all(sent)) assert.ok(ack.id && ack.offset, JSON.stringify(ack));
  assert.deepEqual(told, contents);

  // What it says last is heard, and that it goes.
  socket.emit("message:send", { roomId: "polled", content: "bye" });
  const bystander = await connected(server.url, { auth: { token: await mintToken(server.dataDir, "bob") }, path: "/chat" });
  await bystander.emitWithAck("join:room", "polled");
  const left = event(bystander, "user:left");
  socket.close();
  assert.equal((await left)[0].userId, "ada");
  assert.equal(socket.transport, undefined);
});

test("where it is wrong about the path or the token it says so", async () => {
  const nowhere = connect(server.url, { auth: { token }, path: "/socket.io" });
  sockets.add(nowhere);
  assert.equal((await event(nowhere, "connect_error"))[0].message, "transport close");
  const stranger = connect(server.url, { auth: { token: "none" } });
  sockets.add(stranger);
  assert.equal((await event(stranger, "connect_error"))[0].message, "Authentication failed");
});

test("where a proxy refuses WebSockets it polls, until one is let through", async () => {
  globalThis.WebSocket = WebSocket;
  const socket = await connected(proxy.url);
  assert.equal(socket.transport, "polling");
  assert.equal((await socket.emitWithAck("join:room", "behind a proxy")).ok, true);
  upgrades = "passed on";
  const lost = event(socket, "disconnect");
  proxy.cut();
  assert.equal((await lost)[0], "transport close");
  await event(socket, "connect");
  assert.equal(socket.transport, "websocket");
  assert.equal((await socket.emitWithAck("join:room", "behind a proxy")).ok, true);
});

test("where a proxy leaves WebSockets unanswered it polls after a while, and at once the next time", async () => {
  globalThis.WebSocket = WebSocket;
  upgrades = "left unanswered";
  const socket = await connected(proxy.url);
  assert.equal(socket.transport, "polling");
  let opened = 0;
  globalThis.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      opened += 1;
    }
  };
  proxy.cut();
  await event(socket, "disconnect");
  await event(socket, "connect");
  assert.deepEqual([socket.transport, opened], ["polling", 0]);
});

test("a polling session outlives many pings, and its server's stop", async (t) => {
  const own = await startServer({ args: ["--ping-interval", "200ms", "--ping-timeout", "5s"] });
  t.after(() => own.kill9());
  const socket = await connected(own.url, {
    auth: { token: await mintToken(own.dataDir, "ada") },
    path: "/socket.io",
  });
  const closed = () => sample(own, "leveret_gateway_sessions_closed_total");
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.deepEqual([socket.connected, await closed()], [true, undefined]);
  const lost = event(socket, "disconnect");
  await own.stop();
  assert.equal((await lost)[0], "transport close");
});

test("in a browser behind a proxy that refuses WebSockets, the demo's page works", async (t) => {
  const browser = await launchBrowser();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(`${proxy.url}/demo`);
  const outcome = await page.evaluate(async () => {
    const { connect } = await import("/leveret.js");
    const guest = await fetch("/api/demo/guest", {
      method: "POST", headers: { "content-type": "application/json" }, body: '{"username":"Ada"}',
    });
    const { token } = await guest.json();
    const socket = connect(location.origin, { auth: { token } });
    await new Promise((resolve) => socket.once("connect", resolve));
    const told = new Promise((resolve) => socket.once("message:new", resolve));
    await socket.emitWithAck("join:room", "browser");
    await socket.emitWithAck("message:send", { roomId: "browser", content: "Hi" });
    const { content } = await told;
    const { transport } = socket;
    socket.close();
    return { content, transport, user: JSON.parse(atob(token.split(".")[1])).sub };
  });
  const { user, ...rest } = outcome;
  assert.deepEqual(rest, { content: "Hi", transport: "polling" });
  await until(WAIT_MS, "the page's session to end", async () => {
    const { text } = await request(`${server.url}/api/v1/presence/${encodeURIComponent(user)}`);
    return JSON.parse(text).status === "offline";
  });
});
