// Starts the binary for a test, and ends it: politely, or as a crash would.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { until } from "./deadline.mjs";

/** What is tested. */
export const BINARY =
  process.env.LEVERET_BIN ?? fileURLToPath(new URL("../../target/release/leveret", import.meta.url));
const START_MS = 20_000;
/** These clients speak as fast as they can. */
const NO_RATE = { LEVERET_EVENT_RATE: "off" };
const STDERR_CHARS_MAX = 200_000;

/** Stops every thread of the process: the signal itself only asks for it. */
export async function halt(pid) {
  process.kill(pid, "SIGSTOP");
  await until(5_000, "the process to stand still", async () => {
    const tasks = await readdir(`/proc/${pid}/task`);
    const stats = await Promise.all(tasks.map((task) => readFile(`/proc/${pid}/task/${task}/stat`, "utf8")));
    // The state follows the name, which stands in parentheses.
    return stats.every((stat) => stat.slice(stat.lastIndexOf(")") + 2).startsWith("T"));
  });
}

/**
 * Starts `leveret serve` on a free port of the loopback and waits until it says where it listens.
 *
 * @param {object} [options]
 * @param {string[]} [options.args] More arguments of `serve`. `--http` among them takes the place of the
 *   free port: a restarted server gets its old address that way.
 * @param {string} [options.dataDir] A folder to keep; without it a temporary one, removed by `stop`.
 * @param {object} [options.env] More environment.
 * @returns {Promise<Server>}
 *
 * @typedef {object} Server
 * @property {string} url The address that HTTP and Socket.IO are served at.
 * @property {Promise<string>} redisUrl The address of the Redis port; only with `--resp` among the arguments.
 * @property {number} pid
 * @property {string} dataDir
 * @property {string} stderr What it has logged so far.
 * @property {() => Promise<number | null>} stop SIGTERM; resolves with the exit code.
 * @property {() => Promise<void>} kill9 SIGKILL; keeps the data folder.
 * @property {Promise<number | null>} exited Resolves with the exit code, whatever ends it.
 */
export async function startServer({ args = [], dataDir, env = {} } = {}) {
  const temporary = dataDir === undefined;
  const folder = dataDir ?? (await mkdtemp(path.join(tmpdir(), "leveret-test-")));
  const listen = args.includes("--http") ? [] : ["--http", "127.0.0.1:0"];
  const child = spawn(
    BINARY,
    ["serve", "--data-dir", folder, ...listen, ...args],
    { env: { ...process.env, ...NO_RATE, ...env }, stdio: ["ignore", "pipe", "pipe"] },
  );
  // A test that dies must not leave a server behind.
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);

  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr = (stderr + text).slice(-STDERR_CHARS_MAX);
  });
  const exited = once(child, "exit").then(([code]) => {
    process.removeListener("exit", kill);
    return code;
  });

  let foundRedis;
  const redisUrl = new Promise((resolve) => (foundRedis = resolve));
  const url = await new Promise((resolve, reject) => {
    let stdout = "";
    const failed = (reason) => (kill(), reject(new Error(`${reason}\n${stdout}\n${stderr}`)));
    const timer = setTimeout(() => failed("the server did not say where it listens"), START_MS);
    child.stdout.setEncoding("utf8").on("data", (text) => {
      if (stdout.length < STDERR_CHARS_MAX) stdout += text;
      const redis = /(redis:\/\/\S+)\n/.exec(stdout);
      if (redis) foundRedis(redis[1]);
      const found = /^http\s+(http:\/\/\S+)$/m.exec(stdout);
      if (found) (clearTimeout(timer), resolve(found[1].replace(/\/$/, "")));
    });
    child.once("error", (error) => (clearTimeout(timer), reject(error)));
    exited.then((code) => (clearTimeout(timer), failed(`the server exited with ${code}`)), () => {});
  });

  return {
    url,
    redisUrl,
    pid: child.pid,
    dataDir: folder,
    get stderr() {
      return stderr;
    },
    exited,
    async stop() {
      child.kill("SIGTERM");
      const code = await exited;
      if (temporary) await rm(folder, { recursive: true, force: true });
      return code;
    },
    async kill9() {
      kill();
      await exited;
    },
  };
}
