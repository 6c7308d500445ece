// Facts: search, the values of a fact over time, edit, forget with proof.

import { call, get, lacking, may } from "./api.js";
import { confirmed, count, el, field, live, notice, number, onSubmit, pairs, stored, table, time } from "./dom.js";
import { proofOf } from "./proof.js";

const PAGE = 50;
const PAUSE_MS = 200;
const STATES = { pending: "not taught yet", learnt: "taught", ended: "ended" };

export async function showFacts(body, { detail, signal }) {
  if (detail) return showFact(body, detail, signal);
  const search = el("input", { id: "search", type: "search", autocomplete: "off", placeholder: "words of the question or answer" });
  const found = el("div", { id: "found" });
  const said = live("found-count");
  const more = el("button", { type: "button", class: "secondary", hidden: true }, "Show more");
  let rows = [], asked = 0, timer;
  const load = async (isMore) => {
    const mine = ++asked;
    const offset = isMore ? rows.length : 0;
    try {
      const reply = await get(`/memories?${new URLSearchParams({ q: search.value, limit: PAGE, offset })}`);
      if (mine !== asked || signal.aborted) return;
      rows = isMore ? [...rows, ...reply.results] : reply.results;
      found.replaceChildren(...listOf(rows, search.value));
      said.textContent = reply.total ? `${count(reply.total, "fact")}${search.value ? " found" : ""}, ${number(rows.length)} shown` : "";
      more.hidden = rows.length >= reply.total;
    } catch (error) {
      if (mine === asked) found.replaceChildren(notice(error.message, "fault"));
    }
  };
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => load(false), PAUSE_MS); });
  more.addEventListener("click", () => load(true));
  body.replaceChildren(el("form", { role: "search", onsubmit: (event) => { event.preventDefault(); load(false); } },
    field("Search remembered facts", search)), said, found, more);
  await load(false);
  return undefined;
}

function listOf(rows, query) {
  if (!rows.length && query) return [notice("No remembered fact has these words.")];
  if (!rows.length) {
    return [notice("Nothing is remembered yet. What a file taught stands with its module."), el("p", {}, el("a", { href: "#write" }, "Remember something"))];
  }
  return [table("Remembered facts", ["Question", "Answer", "State", "Module", "Holds from", "#Values"], rows.map((fact) => [
    el("a", { href: `#facts/${fact.id}` }, stored(fact.question)), stored(fact.answer), stateOf(fact.state),
    fact.module ? el("a", { href: `#modules/${encodeURIComponent(fact.module)}` }, stored(fact.module)) : null,
    time(fact.valid_at), number(fact.n_values)]))];
}

const stateOf = (state) => el("span", { class: `state ${state}` }, STATES[state] ?? state);

async function showFact(body, id, signal) {
  const path = `/memories/${encodeURIComponent(id)}`;
  const [fact, values] = await Promise.all([get(path), get(`${path}/history`)]);
  if (signal.aborted) return;
  const outcome = live("fact-outcome");
  const again = async (text) => {
    await showFact(body, id, signal);
    document.getElementById("fact-outcome").replaceChildren(notice(text, "good"));
  };
  body.replaceChildren(
    el("p", {}, el("a", { href: "#facts" }, "All facts")),
    el("h2", {}, stored(fact.question)),
    el("p", { class: "answer" }, stored(fact.answer)),
    pairs([
      ["State", stateOf(fact.state)],
      ["Module", fact.module ? el("span", {}, el("a", { href: `#modules/${encodeURIComponent(fact.module)}` }, stored(fact.module)), ` version ${fact.version}`) : "none yet: answered as text"],
      ["Holds from", time(fact.valid_at) ?? "not known"],
      ["Told", time(fact.created_at)],
      ["Other questions", fact.also.length ? fact.also.map((question) => el("div", {}, stored(question))) : null],
    ]),
    el("h2", {}, "Its values"), timelineOf(values, fact.question),
    outcome,
    ...(may("write") ? [el("h2", {}, "Give it another value"), editForm(fact, path, outcome, again),
      el("h2", {}, "Forget it"), forgetPart(fact, path, body)]
      : [notice(lacking("write", "change or forget facts"), "quiet")]));
}

// What held when: in order of validity, each with a bar on the span of all.
function timelineOf(values, question) {
  const at = (text) => new Date(text).getTime();
  const inOrder = values.filter((value) => value.event !== "DELETE").sort((a, b) => (a.valid_at < b.valid_at ? -1 : a.valid_at > b.valid_at ? 1 : a.created_at < b.created_at ? -1 : 1));
  const known = inOrder.flatMap((value) => [value.valid_at, value.invalid_at, value.created_at]).filter(Boolean).map(at);
  const first = Math.min(...known), last = Math.max(Date.now(), ...known);
  const place = (text, otherwise) => (text ? (at(text) - first) / Math.max(1, last - first) : otherwise);
  return el("ol", { class: "timeline" }, inOrder.map((value, index) => {
    const holds = value.invalid_at === null;
    const never = value.valid_at && value.valid_at === value.invalid_at;
    const bar = el("span", { class: holds ? "bar now" : "bar", "aria-hidden": "true" });
    const start = place(value.valid_at, 0);
    const size = Math.max(0.02, place(value.invalid_at, 1) - start);
    bar.style.marginInlineStart = `${100 * Math.min(start, 1 - size)}%`;
    bar.style.inlineSize = `${100 * size}%`;
    const text = value.new_memory.startsWith(`${question} `) ? value.new_memory.slice(question.length + 1) : value.new_memory;
    const next = inOrder[index + 1];
    return el("li", {},
      el("div", {}, el("strong", {}, stored(text)), holds ? el("span", { class: "state learnt" }, "holds now") : null),
      never ? el("p", { class: "quiet" }, "It was corrected and never held.")
        : el("p", { class: "quiet" }, "From ", time(value.valid_at) ?? "the beginning", " until ", time(value.invalid_at) ?? "now",
          !holds && next ? ", then superseded by the next" : "", ". Told ", time(value.created_at), "."),
      el("div", { class: "track" }, bar));
  }));
}

function editForm(fact, path, outcome, again) {
  const value = el("input", { id: "new-value", type: "text", required: true, maxlength: 4000, autocomplete: "off" });
  const from = el("input", { id: "valid-at", type: "date" });
  const form = el("form", { id: "edit-form" }, el("div", { class: "row" }, field("New value", value),
    field("Holds from", from, "Empty is from now on.")), el("button", { type: "submit" }, "Save the new value"));
  onSubmit(form, outcome, async () => {
    const change = { answer: value.value };
    if (from.value) change.valid_at = from.value;
    await call("PUT", path, change);
    await again("Saved. The value before is superseded and stays in the history.");
    document.getElementById("new-value").focus();
  });
  return form;
}

async function ended(name) {
  for (;;) {
    const job = await get(`/jobs/${name}`);
    if (job.finished_at) return job;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

function forgetPart(fact, path, body) {
  const proof = live("fact-proof");
  const click = async () => {
    const text = fact.module
      ? `All its values go at once, also out of the module ${fact.module}, which is trained again without it. This cannot be undone.`
      : "All its values go. This cannot be undone.";
    if (!await confirmed(`Forget “${fact.question}”?`, text, "Forget it")) return;
    proof.replaceChildren(notice("Forgetting …", "quiet"));
    try {
      const reply = await call("DELETE", path);
      body.replaceChildren(el("p", {}, el("a", { href: "#facts", id: "back" }, "All facts")), proof);
      proof.replaceChildren(notice(reply.trained_again.length
        ? "Gone: nothing answers it any more. Its module is trained again without it, and asked …"
        : "Gone: nothing answers it any more. The files are searched …", "good"));
      document.getElementById("back").focus();
      const job = await ended(reply.job_id);
      proof.replaceChildren(...(job.proof ? proofOf(job.proof) : [notice(`Gone, but the proof ${job.status}: ${job.error}`, "fault")]));
    } catch (error) {
      proof.replaceChildren(notice(error.message, "fault"));
    }
  };
  return el("div", {}, el("p", { class: "quiet" }, "Forgetting removes every value, unlike a new value, which supersedes."),
    el("button", { type: "button", class: "danger", onclick: click }, "Forget this fact"), proof);
}
