// The stock socket.io-client in a browser, on a page of another origin than the server's, as an application
// that ships it in its bundle has it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { launchBrowser } from "./browser.mjs";
import { MODES } from "./client.mjs";
import { startProxy } from "./cut.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

const DIST = path.join(path.dirname(createRequire(import.meta.url).resolve("socket.io-client/package.json")), "dist");
/** By the parser that it speaks. */
const BUNDLES = { json: "socket.io.min.js", msgpack: "socket.io.msgpack.min.js" };

let pages, stranger, browser, server, proxy;
const ends = [];

/** A site with one empty page for each bundle, at a port and so an origin of its own. */
async function startSite() {
  const site = createServer(async (request, response) => {
    const name = request.url.slice(1);
    if (name.endsWith(".js")) return response.end(await readFile(path.join(DIST, path.basename(name))));
    response.setHeader("content-type", "text/html").end(`<script src="/${BUNDLES[name]}"></script>`);
  });
  await once(site.listen(0, "127.0.0.1"), "listening");
  return { url: `http://127.0.0.1:${site.address().port}`, close: () => (site.close(), site.closeAllConnections()) };
}

before(async () => {
  [pages, stranger] = [await startSite(), await startSite()];
  server = await startServer({ args: ["--cors-origin", `https://app.example,${pages.url}`] });
  proxy = await startProxy(server.url);
  browser = await launchBrowser();
});

afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

after(async () => {
  await browser?.close();
  proxy?.close();
  await server?.stop();
  for (const site of [pages, stranger]) site?.close();
});

/** A page on which a user's client runs: `call(event, ...)` and `next(event)` are there. */
async function enter(site, user, { bundle = "json", url = server.url, ...options }) {
  const page = await browser.newPage();
  ends.push(() => page.close());
  await page.goto(`${site.url}/${bundle}`);
  const token = await mintToken(server.dataDir, user);
  await page.evaluate(({ url, options }) => {
    window.socket = io(url, options);
    window.log = [];
    socket.onAny((name, ...args) => log.push([name, args]));
    for (const name of ["connect", "connect_error", "disconnect"]) {
      socket.on(name, (what) => log.push([name, [what?.message ?? what]]));
    }
    window.call = (...event) => socket.timeout(5_000).emitWithAck(...event);
  }, { url, options: { auth: { token }, reconnectionDelay: 50, ...options } });
  return page;
}

/** Waits until the client was told so many such events; the first argument of each. */
async function told(page, name, count = 1) {
  const enough = ([name, count]) => log.filter(([told]) => told === name).length >= count;
  await page.waitForFunction(enough, [name, count], { timeout: 10_000 });
  return page.evaluate((name) => log.filter(([told]) => told === name).map(([, args]) => args[0]), name);
}

for (const [mode, { transports }] of Object.entries(MODES)) {
  for (const bundle of Object.keys(BUNDLES)) {
    describe(`the ${bundle} client over ${mode}`, () => {
      test("two pages of a listed origin talk, with credentials and headers of their own", async () => {
        // A header of one's own has the browser ask first.
        const options = { bundle, transports, withCredentials: true, extraHeaders: { "x-trace": "1" } };
        const [ada, bob] = [await enter(pages, "ada", options), await enter(pages, "bob", options)];
        for (const page of [ada, bob]) {
          await told(page, "connect");
          assert.equal((await page.evaluate((room) => call("join:room", room), mode + bundle)).error, undefined);
        }
        const message = { roomId: mode + bundle, content: "é\u2028😀" };
        const sent = await ada.evaluate((message) => call("message:send", message), message);
        assert.ok(sent.offset, JSON.stringify(sent));
        for (const page of [ada, bob]) {
          const [{ id, content }] = await told(page, "message:new");
          assert.deepEqual({ id, content }, { id: sent.id, content: message.content });
        }
        const transport = transports.at(-1);
        await ada.waitForFunction((name) => socket.io.engine.transport.name === name, transport);
      });
    });
  }
}

test("a page comes back after its network was cut, and has what it missed", async () => {
  const ada = await enter(pages, "ada", { url: proxy.url, withCredentials: true });
  const bob = await enter(pages, "bob", {});
  for (const page of [ada, bob]) {
    await told(page, "connect");
    await page.evaluate(() => call("join:room", "recovery"));
  }
  const say = (content) => bob.evaluate((content) => call("message:send", { roomId: "recovery", content }), content);
  await say("before");
  await told(ada, "message:new");
  await ada.waitForFunction(() => socket.io.engine.transport.name === "websocket");
  proxy.cut();
  await told(ada, "disconnect");
  await say("meanwhile");
  proxy.mend();
  await told(ada, "connect", 2);
  assert.equal(await ada.evaluate(() => socket.recovered), true);
  await say("after");
  const messages = await told(ada, "message:new", 3);
  assert.deepEqual(messages.map(({ content }) => content), ["before", "meanwhile", "after"]);
});

test("a page of an origin that is not listed is refused on either transport", async () => {
  for (const transports of [["polling"], ["websocket"]]) {
    const eve = await enter(stranger, "eve", { transports, reconnection: false });
    assert.match((await told(eve, "connect_error"))[0], /xhr poll error|websocket error/);
    assert.equal(await eve.evaluate(() => socket.connected), false);
  }
});
