// Ask: the answer, where it is from, how sure, and every candidate with why it was not taken.

import { post } from "./api.js";
import { count, el, field, live, notice, number, onSubmit, percent, seconds, stored, table } from "./dom.js";

const MODES = [
  ["memory", "as the bank decides"],
  ["memory:adapter", "modules"],
  ["memory:quote", "a sentence of a document, word for word"],
  ["memory:rag", "reading passages"],
  ["memory:adapter+rag", "a module that reads passages"],
  ["memory:exact", "stored answers alone"],
];

export function showAsk(body) {
  const question = el("input", { id: "question", type: "text", required: true, maxlength: 4000, autocomplete: "off", enterkeyhint: "go" });
  const mode = el("select", { id: "mode" }, MODES.map(([value, label]) => el("option", { value }, label)));
  const asOf = el("input", { id: "as-of", type: "date" });
  const answer = live("answer");
  const why = el("div", { id: "why" });
  const form = el("form", { id: "ask-form" },
    el("div", { class: "line" }, field("Question", question), el("button", { type: "submit" }, "Ask")),
    el("details", {}, el("summary", {}, "How it is asked"),
      el("div", { class: "row" }, field("Answered by", mode), field("As of", asOf, "Empty asks for what holds now."))));
  onSubmit(form, answer, async () => {
    why.replaceChildren();
    const extra = { explain: true };
    if (asOf.value) extra.as_of = asOf.value;
    const reply = await post("/v1/chat/completions", {
      model: mode.value, messages: [{ role: "user", content: question.value }], lorabank: extra,
    });
    answer.replaceChildren(...answerOf(reply.choices[0].message.content, reply.lorabank));
    why.replaceChildren(...reasonsOf(reply.lorabank));
  }, "Still asking. The first question after a start can have to fit the gate, which can take a minute.");
  body.replaceChildren(form, answer, why);
}

function answerOf(text, told) {
  const parts = [];
  if (told.typed) parts.push(el("p", { class: "quiet" }, "Understood as: ", stored(told.question)));
  if (told.kind === "abstained") {
    parts.push(el("p", { class: "answer none" }, "Not in memory"));
    const reason = told.reason ?? "";
    if (reason) parts.push(el("p", {}, stored(`${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`)));
  } else {
    parts.push(el("p", { class: "answer" }, stored(text)));
  }
  parts.push(el("p", { class: "from" }, ...fromOf(told)));
  return parts;
}

function fromOf(told) {
  const took = ` · ${seconds(told.seconds)}`;
  const sure = told.p === null || told.kind === "abstained" ? "" : ` · ${percent(told.p)} sure`;
  const source = told.source ? [", source ", stored(told.source)] : [];
  const module = told.module ? [stored(told.module), ` version ${told.version}`] : [];
  const from = {
    example: told.module
      ? ["Stored answer of ", ...module, ...source]
      : ["Remembered fact, not taught to a module yet"],
    module: ["Written by module ", ...module, ...source],
    quote: ["Quoted from ", stored(told.source ?? "a document")],
    bare: [told.citations.length ? "Read from text by the base model" : "The base model alone, not from memory"],
    abstained: ["Nothing was guessed"],
  }[told.kind] ?? [told.kind];
  return [...from, sure, took];
}

function reasonsOf(told) {
  const parts = [];
  if (told.citations.length) {
    parts.push(el("h2", {}, "What was read"), el("ul", {}, told.citations.map((cited) => el("li", {},
      stored(cited.document), cited.heading ? [", ", stored(cited.heading)] : null,
      `, characters ${number(cited.start)} to ${number(cited.end)}`))));
  }
  parts.push(el("h2", {}, "Candidates"));
  if (told.candidates.length) {
    if (told.threshold !== null) {
      parts.push(notice(`A module answers from ${percent(told.threshold)} sure, which the gate learnt from questions nobody was taught.`, "quiet"));
    }
    parts.push(table("Modules that drafted an answer", ["Module", "Outcome", "Draft", "#Sure", "#Words known", "#Nats a token"],
      told.candidates.map((candidate, place) => [
        el("a", { href: `#modules/${encodeURIComponent(candidate.module)}` }, stored(candidate.module), ` @${candidate.version}`),
        el("span", { class: told.outcomes[place] === "answers" ? "good" : null }, stored(capital(told.outcomes[place]))),
        stored(candidate.says || "nothing"), percent(candidate.p), percent(candidate.coverage),
        candidate.mean_nats.toFixed(2)])));
  } else {
    parts.push(notice("No module was asked.", "quiet"));
  }
  if (told.nearest.length) {
    parts.push(el("h2", {}, "Nearest stored questions"),
      table("Stored questions that come nearest", ["Question", "Answer", "#The same", "Kept by"],
        told.nearest.map((near) => [stored(near.question), stored(near.answer), percent(near.p),
          near.module ? stored(near.module) : "memory"])));
  }
  if (told.choice) {
    parts.push(el("h2", {}, "Ways to answer"), el("p", {}, stored(capital(told.choice.reason))),
      table("What each way was worth", ["Way", "#Right", "#Tokens", "#Time", "#Worth"],
        told.choice.options.map((option) => [option.mode, percent(option.p), number(option.tokens),
          `${Math.round(option.ms)} ms`, option.value.toFixed(2)])));
  }
  parts.push(el("p", { class: "quiet" }, `${count(told.candidates.length, "module")} drafted, ${count(told.nearest.length, "stored question")} compared.`));
  return parts;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
