// The page's start: who is signed in, the connection, the theme, the tabs.

import { connect } from "/leveret.js";
import { startChat } from "/demo/chat.js";
import { startOrders } from "/demo/orders.js";
import { api, byId, kept, toast } from "/demo/view.js";

startTheme();
startTabs();
const session = kept.read("session", null);
if (session) enter(session);
else showSignIn(kept.take("goodbye"));

/** `reason`: why somebody who was signed in no longer is. */
function showSignIn(reason) {
  byId("sign-in").hidden = false;
  byId("sign-in-error").textContent = reason ?? "";
  byId("username").focus();
  byId("sign-in-form").onsubmit = async (event) => {
    event.preventDefault();
    const username = byId("username").value.trim();
    if (!username) {
      byId("sign-in-error").textContent = "Please tell the others your name.";
      return byId("username").focus();
    }
    const button = event.submitter ?? event.target.querySelector("button");
    button.disabled = true;
    try {
      const guest = await api("/api/demo/guest", { username });
      kept.write("session", guest);
      byId("sign-in").hidden = true;
      enter(guest);
    } catch (error) {
      byId("sign-in-error").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  };
}

function enter(session) {
  byId("app").hidden = false;
  byId("me").textContent = session.username;
  for (const id of ["me", "sign-out", "connection"]) byId(id).hidden = false;

  const socket = connect(location.origin, { auth: { token: session.token } });
  byId("sign-out").onclick = () => leave(socket);
  showConnection(socket);
  socket.on("error", ({ message }) => toast(message, "bad"));
  socket.on("connect_error", (error) => {
    // The guest pass ended, or the server has a new secret: only a new pass helps.
    if (error.message === "Authentication failed") leave(socket, "Your guest pass has ended. Please join again.");
  });
  startChat(socket, session);
  startOrders(socket, session);
}

function leave(socket, reason) {
  socket.close();
  sessionStorage.clear();
  if (reason) kept.write("goodbye", reason);
  location.reload();
}

function showConnection(socket) {
  const show = (state, text) => {
    byId("connection").dataset.state = state;
    byId("connection-text").textContent = text;
  };
  show("connecting", "Connecting");
  socket.on("connect", () => show("live", "Live"));
  socket.on("disconnect", () => show("connecting", "Reconnecting"));
  socket.on("connect_error", () => show("lost", "Server not reachable"));
  socket.on("reconnect_attempt", () => show("connecting", "Reconnecting"));
}

function startTheme() {
  const root = document.documentElement;
  const stored = localStorage.getItem("theme");
  if (stored) root.dataset.theme = stored;
  byId("theme").onclick = () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  };
}

/** On a narrow screen one panel shows at a time; on a wide one the style sheet shows all. */
function startTabs() {
  const buttons = document.querySelectorAll(".tabs button");
  for (const button of buttons) {
    button.onclick = () => {
      byId("app").dataset.tab = button.dataset.tab;
      for (const other of buttons) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      delete button.dataset.news;
    };
  }
}
