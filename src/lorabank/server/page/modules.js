// Modules: recall as taught and reworded, what is missing, drift, size; a module's versions and facts.

import { call, get, lacking, may, post } from "./api.js";
import { bytes, confirmed, count, el, live, notice, number, pairs, percent, seconds, stored, table, time } from "./dom.js";
import { proofOf } from "./proof.js";

export async function showModules(body, { detail, signal }) {
  if (detail) return showModule(body, detail, signal);
  const { results } = await get("/modules");
  if (signal.aborted) return undefined;
  if (!results.length) {
    body.replaceChildren(notice("There is no module yet: what is remembered is taught to one later, or teach a file now."),
      el("p", {}, el("a", { href: "#write" }, "Write something")));
    return undefined;
  }
  const heads = ["Module", "#Version", "#Facts", "#As taught", "#Reworded", "#Missing", "#Drift", "#Bytes", "#Full"];
  body.replaceChildren(
    table("Modules and what was measured of each", heads, results.map((module) => [
      el("a", { href: `#modules/${encodeURIComponent(module.name)}` }, stored(module.name)),
      number(module.version), number(module.facts),
      module.untrained ? "not learnt yet" : level(module.recall), level(module.recall_reworded),
      missingOf(module), drift(module), bytes(module.adapter_bytes), fullness(module)])),
    el("p", { class: "quiet" }, "As taught and reworded are shares of facts the module gave when it was written, with the "
      + "questions it learnt and with wordings it never saw. Drift is how far ordinary text is predicted differently, in "
      + "nats a token. Full compares the bits stored with those at which 98 % recall is predicted for a module of this size."));
  return undefined;
}

const ENDS = {
  recalled: "until all was recalled", converged: "until nothing more was learnt",
  budget: "as many as were allowed", interrupted: "interrupted",
};
const level = (p) => (p === null || p === undefined ? null : el("span", { class: p >= 0.98 ? "good" : p >= 0.8 ? "middling" : "bad" }, percent(p)));
const drift = (module) => (module.kl_to_base_nats === undefined ? null : module.kl_to_base_nats.toFixed(3));
const missingOf = (module) => (module.missing === undefined ? null : number(module.missing.length));

function fullness(module) {
  if (!module.capacity_bits || module.bits_stored === undefined) return null;
  const share = Math.max(0, module.bits_stored) / module.capacity_bits;
  const label = percent(share, 1);
  const title = `${number(Math.round(module.bits_stored))} of about ${number(Math.round(module.capacity_bits))} bits`;
  return el("span", { class: "full", title }, el("meter", { value: Math.min(1, share), max: 1, high: 0.8, "aria-label": title }), ` ${label}`);
}

async function showModule(body, name, signal) {
  const path = `/modules/${encodeURIComponent(name)}`;
  const module = await get(path);
  const examples = await get(`${path}/examples`).then((reply) => reply.results, (error) => error);
  if (signal.aborted) return;
  const outcome = live("module-outcome");
  body.replaceChildren(
    el("p", {}, el("a", { href: "#modules" }, "All modules")),
    el("h2", {}, stored(module.name), ` version ${module.version}`),
    pairs(measuredOf(module)), outcome, ...missingPart(module),
    el("h2", {}, "Versions"), versionsOf(module, path, outcome, () => showModule(body, name, signal)),
    el("h2", {}, "What it was taught"), taughtOf(examples),
    el("h2", {}, "Forget the module"), forgetPart(module, path, body));
}

function measuredOf(module) {
  const renderings = Object.entries(module.recall_by_rendering ?? {});
  return [
    ["Written", time(module.created_at)],
    ["Sources", module.sources.length ? module.sources.flatMap((source, place) => [place ? ", " : "", stored(source.name), ` (${count(source.examples, "example")})`]) : "none"],
    ["Recall as taught", level(module.recall)],
    ["Recall reworded", level(module.recall_reworded)],
    ["By rendering of the prompt", renderings.length ? renderings.map(([kind, share]) => `${kind} ${percent(share)}`).join(", ") : null],
    ["Smallest lead", module.smallest_lead === undefined ? null : `${module.smallest_lead.toFixed(2)} nats over the next answer`],
    ["Drift", module.kl_to_base_nats === undefined ? null : `${drift(module)} nats a token`],
    ["Rank", number(module.r)],
    ["Size", bytes(module.adapter_bytes)],
    ["Stored", module.bits_stored === undefined ? null : el("span", {}, `${number(Math.round(module.bits_stored))} bits `, fullness(module))],
    ["Training", module.seconds === undefined ? null : `${seconds(module.seconds)}, ${Math.round(module.exposures_per_fact)} exposures a fact, ${ENDS[module.stopped] ?? module.stopped}`],
  ];
}

function missingPart(module) {
  const missing = module.missing ?? [];
  const parts = missing.length ? [el("h2", {}, "Missing facts"), el("ul", {}, missing.map((question) => el("li", {}, stored(question))))] : [];
  if (module.missing && !missing.length) parts.push(notice("No fact is missing: each was given when the module was written.", "good"));
  return parts;
}

function versionsOf(module, path, outcome, again) {
  return table("Versions of the module", ["Version", "Written", "#Facts", "#As taught", "#Reworded", "#Bytes", "Use"],
    [...module.versions].reverse().map((version) => [
      String(version.version), time(version.created_at), number(version.facts), level(version.recall),
      level(version.recall_reworded), bytes(version.adapter_bytes),
      version.version === module.version ? "current" : rollbackButton(version, path, outcome, again)]));
}

function rollbackButton(version, path, outcome, again) {
  if (!may("admin")) return "earlier";
  const click = async () => {
    outcome.replaceChildren(notice("Working …", "quiet"));
    try {
      await post(`${path}/rollback`, { version: version.version });
      await again();
      document.getElementById("module-outcome").replaceChildren(notice(`Version ${version.version} is current now.`, "good"));
    } catch (error) {
      outcome.replaceChildren(notice(error.message, "fault"));
    }
  };
  return el("button", { type: "button", class: "secondary small", onclick: click }, `Use version ${version.version}`);
}

function taughtOf(examples) {
  if (examples instanceof Error) return notice(examples.message, "fault");
  if (!examples.length) return notice("It was taught nothing.", "quiet");
  return table("Questions and answers it was taught", ["Question", "Answer", "Source"],
    examples.map((example) => [stored(example.question), stored(example.answer), stored(example.source)]));
}

function forgetPart(module, path, body) {
  if (!may("admin")) return notice(lacking("admin", "forget modules"), "quiet");
  const proof = live("module-proof");
  const click = async () => {
    const text = "All its versions and files go, and it is asked before and after to prove it. This cannot be undone.";
    if (!await confirmed(`Forget the module ${module.name}?`, text, "Forget it")) return;
    proof.replaceChildren(notice("Forgetting: its facts are asked before and after …", "quiet"));
    try {
      const reply = await call("DELETE", path);
      body.replaceChildren(el("p", {}, el("a", { href: "#modules" }, "All modules")), proof);
      proof.replaceChildren(...proofOf(reply.proof));
    } catch (error) {
      proof.replaceChildren(notice(error.message, "fault"));
    }
  };
  return el("div", {}, el("button", { type: "button", class: "danger", onclick: click }, "Forget this module"), proof);
}
