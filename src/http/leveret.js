/**
 * Leveret's browser client: Socket.IO 5 over a WebSocket, or over polling where none can be opened, without
 * anything else.
 *
 *     import { connect } from "/leveret.js";
 *     const socket = connect(location.origin, { auth: { token } });
 *     socket.on("connect", () => socket.emit("join:room", "general"));
 *     const { id } = await socket.emitWithAck("message:send", { roomId: "general", content: "Hi" });
 *
 * It speaks the main namespace and text events; arguments are what JSON can hold. Lost connections come
 * back by themselves; what is emitted meanwhile waits, within a bound.
 *
 * @module
 */

const RECONNECT_MIN_MS = 1_000;
const RECONNECT_MAX_MS = 5_000;
const CONNECT_TIMEOUT_MS = 20_000;
/** A proxy that knows no WebSocket may leave it unanswered; then polling takes its place. */
const WEBSOCKET_TIMEOUT_MS = 5_000;
/** How long a polling session may take to say goodbye. */
const GOODBYE_TIMEOUT_MS = 5_000;
const ACK_TIMEOUT_MS = 10_000;
const BUFFER_MAX = 256;
/** Where the server that this script came from serves Socket.IO. */
const PATH = "/socket.io/";

/** Packet types: the first character of an Engine.IO packet, and of the Socket.IO packet inside a message. */
const ENGINE = { OPEN: "0", CLOSE: "1", PING: "2", PONG: "3", MESSAGE: "4", NOOP: "6" };
const SEPARATOR = "\x1e";
const SOCKET = { CONNECT: "0", DISCONNECT: "1", EVENT: "2", ACK: "3", CONNECT_ERROR: "4" };

/**
 * @typedef {object} Options
 * @property {object | (() => object | Promise<object>)} [auth] What the server checks; a function is asked
 *   before each attempt, so that a token can be renewed.
 * @property {string} [path] Where the server serves Socket.IO, its `--path`; by default where the server of
 *   this script does.
 * @property {number} [ackTimeout=10000] Milliseconds that `emitWithAck` waits.
 */

/**
 * Opens a connection.
 * @param {string | URL} [url] The server; by default the page's own.
 * @param {Options} [options]
 * @returns {Socket}
 */
export function connect(url = globalThis.location?.origin, options = {}) {
  return new Socket(url, options).connect();
}

/**
 * One connection that outlives its transports. Beside the server's events it tells `connect`,
 * `disconnect` (reason), `connect_error` (Error) and `reconnect_attempt` (count).
 */
export class Socket {
  /** Whether the server has accepted the connection. */
  connected = false;
  /** The server's name for this connection; another one after each reconnection. */
  id = undefined;

  #url;
  #auth;
  #ackTimeout;
  #handlers = new Map();
  /** Acknowledgements that are waited for: id to {resolve, reject?}. */
  #acks = new Map();
  #nextAck = 0;
  /** Packets emitted while there was no connection: {packet, ack?}. */
  #buffer = [];
  #transport = null;
  /** Whether the transport has brought a packet. */
  #opened = false;
  /** A WebSocket was left unanswered here: polling comes first, until that fails or the network changes. */
  #websocketHangs = false;
  #wanted = false;
  #attempts = 0;
  #retryTimer;
  #silenceTimer;
  #silenceMs = CONNECT_TIMEOUT_MS;

  /** @param {string | URL} url @param {Options} [options] */
  constructor(url, { auth = {}, path = PATH, ackTimeout = ACK_TIMEOUT_MS } = {}) {
    this.#url = new URL(path.endsWith("/") ? path : `${path}/`, url);
    this.#auth = auth;
    this.#ackTimeout = ackTimeout;
    // A machine that wakes up or gets its network back need not wait for the next attempt.
    globalThis.addEventListener?.("online", () => {
      this.#websocketHangs = false;
      if (this.#retryTimer) this.#open();
    });
  }

  /** `"websocket"` or `"polling"` while it is connected. */
  get transport() {
    if (!this.connected) return undefined;
    return this.#transport instanceof Polling ? "polling" : "websocket";
  }

  /** Connects, or connects again after `close` or a refusal. */
  connect() {
    this.#wanted = true;
    if (!this.#transport) this.#open();
    return this;
  }

  /** Closes for good, until `connect` is called. What waits in the buffer is kept. */
  close() {
    this.#wanted = false;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    if (this.connected) this.#send(ENGINE.MESSAGE + SOCKET.DISCONNECT);
    this.#drop("io client disconnect");
    return this;
  }

  /** Calls `handler` with the arguments of each such event; a function as the last one acknowledges it. */
  on(event, handler) {
    if (!this.#handlers.has(event)) this.#handlers.set(event, new Set());
    this.#handlers.get(event).add(handler);
    return this;
  }

  once(event, handler) {
    const wrapped = (...args) => {
      this.off(event, wrapped);
      handler(...args);
    };
    wrapped.original = handler;
    return this.on(event, wrapped);
  }

  /** Removes one handler, or all of an event. */
  off(event, handler) {
    const handlers = this.#handlers.get(event);
    if (!handler) this.#handlers.delete(event);
    else for (const each of handlers ?? []) {
      if (each === handler || each.original === handler) handlers.delete(each);
    }
    return this;
  }

  /**
   * Sends an event. A function as the last argument is called with the server's acknowledgement; it is
   * not called if the connection is lost before.
   * @throws {RangeError} when too much waits for a connection already.
   */
  emit(event, ...args) {
    const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
    this.#emit([event, ...args], callback && { resolve: callback });
    return this;
  }

  /**
   * Sends an event and resolves with the first argument of its acknowledgement. Rejects after the time-out,
   * and when the connection is lost before the answer: whether the server got it is unknown then.
   * @returns {Promise<any>}
   */
  emitWithAck(event, ...args) {
    return new Promise((resolve, reject) => {
      const ack = {};
      const timer = setTimeout(() => {
        this.#buffer = this.#buffer.filter((waiting) => waiting.ack !== ack);
        this.#acks.delete(ack.id);
        reject(new Error("the server did not answer in time"));
      }, this.#ackTimeout);
      const settled = (settle) => (value) => (clearTimeout(timer), settle(value));
      ack.resolve = settled(resolve);
      ack.reject = settled(reject);
      try {
        this.#emit([event, ...args], ack);
      } catch (error) {
        ack.reject(error);
      }
    });
  }

  #emit(data, ack) {
    if (ack) ack.id = this.#nextAck++;
    const packet = ENGINE.MESSAGE + SOCKET.EVENT + (ack ? ack.id : "") + JSON.stringify(data);
    if (!this.connected) {
      if (this.#buffer.length >= BUFFER_MAX) {
        throw new RangeError(`not connected, and ${BUFFER_MAX} events wait already`);
      }
      this.#buffer.push({ packet, ack });
      return;
    }
    if (ack) this.#acks.set(ack.id, ack);
    this.#send(packet);
  }

  #open() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    const websocket = this.#websocketHangs ? undefined : this.#webSocket();
    this.#use(websocket ?? new Polling(this.#urlOf("http", "polling")));
  }

  /** `undefined`: there is none here, or a page like this one may not open any. */
  #webSocket() {
    if (typeof globalThis.WebSocket !== "function") return undefined;
    try {
      return new WebSocket(this.#urlOf("ws", "websocket"));
    } catch {
      return undefined;
    }
  }

  #urlOf(scheme, transport) {
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace(/^(http|ws)/, scheme);
    url.search = `?EIO=4&transport=${transport}`;
    return url;
  }

  #use(transport) {
    this.#transport = transport;
    this.#opened = false;
    // Late events of a transport that was given up must not touch its successor.
    const current = (handle) => (event) => this.#transport === transport && handle(event);
    transport.onmessage = current(({ data }) => {
      this.#opened = true;
      this.#receive(data);
    });
    transport.onclose = current(() => this.#ended("transport close"));
    this.#silenceMs = transport instanceof Polling ? CONNECT_TIMEOUT_MS : WEBSOCKET_TIMEOUT_MS;
    this.#heard();
  }

  /** Every packet proves that the server lives; the silence after it may last a ping and its time-out. */
  #heard() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#ended("ping timeout"), this.#silenceMs);
  }

  /** A WebSocket that never opened says nothing of the server: polling may reach it. */
  #ended(reason) {
    const transport = this.#transport;
    if (this.#opened || transport instanceof Polling) {
      if (!this.#opened) this.#websocketHangs = false;
      return this.#lost(reason);
    }
    // One that was refused is soon tried again, one that hangs is not.
    this.#websocketHangs = reason === "ping timeout";
    this.#use(new Polling(this.#urlOf("http", "polling")));
    transport.close();
  }

  #send(packet) {
    if (this.#transport?.readyState === 1 /* OPEN */) this.#transport.send(packet);
  }

  #receive(data) {
    this.#heard();
    try {
      if (typeof data !== "string") throw new TypeError("a binary packet");
      const body = data.slice(1);
      switch (data[0]) {
        case ENGINE.OPEN: return void this.#handshake(JSON.parse(body)).catch(() => this.#lost("parse error"));
        case ENGINE.PING: return this.#send(ENGINE.PONG + body);
        case ENGINE.MESSAGE: return this.#packet(body);
        case ENGINE.CLOSE: return this.#lost("transport close");
        case ENGINE.NOOP: return;
        default: throw new TypeError("an unknown packet");
      }
    } catch {
      this.#lost("parse error");
    }
  }

  async #handshake({ pingInterval, pingTimeout }) {
    const transport = this.#transport;
    this.#silenceMs = pingInterval + pingTimeout;
    let auth;
    try {
      auth = typeof this.#auth === "function" ? await this.#auth() : this.#auth;
    } catch (error) {
      // Of a transport that was given up meanwhile nobody wants to know.
      if (this.#transport === transport) this.#refused(error);
      return;
    }
    if (this.#transport !== transport) return;
    this.#send(ENGINE.MESSAGE + SOCKET.CONNECT + JSON.stringify(auth ?? {}));
  }

  #packet(text) {
    const [, type, id, json] = /^(\d)(\d*)(.*)$/s.exec(text) ?? [];
    const payload = json ? JSON.parse(json) : undefined;
    switch (type) {
      case SOCKET.CONNECT: return this.#accepted(payload);
      case SOCKET.DISCONNECT:
        this.#wanted = false;
        return this.#drop("io server disconnect");
      case SOCKET.EVENT: return this.#event(payload, id);
      case SOCKET.ACK: {
        const ack = this.#acks.get(Number(id));
        this.#acks.delete(Number(id));
        return ack && guarded(ack.resolve, payload);
      }
      case SOCKET.CONNECT_ERROR: {
        const error = new Error(payload?.message ?? "refused");
        return this.#refused(Object.assign(error, { data: payload?.data }));
      }
      default: throw new TypeError("an unknown packet");
    }
  }

  /** Handlers of `connect` come before the buffer: a room is joined again before what was said to it. */
  #accepted({ sid }) {
    this.id = sid;
    this.connected = true;
    this.#attempts = 0;
    this.#tell("connect");
    if (!this.connected) return;
    const waiting = this.#buffer;
    this.#buffer = [];
    for (const { packet, ack } of waiting) {
      if (ack) this.#acks.set(ack.id, ack);
      this.#send(packet);
    }
  }

  #event([event, ...args], id) {
    let answered = false;
    const answer = (...values) => {
      if (!answered) this.#send(ENGINE.MESSAGE + SOCKET.ACK + id + JSON.stringify(values));
      answered = true;
    };
    this.#tell(event, ...args, ...(id ? [answer] : []));
  }

  /** Trying again would be refused again, so it is left to whoever can get another token. */
  #refused(error) {
    this.#wanted = false;
    this.#drop("io server disconnect");
    this.#tell("connect_error", error);
  }

  #lost(reason) {
    const wasConnected = this.connected;
    this.#drop(reason);
    if (!wasConnected) this.#tell("connect_error", new Error(reason));
    if (!this.#wanted || this.#transport) return;
    const reach = Math.min(RECONNECT_MAX_MS, 2 * RECONNECT_MIN_MS * 2 ** this.#attempts);
    const delay = RECONNECT_MIN_MS + Math.random() * (reach - RECONNECT_MIN_MS);
    this.#attempts += 1;
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined;
      this.#tell("reconnect_attempt", this.#attempts);
      // A handler may have closed it for good, or connected it already.
      if (this.#wanted && !this.#transport) this.#open();
    }, delay);
  }

  /** Gives the transport up and tells whoever waits for an answer of it. */
  #drop(reason) {
    clearTimeout(this.#silenceTimer);
    const transport = this.#transport;
    this.#transport = null;
    transport?.close();
    if (!this.connected) return;
    this.connected = false;
    this.id = undefined;
    const acks = [...this.#acks.values()];
    this.#acks.clear();
    for (const ack of acks) ack.reject?.(new Error(`disconnected: ${reason}`));
    this.#tell("disconnect", reason);
  }

  #tell(event, ...args) {
    for (const handler of [...(this.#handlers.get(event) ?? [])]) guarded(handler, args);
  }
}

/** One Engine.IO session over HTTP, with as much of a WebSocket's face as is used here. */
class Polling {
  onmessage;
  onclose;

  #url;
  #maxPayload = Infinity;
  #waiting = [];
  #sending = false;
  #closing = false;
  #stop = new AbortController();

  constructor(url) {
    this.#url = url;
    this.#poll();
  }

  get readyState() {
    return this.#url.searchParams.has("sid") && !this.#closing ? 1 : 3;
  }

  /** Packets that wait for a request go with the next one together. */
  send(packet) {
    this.#waiting.push(packet);
    if (!this.#sending) this.#flush();
  }

  /** Sends what waits, and that this is the end. */
  close() {
    if (this.#closing) return;
    const isOpen = this.readyState === 1;
    this.#closing = true;
    if (!isOpen) return this.#stop.abort();
    const timer = setTimeout(() => this.#stop.abort(), GOODBYE_TIMEOUT_MS);
    this.#stop.signal.addEventListener("abort", () => clearTimeout(timer));
    this.send(ENGINE.CLOSE);
  }

  async #poll() {
    try {
      while (!this.#closing) {
        const payload = await this.#request({ method: "GET" });
        for (const packet of payload.split(SEPARATOR)) this.#take(packet);
      }
    } catch {
      this.#end();
    }
  }

  #take(packet) {
    if (this.#closing) return;
    if (packet[0] === ENGINE.OPEN) {
      const { sid, maxPayload } = JSON.parse(packet.slice(1));
      this.#url.searchParams.set("sid", sid);
      this.#maxPayload = maxPayload;
    }
    this.onmessage?.({ data: packet });
  }

  async #flush() {
    this.#sending = true;
    try {
      while (this.#waiting.length > 0) await this.#request({ method: "POST", body: this.#batch() });
      if (this.#closing) this.#stop.abort();
    } catch {
      this.#end();
    }
    this.#sending = false;
  }

  /** As many packets as one request may hold, and one at least. */
  #batch() {
    const bytes = (text) => new TextEncoder().encode(text).length;
    let payload = this.#waiting.shift();
    let size = bytes(payload);
    while (this.#waiting.length > 0) {
      size += 1 + bytes(this.#waiting[0]);
      if (size > this.#maxPayload) break;
      payload += SEPARATOR + this.#waiting.shift();
    }
    return payload;
  }

  async #request(init) {
    const response = await fetch(this.#url, { ...init, cache: "no-store", signal: this.#stop.signal });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response.text();
  }

  #end() {
    const wasClosing = this.#closing;
    this.#closing = true;
    this.#stop.abort();
    if (!wasClosing) this.onclose?.();
  }
}

/** A handler that throws is its author's to hear of; the connection and the other handlers go on. */
function guarded(handler, args = []) {
  try {
    handler(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
