// Building blocks of the page: elements, toasts, times. Text only ever becomes text nodes.

export const byId = (id) => document.getElementById(id);

/** Makes an element. `props` are properties, `data` its dataset, `aria` its aria attributes. */
export function el(tag, { data = {}, aria = {}, ...props } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const TOAST_MS = 7_000;
const TOASTS_MAX = 4;

/** Shows a short note for a while. `kind`: info, good or bad. */
export function toast(text, kind = "info") {
  const dismiss = () => note.remove();
  const button = el("button", { type: "button", className: "quiet", onclick: dismiss, aria: { label: "Dismiss" } }, "✕");
  const note = el("div", { className: "toast", data: { kind } }, el("p", {}, text), button);
  const toasts = byId("toasts");
  toasts.append(note);
  while (toasts.children.length > TOASTS_MAX) toasts.firstElementChild.remove();
  setTimeout(dismiss, TOAST_MS);
}

/** Marks a view that does not show at the moment: something happened there. */
export function news(tab) {
  if (byId("app").dataset.tab !== tab) document.querySelector(`.tabs [data-tab="${tab}"]`).dataset.news = "";
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const money = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const clockTime = (time) => clock.format(new Date(time));
export const dayName = (time) => day.format(new Date(time));
export const amount = (number) => money.format(number);

/** A colour class that stays with a person. */
export function tint(userId) {
  let hash = 0;
  for (const character of userId) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return `tint-${hash % 6}`;
}

export const initials = (name) =>
  name.split(/\s+/u).filter(Boolean).slice(0, 2).map((word) => [...word][0].toLocaleUpperCase()).join("");

/** Calls the server; rejects with its error text. */
export async function api(path, body) {
  const request = body === undefined
    ? {}
    : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, request).catch(() => {
    throw new Error("The server can't be reached.");
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const wait = response.headers.get("retry-after");
  const error = new Error((answer.error ?? `The server answered ${response.status}`) + (wait ? `. Try again in ${wait} s.` : ""));
  error.status = response.status;
  throw error;
}

/** What survives a reload of this window, and not its end. */
export const kept = {
  read(name, otherwise) {
    try {
      return JSON.parse(sessionStorage.getItem(name)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  take(name) {
    const value = this.read(name, null);
    sessionStorage.removeItem(name);
    return value;
  },
  write(name, value) {
    sessionStorage.setItem(name, JSON.stringify(value));
  },
};
