// Stock Redis clients on the Redis port: what applications do with them every day.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import Redis from "ioredis";
import { createClient } from "redis";

import { startServer } from "./server.mjs";

let server;
let url;
let redis;

before(async () => {
  server = await startServer({ args: ["--resp", "127.0.0.1:0"] });
  url = await server.redisUrl;
  redis = new Redis(url);
});

after(async () => {
  redis?.disconnect();
  await server?.stop();
});

test("ioredis: values, expiry, counters", async () => {
  assert.equal(await redis.set("greeting", "hello"), "OK");
  assert.equal(await redis.get("greeting"), "hello");
  await redis.setex("session", 100, JSON.stringify({ user: "ada" }));
  assert.deepEqual(JSON.parse(await redis.get("session")), { user: "ada" });
  assert.ok((await redis.ttl("session")) > 90);
  assert.equal(await redis.incr("visits"), 1);
  assert.equal(await redis.incrby("visits", 9), 10);
  assert.equal(await redis.exists("greeting", "nothing"), 1);
  assert.equal(await redis.del("greeting"), 1);
  assert.equal(await redis.get("greeting"), null);
  const bytes = Buffer.from([0, 1, 2, 255, 13, 10]);
  await redis.set("bytes", bytes);
  assert.deepEqual(await redis.getBuffer("bytes"), bytes);
});

test("ioredis: hashes, lists, sets, sorted sets", async () => {
  await redis.hset("user:1", { name: "Ada", email: "ada@example.com" });
  assert.deepEqual(await redis.hgetall("user:1"), { name: "Ada", email: "ada@example.com" });
  assert.equal(await redis.hincrby("user:1", "visits", 2), 2);
  assert.equal(await redis.hdel("user:1", "email"), 1);
  await redis.lpush("messages", "one", "two", "three");
  await redis.ltrim("messages", 0, 1);
  assert.deepEqual(await redis.lrange("messages", 0, -1), ["three", "two"]);
  await redis.sadd("online", "ada", "bob");
  assert.equal(await redis.sismember("online", "ada"), 1);
  assert.deepEqual((await redis.smembers("online")).sort(), ["ada", "bob"]);
  await redis.zadd("scores", 10, "ada", 7.5, "bob");
  assert.deepEqual(await redis.zrange("scores", 0, -1, "WITHSCORES"), ["bob", "7.5", "ada", "10"]);
  assert.equal(await redis.zincrby("scores", 5, "bob"), "12.5");
  assert.deepEqual(await redis.zrevrangebyscore("scores", "+inf", 11), ["bob"]);
});

test("ioredis: pipelines, transactions and watched keys", async () => {
  const replies = await redis.pipeline().set("p", 1).incr("p").lpush("p", "x").get("p").exec();
  assert.deepEqual(replies.map(([, value]) => value), ["OK", 2, undefined, "2"]);
  assert.match(replies[2][0].message, /^WRONGTYPE /);
  assert.deepEqual(await redis.multi().incr("t").incr("t").exec(), [[null, 1], [null, 2]]);
  const other = new Redis(url);
  await redis.watch("t");
  await other.incr("t");
  assert.equal(await redis.multi().incr("t").exec(), null);
  other.disconnect();
});

test("ioredis: publish and subscribe, patterns too", async () => {
  const subscriber = new Redis(url);
  const heard = [];
  subscriber.on("message", (channel, text) => heard.push([channel, text]));
  const last = new Promise((resolve) => {
    subscriber.on("pmessage", (pattern, channel, text) => resolve([pattern, channel, text]));
  });
  await subscriber.subscribe("order-updates");
  await subscriber.psubscribe("order-*");
  assert.equal(await redis.publish("order-updates", "paid"), 2);
  assert.deepEqual(await last, ["order-*", "order-updates", "paid"]);
  assert.deepEqual(heard, [["order-updates", "paid"]]);
  subscriber.disconnect();
});

test("ioredis: a blocked pop is served by a push, first come first served", async () => {
  const [first, second] = [new Redis(url), new Redis(url)];
  const one = first.blpop("jobs", 10);
  const isBlocked = async () => (await redis.client("LIST")).match(/cmd=blpop/g)?.length ?? 0;
  while ((await isBlocked()) < 1);
  const two = second.blpop("jobs", 10);
  while ((await isBlocked()) < 2);
  await redis.rpush("jobs", "a", "b");
  assert.deepEqual(await Promise.all([one, two]), [["jobs", "a"], ["jobs", "b"]]);
  first.disconnect();
  second.disconnect();
});

test("ioredis: a defined command runs its script by its digest", async () => {
  redis.defineCommand("takeToken", {
    numberOfKeys: 1,
    lua: `
      local used = redis.call('INCR', KEYS[1])
      if used == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
      if used > tonumber(ARGV[1]) then return {0, redis.call('PTTL', KEYS[1])} end
      return {1, tonumber(ARGV[1]) - used}`,
  });
  assert.deepEqual(await redis.takeToken("limit:ada", 2, 60_000), [1, 1]);
  assert.deepEqual(await redis.takeToken("limit:ada", 2, 60_000), [1, 0]);
  const [allowed, waitMs] = await redis.takeToken("limit:ada", 2, 60_000);
  assert.equal(allowed, 0);
  assert.ok(waitMs > 50_000);
});

test("ioredis: a scan stream meets every key", async () => {
  const keys = Array.from({ length: 1_000 }, (_, n) => `scan:${n}`);
  await redis.mset(keys.flatMap((key) => [key, "x"]));
  const met = new Set();
  for await (const some of redis.scanStream({ match: "scan:*", count: 50 })) {
    for (const key of some) met.add(key);
  }
  assert.equal(met.size, keys.length);
});

test("node-redis: RESP2 and RESP3, and another database", async () => {
  for (const RESP of [2, 3]) {
    const client = await createClient({ url, RESP }).connect();
    await client.select(RESP);
    await client.set("k", "v");
    assert.equal(await client.get("k"), "v");
    await client.hSet("h", { a: "1", b: "2" });
    assert.deepEqual({ ...(await client.hGetAll("h")) }, { a: "1", b: "2" });
    await client.zAdd("z", [{ score: 1.5, value: "m" }]);
    assert.equal(await client.zScore("z", "m"), 1.5);
    assert.equal(await client.dbSize(), 3);
    const replies = await client.multi().incr("n").incr("n").exec();
    assert.deepEqual(replies, [1, 2]);
    await client.flushDb();
    client.destroy();
  }
});

test("what was written is there after a restart", async () => {
  await redis.hset("kept", "field", "value");
  await redis.set("kept:until", "x", "EX", 1_000);
  await redis.config("SET", "appendfsync", "always");
  await redis.set("kept:durably", "x");
  redis.disconnect();
  await server.kill9();
  server = await startServer({ args: ["--resp", "127.0.0.1:0"], dataDir: server.dataDir });
  url = await server.redisUrl;
  redis = new Redis(url);
  assert.equal(await redis.get("kept:durably"), "x");
  assert.equal(await redis.hget("kept", "field"), "value");
  assert.ok((await redis.ttl("kept:until")) > 900);
});
