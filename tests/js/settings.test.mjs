// What the flags say about the gateway, as a stock client meets it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { MODES, closeClients, connect, connectError } from "./client.mjs";
import { sample } from "./metrics.mjs";
import { request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

let server;
let token;

before(async () => {
  const flags = {
    path: "/chat",
    "cors-origin": "*",
    "ping-interval": "300ms",
    "ping-timeout": "5s",
    "max-payload": "2kB",
    "http-compression": "64B",
    "max-sockets-per-address": "2",
    "trusted-proxy": "127.0.0.1",
  };
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]);
  server = await startServer({ args });
  token = await mintToken(server.dataDir, "ada");
});

after(async () => {
  closeClients();
  await server?.stop();
});

test("a handshake says them, at the path alone", async () => {
  const query = "?EIO=4&transport=polling";
  const headers = { origin: "http://anywhere.example", "accept-encoding": "gzip" };
  const opened = await request(`${server.url}/chat/${query}`, { headers });
  assert.equal(opened.status, 200);
  assert.equal(opened.headers["content-encoding"], "gzip");
  assert.equal(opened.headers["access-control-allow-origin"], "*");
  assert.equal(opened.headers["access-control-allow-credentials"], undefined);
  const plain = await request(`${server.url}/chat/${query}`);
  const { pingInterval, pingTimeout, maxPayload } = JSON.parse(plain.text.slice(1));
  assert.deepEqual({ pingInterval, pingTimeout, maxPayload }, {
    pingInterval: 300,
    pingTimeout: 5_000,
    maxPayload: 2_000,
  });
  assert.equal((await request(`${server.url}/socket.io/${query}`)).status, 404);
});

test("stock clients behind a proxy have places by their own address", async () => {
  const from = (address) => ({
    ...MODES.upgrade,
    path: "/chat",
    token,
    reconnection: false,
    extraHeaders: { "x-forwarded-for": address },
  });
  const first = await connect(server.url, from("203.0.113.1"));
  await connect(server.url, from("203.0.113.1"));
  const refused = await connectError(server.url, from("198.51.100.9, 203.0.113.1"));
  assert.equal(refused, "xhr poll error");
  await connect(server.url, from("203.0.113.2"));
  assert.equal(await sample(server, "leveret_gateway_sessions_refused_total", { reason: "address" }), 1);

  // Several pings later all is as it was.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  assert.equal(first.socket.connected, true);
});
