"""Answer modes of a study about long documents: which adapter, which text, and their labels.

Two modes of one library are asked the same questions, so a difference between them is taken
question by question. A mode with another document's adapter in the place is the control of its
counterpart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.report.estimates import Estimate
from lorabank.report.grouping import Cell, Setting, group_cells, require
from lorabank.study.documents.axes import (
    ADAPTERS,
    ANSWERS,
    CHUNK,
    DOCUMENT,
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
_TASKS = {
    "chronicle": "chronicles",
    "books": "books",
    "narrativeqa": "NarrativeQA",
    "quality": "QuALITY",
    "infinitebench": "∞Bench",
    "longbench": "LongBench v2",
    "locomo": "LoCoMo",
    "longmemeval": "LongMemEval",
}
_VARIED = ("rule", "norm", "router", "activated", "lr")
NO_ADAPTER = "no adapter"
CLOSED_BOOK = "closed book"


@dataclass(frozen=True, slots=True)
class AnswerMode:
    """All seeds of one way of answering questions about documents."""

    setting: Setting
    varied: frozenset[str]
    """Axes that set modes for the same documents apart."""
    main_rate: float
    """Learning rate of most adapters for these documents."""

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.setting.spec

    @property
    def documents(self) -> str:
        """Name of what is asked about, which is the panel's title."""
        return documents_name(self.spec)

    @property
    def has_adapter(self) -> bool:
        return bool(self.spec["adapter"] != NONE)

    @property
    def is_control(self) -> bool:
        """Whether another document's adapter is in the place of the right one."""
        return bool(self.spec["random"])

    @property
    def is_main_rate(self) -> bool:
        return not self.has_adapter or self.spec["lr"] == self.main_rate

    @property
    def adapter(self) -> str:
        """Name of the adapter, with what else the study varied of it."""
        spec = self.spec
        if not self.has_adapter:
            return NO_ADAPTER
        name = {
            DOCUMENT: "document adapter",
            CHUNK: "top-1 chunk adapter",
            MERGED: f"top-{spec['k']} merged chunk adapters",
        }[spec["adapter"]]
        details = [spec[key] for key in ("rule", "router") if key in self.varied and spec[key]]
        if not self.is_main_rate:
            details.append(f"rate {spec['lr']:.2g}")
        if "norm" in self.varied and spec["norm"]:
            details.append(f"{spec['norm']} norm")
        if "activated" in self.varied and not spec["activated"]:
            details.append("always on")
        details += ["from disk"] if spec["preloaded"] is False else []
        return f"{name} ({', '.join(map(str, details))})" if details else name

    @property
    def text(self) -> str:
        name = CLOSED_BOOK if self.spec["text"] == NONE else str(self.spec["text"]).upper()
        return f"{name}, read each time" if self.spec["kept"] is False else name

    @property
    def name(self) -> str:
        """Adapter and text."""
        adapter = f"another document's {self.adapter}" if self.is_control else self.adapter
        if self.spec["text"] == NONE:
            return adapter if self.has_adapter else "bare model"
        return f"{adapter} + {self.text}" if self.has_adapter else self.text

    def gain(self, kind: str | None = None) -> Estimate | None:
        """Return nats per token over the bare model without text.

        Args:
            kind: kind of question; all kinds where it is None.
        """
        return self._by_question({cell["seed"]: _gains(cell) for cell in self.setting.cells}, kind)

    def gain_over(self, other: "AnswerMode", kind: str | None = None) -> Estimate | None:
        """Return the difference to another mode, question by question; None if seeds differ."""
        others = {cell["seed"]: _gains(cell) for cell in other.setting.cells}
        if {cell["seed"] for cell in self.setting.cells} != set(others):
            return None
        differences = {
            cell["seed"]: [a - b for a, b in zip(_gains(cell), others[cell["seed"]], strict=True)]
            for cell in self.setting.cells
        }
        return self._by_question(differences, kind)

    def written(self, metric: str) -> Estimate | None:
        """Return a score of the answers that were written out."""
        return self.setting.by_document(
            lambda cell: cell["per_written"].get(metric, ()),
            lambda cell: cell["per_written"]["place"] if metric in cell["per_written"] else (),
        )

    def average(self, *keys: str) -> float | None:
        return self.setting.average(*keys)

    def _by_question(
        self, values_by_seed: Mapping[int, Sequence[float]], kind: str | None
    ) -> Estimate | None:
        def places(cell: Cell) -> list[int]:
            kinds = cell["per_question"]["kind"]
            return [place for place, name in enumerate(kinds) if kind in (None, name)]

        def values(cell: Cell) -> list[float]:
            return [values_by_seed[cell["seed"]][place] for place in places(cell)]

        return self.setting.by_document(values, places)


def read_modes(cells: Sequence[Cell]) -> list[AnswerMode]:
    """Return cells by setting: documents, then adapters from none to merged, then texts.

    Raises:
        UsageError: a cell lacks something, or two are the same draw of one setting.
    """
    for cell in cells:
        require([cell], ("spec", *_NEEDED[cell["spec"]["measure"]]))
    settings = sorted(group_cells(cells), key=lambda setting: _order(setting.spec))
    modes = []
    for setting in settings:
        rivals = [
            s.spec for s in settings if documents_name(s.spec) == documents_name(setting.spec)
        ]
        varied = {key for key in _VARIED if len({s[key] for s in rivals if s[key] is not None}) > 1}
        rates = Counter(s["lr"] for s in rivals if s["adapter"] != NONE)
        main_rate = max(rates, key=lambda rate: rates[rate]) if rates else setting.spec["lr"]
        modes.append(AnswerMode(setting, frozenset(varied), main_rate))
    return modes


def counterpart(mode: AnswerMode, modes: Sequence[AnswerMode], **changes: Any) -> AnswerMode | None:
    """Return the mode that differs in the given axes only; None where it was not measured.

    Without an adapter, axes that only adapters use do not count.
    """
    unused = {"rule", "norm", "preloaded"}
    if mode.spec["text"] != RAG:  # else the same passages are to be read
        unused |= {"router", "k"}
    wanted = {**mode.spec, **changes}
    for other in modes:
        different = {key for key in wanted if other.spec[key] != wanted[key]}
        if (
            other is not mode
            and different <= unused - changes.keys()
            and (changes.get("adapter") == NONE or not different)
        ):
            return other
    return None


def control_of(mode: AnswerMode, modes: Sequence[AnswerMode]) -> AnswerMode | None:
    """Return the same mode with another document's adapter in the place."""
    if not mode.has_adapter or mode.is_control:
        return None
    return counterpart(mode, modes, random=True)


def text_alone(mode: AnswerMode, modes: Sequence[AnswerMode]) -> AnswerMode | None:
    """Return the mode that reads the same text without an adapter."""
    if not mode.has_adapter or mode.spec["text"] == NONE:
        return None
    return counterpart(mode, modes, adapter=NONE, random=False)


def documents_name(spec: Mapping[str, Any]) -> str:
    return f"{_TASKS.get(spec['task'], spec['task'])} of {spec['length']:,} tokens"


def _order(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    adapter, text = ADAPTERS.index(spec["adapter"]), TEXTS.index(spec["text"])
    task = list(_TASKS).index(spec["task"]) if spec["task"] in _TASKS else len(_TASKS)
    plain = (task, spec["length"], spec["random"], adapter, spec["k"] or 0, spec["lr"])
    details = [str(spec[key]) for key in ("rule", "norm", "router")]
    is_off = (not spec["activated"], spec["preloaded"] is False, spec["kept"] is False)
    return (*plain, *details, text, *is_off)


def _gains(cell: Cell) -> list[float]:
    return cell["per_question"]["gain"]  # type: ignore[no-any-return]
