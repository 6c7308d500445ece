// Health: queue, cache, memory, and how often the gate lets a module answer what nobody was taught.

import { get } from "./api.js";
import { bytes, count, el, notice, number, pairs, percent, seconds, stored, table } from "./dom.js";

const POLL_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";

export async function showHealth(body, { signal }) {
  const now = el("div", { id: "now" });
  const gate = el("div", { id: "gate" });
  body.replaceChildren(now, gate);
  let timer, drawn = "";
  signal.addEventListener("abort", () => clearTimeout(timer));
  const draw = async () => {
    try {
      const status = await get("/status");
      if (signal.aborted) return;
      now.replaceChildren(...partsOf(status));
      const curve = JSON.stringify(status.bank?.gate ?? null);
      if (curve !== drawn) gate.replaceChildren(...gateOf(status.bank?.gate));
      drawn = curve;
    } catch (error) {
      now.replaceChildren(notice(error.message, "fault"));
      if (error.status) return;
    }
    if (!signal.aborted) timer = setTimeout(draw, POLL_MS);
  };
  await draw();
}

function partsOf({ queue, bank, ...status }) {
  const parts = [
    el("h2", {}, "Server"),
    pairs([
      ["State", queue.is_learning ? "learning, between questions" : "ready"],
      ["Version", `lorabank ${status.lorabank}`],
      ["Up for", seconds(status.up_s)],
      ["Memory", bytes(status.rss_bytes)],
      ["This key", status.needs_key ? el("span", {}, stored(status.key), `: ${status.scopes.join(", ")}`) : "none needed: this machine only"],
    ]),
    el("h2", {}, "Queue"),
    pairs([
      ["Requests that wait", `${number(queue.waiting)} of at most ${number(queue.most_waiting)}`],
      ["Answers being written", `${number(queue.rows)} of at most ${number(queue.most_rows)}`],
      ["Tasks of learning", number(queue.tasks)],
    ]),
  ];
  if (bank) {
    parts.push(el("h2", {}, "Bank"), pairs([
      ["Base model", el("span", {}, stored(bank.base), el("span", { class: "quiet" }, ` ${bank.base_sha256.slice(0, 12)}`))],
      ["Modules", `${number(bank.modules)}, ${bytes(bank.adapter_bytes)} on disk`],
      ["Remembered facts", `${number(bank.facts)}, of which ${number(bank.facts_pending)} not taught yet${status.pending_limit ? `; taught at ${status.pending_limit}` : ""}`],
      ["Adapters in memory", `${count(bank.cache.loaded, "module")}, ${bytes(bank.cache.bytes)} of at most ${bytes(bank.cache.most_bytes)}, read from disk ${count(bank.cache.reads, "time")}`],
    ]));
  }
  return parts;
}

function gateOf(gate) {
  const head = el("h2", {}, "Gate");
  if (!gate) return [head, notice("The gate is not fitted yet.", "quiet")];
  return [head,
    el("p", {}, `A module answers from ${percent(gate.threshold)} sure. On ${count(gate.questions, "held-out question")} it let a module answer `
      + `${percent(gate.false_activations, 1)} of what nobody was taught, and held back ${percent(gate.misses, 1)} of what was taught.`
      + (gate.is_current ? "" : " Modules have changed since, and it is being fitted again.")),
    chartOf(gate.curve),
    table("What the gate does at other limits", ["#Allowed", "#False activations", "#Missed"],
      gate.curve.map((point) => [percent(point.allowed), percent(point.false_activations, 1), percent(point.misses, 1)]))];
}

// Missed against false activations, both as shares; the table below has the numbers.
function chartOf(curve) {
  const width = 320, height = 180, left = 40, bottom = 28, top = 10, right = 12;
  const most = Math.max(0.05, ...curve.flatMap((point) => [point.false_activations, point.misses]));
  const inOrder = [...curve].sort((a, b) => a.false_activations - b.false_activations || b.misses - a.misses);
  const x = (share) => left + (share / most) * (width - left - right);
  const y = (share) => height - bottom - (share / most) * (height - bottom - top);
  const make = (tag, attributes, text = "") => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const chart = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart" });
  chart.setAttribute("aria-label", "Share of taught questions missed against share of other questions answered; numbers in the table below");
  chart.append(make("path", { d: `M${left} ${top}V${height - bottom}H${width - right}`, class: "axis" }),
    make("text", { x: width - right, y: height - 12, "text-anchor": "end" }, `false activations ${percent(most)}`),
    make("text", { x: left + 6, y: top + 8 }, "missed"),
    make("text", { x: left - 6, y: height - bottom, "text-anchor": "end" }, "0"),
    make("text", { x: left - 6, y: top + 8, "text-anchor": "end" }, percent(most)),
    make("path", { d: inOrder.map((point, place) => `${place ? "L" : "M"}${x(point.false_activations)} ${y(point.misses)}`).join(""), class: "curve" }),
    ...curve.map((point) => make("circle", { cx: x(point.false_activations), cy: y(point.misses), r: 3.5, class: "point" })));
  return chart;
}
