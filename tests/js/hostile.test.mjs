// What strangers send: each attack gets a clear answer or is cut, the server stays up, and two users who
// talk meanwhile notice nothing.

import assert from "node:assert/strict";
import { once } from "node:events";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";
import WebSocket from "ws";

import { MODES, closeClients, connect, connectError } from "./client.mjs";
import { until, within } from "./deadline.mjs";
import { undisturbed } from "./healthy.mjs";
import { PollingSession, dial, dialWebSocket, frame, hungUp, say } from "./raw.mjs";
import { post, request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { inSeconds, mintToken, signToken } from "./token.mjs";

const PAYLOAD_BYTES_MAX = 1_000_000;
/** A request may take 30 s to come, head and body. */
const SLOWLORIS_MS_MAX = 45_000;

let server;
let token;
/** Begun first and looked at last, since they take their time. */
let slowHeads;
let slowBodies;

before(async () => {
  server = await startServer({ args: ["--demo"] });
  token = await mintToken(server.dataDir, "mallory");
  const dribbles = (head) => Promise.all(Array.from({ length: 25 }, () => dribble(head)));
  slowHeads = await dribbles("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
  slowBodies = await dribbles(
    "POST /api/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
      'Content-Length: 100000\r\n\r\n{"userId":"',
  );
});

after(async () => {
  for (const { socket } of [...(slowHeads ?? []), ...(slowBodies ?? [])]) socket.destroy();
  await server?.stop();
});
afterEach(closeClients);

/** Begins a request and goes on byte by byte, without ever ending it. */
async function dribble(head) {
  const socket = await dial(server.url);
  const begun = performance.now();
  socket.write(head);
  const dribbling = setInterval(() => socket.write("a"), 500);
  socket.hasClosed.then(() => clearInterval(dribbling));
  return { socket, begun };
}

/** The answer is a problem document (RFC 9457) with a text for people. */
function assertProblem(answer, status, pattern) {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.headers["content-type"], /^application\/problem\+json/);
  const problem = answer.json();
  assert.equal(problem.status, status);
  assert.match(problem.error, pattern, answer.text);
}

/** The id of a session that nobody uses otherwise. */
async function sid() {
  return new URL((await PollingSession.open(server.url)).url).searchParams.get("sid");
}

/** The server closes the WebSocket; hands back the close code. */
async function closed(socket, what) {
  const [code] = await within(
    5_000,
    `the WebSocket to be closed after ${what}`,
    once(socket, "close"),
  );
  return code;
}

/** A WebSocket of the `ws` package, connected to the namespace. */
async function connectedWebSocket() {
  const url = `${server.url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`;
  const socket = new WebSocket(url, { perMessageDeflate: false });
  socket.on("error", () => {});
  const connected = new Promise((resolve, reject) => {
    socket.on("message", (data) => {
      const packet = data.toString();
      if (packet.startsWith("0")) socket.send(`40${JSON.stringify({ token })}`);
      else if (packet.startsWith("40")) resolve();
      else if (packet.startsWith("44")) reject(new Error(packet));
    });
    socket.once("close", (code) => reject(new Error(`closed with ${code}`)));
  });
  await within(5_000, "the connection of a WebSocket", connected);
  return socket;
}

describe("HTTP", () => {
  test("a body that is no JSON is refused", () =>
    undisturbed(server, async () => {
      const deep = `{"userId":"mallory","items":${"[".repeat(100_000)}${"]".repeat(100_000)},"total":1}`;
      const bodies = ["{", "nope", "", "[1", '{"userId":"mallory"', "\u0000", "[".repeat(100_000)];
      for (const body of bodies) {
        assertProblem(await post(`${server.url}/api/orders`, body), 400, /body|json/i);
        assertProblem(await post(`${server.url}/api/demo/guest`, body), 400, /./);
      }
      for (const body of ["null", "1", '"text"', "[]", "{}"]) {
        assertProblem(await post(`${server.url}/api/orders`, body), 400, /body|userId/);
        assertProblem(await post(`${server.url}/api/demo/guest`, body), 400, /./);
      }
      assertProblem(await post(`${server.url}/api/orders`, deep), 400, /items|body/);
      const headers = { "content-type": "application/json" };
      const notUtf8 = { method: "POST", headers, body: Buffer.from([0x22, 0xff, 0xfe, 0x22]) };
      assertProblem(await request(`${server.url}/api/orders`, notUtf8), 400, /body|json/i);
      const plain = { method: "POST", headers: { "content-type": "text/plain" }, body: "{}" };
      assertProblem(await request(`${server.url}/api/orders`, plain), 415, /content-type/i);
    }));

  test("a body past the limit is refused", () =>
    undisturbed(server, async () => {
      const order = { userId: "mallory", items: ["x".repeat(2 << 20)], total: 1 };
      assertProblem(await post(`${server.url}/api/orders`, order), 413, /./);
      // Without a length the limit shows only on the way.
      const headers = { "content-type": "application/json", "transfer-encoding": "chunked" };
      const chunked = { method: "POST", headers, body: JSON.stringify(order) };
      assertProblem(await request(`${server.url}/api/orders`, chunked), 413, /./);

      // One that goes on and on is not read to its end.
      const head = "Host: localhost\r\nContent-Length: 99999999999\r\n";
      const announced = [
        `POST /api/orders HTTP/1.1\r\nContent-Type: application/json\r\n${head}\r\n{`,
        `POST /socket.io/?EIO=4&transport=polling&sid=${await sid()} HTTP/1.1\r\n${head}\r\n4`,
      ];
      for (const request of announced) {
        const socket = await dial(server.url);
        socket.write(request + " ".repeat(2 << 20));
        const answered = () => socket.received.includes("HTTP/1.1 413");
        await until(5_000, `the answer to ${request}`, answered);
        socket.destroy();
      }
    }));

  test("a head past its limits is refused", () =>
    undisturbed(server, async () => {
      const host = "Host: localhost\r\n";
      const long = `GET /health HTTP/1.1\r\n${host}X-Long: ${"x".repeat(100_000)}\r\n\r\n`;
      assert.match(await say(server.url, long, "a long header"), /^HTTP\/1.1 431 |^$/);
      const many = `GET /health HTTP/1.1\r\n${host}${"X-Many: 1\r\n".repeat(1_000)}\r\n`;
      assert.match(await say(server.url, many, "many headers"), /^HTTP\/1.1 431 |^$/);
      const garbage = [
        randomBytes(4096),
        "\u0000\u0001\u0002\r\n\r\n",
        "GET\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      ];
      for (const bytes of garbage) {
        assert.match(await say(server.url, bytes, "garbage"), /^HTTP\/1.1 4|^$/);
      }
    }));

  test("what does not exist is said to be missing", () =>
    undisturbed(server, async () => {
      assertProblem(await request(`${server.url}/no/such/route`), 404, /./);
      assertProblem(await request(`${server.url}/../../etc/passwd`), 404, /./);
      assertProblem(await request(`${server.url}/health`, { method: "DELETE" }), 405, /./);
      assertProblem(
        await request(`${server.url}/api/orders/${"x".repeat(5_000)}`),
        404,
        /Order not found/,
      );
      assertProblem(await request(`${server.url}/api/orders/%00%ff`), 404, /./);
      assertProblem(await post(`${server.url}/api/demo/dead-letters/none/redrive`, {}), 404, /./);
    }));
});

describe("Engine.IO", () => {
  test("a bad handshake is refused with the code of the stock server", () =>
    undisturbed(server, async () => {
      const session = await PollingSession.open(server.url);
      const webSocketSession = await dialWebSocket(server.url);
      const openPacket = await until(5_000, "the open packet", () =>
        /"sid":"([^"]+)"/.exec(webSocketSession.received.toString("latin1")),
      );
      const cases = [
        ["GET", "EIO=4&transport=polling&sid=unknown", 1, "Session ID unknown"],
        ["POST", "EIO=4&transport=polling&sid=unknown", 1, "Session ID unknown"],
        ["GET", `EIO=4&transport=polling&sid=${"x".repeat(5_000)}`, 1, "Session ID unknown"],
        ["GET", "EIO=4&transport=carrier-pigeon", 0, "Transport unknown"],
        ["GET", "EIO=4", 0, "Transport unknown"],
        ["GET", "EIO=3&transport=polling", 5, "Unsupported protocol version"],
        ["GET", "transport=polling", 5, "Unsupported protocol version"],
        ["GET", "EIO=banana&transport=polling", 5, "Unsupported protocol version"],
        ["POST", "EIO=4&transport=polling", 2, "Bad handshake method"],
        ["PUT", "EIO=4&transport=polling", 2, "Bad handshake method"],
        ["GET", `EIO=4&transport=polling&sid=${openPacket[1]}`, 3, "Bad request"],
      ];
      for (const [method, query, code, message] of cases) {
        const answer = await request(`${server.url}/socket.io/?${query}`, { method });
        assert.equal(answer.status, 400, `${method} ${query}: ${answer.text}`);
        assert.deepEqual(answer.json(), { code, message }, `${method} ${query}`);
      }
      webSocketSession.destroy();
      // Whoever guessed at sessions did not hurt this one.
      await session.send(`40${JSON.stringify({ token })}`);
      assert.match((await session.poll()).text, /^40\{/);
    }));

  test("two polls at once end the session", () =>
    undisturbed(server, async () => {
      const session = await PollingSession.connected(server.url, token);
      await Promise.allSettled([session.poll(), session.poll()]);
      assert.deepEqual(await session.ended("two polls"), {
        code: 1,
        message: "Session ID unknown",
      });
    }));

  test("a polling body past maxPayload is refused, one at the limit is not", () =>
    undisturbed(server, async () => {
      const packet = (bytes) => {
        const text = (content) => `42["message:send",{"roomId":"x","content":"${content}"}]`;
        return text("x".repeat(bytes - text("").length));
      };
      const session = await PollingSession.connected(server.url, token);
      assert.equal((await session.send(packet(PAYLOAD_BYTES_MAX))).status, 200);
      assert.match((await session.poll()).text, /^42\["error",\{"message":".*content/);

      const large = Buffer.from(packet(PAYLOAD_BYTES_MAX + 1));
      const refused = await session.send(large, { "content-length": large.length });
      assert.equal(refused.status, 413, refused.text);

      const other = await PollingSession.connected(server.url, token);
      const chunked = await other.send(large, { "transfer-encoding": "chunked" });
      assert.equal(chunked.status, 413, chunked.text);
    }));

  test("a payload that is none ends the session", () =>
    undisturbed(server, async () => {
      for (const body of [
        "",
        "x",
        "9",
        "4\u001e",
        "bAAAA====",
        "b!!!",
        "\u001e\u001e",
        Buffer.from([0xff, 0xfe]),
      ]) {
        const session = await PollingSession.connected(server.url, token);
        await session.send(body);
        await session.ended(`the payload ${JSON.stringify(body)}`);
      }
    }));
});

describe("Socket.IO", () => {
  // The stock server closes the connection over each too, but for a bare "42", which it passes over, and an
  // attachment that is out of range, for which it waits until that is there.
  const packets = [
    "4",
    "49",
    "4x",
    "42",
    "42{",
    '42["message:send",{]',
    "42{}",
    "42[]",
    "42[[1]]",
    "42[null]",
    '42["connect"]',
    '42["disconnect"]',
    "43-1[]",
    '45-["x",{"_placeholder":true,"num":0}]',
    '451-["x",{"_placeholder":true,"num":7}]',
    '4599999999999-["x",{"_placeholder":true,"num":0}]',
    `42${"[".repeat(50_000)}`,
    "42/other",
  ];

  test("a packet that can't be parsed closes the connection", () =>
    undisturbed(server, async () => {
      for (const packet of packets) {
        const what = packet.slice(0, 60);
        const session = await PollingSession.connected(server.url, token);
        await session.send(packet);
        await session.ended(what);
        const socket = await connectedWebSocket();
        socket.send(packet);
        await closed(socket, what);
      }
    }));

  test("an event whose name is a number is one of that name", () =>
    undisturbed(server, async () => {
      const session = await PollingSession.connected(server.url, token);
      await session.send("420[1]");
      assert.match((await session.poll()).text, /Unknown event: 1"/);
    }));

  test("an acknowledgement that nobody waits for is passed over", () =>
    undisturbed(server, async () => {
      const session = await PollingSession.connected(server.url, token);
      for (const packet of ["437[]", '4387654["x",{}]']) {
        await session.send(packet);
        await session.send('420["presence:update","online"]');
        assert.match((await session.poll()).text, /^430\[/, packet);
      }
    }));

  test("an event before the connection to a namespace closes it", () =>
    undisturbed(server, async () => {
      const session = await PollingSession.open(server.url);
      await session.send('42["join:room","general"]');
      await session.ended("an event before CONNECT");
    }));

  test("tokens of another key are refused, however many come", () =>
    undisturbed(server, async () => {
      const claims = { sub: "mallory", rooms: ["*"], exp: inSeconds(3600) };
      const foreign = signToken("another key of at least 32 bytes!", claims);
      const modes = Object.values(MODES);
      const attempts = Array.from({ length: 60 }, (_, n) =>
        connectError(server.url, { token: foreign, ...modes[n % modes.length] }),
      );
      for (const message of await Promise.all(attempts)) {
        assert.equal(message, "Authentication failed");
      }
    }));

  test("other namespaces are refused", () =>
    undisturbed(server, async () => {
      const session = await PollingSession.connected(server.url, token);
      await session.send(`40/admin,${JSON.stringify({ token })}`);
      assert.equal((await session.poll()).text, '44/admin,{"message":"Invalid namespace"}');
    }));
});

describe("WebSocket", () => {
  test("bytes that are no frames are cut off", () =>
    undisturbed(server, async () => {
      const open = frame(1, `40${JSON.stringify({ token })}`);
      const wrong = {
        "random bytes": randomBytes(65_536),
        "an unmasked frame": frame(1, "2", { mask: false }),
        "a reserved opcode": frame(3, "x"),
        "reserved bits": frame(1, "2", { rsv: 4 }),
        "a ping that is too long": frame(9, "x".repeat(126)),
        "a close that is too long": frame(8, Buffer.alloc(130)),
        "a close of one byte": frame(8, "x"),
        "a ping in fragments": frame(9, "x", { fin: false }),
        "a continuation of nothing": frame(0, "x"),
        "a text inside a text": Buffer.concat([frame(1, "4", { fin: false }), frame(1, "2")]),
        "a text that is not UTF-8": frame(1, Buffer.from([0x34, 0xff, 0xfe])),
        "a declared length of 2^62": frame(2, "x", { length: 1n << 62n }),
        "a declared length past the limit": frame(1, "x", { length: 1_000_001n }),
        "fragments past the limit": Buffer.concat([
          frame(1, "4".repeat(600_000), { fin: false }),
          frame(0, "4".repeat(600_000), { fin: false }),
        ]),
      };
      for (const [what, bytes] of Object.entries(wrong)) {
        for (const begun of [Buffer.alloc(0), open]) {
          const socket = await dialWebSocket(server.url);
          socket.write(Buffer.concat([begun, bytes]));
          await hungUp(socket, what);
        }
      }
    }));

  test("binary garbage in good frames is cut off", () =>
    undisturbed(server, async () => {
      for (const size of [0, 1, 100, 10_000]) {
        const socket = await connectedWebSocket();
        socket.send(randomBytes(size), { binary: true });
        await closed(socket, `${size} random bytes`);
      }
      for (const text of ["", "x", "8", "99", "\u0000", "2probe"]) {
        const socket = await connectedWebSocket();
        socket.send(text);
        // Ping, pong and what is like them are answered or ignored: then a real close follows.
        if (text === "2probe") socket.close();
        await closed(socket, JSON.stringify(text));
      }
    }));

  test("a message past maxPayload closes the connection, one at the limit does not", () =>
    undisturbed(server, async () => {
      const text = (content) => `42["message:send",{"roomId":"x","content":"${content}"}]`;
      const fill = (bytes) => text("x".repeat(bytes - text("").length));
      const socket = await connectedWebSocket();
      socket.send(fill(PAYLOAD_BYTES_MAX));
      const [answer] = await within(5_000, "the refusal of the content", once(socket, "message"));
      assert.match(answer.toString(), /^42\["error",\{"message":".*content/);
      socket.send(fill(PAYLOAD_BYTES_MAX + 1));
      assert.equal(await closed(socket, "an oversized message"), 1009);
    }));

  test("one who does not read is cut off, and nobody waits for it", () =>
    undisturbed(server, async () => {
      const roomId = "firehose";
      const deaf = await dialWebSocket(server.url);
      deaf.write(frame(1, `40${JSON.stringify({ token })}`));
      await until(5_000, "the connection", () => deaf.received.includes("40{"));
      deaf.write(frame(1, `42["join:room","${roomId}"]`));
      await until(5_000, "the history", () => deaf.received.includes("room:history"));
      deaf.pause();

      const [ada, bob] = [
        await connect(server.url, { token }),
        await connect(server.url, { token }),
      ];
      for (const client of [ada, bob]) await client.join(roomId);
      const content = "x".repeat(60_000);
      // Past the bound of its queue (4 MiB) and what the kernel's buffers take.
      const sent = [];
      for (let n = 0; n < 40; n += 1) {
        const burst = Array.from({ length: 10 }, () =>
          ada.call("message:send", { roomId, content }),
        );
        sent.push(...(await Promise.all(burst)).map(({ id }) => id));
      }
      await bob.next("message:new", ({ id }) => id === sent.at(-1));
      assert.deepEqual(
        bob.seen("message:new").map(({ id }) => id),
        sent,
      );
      deaf.resume();
      await hungUp(deaf, "one who does not read");
    }));
});

describe("crowds", () => {
  test("half-open connections take nothing from the others", () =>
    undisturbed(server, async () => {
      const idle = await Promise.all(Array.from({ length: 200 }, () => dial(server.url)));
      for (const socket of idle.slice(0, 100))
        socket.write("POST /api/orders HTTP/1.1\r\nHost: x\r\nCont");
      const halfway = await Promise.all(
        Array.from({ length: 100 }, () => dialWebSocket(server.url)),
      );
      await Promise.all(Array.from({ length: 100 }, () => PollingSession.open(server.url)));
      const late = await connect(server.url, { token });
      assert.equal((await late.call("presence:update", "online")).error, undefined);
      for (const socket of [...idle, ...halfway]) socket.destroy();
    }));

  test("three hundred bad handshakes at once are each answered", () =>
    undisturbed(server, async () => {
      const handshake = (n) => {
        const base = `${server.url}/socket.io/`;
        switch (n % 6) {
          case 0:
            return request(`${base}?EIO=4&transport=polling&sid=${n}`);
          case 1:
            return request(`${base}?EIO=3&transport=websocket`);
          case 2:
            return request(`${base}?EIO=4&transport=pigeon`);
          case 3:
            return post(`${base}?EIO=4&transport=polling&sid=`, "{");
          case 4:
            return request(`${base}?${"x".repeat(n)}=%ff%00`);
          default:
            // A WebSocket's URL without its handshake.
            return request(`${base}?EIO=4&transport=websocket`);
        }
      };
      const answers = await Promise.all(Array.from({ length: 300 }, (_, n) => handshake(n)));
      for (const [n, { status, text }] of answers.entries()) {
        assert.ok(status >= 400 && status < 500, `${n}: ${status} ${text}`);
      }
    }));

  for (const [what, attack] of [
    ["head", () => slowHeads],
    ["body", () => slowBodies],
  ]) {
    test(`a ${what} that never ends is cut off`, () =>
      undisturbed(server, async () => {
        for (const { socket, begun } of attack()) {
          const left = SLOWLORIS_MS_MAX - (performance.now() - begun);
          await hungUp(socket, `a ${what} that never ends`, Math.max(left, 1));
        }
      }));
  }
});
