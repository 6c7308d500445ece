// The frame: which section is shown, whether the server is ready, and the key.

import { dropKey, get, hasKey, keepKey, keepScopes } from "./api.js";
import { count, el, notice } from "./dom.js";
import { showAsk } from "./ask.js";
import { showModules } from "./modules.js";
import { showFacts } from "./facts.js";
import { showWrite } from "./write.js";
import { showHistory } from "./history.js";
import { showHealth } from "./health.js";

const SECTIONS = {
  ask: ["Ask", showAsk],
  modules: ["Modules", showModules],
  facts: ["Facts", showFacts],
  write: ["Write", showWrite],
  history: ["History", showHistory],
  health: ["Health", showHealth],
};
const RETRY_MS = 1000;
const view = document.getElementById("view");
const keySection = document.getElementById("key");
const bankLine = document.getElementById("bank-line");
const keyForm = document.getElementById("key-form");
const leave = document.getElementById("leave");
let shown = new AbortController();

// The section and what it shows, as in #modules/team.
const place = () => {
  const [name, ...rest] = location.hash.slice(1).split("/");
  return [name in SECTIONS ? name : "ask", decodeURIComponent(rest.join("/"))];
};

async function show({ focus = true } = {}) {
  const [name, detail] = place();
  shown.abort();
  shown = new AbortController();
  const mine = shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const [title, fill] = SECTIONS[name];
  document.title = `${title} · lorabank`;
  const head = el("h1", { tabindex: "-1" }, title);
  const body = el("div", { class: "body" }, notice("Loading …", "quiet"));
  view.replaceChildren(head, body);
  if (focus) head.focus();
  try {
    await fill(body, { detail, signal: mine.signal });
  } catch (error) {
    if (!mine.signal.aborted) body.replaceChildren(notice(error.message, "fault"));
  }
}

async function begin() {
  let status;
  try {
    status = await get("/status");
  } catch (error) {
    if (error.status === 401) return;
    bankLine.textContent = error.message;
    if (error.status !== 403) setTimeout(begin, RETRY_MS);
    return;
  }
  leave.hidden = !hasKey();
  if (!status.is_ready) {
    bankLine.textContent = "the model is being loaded …";
    setTimeout(begin, RETRY_MS);
    return;
  }
  keepScopes(status.scopes);
  const { base, modules, facts } = status.bank;
  bankLine.textContent = `${base} · ${count(modules, "module")} · ${count(facts, "remembered fact")}`;
  keySection.hidden = true;
  view.hidden = false;
  await show({ focus: false });
  if (place()[0] === "ask") document.getElementById("question")?.focus();
}

document.addEventListener("needs-key", ({ detail }) => {
  const wasRefused = hasKey();
  dropKey();
  leave.hidden = true;
  view.hidden = true;
  keySection.hidden = false;
  bankLine.textContent = "";
  document.getElementById("key-fault").textContent = wasRefused ? detail : "";
  document.getElementById("key-value").focus();
});

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const input = document.getElementById("key-value");
  keepKey(input.value.trim());
  input.value = "";
  begin();
});

leave.addEventListener("click", () => {
  dropKey();
  location.reload();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});

window.addEventListener("hashchange", () => { if (!view.hidden) show(); });
begin();
