// The chat application's RedisService on stock ioredis, every method, and job queues as BullMQ's scripts
// keep them.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import Redis from "ioredis";

import { startServer } from "./server.mjs";

class RedisService {
  constructor(url) {
    this.client = new Redis(url);
    this.subscriber = new Redis(url);
  }

  close() {
    this.client.disconnect();
    this.subscriber.disconnect();
  }

  async get(key) {
    const value = await this.client.get(key);
    return value === null ? null : JSON.parse(value);
  }

  async set(key, value, ttlSeconds) {
    const text = JSON.stringify(value);
    if (ttlSeconds) await this.client.setex(key, ttlSeconds, text);
    else await this.client.set(key, text);
  }

  del = (key) => this.client.del(key);
  exists = async (key) => (await this.client.exists(key)) === 1;
  expire = async (key, seconds) => (await this.client.expire(key, seconds)) === 1;
  ttl = (key) => this.client.ttl(key);

  hset = (key, field, value) => this.client.hset(key, field, JSON.stringify(value));

  async hget(key, field) {
    const value = await this.client.hget(key, field);
    return value === null ? null : JSON.parse(value);
  }

  async hgetall(key) {
    const fields = Object.entries(await this.client.hgetall(key));
    return Object.fromEntries(fields.map(([field, value]) => [field, JSON.parse(value)]));
  }

  hdel = (key, ...fields) => this.client.hdel(key, ...fields);

  lpush = (key, ...values) => this.client.lpush(key, ...values.map((value) => JSON.stringify(value)));
  rpush = (key, ...values) => this.client.rpush(key, ...values.map((value) => JSON.stringify(value)));

  async lpop(key) {
    const value = await this.client.lpop(key);
    return value === null ? null : JSON.parse(value);
  }

  async lrange(key, start, stop) {
    return (await this.client.lrange(key, start, stop)).map((value) => JSON.parse(value));
  }

  ltrim = (key, start, stop) => this.client.ltrim(key, start, stop);
  llen = (key) => this.client.llen(key);

  sadd = (key, ...members) => this.client.sadd(key, ...members);
  srem = (key, ...members) => this.client.srem(key, ...members);
  smembers = (key) => this.client.smembers(key);
  sismember = async (key, member) => (await this.client.sismember(key, member)) === 1;
  scard = (key) => this.client.scard(key);

  zadd = (key, score, member) => this.client.zadd(key, score, member);
  zrange = (key, start, stop) => this.client.zrange(key, start, stop);
  zrevrange = (key, start, stop) => this.client.zrevrange(key, start, stop, "WITHSCORES");
  zrem = (key, member) => this.client.zrem(key, member);
  zscore = (key, member) => this.client.zscore(key, member);

  publish = (channel, message) => this.client.publish(channel, JSON.stringify(message));

  async subscribe(channel, listener) {
    this.subscriber.on("message", (from, text) => {
      if (from === channel) listener(JSON.parse(text));
    });
    await this.subscriber.subscribe(channel);
  }

  async unsubscribe(channel) {
    await this.subscriber.unsubscribe(channel);
  }

  async checkRateLimit(key, limit, windowSeconds) {
    const used = await this.client.incr(key);
    if (used === 1) await this.client.expire(key, windowSeconds);
    return { allowed: used <= limit, remaining: Math.max(0, limit - used) };
  }

  async acquireLock(name, ttlMs) {
    const token = randomUUID();
    const taken = await this.client.set(`lock:${name}`, token, "PX", ttlMs, "NX");
    return taken === "OK" ? token : null;
  }

  async releaseLock(name, token) {
    const script = `
      if redis.call("get", KEYS[1]) == ARGV[1] then
        return redis.call("del", KEYS[1])
      else
        return 0
      end`;
    return (await this.client.eval(script, 1, `lock:${name}`, token)) === 1;
  }

  async getOrSet(key, fetch, ttlSeconds) {
    const cached = await this.get(key);
    if (cached !== null) return cached;
    const value = await fetch();
    await this.set(key, value, ttlSeconds);
    return value;
  }

  async invalidatePattern(pattern) {
    let removed = 0;
    for await (const keys of this.client.scanStream({ match: pattern, count: 100 })) {
      if (keys.length > 0) removed += await this.client.del(...keys);
    }
    return removed;
  }
}

let server;
let service;

before(async () => {
  server = await startServer({ args: ["--resp", "127.0.0.1:0"] });
  service = new RedisService(await server.redisUrl);
});

after(async () => {
  service?.close();
  await server?.stop();
});

test("values as JSON, with and without a time to live", async () => {
  const user = { id: 7, name: "Ada", tags: ["a", "ü"], none: null };
  await service.set("user:7", user);
  assert.deepEqual(await service.get("user:7"), user);
  assert.equal(await service.ttl("user:7"), -1);
  await service.set("session:7", "token", 100);
  assert.equal(await service.get("session:7"), "token");
  assert.ok((await service.ttl("session:7")) > 90);
  assert.equal(await service.expire("user:7", 50), true);
  assert.equal(await service.exists("user:7"), true);
  assert.equal(await service.del("user:7"), 1);
  assert.equal(await service.exists("user:7"), false);
  assert.equal(await service.get("user:7"), null);
  assert.equal(await service.expire("user:7", 50), false);
});

test("hashes, lists, sets, sorted sets", async () => {
  assert.equal(await service.hset("profile", "name", "Ada"), 1);
  assert.equal(await service.hset("profile", "age", 36), 1);
  assert.equal(await service.hset("profile", "age", 37), 0);
  assert.equal(await service.hget("profile", "age"), 37);
  assert.equal(await service.hget("profile", "nothing"), null);
  assert.deepEqual(await service.hgetall("profile"), { name: "Ada", age: 37 });
  assert.equal(await service.hdel("profile", "name", "age"), 2);
  assert.deepEqual(await service.hgetall("profile"), {});

  assert.equal(await service.lpush("room:messages", { n: 1 }, { n: 2 }), 2);
  assert.equal(await service.rpush("room:messages", { n: 0 }), 3);
  assert.deepEqual(await service.lrange("room:messages", 0, -1), [{ n: 2 }, { n: 1 }, { n: 0 }]);
  assert.equal(await service.ltrim("room:messages", 0, 1), "OK");
  assert.equal(await service.llen("room:messages"), 2);
  assert.deepEqual(await service.lpop("room:messages"), { n: 2 });
  assert.equal(await service.lpop("room:nothing"), null);

  assert.equal(await service.sadd("members", "ada", "bob", "ada"), 2);
  assert.equal(await service.sismember("members", "ada"), true);
  assert.equal(await service.srem("members", "ada"), 1);
  assert.deepEqual(await service.smembers("members"), ["bob"]);
  assert.equal(await service.scard("members"), 1);

  assert.equal(await service.zadd("board", 1.5, "ada"), 1);
  assert.equal(await service.zadd("board", 3, "bob"), 1);
  assert.deepEqual(await service.zrange("board", 0, -1), ["ada", "bob"]);
  assert.deepEqual(await service.zrevrange("board", 0, 0), ["bob", "3"]);
  assert.equal(await service.zscore("board", "ada"), "1.5");
  assert.equal(await service.zrem("board", "ada"), 1);
  assert.equal(await service.zscore("board", "ada"), null);
});

test("publish and subscribe", async () => {
  // The gateway of our server listens to this channel too; what it has no room for, it leaves.
  const others = await service.publish("notifications", { text: "nobody" });
  let hear;
  const heard = new Promise((resolve) => (hear = resolve));
  await service.subscribe("notifications", hear);
  assert.equal(await service.publish("notifications", { text: "hello" }), others + 1);
  assert.deepEqual(await heard, { text: "hello" });
  await service.unsubscribe("notifications");
  assert.equal(await service.publish("notifications", { text: "nobody" }), others);
});

test("a rate limit", async () => {
  const answers = [];
  for (let n = 0; n < 4; n += 1) answers.push(await service.checkRateLimit("rate:ada", 3, 60));
  assert.deepEqual(answers.map(({ allowed }) => allowed), [true, true, true, false]);
  assert.deepEqual(answers.map(({ remaining }) => remaining), [2, 1, 0, 0]);
  assert.ok((await service.ttl("rate:ada")) > 50);
});

test("a lock is its holder's alone", async () => {
  const token = await service.acquireLock("order:1", 60_000);
  assert.equal(await service.acquireLock("order:1", 60_000), null);
  assert.equal(await service.releaseLock("order:1", "another"), false);
  assert.equal(await service.releaseLock("order:1", token), true);
  assert.notEqual(await service.acquireLock("order:1", 60_000), null);
});

test("getOrSet fetches once, and again after invalidatePattern", async () => {
  let fetched = 0;
  const product = (id) =>
    service.getOrSet(`product:${id}`, async () => ({ id, fetched: (fetched += 1) }), 60);
  assert.deepEqual(await product(1), { id: 1, fetched: 1 });
  assert.deepEqual(await product(1), { id: 1, fetched: 1 });
  for (let id = 2; id <= 250; id += 1) await product(id);
  await service.set("products", "stays");
  assert.equal(await service.invalidatePattern("product:*"), 250);
  assert.deepEqual(await product(1), { id: 1, fetched: 251 });
  assert.equal(await service.get("products"), "stays");
});

// What BullMQ keeps of a queue, without its stream of events: jobs as hashes, ids in lists and sorted
// sets, options packed by the client's side of msgpack, locks with a time to live.
const ADD = `
  local prefix = KEYS[1]
  local opts = cmsgpack.unpack(ARGV[2])
  local id = redis.call("INCR", prefix .. "id")
  local key = prefix .. id
  redis.call("HMSET", key, "name", opts.name, "data", ARGV[1], "opts", cjson.encode(opts),
    "timestamp", ARGV[3], "attemptsMade", 0)
  if opts.delay and opts.delay > 0 then
    redis.call("ZADD", prefix .. "delayed", tonumber(ARGV[3]) + opts.delay, id)
  elseif opts.priority then
    redis.call("ZADD", prefix .. "prioritized", opts.priority, id)
  else
    redis.call("LPUSH", prefix .. "wait", id)
  end
  redis.call("ZADD", prefix .. "marker", 0, "0")
  return id .. ""`;
const TAKE = `
  local prefix, now, token = KEYS[1], tonumber(ARGV[1]), ARGV[2]
  local due = redis.call("ZRANGEBYSCORE", prefix .. "delayed", 0, now, "LIMIT", 0, 1000)
  for _, id in ipairs(due) do
    redis.call("ZREM", prefix .. "delayed", id)
    redis.call("LPUSH", prefix .. "wait", id)
  end
  local id = redis.call("RPOPLPUSH", prefix .. "wait", prefix .. "active")
  if not id then
    local popped = redis.call("ZPOPMIN", prefix .. "prioritized")
    if not popped[1] then return {0, 0} end
    id = popped[1]
    redis.call("LPUSH", prefix .. "active", id)
  end
  redis.call("SET", prefix .. id .. ":lock", token, "PX", ARGV[3])
  redis.call("HSET", prefix .. id, "processedOn", now)
  return {redis.call("HGETALL", prefix .. id), id}`;
const FINISH = `
  local prefix, id, token = KEYS[1], ARGV[1], ARGV[2]
  if redis.call("GET", prefix .. id .. ":lock") ~= token then return -2 end
  redis.call("DEL", prefix .. id .. ":lock")
  if redis.call("LREM", prefix .. "active", -1, id) < 1 then return -3 end
  redis.call("ZADD", prefix .. "completed", ARGV[4], id)
  redis.call("HMSET", prefix .. id, "returnvalue", ARGV[3], "finishedOn", ARGV[4])
  local over = redis.call("ZREVRANGE", prefix .. "completed", 2, -1)
  for _, old in ipairs(over) do redis.call("DEL", prefix .. old) end
  if #over > 0 then redis.call("ZREM", prefix .. "completed", unpack(over)) end
  return 0`;

/** msgpack of a map of short texts and small numbers. */
function pack(map) {
  const parts = [Buffer.from([0x80 | Object.keys(map).length])];
  const text = (value) => parts.push(Buffer.from([0xa0 | value.length]), Buffer.from(value));
  for (const [key, value] of Object.entries(map)) {
    text(key);
    if (typeof value === "string") text(value);
    else parts.push(Buffer.from([0xcd, value >> 8, value & 0xff]));
  }
  return Buffer.concat(parts);
}

test("job queues as BullMQ's scripts keep them", async () => {
  const redis = service.client;
  redis.defineCommand("addJob", { numberOfKeys: 1, lua: ADD });
  redis.defineCommand("takeJob", { numberOfKeys: 1, lua: TAKE });
  redis.defineCommand("finishJob", { numberOfKeys: 1, lua: FINISH });
  const prefix = "bull:mail:";
  const add = (name, opts, now) =>
    redis.addJob(prefix, JSON.stringify({ name }), pack({ name, ...opts }), now);
  assert.equal(await add("first", {}, 1_000), "1");
  assert.equal(await add("later", { delay: 500 }, 1_000), "2");
  assert.equal(await add("low", { priority: 9 }, 1_000), "3");
  assert.equal(await add("high", { priority: 1 }, 1_000), "4");
  // A worker sleeps on the marker.
  assert.deepEqual(await redis.bzpopmin(`${prefix}marker`, 5), [`${prefix}marker`, "0", "0"]);

  const done = [];
  for (const now of [1_001, 1_002, 2_000, 2_001]) {
    const [fields, id] = await redis.takeJob(prefix, now, "token", 30_000);
    const job = Object.fromEntries(fields.flatMap((_, at) => (at % 2 ? [] : [[fields[at], fields[at + 1]]])));
    assert.equal(JSON.parse(job.opts).name, job.name);
    assert.ok((await redis.pttl(`${prefix}${id}:lock`)) > 20_000);
    assert.equal(await redis.finishJob(prefix, id, "stolen", "{}", now), -2);
    assert.equal(await redis.finishJob(prefix, id, "token", "{}", now), 0);
    done.push(job.name);
  }
  assert.deepEqual(done, ["first", "high", "later", "low"]);
  assert.deepEqual(await redis.takeJob(prefix, 3_000, "token", 30_000), [0, 0]);
  assert.deepEqual(await redis.zrange(`${prefix}completed`, 0, -1), ["2", "3"]);
  assert.equal(await redis.exists(`${prefix}1`, `${prefix}4`), 0);
  assert.equal(await redis.llen(`${prefix}active`), 0);
});
