// History: what was done to the bank, the newest first.

import { get } from "./api.js";
import { el, notice, number, stored, table, time } from "./dom.js";

const PAGE = 100;

export async function showHistory(body, { signal }) {
  const { results } = await get("/history");
  if (signal.aborted) return;
  const list = el("div", {});
  const more = el("button", { type: "button", class: "secondary", onclick: () => { n += PAGE; draw(); } }, "Show more");
  let n = PAGE;
  const draw = () => {
    list.replaceChildren(table("Changes of the bank, the newest first", ["When", "What", "Module", "Details"],
      results.slice(0, n).map((event) => [time(event.at), event.what,
        event.module ? el("span", {}, stored(event.module), event.version ? ` @${event.version}` : "") : null,
        detailsOf(event.details)])));
    more.hidden = n >= results.length;
  };
  if (!results.length) body.replaceChildren(notice("Nothing was done to this bank yet.", "quiet"));
  else {
    draw();
    body.replaceChildren(list, more);
  }
}

function detailsOf(details) {
  const shown = Object.entries(details).map(([name, value]) => `${name.replaceAll("_", " ")} ${shorten(value)}`);
  return shown.length ? stored(shown.join(", ")) : null;
}

function shorten(value) {
  if (typeof value === "number") return Number.isInteger(value) ? number(value) : value.toPrecision(3);
  if (Array.isArray(value)) return value.length > 5 ? `${value.length} entries` : value.map(shorten).join(" ") || "none";
  if (value && typeof value === "object") return Object.entries(value).map(([name, inner]) => `${name} ${shorten(inner)}`).join(" ");
  return String(value);
}
