// Several processes on one RabbitMQ and one Redis. The RabbitMQ is that of tests/with-rabbitmq, with a virtual
// host of the test's own; the Redis is the test's, with a folder that is thrown away and `appendfsync always`.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

import Redis from "ioredis";

import { until, within } from "./deadline.mjs";
import { request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { inSeconds, signToken } from "./token.mjs";

const SECRET = "a secret that all nodes of a test share";
const START_MS = 10_000;
const STOP_MS = 30_000;
const PORTS_TRIED = 5;

/** How long a silent node's users stay, in these tests. */
export const LEASE_MS = 3_000;

/** A token that every node takes. */
export function tokenOf(user) {
  return signToken(SECRET, { sub: user, username: user, rooms: ["*"], exp: inSeconds(3_600) });
}

/**
 * A port of the loopback that nobody listens at, below those that the kernel gives to outgoing connections: none of
 * them takes it while its server is stopped.
 */
export async function freePort() {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 17_768);
    const probe = net.createServer().listen(port, "127.0.0.1");
    const isFree = await once(probe, "listening").then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    probe.close();
    await once(probe, "close");
    return port;
  }
}

/** A redis-server of its own, which writes what it answers unless told otherwise: {url, client(), stop()}. */
export async function startRedis({ appendonly = true } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), "leveret-redis-"));
  for (let tried = 1; ; tried += 1) {
    // Another process may take the port before redis-server does.
    const port = await freePort();
    const child = spawn(
      "redis-server",
      ["--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--daemonize", "no"]
        .concat(appendonly ? ["--appendonly", "yes", "--appendfsync", "always"] : [])
        .map(String),
      { stdio: ["ignore", "pipe", "ignore"] },
    );
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    const exited = once(child, "exit").then(() => process.removeListener("exit", kill));
    const ready = new Promise((resolve, reject) => {
      let said = "";
      child.once("error", reject);
      child.stdout.setEncoding("utf8").on("data", (text) => {
        said = (said + text).slice(-10_000);
        if (said.includes("Ready to accept connections")) resolve(true);
      });
      exited.then(() => resolve(false));
    });
    if (!(await within(START_MS, "redis-server to start", ready))) {
      if (tried < PORTS_TRIED) continue;
      throw new Error("redis-server did not start");
    }
    const clients = new Set();
    return {
      url: `redis://127.0.0.1:${port}`,
      /** A stock client, which ends with the server. */
      client() {
        const client = new Redis(port, "127.0.0.1");
        client.on("error", () => {});
        clients.add(client);
        return client;
      },
      async stop() {
        for (const client of clients) client.disconnect();
        kill();
        await exited;
        await rm(folder, { recursive: true, force: true });
      },
    };
  }
}

/** A virtual host on the RabbitMQ beside the tests: its URL, and a function that removes it. */
export async function virtualHost() {
  const { LEVERET_RABBITMQ: url, LEVERET_RABBITMQ_HTTP: management } = process.env;
  if (url === undefined) throw new Error("run it as tests/with-rabbitmq node --test ...");
  const name = `test-${process.pid}-${Math.random().toString(36).slice(2)}`;
  const change = async (method) => {
    const authorization = `Basic ${Buffer.from("guest:guest").toString("base64")}`;
    const answer = await request(`http://${management}/api/vhosts/${name}`, {
      method,
      headers: { authorization, "content-type": "application/json", "content-length": 0 },
    });
    if (answer.status >= 300) throw new Error(`${method} of ${name}: ${answer.text}`);
  };
  await change("PUT");
  return { url: url.replace(/\/[^/]*$/, `/${name}`), remove: () => change("DELETE") };
}

/**
 * Forwards each connection to the next node that takes it, as a balancer without affinity does.
 * `nodeOf(port)` tells which node has the connection that came from a client's port.
 */
async function startRoundRobin(urls) {
  let turn = 0;
  const nodes = new Map();
  const sockets = new Set();
  const server = net.createServer((client) => {
    sockets.add(client);
    client.on("error", () => {}).on("close", () => sockets.delete(client));
    const attempt = (left) => {
      if (left === 0) return client.destroy();
      const index = turn++ % urls.length;
      const upstream = net.connect(Number(new URL(urls[index]).port), "127.0.0.1");
      upstream.once("error", () => attempt(left - 1));
      upstream.once("connect", () => {
        upstream.removeAllListeners("error").on("error", () => client.destroy());
        nodes.set(client.remotePort, index);
        sockets.add(upstream);
        client.on("close", () => upstream.destroy());
        upstream.on("close", () => (sockets.delete(upstream), client.destroy()));
        client.pipe(upstream).pipe(client);
      });
    };
    attempt(urls.length);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    nodeOf: (port) => nodes.get(port),
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/**
 * Starts `count` nodes and a balancer in front of them.
 *
 * @param {string[]} [args] More arguments of each node's `serve`.
 */
export async function startCluster(count, { args = [] } = {}) {
  const [redis, vhost] = await Promise.all([startRedis(), virtualHost()]);
  const env = {
    LEVERET_JWT_SECRET: SECRET,
    LEVERET_BROKER_URL: vhost.url,
    LEVERET_CACHE_URL: redis.url,
  };
  const start = (host) =>
    startServer({ env, args: ["--demo", "--lease", `${LEASE_MS}ms`, "--http", host, ...args] });
  const nodes = [];
  let balancer;
  const stop = async () => {
    balancer?.close();
    await Promise.all(nodes.map((node) => node.kill9()));
    await Promise.all(nodes.map(({ dataDir }) => rm(dataDir, { recursive: true, force: true })));
    await Promise.all([redis.stop(), vhost.remove()]);
  };
  try {
    for (let number = 0; number < count; number += 1) {
      nodes.push(await start(`127.0.0.1:${await freePort()}`));
    }
    balancer = await startRoundRobin(nodes.map(({ url }) => url));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    nodes,
    redis,
    /** The address of the balancer. */
    url: balancer.url,
    /** The number of the node that a client is on, through the balancer and over WebSocket alone. */
    nodeOf: (client) => balancer.nodeOf(client.socket.io.engine.transport.ws._socket.localPort),
    /** Starts a node that has ended, at its address. */
    async startAgain(number) {
      const { url } = nodes[number];
      nodes[number] = await start(new URL(url).host);
      await until(START_MS, "the node to be ready", async () => {
        return (await request(`${url}/ready`)).status === 200;
      });
    },
    /** A planned restart of one node. */
    async restart(number) {
      const code = await within(STOP_MS, "the drain", nodes[number].stop());
      if (code !== 0) throw new Error(`it exited with ${code}: ${nodes[number].stderr}`);
      await this.startAgain(number);
    },
    stop,
  };
}
