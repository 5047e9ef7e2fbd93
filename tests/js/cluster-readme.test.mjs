// The README's way from one node to three, command by command, and what it says is refused there.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { freePort, startCluster, startRedis, virtualHost } from "./cluster.mjs";
import { within } from "./deadline.mjs";
import { request } from "./request.mjs";
import { BINARY } from "./server.mjs";

const README = new URL("../../README.md", import.meta.url);
const MARKER = "<!-- test: cluster.sh -->";
const STEPS_MS = 60_000;
const run = promisify(execFile);

/** The commands that follow the marker. */
async function commands() {
  const [, ...marked] = (await readFile(README, "utf8")).split(MARKER);
  assert.equal(marked.length, 1, `README.md must hold ${MARKER} once`);
  const block = /^\s*```sh\n(.*?)^```$/ms.exec(marked[0]);
  assert.ok(block?.index === 0, `README.md must have a block of \`\`\`sh right after ${MARKER}`);
  return block[1];
}

/** The same commands where each address is another one; each must be there. */
function moved(text, addresses) {
  for (const from of Object.keys(addresses)) assert.ok(text.includes(from), `the commands name ${from}`);
  // In one go: a port may look like another that is still to be replaced.
  const anyOf = Object.keys(addresses).map((from) => from.replaceAll(/[/.?*]/g, "\\$&"));
  return text.replaceAll(new RegExp(anyOf.join("|"), "g"), (from) => addresses[from]);
}

test("the way from one node to three runs as it stands", async () => {
  const [redis, vhost] = await Promise.all([startRedis({ appendonly: false }), virtualHost()]);
  const folder = await mkdtemp(path.join(tmpdir(), "leveret-steps-"));
  const ports = new Set();
  while (ports.size < 3) ports.add(await freePort());
  const [one, two, three] = ports;
  const steps = moved(await commands(), {
    "amqp://guest:guest@127.0.0.1:5672/%2f": vhost.url,
    "redis://127.0.0.1:6379": redis.url,
    3001: one,
    3002: two,
    3003: three,
  });
  // A group of its own, so that the nodes end with it.
  const shell = spawn("bash", ["-euo", "pipefail", "-c", steps], {
    cwd: folder,
    detached: true,
    env: { ...process.env, PATH: `${path.dirname(BINARY)}:${process.env.PATH}` },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [shell.stdout, shell.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => (said += text));
  }
  const exited = new Promise((resolve) => shell.once("exit", resolve));
  try {
    const code = await within(STEPS_MS, "the commands", exited);
    assert.equal(code, 0, said);
    // One on the node that took it, asked of another; one after a node was killed.
    assert.equal(said.match(/"status":"completed"/g)?.length, 2, said);
    for (const port of [one, three]) {
      const ready = await request(`http://127.0.0.1:${port}/ready`);
      assert.equal(ready.status, 200, ready.text);
    }
    await assert.rejects(request(`http://127.0.0.1:${two}/ready`), "that one was killed");
    const client = redis.client();
    assert.deepEqual(await client.config("GET", "appendfsync"), ["appendfsync", "always"]);
    assert.deepEqual(await client.config("GET", "appendonly"), ["appendonly", "yes"]);
  } catch (error) {
    throw new Error(`${error.message}\n${said}`, { cause: error });
  } finally {
    process.kill(-shell.pid, "SIGKILL");
    await Promise.all([redis.stop(), vhost.remove(), rm(folder, { recursive: true, force: true })]);
  }
});

/** What `serve` says when it does not start. */
async function refused(...flags) {
  const started = run(BINARY, ["serve", "--http", "127.0.0.1:0", ...flags], { timeout: 10_000 });
  const error = await started.then(
    () => assert.fail(`${flags} started`),
    (error) => error,
  );
  return [error.code, error.stderr.trim()];
}

test("what servers can't give is refused at the start, with the reason", async () => {
  const [broker, cache] = [
    ["--broker-url", "amqp://mq"],
    ["--cache-url", "redis://r"],
  ];
  const readme = await readFile(README, "utf8");
  for (const [flags, said] of [
    [[...broker, ...cache, "--durability", "strict"], "have both on servers"],
    [[...cache, "--resp", "127.0.0.1:0"], "has the cache on a server: its clients connect there"],
    [[...cache, "--appendfsync", "always"], "has the cache on a server: it is set there"],
  ]) {
    const [code, text] = await refused(...flags);
    assert.equal(code, 2, text);
    assert.ok(text.includes(said) && !text.includes("\n"), text);
    assert.ok(readme.includes(said), `the README tells: ${said}`);
  }
});

test("what RabbitMQ can't tell is refused at the call, with the reason", async () => {
  const cluster = await startCluster(1);
  try {
    const readme = await readFile(README, "utf8");
    const [{ url }] = cluster.nodes;
    const body = JSON.stringify({ pattern: ".*", definition: { "max-length": 1 } });
    const headers = { "content-type": "application/json", "content-length": body.length };
    const policies = "AMQP has no call for it, so it is done with rabbitmqctl or the management interface";
    for (const [path, options, said] of [
      ["policies", {}, policies],
      ["policies/p", { method: "PUT", headers, body }, policies],
      ["explain/some-id", {}, "a server keeps no trace of one"],
    ]) {
      const answer = await request(`${url}/api/v1/${path}`, options);
      assert.equal(answer.status, 501, answer.text);
      assert.equal(answer.headers["content-type"], "application/problem+json");
      const { error } = answer.json();
      assert.ok(error.includes(said) && readme.includes(said), `${error}; the README tells: ${said}`);
    }
  } finally {
    await cluster.stop();
  }
});
