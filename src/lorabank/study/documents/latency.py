"""What answering from a long document takes, part by part, one question at a time.

Once: training, an index, reading the document, loading adapters. For each question: looking
chunks up, loading and merging their adapters (files the system has read before), tokenising what is
put to the model, reading to the first token, every further token. Every answer is `new_tokens`
long: the end of a turn is never written. (Question 15 of arXiv:2603.01097, whose times leave out
training, keep no document and are of answers of any length.)
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lorabank.engine.adapters.adapter import Adapter, load_adapter, save_adapter
from lorabank.engine.adapters.loaded_fleet import fleet_of, load_slot
from lorabank.engine.backbone.caches import new_prompt_cache
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import DecodingBatch, decode, stop_ids
from lorabank.errors import UsageError
from lorabank.study.documents.axes import CHUNK, DOCUMENT, ICL, MERGED, NONE, way_of
from lorabank.study.documents.cells import kind_of, provenance, told_of
from lorabank.study.documents.exam import Exam, Put, index_seconds
from lorabank.study.modules.merges import merged
from lorabank.tasks.synthetic.chronicle_questions import SINGLE

_DOCUMENT = 0  # the one that is asked
_DIGITS = 6


@dataclass(slots=True)
class _Clock:
    """Seconds by part, one for each question."""

    parts: dict[str, list[float]] = field(default_factory=dict)

    def add(self, part: str, seconds: float) -> None:
        self.parts.setdefault(part, []).append(seconds)

    def medians(self) -> dict[str, float]:
        return {part: median(values) for part, values in self.parts.items() if values}


def measure_latency(exam: Exam, values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of one cell, its name and cost aside."""
    mine = [i for i, d in enumerate(exam.own) if d == _DOCUMENT]
    mine = [i for i in mine if exam.asked[i].kind == SINGLE] or mine
    once = _once(exam, values)
    clock = _Clock()
    with TemporaryDirectory(prefix="lorabank-latency-") as folder:
        way = _Way(exam, values, Path(folder))
        once |= way.once
        way.answer(mine[-1], _Clock())  # the first of all pays for more than answering
        way.n_tokens.clear()
        for i in mine:
            way.answer(i, clock)
    parts = clock.medians()
    first_s = sum(seconds for part, seconds in parts.items() if part != "token")
    answer_s = first_s + parts.get("token", 0.0) * (int(values["new_tokens"]) - 1)
    return {
        "way": way_of(values),
        "once_s": {part: round(seconds, _DIGITS) for part, seconds in once.items()},
        "parts_s": {part: round(seconds, _DIGITS) for part, seconds in parts.items()},
        "first_token_s": round(first_s, _DIGITS),
        "answer_s": round(answer_s, _DIGITS),
        "n_questions": len(mine),
        "prompt_tokens": median(way.n_tokens),
        "document_tokens": len(
            exam.base.chat.tokenizer(exam.library.longs[_DOCUMENT].document.text)["input_ids"]
        ),
        "library": told_of(exam, values),
        "per_question": {
            part: [round(seconds, _DIGITS) for seconds in found]
            for part, found in clock.parts.items()
        },
        **provenance(exam),
    }


def _once(exam: Exam, values: Mapping[str, Any]) -> dict[str, float]:
    """Seconds before the first question, for one document; adapters' loading aside."""
    found: dict[str, float] = {}
    if values["adapter"] != NONE:
        taught = exam.library.taught[kind_of(values)]
        if taught.seconds is not None:  # of a run that was not interrupted
            found["training"] = taught.seconds / len(exam.library.longs)
    if values["router"] is not None:
        exam.indices(str(values["router"]))  # with the embedder loaded
        found["index"] = index_seconds(exam, _DOCUMENT, str(values["router"]))
    return found


class _Way:
    """One way of answering, with what it holds in memory."""

    def __init__(self, exam: Exam, values: Mapping[str, Any], folder: Path):
        self.exam, self.values, self.folder = exam, values, folder
        self.kind, self.once = values["adapter"], {}
        self.n_tokens: list[int] = []
        self.held: dict[int, Adapter] = {}
        self.fleet: Fleet | None = None
        base = exam.base
        base.document_cache.clear()
        if self.kind != NONE:
            self._save()
        if self.kind == DOCUMENT or values["preloaded"]:
            started = time.perf_counter()
            self.held = {c: self._load(c) for c in self.there}
            if self.kind in (DOCUMENT, CHUNK):
                self.fleet = fleet_of(exam.base, list(self.held.values()))
            self.once["loading"] = time.perf_counter() - started
        if values["text"] == ICL and values["kept"]:
            put = exam.put(0, ICL, [])
            started = time.perf_counter()
            self._written(put, 1, None, 0)
            self.once["reading"] = time.perf_counter() - started
            if put.probe.prompt_ids[: put.prefix] not in base.document_cache:
                raise UsageError(
                    f"a document of {put.prefix:,} tokens is larger than what is kept "
                    f"({base.document_cache.max_bytes >> 20:,} MiB); "
                    "set a smaller length, or kept=false"
                )

    def answer(self, i: int, clock: _Clock) -> None:
        """Answer a question and note what each part took."""
        exam, values = self.exam, self.values
        text, router, k = str(values["text"]), values["router"], int(values["k"] or 0)
        started = time.perf_counter()
        found = exam.found(i, text, router, k)
        chosen: list[int] = []
        if self.kind in (CHUNK, MERGED):
            # What was found for the prompt is not looked for anew, if those have adapters.
            n = k if self.kind == MERGED else 1
            is_known = len(found) >= n and set(found[:n]) <= set(self.there)
            chosen = found[:n] if is_known else exam.rank(i, str(router), self.there)[:n]
        if router is not None:
            clock.add("looking up", time.perf_counter() - started)
        started = time.perf_counter()
        put = exam.put(i, text, found)
        clock.add("tokenising", time.perf_counter() - started)
        fleet, slot = self._seated(chosen, clock)
        exam.base.prompt_cache = new_prompt_cache()  # each question is new
        started = time.perf_counter()
        times = self._written(put, int(values["new_tokens"]), fleet, slot)
        clock.add("to first token", times[0] - started)
        if len(times) > 1:
            clock.add("token", (times[-1] - times[0]) / (len(times) - 1))
        self.n_tokens.append(len(put.probe.prompt_ids))

    def _written(self, put: Put, n: int, fleet: Fleet | None, slot: int) -> list[float]:
        """When each of `n` tokens was there."""
        base, prompt = self.exam.base, put.probe.prompt_ids
        stops = torch.tensor(sorted(stop_ids(base)), device=base.device)

        def pick(logits: Tensor) -> Tensor:
            return logits.index_fill(-1, stops, -math.inf).argmax(-1)

        # An adapter that is always on has to read the document itself.
        is_shared = bool(self.values["kept"]) and (fleet is None or fleet.activated[slot])
        document = prompt[: put.prefix] if is_shared else ()
        group = DecodingBatch([prompt], fleet, [] if fleet is None else [slot], None, document)
        with nullcontext() if fleet is None else fleet:
            return [time.perf_counter() for _ in decode(base, group, n, pick)]

    @property
    def there(self) -> list[int]:
        """Chunks that have adapters; the whole document as number 0."""
        if self.kind == DOCUMENT:
            return [0]
        return sorted(self.exam.library.of_chunks(_DOCUMENT))

    def _seated(self, chosen: Sequence[int], clock: _Clock) -> tuple[Fleet | None, int]:
        if self.kind in (NONE, DOCUMENT):
            return self.fleet, 0
        if self.kind == CHUNK and self.values["preloaded"]:
            return self.fleet, self.there.index(chosen[0])
        started = time.perf_counter()
        parts = [self.held.get(c) or self._load(c) for c in chosen]
        if not self.values["preloaded"]:
            clock.add("loading", time.perf_counter() - started)
        if self.kind == MERGED:
            started = time.perf_counter()
            parts = [merged(parts, self.values)]
            clock.add("merging", time.perf_counter() - started)
        started = time.perf_counter()
        (one,) = parts
        if self.fleet is None or self.fleet.r != one.r:
            self.fleet = fleet_of(self.exam.base, [one])
        else:
            load_slot(self.fleet, 0, one)
        clock.add("seating", time.perf_counter() - started)
        return self.fleet, 0

    def _adapters(self) -> Mapping[int, Adapter]:
        if self.kind == DOCUMENT:
            return {0: self.exam.library.whole()[_DOCUMENT]}
        return self.exam.library.of_chunks(_DOCUMENT)

    def _save(self) -> None:
        for c, one in self._adapters().items():
            save_adapter(self.folder / str(c), one, base=self.exam.base)

    def _load(self, c: int) -> Adapter:
        return load_adapter(self.folder / str(c), self.exam.base)
