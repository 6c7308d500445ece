// Write: remember a fact, teach a file, and watch the jobs and what stuck.

import { call, get, lacking, may, post } from "./api.js";
import { count, el, field, live, notice, onSubmit, percent, stored, table, time } from "./dom.js";

const POLL_MS = 1000;
const FACTS = /\.(csv|jsonl|ndjson|json|parquet)$/i;

export async function showWrite(body, { signal }) {
  const jobs = el("div", { id: "jobs" });
  const said = live("jobs-said");
  const isAllowed = may("write");
  body.replaceChildren(
    ...(isAllowed ? [el("div", { class: "columns" }, rememberPart(), teachPart(() => watch()))]
      : [notice(lacking("write", "remember or teach"), "notice")]),
    el("h2", {}, "Learning"), isAllowed ? pendingPart(() => watch()) : "", said, jobs);
  let timer;
  signal.addEventListener("abort", () => clearTimeout(timer));
  const ended = new Map();
  async function watch() {
    clearTimeout(timer);
    let results = [];
    try {
      ({ results } = await get("/jobs"));
      const told = await Promise.all(results.slice(0, 20).map((job) => get(`/jobs/${job.id}`)));
      if (signal.aborted) return;
      keepFocus(jobs, () => jobs.replaceChildren(...jobList(told, isAllowed, watch)));
      for (const job of told) {
        if (ended.get(job.id) === "open" && !isOpen(job)) said.replaceChildren(notice(`${titleOf(job)}: ${outcomeOf(job)}`, job.status === "succeeded" ? "good" : "fault"));
        ended.set(job.id, isOpen(job) ? "open" : "ended");
      }
    } catch (error) {
      jobs.replaceChildren(notice(error.message, "fault"));
      return;
    }
    if (!signal.aborted && results.some(isOpen)) timer = setTimeout(watch, POLL_MS);
  }
  await watch();
}

const isOpen = (job) => job.status === "queued" || job.status === "running";

// A redraw does not take the focus from a button or a table that is still there.
function keepFocus(place, redraw) {
  const held = document.activeElement;
  const id = place.contains(held) ? held.dataset.focus ?? held.getAttribute("aria-label") : null;
  redraw();
  if (!id) return;
  [...place.querySelectorAll("[data-focus], [aria-label]")].find((e) => (e.dataset.focus ?? e.getAttribute("aria-label")) === id)?.focus({ preventScroll: true });
}

function rememberPart() {
  const text = el("textarea", { id: "fact-text", rows: 3, required: true, maxlength: 4000 });
  const answer = el("input", { id: "fact-answer", type: "text", maxlength: 4000, autocomplete: "off" });
  const from = el("input", { id: "fact-from", type: "date" });
  const outcome = live("remember-outcome");
  const form = el("form", { id: "remember-form" }, el("h2", {}, "Remember a fact"),
    field("Fact, or a question", text, "Such as “The phone number of Kimu Gugu is 519-017-5311”, or a question with its answer below."),
    el("div", { class: "row" }, field("Answer", answer, "Only to a question."), field("Holds from", from, "Empty is from now on.")),
    el("button", { type: "submit" }, "Remember"), outcome);
  onSubmit(form, outcome, async () => {
    const given = answer.value.trim() ? { question: text.value, answer: answer.value } : { text: text.value };
    if (from.value) given.valid_at = from.value;
    const reply = await post("/memories", given);
    const verbs = { ADD: "Remembered", UPDATE: "Remembered, and the value before is superseded", NONE: "Known already" };
    outcome.replaceChildren(...reply.results.map((fact) => el("p", { class: "good" }, `${verbs[fact.event]}: `,
      el("a", { href: `#facts/${fact.id}` }, stored(fact.question)), " ", stored(fact.answer))),
    ...(reply.may_contradict ?? []).map((other) => el("p", { class: "middling" }, "It may contradict what is kept already: ",
      stored(other.other_question), " ", stored(other.other_answer))),
    notice("It is on disk and answered from now on; a module is taught it later.", "quiet"));
    text.value = answer.value = "";
    text.focus();
  });
  return form;
}

function teachPart(watch) {
  const file = el("input", { id: "file", type: "file", required: true, accept: ".csv,.jsonl,.ndjson,.json,.parquet,.md,.txt,.html,.htm,.pdf,.docx,.epub" });
  const name = el("input", { id: "module", type: "text", maxlength: 200, autocomplete: "off", spellcheck: "false" });
  const replace = el("input", { id: "replace", type: "checkbox" });
  const outcome = live("teach-outcome");
  const what = el("p", { class: "hint", id: "file-hint" }, "Drop it here or choose it: facts as CSV (prompt,answer) or JSONL, a document as Markdown, text, HTML or PDF.");
  file.setAttribute("aria-describedby", "file-hint");
  const drop = el("div", { class: "drop", id: "drop" }, el("label", { for: "file" }, "File"), file, what);
  const form = el("form", { id: "teach-form" }, el("h2", {}, "Teach a file"), drop,
    field("Module", name, "Empty is the name of the file."),
    el("div", { class: "check" }, replace, el("label", { for: "replace" }, "Replace a module that exists by a new version")),
    el("button", { type: "submit" }, "Teach"), outcome);
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) file.files = event.dataTransfer.files;
  });
  onSubmit(form, outcome, async () => {
    const [chosen] = file.files;
    const upload = new FormData();
    upload.append("purpose", "fine-tune");
    upload.append("file", chosen);
    const kept = await call("POST", "/v1/files", upload);
    await post("/v1/fine_tuning/jobs", {
      model: "memory", training_file: kept.id, suffix: name.value.trim() || null, lorabank: { replace: replace.checked },
    });
    outcome.replaceChildren(notice(`${FACTS.test(chosen.name) ? "The facts wait" : "The document waits"} to be taught; questions go first.`, "good"));
    form.reset();
    await watch();
  });
  return form;
}

function pendingPart(watch) {
  const outcome = live("consolidate-outcome");
  const click = async () => {
    try {
      await post("/consolidate");
      outcome.replaceChildren(notice("Remembered facts will be taught to a module.", "good"));
      await watch();
    } catch (error) {
      outcome.replaceChildren(notice(error.message, "fault"));
    }
  };
  return el("div", {}, el("button", { type: "button", class: "secondary", onclick: click }, "Teach remembered facts now"), outcome);
}

const titleOf = (job) => (job.kind === "consolidate" ? "Remembered facts" : job.module);

function outcomeOf(job) {
  if (job.status === "failed") return job.error;
  if (job.status !== "succeeded") return job.events.at(-1)?.message ?? job.status;
  return job.reports.length ? job.reports.map(stuckOf).join("; ") : "nothing was left to learn";
}

function stuckOf(report) {
  const stuck = report.facts - report.missing.length;
  const reworded = report.recall_reworded === null || report.recall_reworded === undefined ? "" : `, reworded ${percent(report.recall_reworded)}`;
  return `${stuck} of ${count(report.facts, "fact")} stuck${reworded}`;
}

function jobList(jobs, isAllowed, watch) {
  if (!jobs.length) return [notice("Nothing has been taught by this server yet.", "quiet")];
  return [table("Jobs of learning, the newest first", ["What", "State", "Progress", "What stuck", "Begun", "Stop"], jobs.map((job) => [
    job.versions.length ? job.versions.map((version) => el("a", { href: `#modules/${encodeURIComponent(version.replace(/@\d+$/, ""))}` }, stored(version))) : stored(titleOf(job)),
    el("span", { class: `state ${job.status}` }, job.status),
    el("span", { class: "full" }, el("progress", { max: 1, value: job.status === "succeeded" ? 1 : job.progress, "aria-label": `Progress of ${titleOf(job)}` }), ` ${percent(job.status === "succeeded" ? 1 : job.progress)}`),
    el("div", {}, stored(isOpen(job) ? job.events.at(-1).message : outcomeOf(job)), ...missingOf(job)),
    time(job.created_at), isOpen(job) && isAllowed && job.kind !== "consolidate" ? stopButton(job, watch) : null]))];
}

const missingOf = (job) => job.reports.filter((report) => report.missing.length).map((report) => el("details", {},
  el("summary", {}, `${count(report.missing.length, "fact")} did not stick`), el("ul", {}, report.missing.map((question) => el("li", {}, stored(question))))));

function stopButton(job, watch) {
  const click = async (event) => {
    event.target.disabled = true;
    await post(`/v1/fine_tuning/jobs/${job.id}/cancel`).catch(() => null);
    await watch();
  };
  return el("button", { type: "button", class: "secondary small", "data-focus": `stop-${job.id}`, onclick: click }, "Stop");
}
