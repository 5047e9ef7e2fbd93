// A data disk that runs full: writes are refused with the reason, everything else goes on, and space that
// comes back is used without a restart.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, open, rm, rmdir, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { promisify } from "node:util";

import { MODES, closeClients, connect } from "./client.mjs";
import { elapse, until, within } from "./deadline.mjs";
import { post, request } from "./request.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

const run = promisify(execFile);
const DISK_MIB = 24;
const FILL_STEP = Buffer.alloc(128 * 1024);
/** An eighth of the disk is the journal's reserve. */
const NEARLY_FULL_BYTES = 5 << 20;
const DISK_FULL = /disk|space/i;
const MESSAGES_A_ROOM = 40;

let disk;
let server;

beforeEach(async () => {
  disk = await mkdtemp(path.join(tmpdir(), "leveret-disk-"));
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", disk]);
  } catch (error) {
    await rmdir(disk);
    disk = undefined;
    throw new Error(
      `this test needs a disk that it can fill, and no tmpfs of ${DISK_MIB} MiB could be mounted ` +
        `(that takes root, and CAP_SYS_ADMIN in a container): ${error.stderr || error.message}`,
      { cause: error },
    );
  }
  await mkdir(path.join(disk, "data"));
  server = await startServer({ args: ["--demo"], dataDir: path.join(disk, "data") });
});

afterEach(async () => {
  closeClients();
  await server?.kill9();
  server = undefined;
  if (disk === undefined) return;
  await run("umount", [disk]);
  await rmdir(disk);
  disk = undefined;
});

const filler = () => path.join(disk, "filler");
const freeBytes = async () => {
  const { bavail, bsize } = await statfs(disk);
  return bavail * bsize;
};

const readiness = () => request(`${server.url}/ready`);

/** Fills the disk until so much is left; a step takes a while, as a log or an upload would. */
async function fillDisk(leftBytes, pauseMs) {
  const file = await open(filler(), "a");
  try {
    while ((await freeBytes()) > leftBytes) {
      const step = Math.min(FILL_STEP.length, (await freeBytes()) - leftBytes);
      await file.write(FILL_STEP, 0, step);
      if ((await freeBytes()) < NEARLY_FULL_BYTES) await elapse(pauseMs);
    }
  } finally {
    await file.close();
  }
}

async function waitUntilReady() {
  await until(5_000, "the server to be ready again", async () => {
    const answer = await readiness();
    return answer.status === 200 || assert.fail(answer.text);
  });
}

async function enter(name, mode) {
  const token = await mintToken(server.dataDir, name);
  const client = await connect(server.url, { token, ...MODES[mode] });
  client.history = await client.join("general");
  return client;
}

const order = (userId, total = 1) => post(`${server.url}/api/orders`, { userId, items: [], total });

test("a full disk refuses writes, and only writes, until there is space again", async () => {
  const { pid } = server;
  const [ada, bob] = [await enter("ada", "websocket"), await enter("bob", "polling")];
  const send = (content) => ada.call("message:send", { roomId: "general", content });
  const first = await send("before");
  await bob.next("message:new", ({ id }) => id === first.id);
  const { orderId } = (await order("ada")).json();
  await ada.next("notification", (notification) => notification.orderId === orderId);

  await fillDisk(1 << 20, 20);
  // The journal looks at the disk when it writes.
  await until(5_000, "the first refusal", async () => (await send("on the edge")).error);
  const alarm = await readiness();
  assert.equal(alarm.status, 503, alarm.text);
  assert.match(alarm.json().reasons.join(), DISK_FULL);
  const kept = ada.seen("message:new").map(({ id }) => id);

  // Again and again, since a refusal must not need space of its own.
  for (let n = 0; n < 20; n += 1) {
    assert.match((await send(`refused ${n}`)).error, DISK_FULL);
    const { message } = await ada.next("error");
    assert.match(message, DISK_FULL);
    const refused = await order(`user-${n}`);
    assert.equal(refused.status, 503, refused.text);
    assert.match(refused.json().detail, DISK_FULL);
  }

  // Reads, joins and what need not be kept go on.
  assert.equal((await request(`${server.url}/health`)).status, 200);
  const cached = await request(`${server.url}/api/orders/${orderId}`);
  assert.equal(cached.json().status, "completed");
  const carol = await enter("carol", "upgrade");
  assert.deepEqual(
    carol.history.messages.map(({ id }) => id),
    kept.toReversed(),
  );
  assert.equal((await ada.call("typing:start", "general")).error, undefined);
  for (const client of [bob, carol]) await client.next("typing:user");
  carol.close();
  await bob.next("user:left", ({ userId }) => userId === "carol");

  await rm(filler());
  await waitUntilReady();
  const second = await send("after");
  assert.equal(second.error, undefined);
  await bob.next("message:new", ({ id }) => id === second.id);
  const accepted = await order("bob");
  assert.equal(accepted.status, 201, accepted.text);
  await bob.next(
    "notification",
    (notification) => notification.orderId === accepted.json().orderId,
  );

  for (const client of [ada, bob]) {
    assert.deepEqual(client.seen("disconnect"), []);
    assert.deepEqual(
      client.seen("message:new").map(({ id }) => id),
      [...kept, second.id],
      "what was refused was sent to nobody",
    );
  }
  assert.deepEqual(bob.seen("error"), [], "who did not write was told nothing");
  assert.equal(server.pid, pid);
  process.kill(pid, 0);

  assert.equal(await server.stop(), 0, server.stderr);
  server = await startServer({ dataDir: server.dataDir });
  const { history } = await enter("dora", "websocket");
  assert.deepEqual(
    history.messages.map(({ id }) => id),
    [...kept, second.id].toReversed(),
  );
});

/** Sends one message after the other; hands back what became of them. */
function load(client) {
  const outcome = { acknowledged: [], refusals: [], stop: undefined };
  let isOver = false;
  const sending = (async () => {
    for (let n = 0; !isOver; n += 1) {
      const roomId = `load-${Math.floor(n / MESSAGES_A_ROOM)}`;
      if (n % MESSAGES_A_ROOM === 0) {
        // A session that comes back is in the rooms that are on the disk, so joining takes space too.
        const refusal = await client.join(roomId).then(() => undefined, (error) => error.message);
        if (refusal !== undefined) {
          outcome.refusals.push(refusal);
          n -= 1;
          continue;
        }
      }
      const ack = await client.call("message:send", { roomId, content: "x".repeat(2_000) });
      if (ack.error === undefined) outcome.acknowledged.push({ roomId, id: ack.id });
      else outcome.refusals.push(ack.error);
    }
  })();
  sending.catch(() => {});
  outcome.stop = async () => {
    isOver = true;
    await within(10_000, "the end of the load", sending);
    assert.deepEqual(client.seen("disconnect"), []);
  };
  return outcome;
}

/** After a crash, on a disk with space, the rooms hold what was acknowledged, and nothing that was not. */
async function checkAfterCrash(acknowledged) {
  await server.kill9();
  server = await startServer({ dataDir: server.dataDir });
  const reader = await enter("reader", "websocket");
  for (const roomId of new Set(acknowledged.map(({ roomId }) => roomId))) {
    const ids = (await reader.join(roomId)).messages.map(({ id }) => id).reverse();
    await reader.call("leave:room", roomId);
    const expected = acknowledged.filter((ack) => ack.roomId === roomId).map(({ id }) => id);
    assert.deepEqual(ids, expected, roomId);
  }
}

test("a disk that fills up under load loses nothing that was acknowledged", async () => {
  const { acknowledged, refusals, stop } = load(await enter("ada", "websocket"));
  await until(5_000, "messages to be sent", () => acknowledged.length > 10);
  await fillDisk(1 << 20, 20);
  await until(5_000, "messages to be refused", () => refusals.length > 10);
  const before = acknowledged.length;
  await rm(filler());
  await until(5_000, "messages to be taken again", () => acknowledged.length > before + 10);
  await stop();
  for (const refusal of refusals) assert.match(refusal, DISK_FULL);
  await checkAfterCrash(acknowledged);
});

test("a disk that is full at once, before any alarm, loses nothing either", async () => {
  const ada = await enter("ada", "websocket");
  const { acknowledged, refusals, stop } = load(ada);
  await until(5_000, "messages to be sent", () => acknowledged.length > 10);
  await fillDisk(0, 0);
  await until(10_000, "messages to be refused", () => refusals.length > 10);
  await stop();
  for (const refusal of refusals) assert.match(refusal, DISK_FULL);

  const alarm = await readiness();
  assert.equal(alarm.status, 503, alarm.text);
  assert.match(alarm.json().reasons.join(), DISK_FULL);
  const refused = await order("ada");
  assert.equal(refused.status, 503, refused.text);
  assert.equal((await ada.call("typing:start", "general")).error, undefined);
  // Reads go on, and show nothing of what was refused.
  const { roomId } = acknowledged.at(-1);
  const { messages } = await ada.join(roomId);
  const taken = acknowledged.filter((ack) => ack.roomId === roomId);
  assert.deepEqual(
    messages.map(({ id }) => id).reverse(),
    taken.map(({ id }) => id),
  );

  await rm(filler());
  await checkAfterCrash(acknowledged);
});
