// Elements of the page. Text of the bank is only ever set as text, never parsed as markup.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Text that came from the bank, kept apart from the direction of the text around it.
export const stored = (text, properties = {}) => el("bdi", { class: "stored", ...properties }, String(text ?? ""));

export function field(label, input, hint = "") {
  const hintId = hint ? `${input.id}-hint` : undefined;
  if (hintId) input.setAttribute("aria-describedby", hintId);
  return el("div", { class: "field" }, el("label", { for: input.id }, label), input,
    hint ? el("p", { class: "hint", id: hintId }, hint) : null);
}

// A table that scrolls by itself where it is wider than the screen.
export function table(caption, heads, rows) {
  const head = el("tr", {}, heads.map((name) => {
    const isNumber = name.startsWith("#");
    return el("th", { scope: "col", class: isNumber ? "number" : null }, isNumber ? name.slice(1) : name);
  }));
  const body = rows.map((cells) => el("tr", {}, cells.map((cell, place) =>
    el(place ? "td" : "th", { scope: place ? null : "row", class: heads[place].startsWith("#") ? "number" : null },
      cell ?? "–"))));
  return el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body)));
}

export const pairs = (rows) => el("dl", {}, rows.filter(([, value]) => value !== null && value !== undefined)
  .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

export const notice = (text, kind = "notice") => el("p", { class: kind }, text);

// A place whose content is announced when it changes.
export const live = (id) => el("div", { id, class: "live", role: "status", "aria-live": "polite" });

export function percent(p, digits = 0) {
  if (p === null || p === undefined) return null;
  const shown = (100 * p).toFixed(digits);
  // Sure to the last digit shown is not certain.
  if (p < 1 && Number(shown) === 100) return digits < 2 ? percent(p, digits + 1) : "> 99.99\u00a0%";
  if (p > 0 && Number(shown) === 0) return `< ${(10 ** -digits).toFixed(digits)}\u00a0%`;
  return `${shown}\u00a0%`;
}

export function bytes(n) {
  if (n === null || n === undefined) return null;
  const units = ["B", "KB", "MB", "GB"];
  let place = 0;
  while (n >= 1000 && place < units.length - 1) { n /= 1000; place += 1; }
  return `${n < 10 && place ? n.toFixed(1) : Math.round(n)} ${units[place]}`;
}

export const number = (n) => (n === null || n === undefined ? null : n.toLocaleString("en"));

export function seconds(s) {
  if (s < 60) return `${s < 10 ? s.toFixed(2) : Math.round(s)} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${Math.round(s / 86400)} days`;
}

// A time as the store keeps it or in seconds since 1970, in the reader's own time zone.
export function time(value) {
  if (!value) return null;
  const date = new Date(typeof value === "number" ? 1000 * value : value);
  if (Number.isNaN(date.getTime())) return String(value);
  const iso = date.toISOString();
  if (iso.includes("T00:00:00")) return el("time", { datetime: iso }, iso.slice(0, 10)); // a day, given as such
  const two = (n) => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return el("time", { datetime: iso }, `${day} ${clock}`);
}

export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

// Ask before what cannot be undone; resolves to whether to go on. Focus returns by itself.
export function confirmed(head, text, yes) {
  const dialog = document.getElementById("dialog");
  document.getElementById("dialog-head").textContent = head;
  document.getElementById("dialog-text").textContent = text;
  document.getElementById("dialog-yes").textContent = yes;
  dialog.returnValue = "no";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

const SLOW_MS = 4000;

// Have a form do something once, with its button off and its fault in plain words;
// `slow` is what is said after a while.
export function onSubmit(form, place, work, slow = "") {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") return;
    form.setAttribute("aria-busy", "true");
    place.replaceChildren(notice("Working …", "quiet"));
    const patience = setTimeout(() => slow && place.replaceChildren(notice(slow, "quiet")), SLOW_MS);
    try {
      await work();
    } catch (error) {
      place.replaceChildren(notice(error.message, "fault"));
    } finally {
      clearTimeout(patience);
      form.removeAttribute("aria-busy");
    }
  });
}
