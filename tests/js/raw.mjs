// Connections that don't keep to the protocol: bytes as they are, Engine.IO without a client.

import { once } from "node:events";
import net from "node:net";
import { randomBytes } from "node:crypto";

import { within } from "./deadline.mjs";
import { request } from "./request.mjs";

const WAIT_MS = 5_000;

/** A TCP connection that keeps what it received as `received`. */
export async function dial(url) {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port), hostname);
  socket.received = Buffer.alloc(0);
  socket.on("data", (chunk) => (socket.received = Buffer.concat([socket.received, chunk])));
  // A reset is one of the ways in which the server may hang up.
  socket.on("error", () => {});
  socket.hasClosed = new Promise((resolve) => socket.once("close", resolve));
  await within(WAIT_MS, `a connection to ${url}`, once(socket, "connect"));
  return socket;
}

/** Waits until the server hangs up; hands back what it said. */
export async function hungUp(socket, what, ms = WAIT_MS) {
  await within(ms, `the server to hang up on ${what}`, socket.hasClosed);
  return socket.received.toString("latin1");
}

/** Sends bytes, and hands back what the server says until it hangs up. */
export async function say(url, bytes, what) {
  const socket = await dial(url);
  socket.write(bytes);
  try {
    return await hungUp(socket, what);
  } finally {
    socket.destroy();
  }
}

/** A TCP connection on which the WebSocket handshake (RFC 6455) is done. */
export async function dialWebSocket(url, query = "EIO=4&transport=websocket") {
  const socket = await dial(url);
  socket.write(
    `GET /socket.io/?${query} HTTP/1.1\r\nHost: ${new URL(url).host}\r\nConnection: Upgrade\r\n` +
      `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`,
  );
  const opened = (async () => {
    while (!socket.received.includes("\r\n\r\n")) await once(socket, "data");
  })();
  await within(WAIT_MS, "the WebSocket handshake", opened);
  return socket;
}

/** One WebSocket frame, masked unless told otherwise; `length` may lie. */
export function frame(opcode, payload, { fin = true, rsv = 0, mask = true, length } = {}) {
  const body = Buffer.from(payload);
  const size = length ?? BigInt(body.length);
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const masked = mask ? 0x80 : 0;
  if (size < 126n) head.push(masked | Number(size));
  else {
    head.push(masked | 127);
    for (let shift = 56n; shift >= 0n; shift -= 8n) head.push(Number((size >> shift) & 0xffn));
  }
  if (!mask) return Buffer.concat([Buffer.from(head), body]);
  const key = randomBytes(4);
  const hidden = body.map((byte, index) => byte ^ key[index % 4]);
  return Buffer.concat([Buffer.from(head), key, hidden]);
}

/** An Engine.IO session over polling, spoken by hand. */
export class PollingSession {
  constructor(url, sid) {
    this.url = `${url}/socket.io/?EIO=4&transport=polling&sid=${sid}`;
  }

  static async open(url) {
    const { text } = await request(`${url}/socket.io/?EIO=4&transport=polling`);
    return new PollingSession(url, JSON.parse(text.slice(1)).sid);
  }

  /** Opens a session and connects to the namespace. */
  static async connected(url, token) {
    const session = await PollingSession.open(url);
    await session.send(`40${JSON.stringify({ token })}`);
    const answer = await session.poll();
    if (!answer.text.startsWith("40")) throw new Error(`not connected: ${answer.text}`);
    return session;
  }

  send(body, headers = {}) {
    headers = { "content-type": "text/plain;charset=UTF-8", ...headers };
    return request(this.url, { method: "POST", headers, body });
  }

  poll() {
    return request(this.url);
  }

  /** Polls until the server no longer knows the session. */
  async ended(what) {
    const polls = (async () => {
      for (;;) {
        const answer = await this.poll();
        if (answer.status === 400) return answer.json();
        if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
      }
    })();
    return within(WAIT_MS, `the session to end after ${what}`, polls);
  }
}
