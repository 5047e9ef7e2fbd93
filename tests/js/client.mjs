// A stock socket.io-client that remembers every event, so that a test can await one that already came
// and can tell that one never did.

import { io } from "socket.io-client";

import { within } from "./deadline.mjs";

const WAIT_MS = 5_000;

/** How a stock client may reach the server; `upgrade` is its default. */
export const MODES = {
  polling: { transports: ["polling"] },
  websocket: { transports: ["websocket"] },
  upgrade: { transports: ["polling", "websocket"] },
};

const open = new Set();

/** Closes every client that is still open. */
export function closeClients() {
  for (const client of open) client.close();
}

export class Client {
  /** @type {{name: string, args: unknown[], at: number, awaited: boolean}[]} */
  log = [];
  #waiting = new Set();

  /** Starts to connect. */
  constructor(url, { token, auth = { token }, ...options }) {
    this.socket = io(url, { forceNew: true, auth, ...options });
    this.socket.onAny((name, ...args) => this.#record(name, args));
    for (const name of ["connect", "connect_error", "disconnect"]) {
      this.socket.on(name, (...args) => this.#record(name, args));
    }
    open.add(this);
  }

  #record(name, args) {
    this.log.push({ name, args, at: performance.now(), awaited: false });
    for (const look of this.#waiting) look();
  }

  get id() {
    return this.socket.id;
  }

  get transport() {
    return this.socket.io.engine.transport.name;
  }

  /**
   * Waits until the client uses the last of its transports, as it must before its network is cut: one whose
   * WebSocket is lost while its polls pause for it never polls again (engine.io-client 6.6.8), and notices
   * only when a ping is due.
   */
  async upgraded() {
    const { engine, opts } = this.socket.io;
    const last = opts.transports?.at(-1) ?? "websocket";
    if (engine.transport.name === last) return;
    await within(WAIT_MS, `the upgrade to ${last}`, new Promise((resolve) => engine.once("upgrade", resolve)));
  }

  /** The payloads of every event of this name so far, in the order in which they came. */
  seen(name) {
    return this.log.filter((event) => event.name === name).map((event) => event.args[0]);
  }

  /** The payload of the oldest event of this name that fits and was not awaited yet. */
  next(name, fits = () => true, ms = WAIT_MS) {
    const find = () =>
      this.log.find((event) => event.name === name && !event.awaited && fits(event.args[0]));
    const found = new Promise((resolve) => {
      const look = () => {
        const event = find();
        if (event === undefined) return;
        this.#waiting.delete(look);
        event.awaited = true;
        resolve(event.args[0]);
      };
      this.#waiting.add(look);
      look();
    });
    const last = () => JSON.stringify(this.log.slice(-5).map(({ name, args }) => [name, ...args]));
    return within(ms, `the event ${name}`, found).catch((error) => {
      throw new Error(`${error.message}; the last events were ${last()}`, { cause: error });
    });
  }

  /** Emits, and hands back what the acknowledgement carries. */
  call(name, ...args) {
    const acknowledged = this.socket.emitWithAck(name, ...args);
    return within(WAIT_MS, `the acknowledgement of ${name} ${JSON.stringify(args)}`, acknowledged);
  }

  /** Emits what must be refused; hands back the text, which `error` and the acknowledgement must share. */
  async refused(name, ...args) {
    const ack = await this.call(name, ...args);
    if (typeof ack?.error !== "string") {
      throw new Error(`${name} ${JSON.stringify(args)} was not refused: ${JSON.stringify(ack)}`);
    }
    await this.next("error", (error) => error.message === ack.error);
    return ack.error;
  }

  /** Joins the room and hands back its history. */
  async join(roomId) {
    const history = this.next("room:history", (history) => history.roomId === roomId);
    const ack = await this.call("join:room", roomId);
    if (ack?.error !== undefined) {
      history.catch(() => {});
      throw new Error(`${roomId} can't be joined: ${ack.error}`);
    }
    return history;
  }

  close() {
    open.delete(this);
    this.socket.close();
  }
}

/** A client that is connected. */
export async function connect(url, options) {
  const client = new Client(url, options);
  const { socket } = client;
  const connected = new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  try {
    await within(WAIT_MS, `the connection to ${url}`, connected);
    await client.next("connect");
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

/** The message with which the server refuses the connection. */
export async function connectError(url, options) {
  const client = new Client(url, options);
  try {
    const error = await client.next("connect_error");
    return error.message;
  } finally {
    client.close();
  }
}

/** Offsets rise: negative when `a` was logged before `b`. */
export function compareOffsets(a, b) {
  const numbers = (offset) => String(offset).match(/\d+/g).map(BigInt);
  const [left, right] = [numbers(a), numbers(b)];
  const at = left.findIndex((number, index) => number !== right[index]);
  if (at === -1) return 0;
  return left[at] < right[at] ? -1 : 1;
}
