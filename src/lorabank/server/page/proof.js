// The proof of a forgetting, in words.

import { el, notice, number, pairs, percent, stored } from "./dom.js";

export function proofOf(proof) {
  const isProved = proof.remaining.length === 0 && proof.unchecked.length === 0;
  const list = (names) => (names.length ? names.flatMap((name, place) => [place ? ", " : "", stored(name)]) : "none");
  return [
    notice(isProved ? "Forgotten, and no file holds it any more." : "Forgotten, but not everything could be proved.", isProved ? "good" : "fault"),
    el("h3", {}, "Proof"),
    pairs([
      ["What", stored(proof.what)],
      ["Recalled before", proof.modules.length ? percent(proof.recall_before) : "no module was taught it"],
      ["Recalled after, by any module or the base", proof.modules.length ? percent(proof.recall_after) : null],
      ["Recall of what stays", percent(proof.kept_recall)],
      ["Modules changed", list(proof.modules)],
      ["Trained again without it", list(proof.rewritten)],
      ["Files removed", number(proof.removed.length)],
      ["Files that still hold it", list(proof.remaining)],
      ["Could not be checked", proof.unchecked.length ? list(proof.unchecked) : null],
    ]),
  ];
}
