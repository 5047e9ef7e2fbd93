// Orders: placing them, watching them, and mending the ones that failed.

import { amount, api, byId, clockTime, el, kept, news, toast } from "/demo/view.js";

const GOODS = [
  { sku: "carrots", name: "Carrots, a bunch", price: 2.4 },
  { sku: "clover", name: "Clover, fresh", price: 1.1 },
  { sku: "oats", name: "Oats, 1 kg", price: 3.25 },
];
const ATTEMPTS_MAX = 3;
const WATCH_MS = 1_000;
const DEAD_LETTERS_MS = 10_000;
const ORDERS_SHOWN_MAX = 20;

export function startOrders(socket, session) {
  const basket = new Map(GOODS.map(({ sku }) => [sku, sku === "carrots" ? 1 : 0]));
  /** Own orders as the server last told, newest first. */
  let orders = kept.read("orders", []);

  // --- placing ---

  const chosen = () => GOODS.filter(({ sku }) => basket.get(sku) > 0)
    .map(({ sku, name, price }) => ({ sku, name, price, quantity: basket.get(sku) }));
  const totalOf = (items) => Math.round(items.reduce((sum, { price, quantity }) => sum + price * quantity, 0) * 100) / 100;

  function showGoods() {
    byId("goods").replaceChildren(...GOODS.map(({ sku, name, price }) => {
      const quantity = el("output", {}, String(basket.get(sku)));
      const step = (by, label, sign) => el("button", {
        type: "button", className: "step", aria: { label: `${label} ${name}` },
        onclick: () => {
          basket.set(sku, Math.min(99, Math.max(0, basket.get(sku) + by)));
          quantity.textContent = basket.get(sku);
          showTotal();
        },
      }, sign);
      return el("li", {},
        el("span", { className: "name" }, name), el("span", { className: "price" }, amount(price)),
        el("span", { className: "stepper" }, step(-1, "One less of", "−"), quantity, step(1, "One more of", "+")));
    }));
    showTotal();
  }

  function showTotal() {
    const items = chosen();
    byId("total").textContent = amount(totalOf(items));
    byId("place").disabled = byId("place-failing").disabled = items.length === 0;
  }

  async function place(total) {
    const items = chosen();
    try {
      const { orderId, status } = await api("/api/orders", { userId: session.userId, items, total });
      orders.unshift({ orderId, items, total, status, createdAt: Date.now() });
      orders.length = Math.min(orders.length, ORDERS_SHOWN_MAX);
      showOrders();
      watch();
    } catch (error) {
      toast(`Order not placed: ${error.message}`, "bad");
    }
  }

  byId("order-form").onsubmit = (event) => {
    event.preventDefault();
    place(totalOf(chosen()));
  };
  byId("place-failing").onclick = () => place(-totalOf(chosen()));

  // --- watching ---

  const isOpen = ({ status }) => status === "processing";
  let watching = false;

  /** Asks for the open orders until none is left; a notification is only a reason to ask at once. */
  async function watch() {
    if (watching) return;
    watching = true;
    while (orders.some(isOpen)) {
      await Promise.all(orders.filter(isOpen).map((order) => refresh(order.orderId)));
      if (orders.some(isOpen)) await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    }
    watching = false;
  }

  async function refresh(orderId) {
    const at = () => orders.findIndex((order) => order.orderId === orderId);
    try {
      const order = await api(`/api/orders/${encodeURIComponent(orderId)}`);
      if (at() < 0) return;
      const before = orders[at()];
      if (JSON.stringify(before) === JSON.stringify(order)) return;
      orders[at()] = order;
      showOrders();
      news("orders");
      if (order.status === "failed" && before.status !== "failed") {
        toast(`Order ${short(orderId)} failed and waits in the dead letters.`, "bad");
        showDead();
      }
    } catch (error) {
      // Expired, or taken back by a crash before it was confirmed.
      if (error.status !== 404 || at() < 0) return;
      orders.splice(at(), 1);
      showOrders();
    }
  }

  const short = (orderId) => orderId.slice(0, 8);
  const summary = (items) => items.map((item) => (item.quantity ? `${item.quantity} × ${item.name}` : JSON.stringify(item))).join(", ");

  /** An order's journey in words. */
  function journey({ status, attempts = 0 }) {
    if (status === "completed") return "Completed";
    if (status === "failed") return `Dead-lettered after ${attempts} attempts`;
    return attempts ? `Attempt ${attempts} of ${ATTEMPTS_MAX} failed, retrying` : "Processing";
  }

  function showOrders() {
    kept.write("orders", orders);
    byId("orders").replaceChildren(...orders.map((order) => {
      const state = order.status === "processing" && order.attempts ? "retrying" : order.status;
      return el("li", { className: "order", data: { state, orderId: order.orderId } },
        el("p", { className: "order-head" }, el("code", {}, short(order.orderId)), el("span", { className: "price" }, amount(order.total))),
        el("p", { className: "muted" }, summary(order.items)),
        el("p", { className: "journey" }, el("span", { className: "dot", ariaHidden: "true" }), journey(order)));
    }));
    byId("orders-empty").hidden = orders.length > 0;
  }

  socket.on("notification", ({ type, orderId }) => {
    if (type !== "order_completed") return;
    toast(`Order ${short(orderId)} is completed.`, "good");
    refresh(orderId);
  });

  // --- dead letters ---

  async function showDead() {
    let messages;
    try {
      ({ messages } = await api("/api/demo/dead-letters"));
    } catch {
      return;
    }
    const list = byId("dead");
    // A total that is being mended must not be swept away by a refresh.
    const shown = new Map([...list.children].map((item) => [item.dataset.id, item]));
    list.replaceChildren(...messages.map((message) => shown.get(message.id) ?? deadItem(message)));
    byId("dead-count").textContent = messages.length;
    byId("dead-count").hidden = messages.length === 0;
    byId("dead-empty").hidden = messages.length > 0;
  }

  function deadItem({ id, orderId, error, attempts, diedAt, order }) {
    const field = `total-${id}`;
    const total = el("input", { id: field, type: "number", step: "0.01", value: order?.total ?? "", required: true });
    const problem = el("p", { className: "field-error", role: "alert" });
    const redrive = async (edit) => {
      problem.textContent = "";
      try {
        await api(`/api/demo/dead-letters/${encodeURIComponent(id)}/redrive`, edit ? { order: edit } : {});
        const own = orders.find((each) => each.orderId === orderId);
        if (own) Object.assign(own, { status: "processing", attempts: undefined, total: edit?.total ?? own.total });
        showOrders();
        watch();
        item.remove();
        toast(`Order ${short(orderId ?? id)} is on its way again.`);
      } catch (failure) {
        problem.textContent = failure.message;
        if (failure.status !== 404) return;
      }
      showDead();
    };
    const form = el("form", {
      className: "mend",
      onsubmit: (event) => {
        event.preventDefault();
        redrive({ total: total.valueAsNumber });
      },
    },
    el("label", { htmlFor: field }, "Total"), total,
    el("button", { type: "submit", className: "primary" }, "Mend and redrive"),
    el("button", { type: "button", onclick: () => redrive() }, "As it is"));
    const item = el("li", { className: "dead", data: { id, orderId: orderId ?? "" } },
      el("p", { className: "order-head" }, el("code", {}, orderId ? short(orderId) : "no order"),
        el("span", { className: "muted" }, diedAt ? clockTime(diedAt) : "")),
      el("p", { className: "reason" }, error ?? "Died without an error"),
      el("p", { className: "muted" }, `${attempts} ${attempts === 1 ? "attempt" : "attempts"}`),
      order ? form : el("button", { type: "button", onclick: () => redrive() }, "Redrive"),
      problem);
    return item;
  }

  byId("dead-refresh").onclick = showDead;
  setInterval(() => document.visibilityState === "visible" && showDead(), DEAD_LETTERS_MS);

  showGoods();
  showOrders();
  showDead();
  watch();
}
