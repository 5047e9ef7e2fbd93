// Engine.IO's rules, asked of the stock server and of this one in the same words: status, body, content
// type, and what becomes of the session must be the same.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Worker } from "node:worker_threads";

import WebSocket from "ws";

import { elapse, within } from "./deadline.mjs";
import { dial, dialWebSocket, frame } from "./raw.mjs";
import { startServer } from "./server.mjs";

const PAGE = "http://localhost:3000";
const WAIT_MS = 5_000;
/** Until a poll that was sent waits: neither server tells. */
const POLL_BEGINS_MS = 500;

/** The stock one's address, then ours. */
const servers = [];
let stop;

before(async () => {
  const workerData = { cors: { origin: PAGE, credentials: true } };
  const stock = new Worker(new URL("./stock-server.mjs", import.meta.url), { workerData });
  const [port] = await once(stock, "message");
  const ours = await startServer();
  servers.push(`http://127.0.0.1:${port}`, ours.url);
  stop = () => Promise.all([stock.terminate(), ours.stop()]);
});

after(() => stop?.());

/** Runs `script` on each server; what it gives must be the same. */
async function same(script) {
  const [stock, ours] = await Promise.all(servers.map(script));
  assert.deepEqual(ours, stock);
  return ours;
}

async function ask(url, method, query, { body, headers } = {}) {
  const answer = await within(
    WAIT_MS,
    `${method} ${query}`,
    fetch(`${url}/socket.io/?${query}`, { method, body, headers }),
  );
  return { answer, text: await answer.text() };
}

async function told(url, method, query, options) {
  const { answer, text } = await ask(url, method, query, options);
  return { status: answer.status, type: answer.headers.get("content-type"), text };
}

async function open(url) {
  const { text } = await ask(url, "GET", "EIO=4&transport=polling");
  const { sid } = JSON.parse(text.slice(1));
  return `EIO=4&transport=polling&sid=${sid}`;
}

const post = (url, query, body) => told(url, "POST", query, { body });

/** Whether the session is known: a noop changes nothing. */
async function isKnown(url, query) {
  const { text } = await post(url, query, "6");
  return text === "ok";
}

test("requests that are none are refused with the same words", async () => {
  for (const [method, query] of [
    ["GET", ""],
    ["GET", "EIO=4"],
    ["GET", "EIO=4&transport=pigeon"],
    ["GET", "EIO=3&transport=polling"],
    ["GET", "transport=polling"],
    ["GET", "EIO=4&EIO=3&transport=polling"],
    ["GET", "EIO=4&transport=__proto__"],
    ["GET", "EIO=4&transport=polling&transport=websocket"],
    ["GET", "EIO=4&transport=polling&sid=__proto__"],
    ["GET", "EIO=4&transport=polling&sid=a&sid=b"],
    ["POST", "EIO=4&transport=polling"],
    ["PUT", "EIO=4&transport=polling"],
    ["GET", "EIO=4&transport=polling&sid=nobody"],
    ["POST", "EIO=4&transport=polling&sid=nobody"],
    ["GET", "EIO=4&transport=websocket"],
    ["POST", "EIO=4&transport=websocket"],
    ["GET", "EIO=4&transport=websocket&sid=nobody"],
  ]) {
    const answer = await same((url) => told(url, method, query));
    assert.equal(answer.status, 400, `${method} ${query}`);
  }
});

test("a session refuses in the same words, and lives on", async () => {
  await same(async (url) => {
    const query = await open(url);
    const answers = [];
    for (const [method, other] of [
      ["GET", query.replace("polling", "websocket")],
      ["GET", query.replace("polling", "pigeon")],
    ]) {
      answers.push(await told(url, method, other));
    }
    return { answers, known: await isKnown(url, query) };
  });
});

test("the handshake has the same fields", async () => {
  const handshake = await same(async (url) => {
    const { answer, text } = await ask(url, "GET", "EIO=4&transport=polling");
    const { sid, ...rest } = JSON.parse(text.slice(1));
    return { type: answer.headers.get("content-type"), kind: text[0], sid: typeof sid, rest };
  });
  assert.equal(handshake.rest.maxPayload, 1_000_000);
});

test("a payload that can't be read ends the session", async () => {
  for (const body of ["x", "", "9", "6\x1e9"]) {
    const { known } = await same(async (url) => {
      const query = await open(url);
      const { status } = await post(url, query, body);
      return { status, known: await isKnown(url, query) };
    });
    assert.equal(known, false, JSON.stringify(body));
  }
});

test("what stands behind a noop, a pong or an upgrade has no meaning", async () => {
  for (const body of ["6x", "3x", "5x", "0{}"]) {
    const { known } = await same(async (url) => {
      const query = await open(url);
      const { status } = await post(url, query, body);
      return { status, known: await isKnown(url, query) };
    });
    assert.equal(known, true, body);
  }
});

test("of the subprotocols that a client names the first is agreed on", async () => {
  const agreed = await same(async (url) => {
    const address = `${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`;
    const socket = new WebSocket(address, ["first", "second"]);
    await within(WAIT_MS, "a WebSocket", once(socket, "open"));
    const { protocol } = socket;
    socket.terminate();
    return protocol;
  });
  assert.equal(agreed, "first");
});

test("a payload above maxPayload is refused", async () => {
  const { status } = await same(async (url) => {
    const query = await open(url);
    const { status } = await post(url, query, "4" + "x".repeat(1_000_001));
    return { status, known: await isKnown(url, query) };
  });
  assert.equal(status, 413);
});

test("a second poll beside a waiting one ends the session", async () => {
  await same(async (url) => {
    const query = await open(url);
    const first = told(url, "GET", query).then(({ status, text }) => ({ status, text }));
    await elapse(POLL_BEGINS_MS);
    const second = await told(url, "GET", query);
    return { second, first: await first, known: await isKnown(url, query) };
  });
});

test("a second POST beside one that is not at its end ends the session", async () => {
  const { second } = await same(async (url) => {
    const query = await open(url);
    const first = await dial(url);
    const head = `POST /socket.io/?${query} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n`;
    first.write(`${head}Content-Length: 2\r\n\r\n4`);
    // It is being read then.
    await within(WAIT_MS, "the go-ahead", until(() => first.received.includes("100 Continue")));
    const second = await post(url, query, "6");
    const known = await isKnown(url, query);
    first.destroy();
    return { second, known };
  });
  assert.deepEqual(second, { status: 400, type: null, text: "" });
});

test("a binary POST is refused without a word", async () => {
  await same(async (url) => {
    const query = await open(url);
    const headers = { "content-type": "application/octet-stream" };
    const refused = await told(url, "POST", query, { body: "6", headers });
    return { refused, known: await isKnown(url, query) };
  });
});

test("a close packet ends the session and its poll", async () => {
  await same(async (url) => {
    const query = await open(url);
    const waiting = told(url, "GET", query);
    await elapse(POLL_BEGINS_MS);
    const closed = await post(url, query, "1");
    const { status, text } = await waiting;
    return { closed, status, text, known: await isKnown(url, query) };
  });
});

test("an upgrade releases the poll and takes the session over", async () => {
  const { frames } = await same(async (url) => {
    const query = await open(url);
    const waiting = told(url, "GET", query);
    await elapse(POLL_BEGINS_MS);
    const socket = await dialWebSocket(url, query.replace("polling", "websocket"));
    const seen = socket.received.indexOf("\r\n\r\n") + 4;
    socket.write(frame(1, "2probe"));
    const polled = await waiting;
    socket.write(frame(1, "5"));
    socket.write(frame(9, "p"));
    const expected = "\x81\x063probe\x8a\x01p";
    const bytes = () => socket.received.subarray(seen).toString("latin1");
    await within(WAIT_MS, "the probe and a pong", until(() => bytes().length >= expected.length));
    const late = await told(url, "GET", query);
    const again = await told(url, "POST", query, { body: "3" });
    const frames = bytes();
    socket.destroy();
    return { polled, late, again, frames };
  });
  assert.equal(frames, "\x81\x063probe\x8a\x01p");
});

test("a WebSocket's violations are answered with the same close code", async () => {
  for (const [what, bytes] of [
    ["no mask", frame(1, "4", { mask: false })],
    ["reserved bits", frame(1, "4", { rsv: 2 })],
    ["a reserved opcode", frame(3, "4")],
    ["a fragmented ping", frame(9, "p", { fin: false })],
    ["text that is not UTF-8", frame(1, Buffer.from([0x34, 0xff]))],
    ["a message above the bound", frame(1, "4", { length: 2_000_000n })],
    ["a continuation of nothing", frame(0, "4")],
    ["a close with code 3001", frame(8, Buffer.from([0x0b, 0xb9]))],
    ["a close without a code", frame(8, "")],
  ]) {
    const code = await same(async (url) => {
      const socket = await dialWebSocket(url);
      const isOpen = () => socket.received.includes("maxPayload");
      await within(WAIT_MS, "the handshake", until(isOpen));
      socket.write(bytes);
      await within(WAIT_MS, `the end after ${what}`, socket.hasClosed);
      return closeCode(socket.received);
    });
    assert.notEqual(code, null, what);
  }
});

test("a page of a listed origin may ask first", async () => {
  await same(async (url) => {
    const headers = {
      Origin: PAGE,
      "Access-Control-Request-Method": "POST",
      "Access-Control-Request-Headers": "x-mine",
    };
    const { answer } = await ask(url, "OPTIONS", "EIO=4&transport=polling", { headers });
    const allows = ["origin", "credentials", "headers", "methods"];
    const header = (name) => answer.headers.get(`access-control-allow-${name}`);
    return { status: answer.status, allowed: allows.map(header) };
  });
});

test("a refused WebSocket handshake is answered with 400", async () => {
  for (const query of ["EIO=4&transport=pigeon", "EIO=4&transport=websocket&sid=nobody"]) {
    const line = await same(async (url) => {
      const socket = await dial(url);
      socket.write(
        `GET /socket.io/?${query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n` +
          "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
      );
      await within(WAIT_MS, "an answer", until(() => socket.received.includes("\r\n\r\n")));
      socket.destroy();
      return socket.received.toString("latin1").split("\r\n")[0];
    });
    assert.match(line, /^HTTP\/1\.1 400 /);
  }
});

async function until(holds) {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** The code of the close frame at the end of what was received; 1005 for one without, null for none. */
function closeCode(received) {
  let at = received.indexOf("\r\n\r\n") + 4;
  while (at + 2 <= received.length) {
    const long = received[at + 1] === 126;
    const length = long ? received.readUInt16BE(at + 2) : received[at + 1];
    const body = at + (long ? 4 : 2);
    if (received[at] === 0x88) return length === 0 ? 1005 : received.readUInt16BE(body);
    at = body + length;
  }
  return null;
}
