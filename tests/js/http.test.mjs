// The application over HTTP: orders and how they end, probes, metrics, and who may call.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { closeClients, connect, connectError } from "./client.mjs";
import { until } from "./deadline.mjs";
import { sample, samplesOf } from "./metrics.mjs";
import { post, request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { inSeconds, mintToken, signToken } from "./token.mjs";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const ORIGIN = "http://localhost:3000";

let server;

before(async () => {
  server = await startServer({ args: ["--demo"] });
});

after(async () => {
  assert.equal(await server?.stop(), 0, server?.stderr);
});

afterEach(closeClients);

const get = (path, headers) => request(`${server.url}${path}`, { headers });
const place = (order, headers) => post(`${server.url}/api/orders`, order, headers);
const deadLetters = async () => (await get("/api/demo/dead-letters")).json().messages;
const redrive = (id, body) => post(`${server.url}/api/demo/dead-letters/${id}/redrive`, body);

async function enter(user) {
  return connect(server.url, { token: await mintToken(server.dataDir, user) });
}

/** The answer is a problem document (RFC 9457) with the member `error`. */
function assertProblem(answer, status, error) {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.headers["content-type"], /^application\/problem\+json/);
  const problem = answer.json();
  for (const member of ["type", "title", "detail", "error"]) {
    assert.equal(typeof problem[member], "string", member);
  }
  assert.equal(problem.status, status);
  if (typeof error === "string") assert.equal(problem.error, error);
  else assert.match(problem.error, error);
  return problem;
}

describe("orders", () => {
  test("an order is accepted, completes, and its user is told", async () => {
    const [ada, phone, eve] = [await enter("ada"), await enter("ada"), await enter("eve")];
    const items = [{ sku: "hare", count: 2 }, "gift", 7, null, [1.5, { deep: true }]];
    const answer = await place({ userId: "ada", items, total: 42.5 });
    assert.equal(answer.status, 201, answer.text);
    const { orderId } = answer.json();
    assert.deepEqual(answer.json(), { success: true, orderId, status: "processing" });
    assert.match(orderId, UUID);

    const expected = { type: "order_completed", orderId, userId: "ada" };
    for (const client of [ada, phone]) {
      assert.deepEqual(await client.next("notification"), expected);
    }
    const found = await get(`/api/orders/${orderId}`);
    assert.equal(found.status, 200);
    const order = found.json();
    assert.equal(order.orderId, orderId);
    assert.equal(order.userId, "ada");
    assert.deepEqual(order.items, items);
    assert.equal(order.total, 42.5);
    assert.equal(order.status, "completed");
    assert.equal("error" in order, false);

    await eve.call("presence:update", "online");
    assert.deepEqual(eve.seen("notification"), [], "another user is not told");
    assert.equal(ada.seen("notification").length, 1);
    assert.deepEqual(await deadLetters(), []);
  });

  test("an order of nothing for nothing is one too", async () => {
    const bob = await enter("bob");
    const { orderId } = (await place({ userId: "bob", items: [], total: 0 })).json();
    assert.equal((await bob.next("notification")).orderId, orderId);
  });

  test("what is no order is refused with the name of the field", async () => {
    const order = (changes) => ({
      userId: `user-${Math.random()}`,
      items: [],
      total: 1,
      ...changes,
    });
    const wrong = [
      ["userId", order({ userId: undefined })],
      ["userId", order({ userId: null })],
      ["userId", order({ userId: "" })],
      ["userId", order({ userId: 7 })],
      ["userId", order({ userId: ["ada"] })],
      ["userId", order({ userId: "x".repeat(10_000) })],
      ["items", order({ items: undefined })],
      ["items", order({ items: null })],
      ["items", order({ items: "hare" })],
      ["items", order({ items: { 0: "hare" } })],
      ["total", order({ total: undefined })],
      ["total", order({ total: null })],
      ["total", order({ total: "12" })],
      ["total", order({ total: [] })],
      ["total", '{"userId":"huge","items":[],"total":1e999}'],
    ];
    for (const [field, body] of wrong) {
      const what = JSON.stringify(body).slice(0, 100);
      const problem = assertProblem(await place(body), 400, new RegExp(field));
      assert.equal(problem.field, field, what);
    }
  });

  test("an order that nobody placed is not found", async () => {
    const missing = ["00000000-0000-4000-8000-000000000000", "x", "..%2f..", "%F0%9F%90%87"];
    for (const id of missing) {
      assertProblem(await get(`/api/orders/${id}`), 404, "Order not found");
    }
  });

  test("a user has ten requests a minute, valid or not", async () => {
    const begun = performance.now();
    for (let n = 0; n < 10; n += 1) {
      const body = { userId: "greedy", items: [], total: n % 2 === 0 ? 1 : "wrong" };
      assert.equal((await place(body)).status, n % 2 === 0 ? 201 : 400);
    }
    // The limit comes first: what is wrong with the eleventh is not looked at.
    for (const total of [1, "wrong"]) {
      const answer = await place({ userId: "greedy", items: [], total });
      assertProblem(answer, 429, "Too many requests");
      const seconds = Number(answer.headers["retry-after"]);
      const passed = (performance.now() - begun) / 1000;
      assert.ok(Number.isInteger(seconds) && seconds >= 1, answer.headers["retry-after"]);
      assert.ok(seconds <= 60 && seconds >= 59 - passed, `${seconds} s after ${passed} s`);
    }
    assert.equal((await place({ userId: "modest", items: [], total: 1 })).status, 201);
  });

  test("the limit holds for requests at once", async () => {
    const order = { userId: "hasty", items: [], total: 1 };
    const answers = await Promise.all(Array.from({ length: 30 }, () => place(order)));
    const count = (status) => answers.filter((answer) => answer.status === status).length;
    assert.deepEqual([count(201), count(429)], [10, 20]);
  });

  test("a failing order is tried three times, dead-lettered once, mended and completed", async () => {
    const carol = await enter("carol");
    const begun = performance.now();
    const { orderId } = (await place({ userId: "carol", items: ["hare"], total: -5 })).json();
    const dead = await until(20_000, "the order among the dead letters", async () => {
      const messages = await deadLetters();
      return messages.find((message) => message.orderId === orderId);
    });
    const ms = performance.now() - begun;
    // 2 s and 4 s between the attempts, give or take the jitter.
    assert.ok(ms > 5_000 && ms < 12_000, `it took ${ms} ms`);
    assert.equal(dead.userId, "carol");
    assert.equal(dead.attempts, 3);
    assert.match(dead.error, /negative/);
    assert.ok(Math.abs(dead.diedAt - Date.now()) < 5_000, `died at ${dead.diedAt}`);
    assert.equal(dead.order.total, -5);
    assert.deepEqual(dead.order.items, ["hare"]);
    const failed = (await get(`/api/orders/${orderId}`)).json();
    assert.equal(failed.status, "failed");
    assert.match(failed.error, /negative/);
    assert.deepEqual(carol.seen("notification"), []);

    assertProblem(await redrive("no-such-message", {}), 404, /./);
    assertProblem(await redrive(dead.id, { order: { total: "5" } }), 400, /total/);
    assertProblem(await redrive(dead.id, { order: { orderId: "other" } }), 400, /orderId/);
    assertProblem(await redrive(dead.id, "{"), 400, /./);
    assert.equal((await deadLetters()).length, 1, "what was refused moved nothing");

    const redriven = await redrive(dead.id, { order: { total: 5 } });
    assert.equal(redriven.status, 200, redriven.text);
    assert.deepEqual(redriven.json(), { success: true });
    const notification = await carol.next("notification");
    assert.deepEqual(notification, { type: "order_completed", orderId, userId: "carol" });
    const mended = (await get(`/api/orders/${orderId}`)).json();
    assert.equal(mended.status, "completed");
    assert.equal(mended.total, 5);
    assert.equal("error" in mended, false);
    assert.deepEqual(await deadLetters(), []);
    assertProblem(await redrive(dead.id, {}), 404, /./);
    assert.equal(carol.seen("notification").length, 1);
  });
});

describe("probes and metrics", () => {
  test("the server is alive and ready", async () => {
    const health = await get("/health");
    assert.equal(health.status, 200);
    assert.equal(health.json().status, "ok");
    const ready = await get("/ready");
    assert.equal(ready.status, 200);
    assert.deepEqual(ready.json().reasons, []);
  });

  test("metrics have the application's names, and count", async () => {
    const acked = () =>
      sample(server, "rabbitmq_messages_total", { queue: "orders", status: "acked" });
    const hits = () => sample(server, "redis_cache_hits_total", { status: "hit" });
    const misses = () => sample(server, "redis_cache_hits_total", { status: "miss" });
    const connections = () => sample(server, "websocket_connections");

    await until(5_000, "earlier sockets to go", async () => (await connections()) === 0);
    const dave = await enter("dave");
    assert.equal(await connections(), 1);
    await enter("dave");
    assert.equal(await connections(), 2);

    const before = [await acked(), await hits(), await misses()];
    const { orderId } = (await place({ userId: "dave", items: [], total: 1 })).json();
    await dave.next("notification");
    assert.equal((await get(`/api/orders/${orderId}`)).status, 200);
    assert.equal((await get("/api/orders/unknown")).status, 404);
    await until(5_000, "the order to be counted", async () => (await acked()) === before[0] + 1);
    assert.ok((await hits()) > before[1]);
    assert.ok((await misses()) > before[2]);

    closeClients();
    await until(5_000, "the sockets to be uncounted", async () => (await connections()) === 0);

    const { status, headers, text } = await get("/metrics");
    assert.equal(status, 200);
    assert.match(headers["content-type"], /^text\/plain/);
    for (const name of [
      "rabbitmq_messages_total",
      "websocket_connections",
      "redis_cache_hits_total",
    ]) {
      assert.match(text, new RegExp(`^# HELP ${name} \\S`, "m"));
      assert.match(text, new RegExp(`^# TYPE ${name} (counter|gauge)$`, "m"));
    }
    for (const { name, value } of samplesOf(text)) assert.ok(!Number.isNaN(value), name);
  });
});

describe("other origins", () => {
  const preflight = (path, origin) =>
    request(`${server.url}${path}`, {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
      },
    });
  const routes = ["/api/orders", "/socket.io/?EIO=4&transport=polling"];

  test("the client's origin may call with credentials", async () => {
    for (const path of routes) {
      const { status, headers, text } = await preflight(path, ORIGIN);
      assert.ok(status === 200 || status === 204, `${path}: ${status} ${text}`);
      assert.equal(headers["access-control-allow-origin"], ORIGIN, path);
      assert.equal(headers["access-control-allow-credentials"], "true", path);
      assert.match(headers["access-control-allow-methods"], /POST/, path);
      assert.match(headers["access-control-allow-headers"], /content-type/i, path);
      assert.match(headers.vary ?? "", /origin/i, path);
    }
    const order = { userId: "erin", items: [], total: 1 };
    const { status, headers } = await place(order, { origin: ORIGIN });
    assert.equal(status, 201);
    assert.equal(headers["access-control-allow-origin"], ORIGIN);
    assert.equal(headers["access-control-allow-credentials"], "true");

    const polling = await get("/socket.io/?EIO=4&transport=polling", { origin: ORIGIN });
    assert.equal(polling.headers["access-control-allow-origin"], ORIGIN);
    assert.equal(polling.headers["access-control-allow-credentials"], "true");
    const wrong = await get("/socket.io/?EIO=4&transport=polling&sid=x", { origin: ORIGIN });
    assert.equal(wrong.status, 400);
    assert.equal(wrong.headers["access-control-allow-origin"], ORIGIN, "errors can be read too");
  });

  test("any other origin may not", async () => {
    const strangers = [
      "https://evil.example",
      "http://localhost:3000.evil.example",
      "null",
      "http://localhost:3002",
    ];
    for (const origin of strangers) {
      for (const path of routes) {
        const { headers } = await preflight(path, origin);
        assert.notEqual(headers["access-control-allow-origin"], origin, path);
        assert.notEqual(headers["access-control-allow-origin"], "*", path);
      }
      const order = { userId: "erin", items: [], total: 1 };
      assertProblem(await place(order, { origin }), 403, /./);
      const polling = await get("/socket.io/?EIO=4&transport=polling", { origin });
      assert.notEqual(polling.headers["access-control-allow-origin"], origin);
    }
  });

  test("a WebSocket of another origin is refused, one of the client's is not", async () => {
    const token = await mintToken(server.dataDir, "frank");
    const from = (origin) => ({ token, transports: ["websocket"], extraHeaders: { origin } });
    for (const origin of [ORIGIN, server.url]) await connect(server.url, from(origin));
    const message = await connectError(server.url, from("https://evil.example"));
    assert.equal(message, "websocket error");

    const upgrade = await get("/socket.io/?EIO=4&transport=websocket", {
      origin: "https://evil.example",
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    });
    assert.equal(upgrade.status, 403);
  });

  test("CLIENT_URL names the origins", async () => {
    const env = { CLIENT_URL: "https://one.example,https://two.example" };
    const other = await startServer({ args: ["--demo"], env });
    try {
      for (const [origin, allowed] of [
        ["https://one.example", true],
        ["https://two.example", true],
        [ORIGIN, false],
      ]) {
        const url = `${other.url}/socket.io/?EIO=4&transport=polling`;
        const { headers } = await request(url, { headers: { origin } });
        assert.equal(headers["access-control-allow-origin"] === origin, allowed, origin);
      }
    } finally {
      await other.stop();
    }
  });
});

test("with a secret of one's own there are no guests, and its tokens count", async () => {
  const secret = "a secret that somebody chose, long enough";
  const strict = await startServer({ args: ["--demo", "--jwt-secret", secret] });
  try {
    assertProblem(await post(`${strict.url}/api/demo/guest`, { username: "Ada" }), 403, /./);
    const claims = { sub: "ada", rooms: ["general"], exp: inSeconds(60) };
    const ada = await connect(strict.url, { token: signToken(secret, claims) });
    await ada.join("general");
    await ada.call("message:send", { roomId: "general", content: "hello" });
    assert.equal((await ada.next("message:new")).username, "ada", "the subject stands in");
    const foreign = signToken("a secret that somebody else chose, as long", claims);
    assert.equal(await connectError(strict.url, { token: foreign }), "Authentication failed");
  } finally {
    closeClients();
    await strict.stop();
  }
});

test("the browser client comes from every server, the page from a demo alone", async () => {
  const plain = await startServer();
  try {
    const client = await request(`${plain.url}/leveret.js`);
    assert.equal(client.status, 200, client.text);
    assert.match(client.headers["content-type"], /^text\/javascript/);
    assert.equal((await request(`${plain.url}/demo`)).status, 404);
  } finally {
    await plain.stop();
  }
});
