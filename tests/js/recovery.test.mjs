// Connection state recovery: a stock client that loses its connection, or its server, comes back as what
// it was, and gets what it missed.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, test } from "node:test";

import msgpack from "socket.io-msgpack-parser";

import { Client, closeClients, connect } from "./client.mjs";
import { startProxy } from "./cut.mjs";
import { elapse, until, within } from "./deadline.mjs";
import { post } from "./request.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

const QUICK = { reconnectionDelay: 20, reconnectionDelayMax: 200, randomizationFactor: 0 };
const RECONNECT_MS = 15_000;

const ends = [];

afterEach(async () => {
  closeClients();
  for (const end of ends.splice(0).reverse()) await end();
});

/** A server, a proxy in front of it, and clients on either. */
async function stand(args = []) {
  const dataDir = await mkdtemp(path.join(tmpdir(), "leveret-recovery-"));
  ends.push(() => rm(dataDir, { recursive: true, force: true }));
  const it = { dataDir, server: await startServer({ dataDir, args }) };
  ends.push(() => it.server.stop());
  it.proxy = await startProxy(it.server.url);
  ends.push(() => it.proxy.close());
  const enter = async (url, name, options = {}) => {
    const client = await connect(url, { token: await mintToken(dataDir, name), ...QUICK, ...options });
    await client.upgraded();
    return client;
  };
  it.enter = (name, options) => enter(it.server.url, name, options);
  /** A client whose network can be cut. */
  it.enterByProxy = (name, options) => enter(it.proxy.url, name, options);
  it.restart = async () => {
    it.server = await startServer({
      dataDir,
      args: [...args, "--http", new URL(it.server.url).host],
    });
  };
  it.emit = async (audience, event, payload) => {
    const answer = await post(`${it.server.url}/api/v1/emit`, { audience, event, payload });
    assert.equal(answer.status, 200, answer.text);
  };
  return it;
}

const say = (client, content, roomId = "general") =>
  client.call("message:send", { roomId, content });

const contents = (client) => client.seen("message:new").map(({ content }) => content);

/** The client came back, and may be cut off again; whether as what it was. */
async function back(client) {
  await client.next("connect", undefined, RECONNECT_MS);
  await client.upgraded();
  return client.socket.recovered ?? false;
}

/** Everything that was sent to the client before is there. */
async function settled(client, by, roomId = "general") {
  const last = `last ${Math.random()}`;
  await say(by, last, roomId);
  await client.next("message:new", ({ content }) => content === last);
  return contents(client).filter((content) => content !== last);
}

const numbers = (from, count) => Array.from({ length: count }, (_, n) => `${from + n}`);

const KINDS = {
  websocket: { transports: ["websocket"] },
  polling: { transports: ["polling"] },
  upgrade: { transports: ["polling", "websocket"] },
  msgpack: { transports: ["websocket"], parser: msgpack },
};

for (const [kind, options] of Object.entries(KINDS)) {
  describe(`a ${kind} client`, () => {
    test("gets what it missed while its network was cut, and stays in its rooms", async () => {
      const it = await stand();
      const bob = await it.enter("bob");
      const ada = await it.enterByProxy("ada", options);
      for (const client of [ada, bob]) await client.join("general");
      await say(bob, "0");
      await ada.next("message:new");
      const { id } = ada;

      it.proxy.cut();
      await ada.next("disconnect");
      for (const content of numbers(1, 5)) await say(bob, content);
      it.proxy.mend();
      assert.equal(await back(ada), true);
      assert.equal(ada.id, id);
      assert.deepEqual(await settled(ada, bob), numbers(0, 6));
      await say(ada, "after");
      await bob.next("message:new", ({ content }) => content === "after");
      assert.equal(ada.seen("room:history").length, 1, "it joined once");
    });

    test("gets what it missed while its server was gone", async () => {
      const it = await stand();
      const ada = await it.enter("ada", options);
      const bob = await it.enter("bob");
      for (const client of [ada, bob]) await client.join("general");
      for (const content of numbers(0, 3)) await say(bob, content);
      for (const stop of [() => it.server.stop(), () => it.server.kill9()]) {
        const before = contents(bob).length;
        await stop();
        for (const client of [ada, bob]) await client.next("disconnect");
        await it.restart();
        for (const client of [ada, bob]) assert.equal(await back(client), true);
        for (const content of numbers(before, 3)) await say(bob, content);
        await ada.next("message:new", ({ content }) => content === `${before + 2}`);
        assert.deepEqual(contents(ada), numbers(0, before + 3));
      }
    });
  });
}

test("what is logged while everybody is away is waiting for them", async () => {
  const it = await stand();
  const ada = await it.enterByProxy("ada");
  await ada.join("general");
  it.proxy.cut();
  await ada.next("disconnect");
  await it.emit({ room: "general" }, "news", { n: 1 });
  await it.emit({ user: "ada" }, "news", { n: 2 });
  await it.emit({ user: "bob" }, "news", { n: 3 });
  await it.emit("all", "news", { n: 4 });
  await it.emit({ room: "other" }, "news", { n: 5 });
  await it.server.kill9();
  await it.restart();
  await it.emit({ room: "general" }, "news", { n: 6 });
  it.proxy.mend();
  assert.equal(await back(ada), true);
  await ada.next("news", ({ n }) => n === 6);
  assert.deepEqual(
    ada.seen("news").map(({ n }) => n),
    [1, 2, 4, 6],
  );
});

test("before its first event a client has no offset, and gets all since it connected", async () => {
  const it = await stand();
  const bob = await it.enter("bob");
  await bob.join("general");
  await say(bob, "before");
  const ada = await it.enterByProxy("ada");
  assert.equal(ada.socket._lastOffset, undefined);
  it.proxy.cut();
  await ada.next("disconnect");
  await it.emit({ user: "ada" }, "news", { n: 1 });
  it.proxy.mend();
  assert.equal(await back(ada), true);
  await ada.next("news");
  assert.deepEqual(contents(ada), []);
});

test("a thousand messages in several rooms come in order, once, and to their members", async () => {
  const it = await stand();
  const rooms = ["one", "two", "three"];
  const bob = await it.enter("bob");
  const ada = await it.enterByProxy("ada");
  for (const room of rooms) await bob.join(room);
  for (const room of ["one", "three"]) await ada.join(room);
  it.proxy.cut();
  await ada.next("disconnect");
  const sent = numbers(0, 1_000);
  await Promise.all(sent.map((content, n) => say(bob, content, rooms[n % 3])));
  it.proxy.mend();
  assert.equal(await back(ada), true);
  const missed = sent.filter((_, n) => n % 3 !== 1);
  const last = await settled(ada, bob, "one");
  assert.deepEqual(
    last.toSorted((a, b) => a - b),
    missed,
  );
  for (const room of ["one", "three"]) {
    const inRoom = (client) => client.seen("message:new").filter(({ roomId }) => roomId === room);
    assert.deepEqual(inRoom(ada), inRoom(bob), room);
  }
});

test("a server that is killed in the middle of a burst has told, logged and kept the same", async () => {
  const it = await stand();
  const [ada, bob] = [await it.enter("ada"), await it.enter("bob")];
  for (const client of [ada, bob]) await client.join("general");
  const acknowledged = [];
  for (let round = 0; round < 3; round += 1) {
    const enough = new Promise((resolve) => {
      for (const n of numbers(0, 200)) {
        const content = `${round} ${n}`;
        bob.socket.emit("message:send", { roomId: "general", content }, (ack) => {
          if (ack.ok) acknowledged.push(content);
          if (n === "50") resolve();
        });
      }
    });
    await within(5_000, "the first acknowledgements", enough);
    await it.server.kill9();
    for (const client of [ada, bob]) await client.next("disconnect");
    await it.restart();
    for (const client of [ada, bob]) assert.equal(await back(client), true);
  }
  const told = await settled(ada, bob);
  await bob.next("message:new", ({ content }) => content.startsWith("last"));
  assert.deepEqual(contents(bob).slice(0, -1), told);
  assert.equal(new Set(told).size, told.length, "none twice");
  assert.deepEqual(acknowledged.filter((content) => !told.includes(content)), []);
  const carol = await it.enter("carol");
  const { messages } = await carol.join("general");
  assert.deepEqual(
    messages.slice(1).map(({ content }) => content),
    told.slice(-49).reverse(),
  );
});

test("a socket that is half open is taken over", async () => {
  const it = await stand();
  const bob = await it.enter("bob");
  const ada = await it.enterByProxy("ada");
  for (const client of [ada, bob]) await client.join("general");
  await say(bob, "0");
  await ada.next("message:new");
  const { id } = ada;
  it.proxy.halfOpen();
  await say(bob, "1");
  assert.equal(await back(ada), true);
  assert.equal(ada.id, id);
  assert.deepEqual(await settled(ada, bob), ["0", "1"]);
  const { members } = await (
    await fetch(`${it.server.url}/api/v1/rooms/general/members`)
  ).json();
  assert.deepEqual(members.map(({ sockets }) => sockets), [1, 1]);
  assert.deepEqual(bob.seen("user:left"), [], "nobody left");
});

test("within the presence grace a cut says nothing", async () => {
  const it = await stand(["--presence-grace", "10s"]);
  const bob = await it.enter("bob");
  const ada = await it.enterByProxy("ada");
  for (const client of [bob, ada]) await client.join("general");
  await bob.next("user:joined");
  it.proxy.cut();
  await ada.next("disconnect");
  it.proxy.mend();
  assert.equal(await back(ada), true);
  await settled(ada, bob);
  assert.equal(bob.seen("user:joined").length, 1);
  assert.equal(bob.seen("user:left").length, 0);
  assert.equal(bob.seen("presence:changed").length, 1, "that she came");
  await ada.call("leave:room", "general");
  await bob.next("user:left");
});

/** Connects by hand as the stock client does, with these words beside the token. */
async function claim(it, name, pid, offset) {
  const auth = { token: await mintToken(it.dataDir, name), pid, offset };
  const client = new Client(it.server.url, { auth, reconnection: false });
  await client.next("connect");
  return client;
}

describe("a new session is given", () => {
  /** A client in a room, cut off, with a message that it misses. */
  async function away(args) {
    const it = await stand(args);
    const bob = await it.enter("bob");
    const ada = await it.enterByProxy("ada");
    for (const client of [ada, bob]) await client.join("general");
    await say(bob, "0");
    await ada.next("message:new");
    const { id, _pid: pid, _lastOffset: offset } = { id: ada.id, ...ada.socket };
    it.proxy.cut();
    await ada.next("disconnect");
    return { it, ada, bob, id, pid, offset };
  }

  test("to another user", async () => {
    const { it, ada, id, pid, offset } = await away();
    assert.notEqual((await claim(it, "eve", pid, offset)).socket._pid, pid);
    it.proxy.mend();
    assert.equal(await back(ada), true, "it is hers still");
    assert.equal(ada.id, id);
  });

  test("for a secret or an offset that is not known", async () => {
    const { it, pid, offset } = await away();
    for (const [wrongPid, wrongOffset] of [
      [pid.replace(/.$/, (digit) => (digit === "0" ? "1" : "0")), offset],
      ["", offset],
      [pid, "general"],
      [pid, offset.replace(/-.*/, "-999999")],
      [pid, offset.replace(/^./, (digit) => (digit === "0" ? "1" : "0"))],
    ]) {
      const client = await claim(it, "ada", wrongPid, wrongOffset);
      assert.notEqual(client.socket._pid, wrongPid);
      client.close();
    }
    assert.equal((await claim(it, "ada", pid, offset)).socket._pid, pid, "the right ones are");
  });

  test("after the window, with the room's history", async () => {
    const { it, ada, bob } = await away(["--recovery", "300ms"]);
    await say(bob, "1");
    await elapse(400);
    it.proxy.mend();
    assert.equal(await back(ada), false);
    const { messages } = await ada.join("general");
    assert.deepEqual(messages.map(({ content }) => content), ["1", "0"]);
  });

  test("to a client that said goodbye", async () => {
    const it = await stand();
    const ada = await it.enter("ada");
    const { _pid: pid } = ada.socket;
    ada.close();
    await until(5_000, "her to be gone", async () => {
      const client = await claim(it, "ada", pid, undefined);
      const isNew = client.socket._pid !== pid;
      client.socket.io.engine.close();
      return isNew;
    });
  });

  test("to a client that missed too much", async () => {
    const { it, ada, bob } = await away();
    const long = "x".repeat(60_000);
    for (let n = 0; n < 40; n += 1) await say(bob, `${n} ${long}`);
    it.proxy.mend();
    assert.equal(await back(ada), false);
  });

  test("everywhere when recovery is off", async () => {
    const { it, ada, bob } = await away(["--recovery", "off"]);
    await say(bob, "1");
    assert.equal(ada.socket._pid, undefined);
    it.proxy.mend();
    assert.equal(await back(ada), false);
    for (const event of bob.log) {
      assert.ok(event.args.length <= 1, "no event has an offset");
    }
  });
});

test("of two that claim a session at once one gets it, and the other is another one", async () => {
  const it = await stand();
  const ada = await it.enterByProxy("ada");
  const { _pid: pid } = ada.socket;
  it.proxy.cut();
  await ada.next("disconnect");
  const both = await Promise.all([claim(it, "ada", pid), claim(it, "ada", pid)]);
  const third = await claim(it, "ada", pid);
  const all = [...both, third];
  assert.equal(all.filter(({ socket }) => socket._pid === pid).length, 1);
  assert.notEqual(third.socket._pid, pid, "who has it answers");
  const answer = await (await fetch(`${it.server.url}/api/v1/presence/ada`)).json();
  assert.equal(answer.sockets, 3);
  assert.ok(all.every(({ socket }) => socket.connected));
});
