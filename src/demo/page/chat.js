// Rooms, messages, typing and people.

import { api, byId, clockTime, dayName, el, initials, kept, news, tint, toast } from "/demo/view.js";

const ROOMS = ["general", "random", "support"];
/** Messages of one author within this time stand under one name. */
const GROUP_MS = 5 * 60_000;
const TYPING_REPEAT_MS = 2_500;
const TYPING_EXPIRES_MS = 5_000;
const MESSAGES_MAX = 500;

export function startChat(socket, session) {
  const rooms = kept.read("rooms", ROOMS);
  let room = kept.read("room", rooms[0]);
  /** The shown messages, oldest first. */
  let messages = [];
  /** Own messages that the server has not acknowledged, with why they failed, if they did. */
  let pending = [];
  /** userId to {username, status}. */
  const people = new Map();
  /** userId to {username, timer}. */
  const typing = new Map();

  const list = byId("messages");
  const scroll = byId("scroll");
  const content = byId("content");

  // --- rooms ---

  function showRooms() {
    byId("rooms").replaceChildren(...rooms.map((name) => el("li", {}, el("button", {
      type: "button",
      onclick: () => enter(name),
      aria: name === room ? { current: "true" } : {},
    }, el("span", { className: "hash", ariaHidden: "true" }, "#"), name))));
    byId("room-title").textContent = `# ${room}`;
    document.title = `${room} · Leveret`;
  }

  function enter(name) {
    document.querySelector('.tabs [data-tab="chat"]').click();
    if (name === room) return content.focus();
    stopTyping();
    if (socket.connected) socket.emit("leave:room", room);
    room = name;
    kept.write("room", room);
    messages = [];
    pending = [];
    people.clear();
    for (const each of typing.keys()) forgetTyping(each);
    showRooms();
    showPeople();
    showMessages();
    if (socket.connected) join();
    content.focus();
  }

  async function join() {
    const joined = room;
    byId("room-note").textContent = "Joining";
    const answer = await socket.emitWithAck("join:room", joined).catch((error) => ({ error: error.message }));
    if (joined !== room) return;
    byId("room-note").textContent = answer.error ? `Not joined: ${answer.error}` : "";
    if (!answer.error) showPeople();
  }

  byId("join-form").onsubmit = (event) => {
    event.preventDefault();
    const name = byId("join-room").value.trim();
    if (!name) return byId("join-room").focus();
    if (!rooms.includes(name)) rooms.push(name);
    kept.write("rooms", rooms);
    byId("join-room").value = "";
    enter(name);
  };

  // --- messages ---

  function showMessages() {
    const nearEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    const items = [];
    let before = null;
    for (const message of messages) {
      if (!before || dayName(before.timestamp) !== dayName(message.timestamp)) {
        items.push(el("li", { className: "day" }, el("span", {}, dayName(message.timestamp))));
        before = null;
      }
      items.push(messageItem(message, before));
      before = message;
    }
    for (const unsent of pending) {
      items.push(messageItem(unsent, before, unsent));
      before = unsent;
    }
    reconcile(list, items);
    byId("chat-empty").hidden = items.length > 0;
    if (nearEnd) scroll.scrollTop = scroll.scrollHeight;
  }

  /** `unsent`: an own message that the server has not acknowledged, with why, if it won't. */
  function messageItem(message, before, unsent) {
    const grouped = before?.userId === message.userId
      && new Date(message.timestamp) - new Date(before.timestamp) < GROUP_MS;
    const time = el("time", { dateTime: new Date(message.timestamp).toISOString() }, clockTime(message.timestamp));
    return el("li", {
      className: `message${grouped ? " grouped" : ""}${unsent ? " pending" : ""}`,
      data: unsent ? {} : { key: `${message.id}/${grouped}` },
    },
    grouped ? null : avatar(message),
    el("div", { className: "said" },
      grouped ? null : el("p", { className: "by" }, el("strong", {}, message.username), " ", time),
      el("p", { className: "text" }, message.content),
      unsent ? fate(unsent) : null));
  }

  function fate(unsent) {
    if (!unsent.failed) return el("p", { className: "muted" }, "Sending");
    const again = () => (withdraw(unsent), send(unsent.content));
    return el("p", { className: "field-error" }, `Not sent: ${unsent.failed}. `,
      el("button", { type: "button", className: "link", onclick: again }, "Try again"));
  }

  const avatar = ({ userId, username }) =>
    el("span", { className: `avatar ${tint(userId)}`, ariaHidden: "true" }, initials(username));

  /** Leaves what is shown already alone, so that a screen reader hears only what is new. */
  function reconcile(parent, items) {
    const old = new Map([...parent.children].filter((item) => item.dataset.key).map((item) => [item.dataset.key, item]));
    const wanted = items.map((item) => old.get(item.dataset.key) ?? item);
    const keep = new Set(wanted);
    for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
    wanted.forEach((item, at) => {
      if (parent.children[at] !== item) parent.insertBefore(item, parent.children[at] ?? null);
    });
  }

  const withdraw = (message) => {
    pending = pending.filter((other) => other !== message);
  };

  async function send(text) {
    const { userId, username } = session;
    const message = { userId, username, content: text, timestamp: Date.now(), failed: "" };
    const to = room;
    pending.push(message);
    showMessages();
    scroll.scrollTop = scroll.scrollHeight;
    const answer = await socket.emitWithAck("message:send", { roomId: to, content: text })
      .catch((error) => ({ error: error.message }));
    if (answer.error) message.failed = answer.error;
    else withdraw(message);
    showMessages();
  }

  byId("composer").onsubmit = (event) => {
    event.preventDefault();
    const text = content.value;
    content.focus();
    if (!text.trim()) return;
    content.value = "";
    grow();
    stopTyping();
    send(text);
  };
  content.onkeydown = (event) => {
    // A key that ends a composition (Japanese, Chinese) is no wish to send.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  };

  function grow() {
    content.style.height = "auto";
    content.style.height = `${content.scrollHeight}px`;
  }

  // --- typing ---

  let typingSince = 0;
  let typingTimer;

  content.oninput = () => {
    grow();
    if (!content.value.trim()) return stopTyping();
    clearTimeout(typingTimer);
    typingTimer = setTimeout(stopTyping, TYPING_EXPIRES_MS - 1_000);
    if (Date.now() - typingSince < TYPING_REPEAT_MS || !socket.connected) return;
    typingSince = Date.now();
    socket.emit("typing:start", { roomId: room });
  };

  function stopTyping() {
    clearTimeout(typingTimer);
    if (typingSince && socket.connected) socket.emit("typing:stop", { roomId: room });
    typingSince = 0;
  }

  function forgetTyping(userId) {
    clearTimeout(typing.get(userId)?.timer);
    if (typing.delete(userId)) showTyping();
  }

  function showTyping() {
    const names = [...typing.values()].map(({ username }) => username);
    const text = [
      () => "",
      () => `${names[0]} is typing`,
      () => `${names[0]} and ${names[1]} are typing`,
    ][names.length] ?? (() => `${names.length} people are typing`);
    byId("typing").textContent = text();
  }

  // --- people ---

  function showPeople() {
    const others = [...people].sort(([, a], [, b]) =>
      (a.status === "offline") - (b.status === "offline") || a.username.localeCompare(b.username));
    byId("people").replaceChildren(...others.map(([userId, { username, status }]) =>
      el("li", { data: { status } }, avatar({ userId, username }), el("span", { className: "name" }, username),
        el("span", { className: "status" }, status))));
    byId("people-empty").hidden = others.length > 0;
  }

  function meet(userId, username, status) {
    if (userId === session.userId) return;
    const known = people.get(userId);
    people.set(userId, { username, status: status ?? known?.status ?? "online" });
    showPeople();
  }

  /** Who spoke here before may have gone since. */
  async function askWhoIsThere() {
    const userIds = [...new Set(messages.map(({ userId }) => userId))].filter((id) => id !== session.userId);
    if (!userIds.length) return;
    const { presence } = await api("/api/demo/presence", { userIds: userIds.slice(-50) }).catch(() => ({ presence: {} }));
    for (const [userId, status] of Object.entries(presence)) {
      if (people.has(userId)) people.get(userId).status = status;
    }
    showPeople();
  }

  byId("status").onchange = ({ target }) => socket.emit("presence:update", { status: target.value });

  // --- what the server says ---

  socket.on("connect", () => {
    if (byId("status").value !== "online") socket.emit("presence:update", { status: byId("status").value });
    join();
  });
  socket.on("room:history", ({ roomId, messages: history }) => {
    if (roomId !== room) return;
    messages = history.toReversed();
    // Sent, but the connection was lost before the answer.
    pending = pending.filter((unsent) => !messages.some(({ userId, content, timestamp }) =>
      userId === session.userId && content === unsent.content && new Date(timestamp) >= unsent.timestamp));
    for (const { userId, username } of messages) meet(userId, username);
    showMessages();
    scroll.scrollTop = scroll.scrollHeight;
    askWhoIsThere();
  });
  socket.on("message:new", (message) => {
    if (message.roomId !== room || messages.some(({ id }) => id === message.id)) return;
    messages.push(message);
    if (messages.length > MESSAGES_MAX) messages.shift();
    // Told apart by content: the acknowledgement, which names it, comes right after.
    if (message.userId === session.userId) {
      const own = pending.find(({ content, failed }) => content === message.content && !failed);
      if (own) withdraw(own);
    }
    news("chat");
    forgetTyping(message.userId);
    meet(message.userId, message.username, "online");
    showMessages();
  });
  socket.on("user:joined", ({ userId, username }) => meet(userId, username, "online"));
  socket.on("user:left", ({ userId }) => {
    forgetTyping(userId);
    people.delete(userId);
    showPeople();
  });
  socket.on("typing:user", ({ userId, username }) => {
    clearTimeout(typing.get(userId)?.timer);
    typing.set(userId, { username, timer: setTimeout(() => forgetTyping(userId), TYPING_EXPIRES_MS) });
    meet(userId, username, people.get(userId)?.status);
    showTyping();
  });
  socket.on("typing:stop", ({ userId }) => forgetTyping(userId));
  socket.on("presence:changed", ({ userId, status }) => {
    if (!people.has(userId)) return;
    people.get(userId).status = status;
    showPeople();
  });
  socket.on("notification", (notification) => {
    if (notification.type === "welcome") toast(notification.message, "good");
  });

  showRooms();
  showPeople();
  showMessages();
  content.focus();
}
