// Tokens of others: signed with a private key of which the server has only the public one.

import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";

import { closeClients, connect, connectError } from "./client.mjs";
import { startServer } from "./server.mjs";
import { inSeconds, signToken } from "./token.mjs";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ed25519 = generateKeyPairSync("ed25519");
const foreign = generateKeyPairSync("ed25519");

const pem = ({ publicKey }) => publicKey.export({ type: "spki", format: "pem" });

let folder;
let server;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "leveret-keys-"));
  const file = path.join(folder, "keys.pem");
  await writeFile(file, pem(rsa) + pem(ed25519));
  server = await startServer({ args: ["--jwt-public-key", file] });
});

after(async () => {
  assert.equal(await server?.stop(), 0);
  await rm(folder, { recursive: true, force: true });
});

afterEach(closeClients);

/** A JWT of these claims (RFC 7519), signed with RS256 or EdDSA. */
function signed(alg, { privateKey }, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg, typ: "JWT" })}.${part(claims)}`;
  const digest = alg === "RS256" ? "sha256" : null;
  return `${text}.${sign(digest, Buffer.from(text), privateKey).toString("base64url")}`;
}

const claims = () => ({ sub: "ada", rooms: ["*"], exp: inSeconds(60) });

test("tokens of either key are trusted", async () => {
  for (const [alg, keys] of [["RS256", rsa], ["EdDSA", ed25519]]) {
    const client = await connect(server.url, { token: signed(alg, keys, claims()) });
    await client.join("general");
    const until = inSeconds(120);
    const fresh = signed(alg, keys, { ...claims(), exp: until });
    assert.deepEqual(await client.call("auth:refresh", { token: fresh }), { ok: true, exp: until });
  }
});

test("tokens of another key, and of the public key as a secret, are not", async () => {
  const forged = [
    signed("EdDSA", foreign, claims()),
    signed("RS256", rsa, { ...claims(), exp: inSeconds(-1) }),
    signToken(pem(rsa), claims()),
    signToken(pem(ed25519), claims()),
    signToken("", claims(), { alg: "none" }),
  ];
  for (const token of forged) {
    assert.equal(await connectError(server.url, { token }), "Authentication failed");
  }
});

test("the stock client's retries store a message once", async () => {
  const token = signed("EdDSA", ed25519, claims());
  const client = await connect(server.url, { token, retries: 3, ackTimeout: 1 });
  client.socket.emit("join:room", "retried");
  await client.next("room:history");
  // Each try gives up after a millisecond; some acknowledgement comes in time, or the last is late.
  client.socket.emit("message:send", { roomId: "retried", content: "once", clientId: "1" });
  client.socket.emit("presence:update", "here");
  const listener = await connect(server.url, { token: signed("RS256", rsa, claims()) });
  await client.next("message:new");
  const again = await listener.join("retried");
  assert.equal(again.messages.length, 1);
  assert.equal(again.messages[0].clientId, "1");
  const ack = await listener.call("message:send", { roomId: "retried", content: "x", clientId: "1" });
  assert.equal(ack.id, again.messages[0].id);
  assert.equal(client.seen("message:new").length, 1);
});

test("a client comes back with a fresh token when its own has ended", async () => {
  let shown = 0;
  const auth = (show) => {
    shown += 1;
    show({ token: signed("EdDSA", ed25519, { ...claims(), exp: inSeconds(2 * shown + 1) }) });
  };
  const client = await connect(server.url, { auth, reconnectionDelay: 10 });
  await client.next("error", ({ message }) => message === "Token expired");
  assert.equal(await client.next("disconnect"), "transport close");
  await client.next("connect");
  assert.equal(shown, 2);
});
