// The page at /demo in a real browser: chat, orders, dead letters, by mouse and by keyboard alone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import path from "node:path";
import { mkdir, rm } from "node:fs/promises";
import { launchBrowser } from "./browser.mjs";
import { startServer } from "./server.mjs";

const PATIENCE_MS = 15_000;
/** Three attempts, 2 s and 4 s apart, with jitter, and the page's own polling. */
const DEAD_LETTER_MS = 30_000;

let server;
let browser;

before(async () => {
  server = await startServer({ args: ["--demo"] });
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A person with a browser window of their own. What the console complains of fails the test. */
async function person(t, name, { room, url = server.url, unreachable = false, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  page.on("console", (message) => {
    // Chromium itself logs a connection that fails; only a test that cuts it may see that.
    if (unreachable && message.text().includes("ERR_CONNECTION_REFUSED")) return;
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, [], `${name}'s console`);
  });
  await page.goto(`${url}/demo`);
  await page.getByLabel("Your name").waitFor();
  await screenshot(page, `sign-in-${options.viewport?.width ?? 1280}-${options.colorScheme ?? "light"}`);
  await page.getByLabel("Your name").fill(name);
  await page.getByRole("button", { name: "Join as a guest" }).click();
  await page.locator("#connection[data-state=live]").waitFor();
  if (room) {
    await page.getByLabel("Another room").fill(room);
    await page.getByLabel("Another room").press("Enter");
    await page.getByRole("heading", { name: `# ${room}` }).waitFor();
  }
  return page;
}

const says = (page, text) => page.locator(".message:not(.pending) .text", { hasText: text });

async function screenshot(page, name) {
  const folder = process.env.LEVERET_SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: path.join(folder, `${name}.png`) });
}

test("two people chat, and see each other type, come and go", async (t) => {
  const ada = await person(t, "Ada Lovelace", { room: "engine" });
  await ada.getByText("Nothing was said here yet").waitFor();
  await screenshot(ada, "empty-wide");
  await ada.getByLabel("Message", { exact: true }).fill("Is anybody there?");
  await ada.keyboard.press("Enter");
  await says(ada, "Is anybody there?").waitFor();

  const charles = await person(t, "Charles Babbage", { room: "engine" });
  // What was said before comes as history, and with it who said it and that she is there.
  await says(charles, "Is anybody there?").waitFor();
  await charles.locator("#people [data-status=online]", { hasText: "Ada Lovelace" }).waitFor();
  await ada.locator("#people [data-status=online]", { hasText: "Charles Babbage" }).waitFor();

  await charles.getByLabel("Message", { exact: true }).pressSequentially("The mill");
  await ada.getByText("Charles Babbage is typing").waitFor();
  await charles.getByLabel("Message", { exact: true }).pressSequentially(" is turning <b>fast</b>");
  await charles.keyboard.press("Enter");
  await says(ada, "The mill is turning <b>fast</b>").waitFor();
  await says(charles, "The mill is turning <b>fast</b>").waitFor();
  await ada.getByText("Charles Babbage is typing").waitFor({ state: "hidden" });

  await charles.getByLabel("Your status").selectOption("busy");
  await ada.locator("#people [data-status=busy]", { hasText: "Charles Babbage" }).waitFor();
  assert.equal(await ada.locator(".message").count(), 2, "every message once");
  await screenshot(ada, "chat-wide");

  await charles.getByRole("button", { name: "Sign out" }).click();
  await charles.getByLabel("Your name").waitFor();
  await ada.locator("#people", { hasText: "Charles Babbage" }).waitFor({ state: "hidden" });
});

test("a message is sent by keyboard alone, from the first key on", async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`${server.url}/demo`);
  await page.keyboard.type("Grace");
  await page.keyboard.press("Enter");
  await page.locator("#connection[data-state=live]").waitFor();
  await page.keyboard.type("Typed without a mouse");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("in two lines");
  await page.keyboard.press("Enter");
  await says(page, "Typed without a mouse\nin two lines").waitFor();

  // Every control that shows can be reached, and shows that it has the focus.
  const reached = new Set();
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => {
      const { activeElement: element } = document;
      if (element === document.body) return "";
      if (getComputedStyle(element).outlineStyle === "none") throw new Error(`no focus ring: ${element.outerHTML}`);
      return element.id || element.textContent.trim();
    }));
  }
  for (const control of ["theme", "sign-out", "join-room", "status", "content", "place", "place-failing", "dead-refresh", "#random"]) {
    assert.ok(reached.has(control), `${control} is reached by Tab`);
  }
});

test("an order completes", async (t) => {
  const page = await person(t, "Emmy");
  await page.getByRole("button", { name: "One more of Oats" }).click();
  assert.equal(await page.locator("#total").textContent(), "5.65");
  await page.getByRole("button", { name: "Place order" }).click();
  await page.locator(".order[data-state=completed]").waitFor();
  await page.locator(".toast", { hasText: "is completed" }).waitFor();
  await page.reload();
  await page.locator(".order[data-state=completed]").waitFor();
});

test("a failing order is dead-lettered, mended, redriven and completes", async (t) => {
  const page = await person(t, "Alan");
  await page.getByRole("button", { name: "Place a failing order" }).click();
  await page.locator(".order[data-state=retrying]", { hasText: "of 3 failed, retrying" }).waitFor();
  const order = page.locator(".order").first();
  const orderId = await order.getAttribute("data-order-id");
  await page.locator(`.order[data-state=failed][data-order-id="${orderId}"]`).waitFor({ timeout: DEAD_LETTER_MS });
  const dead = page.locator(`.dead[data-order-id="${orderId}"]`);
  await dead.getByText("negative").waitFor();
  await dead.getByText("3 attempts").waitFor();
  await screenshot(page, "dead-wide");

  await dead.getByLabel("Total").fill("2.40");
  await dead.getByRole("button", { name: "Mend and redrive" }).click();
  await page.locator(`.order[data-state=completed][data-order-id="${orderId}"]`).waitFor();
  await dead.waitFor({ state: "detached" });
  assert.match(await order.textContent(), /2[.,]40/);
});

test("the page comes back by itself when the server crashed, and says what waited", async (t) => {
  const own = await startServer({ args: ["--demo"] });
  let again;
  t.after(async () => {
    await own.kill9();
    await again?.stop();
    await rm(own.dataDir, { recursive: true, force: true });
  });
  const page = await person(t, "Hedy", { room: "radio", url: own.url, unreachable: true });
  await page.getByLabel("Message", { exact: true }).fill("Before the crash");
  await page.keyboard.press("Enter");
  await says(page, "Before the crash").waitFor();

  await own.kill9();
  await page.locator("#connection:not([data-state=live])").waitFor();
  await page.getByLabel("Message", { exact: true }).fill("While nobody listened");
  await page.keyboard.press("Enter");
  await page.locator(".message.pending", { hasText: "While nobody listened" }).waitFor();

  const address = own.url.replace("http://", "");
  again = await startServer({ args: ["--demo", "--http", address], dataDir: own.dataDir });
  await page.locator("#connection[data-state=live]").waitFor();
  await says(page, "While nobody listened").waitFor();
  assert.equal(await says(page, "Before the crash").count(), 1);
  assert.equal(await page.locator(".message").count(), 2);
});

for (const [name, options] of Object.entries({
  "narrow-light": { viewport: { width: 390, height: 780 }, colorScheme: "light" },
  "narrow-dark": { viewport: { width: 390, height: 780 }, colorScheme: "dark" },
  "wide-light": { viewport: { width: 1280, height: 800 }, colorScheme: "light" },
  "wide-dark": { viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
})) {
  test(`nothing overflows, and text is readable: ${name}`, async (t) => {
    const page = await person(t, "Mary Somerville", { ...options, reducedMotion: "reduce" });
    await page.getByLabel("Message", { exact: true }).fill(`A long word for ${name}: ${"hare".repeat(40)}`);
    await page.keyboard.press("Enter");
    await says(page, `A long word for ${name}`).waitFor();
    await screenshot(page, `${name}-chat`);
    for (const tab of options.viewport.width < 1000 ? ["rooms", "orders", "chat"] : [null]) {
      if (tab) await page.locator(`.tabs [data-tab=${tab}]`).click();
      await screenshot(page, `${name}-${tab ?? "all"}`);
      if (tab === "orders") await page.getByRole("button", { name: "Place order" }).waitFor();
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${tab}: ${overflow} px too wide`);
    }
    const faint = await page.evaluate(faintTexts);
    assert.deepEqual(faint, []);
    await page.getByRole("button", { name: "Switch between dark and light" }).click();
    const wanted = options.colorScheme === "dark" ? "light" : "dark";
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), wanted);
    assert.deepEqual(await page.evaluate(faintTexts), []);
  });
}

/** Shown texts with less contrast than WCAG 2.2 level AA asks of small text. Runs in the page. */
function faintTexts() {
  const luminance = ([red, green, blue]) => {
    const linear = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  };
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || !element.checkVisibility() || element.disabled) continue;
    const [dark, light] = [luminance(numbers(getComputedStyle(element).color)), luminance(background(element))].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) faint.push(`${element.tagName} "${element.textContent.trim().slice(0, 30)}": ${contrast.toFixed(2)}`);
  }
  return faint;
}
