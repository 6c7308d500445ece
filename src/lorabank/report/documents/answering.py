"""Cells of studies about long documents by setting, and what sets one setting apart from another.

Two settings of one library are asked the same questions, so a difference between them is taken
question by question. Intervals are a bootstrap over documents (of every seed) and the questions of
each, every question counting one; they are given from three documents on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.capacity.groups import Cell, Estimate
from lorabank.report.plot import Figure, Panel
from lorabank.study.documents.axes import (
    ADAPTERS,
    ANSWERS,
    CHUNK,
    LATENCY,
    MERGED,
    NONE,
    RAG,
    TEXTS,
)

_NEEDED = {
    ANSWERS: ("name", "spec", "gain", "by_kind", "per_question", "per_written", "library"),
    LATENCY: ("name", "spec", "once_s", "parts_s", "answer_s", "library"),
}
TASKS = {
    "chronicle": "chronicles",
    "books": "books",
    "narrativeqa": "NarrativeQA",
    "quality": "QuALITY",
    "infinitebench": "∞Bench",
    "longbench": "LongBench v2",
    "locomo": "LoCoMo",
    "longmemeval": "LongMemEval",
}


@dataclass(frozen=True)
class Way:
    """All seeds of one way of answering."""

    cells: tuple[Cell, ...]
    varied: frozenset[str]
    """Axes that set ways of answering from the same documents apart."""

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.first["spec"]  # type: ignore[no-any-return]

    @property
    def names(self) -> list[str]:
        return [cell["name"] for cell in self.cells]

    @property
    def documents(self) -> str:
        """What is asked about: the panel it is drawn in."""
        return _documents(self.spec)

    @cached_property
    def adapter(self) -> str:
        """In words, with what else the study varied of it."""
        spec = self.spec
        if spec["adapter"] == NONE:
            return "no adapter"
        name = {MERGED: f"top-{spec['k']} merged", CHUNK: "top-1"}.get(
            spec["adapter"], spec["adapter"]
        )
        more = [spec[key] for key in ("rule", "router") if key in self.varied and spec[key]]
        more += [f"lr {spec['lr']:.0e}"] if "lr" in self.varied else []
        if "norm" in self.varied and spec["norm"]:
            more.append(str(spec["norm"]))
        if "activated" in self.varied and not spec["activated"]:
            more.append("always on")
        more += ["from disk"] if spec["preloaded"] is False else []
        drawn = "random " if spec["random"] else ""
        return ", ".join([f"{drawn}{name}", *map(str, more)])

    @property
    def text(self) -> str:
        name = "closed book" if self.spec["text"] == NONE else str(self.spec["text"]).upper()
        return f"{name}, read each time" if self.spec["kept"] is False else name

    @property
    def name(self) -> str:
        """Adapter and text."""
        if self.spec["text"] == NONE:
            return "bare" if self.spec["adapter"] == NONE else self.adapter
        return self.text if self.spec["adapter"] == NONE else f"{self.adapter} + {self.text}"

    def gain(self, kind: str | None = None) -> Estimate | None:
        """Nats per token over the bare model without text; of one kind of question, or of all."""
        return self._estimate([_gains(cell) for cell in self.cells], kind)

    def over(self, other: "Way", kind: str | None = None) -> Estimate | None:
        """By how much more than another way, question by question; None if seeds differ."""
        theirs = {cell["seed"]: _gains(cell) for cell in other.cells}
        if {cell["seed"] for cell in self.cells} != set(theirs):
            return None
        differences = [
            [mine - other for mine, other in zip(_gains(cell), theirs[cell["seed"]], strict=True)]
            for cell in self.cells
        ]
        return self._estimate(differences, kind)

    def written(self, metric: str) -> Estimate | None:
        """A score of the answers that were written out."""
        clusters: dict[tuple[int, int], list[float]] = {}
        for draw, cell in enumerate(self.cells):
            found, documents = cell["per_written"], cell["per_question"]["document"]
            for place, value in zip(found["place"], found.get(metric, ()), strict=False):
                clusters.setdefault((draw, documents[place]), []).append(value)
        return _of(clusters)

    def mean(self, *keys: str) -> float | None:
        """Of a number of the cells; None where one has none."""
        found = []
        for cell in self.cells:
            value: Any = cell
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is None:
                return None
            found.append(float(value))
        return fmean(found)

    def _estimate(self, values: Sequence[Sequence[float]], kind: str | None) -> Estimate | None:
        clusters: dict[tuple[int, int], list[float]] = {}
        for draw, (cell, own) in enumerate(zip(self.cells, values, strict=True)):
            rows = cell["per_question"]
            for document, what, value in zip(rows["document"], rows["kind"], own, strict=True):
                if kind in (None, what):
                    clusters.setdefault((draw, document), []).append(value)
        return _of(clusters)


def ways(cells: Sequence[Cell]) -> list[Way]:
    """Cells by setting: documents, then adapters from none to merged, then texts.

    Raises:
        UsageError: a cell lacks something, or two are the same draw of one setting.
    """
    found: dict[str, dict[int, Cell]] = {}
    for cell in cells:
        needed = _NEEDED.get(cell.get("spec", {}).get("measure"), ("spec",))
        if missing := [key for key in needed if key not in cell]:
            raise UsageError(f"cell {cell.get('name')!r} lacks {', '.join(missing)}; run it again")
        rest = {key: value for key, value in cell["spec"].items() if key != "seed"}
        seeds = found.setdefault(json.dumps(rest, sort_keys=True), {})
        if cell["seed"] in seeds:
            raise UsageError(
                f"cells {seeds[cell['seed']]['name']!r} and {cell['name']!r} are one; drop one"
            )
        seeds[cell["seed"]] = cell
    lots = sorted(found.values(), key=lambda seeds: _order(next(iter(seeds.values()))["spec"]))
    specs = [next(iter(seeds.values()))["spec"] for seeds in lots]
    keys = ("rule", "norm", "router", "activated", "lr")
    found_ways = []
    for spec, seeds in zip(specs, lots, strict=True):
        rivals = [one for one in specs if _documents(one) == _documents(spec)]
        varied = {k for k in keys if len({s[k] for s in rivals if s[k] is not None}) > 1}
        found_ways.append(Way(tuple(seeds.values()), frozenset(varied)))
    return found_ways


def beside(one: Way, all_ways: Sequence[Way], **changes: Any) -> Way | None:
    """The way that differs from this in these axes only; what they leave unused aside."""
    unused = {"rule", "norm", "preloaded"}
    if one.spec["text"] != RAG:  # else the same passages are to be read
        unused |= {"router", "k"}
    wanted = {**one.spec, **changes}
    for other in all_ways:
        different = {key for key in wanted if other.spec[key] != wanted[key]}
        if (
            other is not one
            and different <= unused - changes.keys()
            and (changes.get("adapter") == NONE or not different)
        ):
            return other
    return None


def _documents(spec: Mapping[str, Any]) -> str:
    return f"{TASKS[spec['task']]} of {spec['length']:,} tokens"


def _order(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    adapter, text = ADAPTERS.index(spec["adapter"]), TEXTS.index(spec["text"])
    documents = (list(TASKS).index(spec["task"]), spec["length"])
    plain = (*documents, spec["random"], adapter, spec["k"] or 0, spec["lr"])
    more = [str(spec[key]) for key in ("rule", "norm", "router")]
    is_off = (not spec["activated"], spec["preloaded"] is False, spec["kept"] is False)
    return (*plain, *more, text, *is_off)


def stacked(name: str, title: str, finding: str, note: str, panels: list[Panel]) -> Figure:
    """A figure whose panels stand below each other: names of ways are long."""
    return Figure(name=name, title=title, finding=finding, note=note, stacked=True, panels=panels)


def _gains(cell: Cell) -> list[float]:
    return cell["per_question"]["gain"]  # type: ignore[no-any-return]


def _of(clusters: Mapping[tuple[int, int], Sequence[float]]) -> Estimate | None:
    if not clusters:
        return None
    found = bootstrap_mean(list(clusters.values()), by_size=True)
    mean = fmean(value for values in clusters.values() for value in values)
    return Estimate(mean, None if found is None else (found.low, found.high))
