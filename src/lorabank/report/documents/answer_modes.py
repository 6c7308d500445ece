"""Answer modes of a study about long documents: which adapter, which text, and their labels.

Two modes of one library are asked the same questions, so a difference between them is taken
question by question. A mode with another document's adapter in the place is the control of its
counterpart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lorabank.report.estimates import Estimate
from lorabank.report.grouping import Setting, group_cells
from lorabank.study.documents.axes import (
    ADAPTERS,
    CHUNK,
    DOCUMENT,
    MERGED,
    NONE,
    RAG,
    TEXTS,
    DocumentsAxes,
)
from lorabank.study.documents.cells import AnswersCell, DocumentsCell, LatencyCell

C = TypeVar("C", bound=DocumentsCell)
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
class AnswerMode(Generic[C]):
    """All seeds of one way of answering questions about documents."""

    setting: Setting[C]
    varied: frozenset[str]
    """Axes that set modes for the same documents apart."""
    main_rate: float
    """Learning rate of most adapters for these documents."""

    @property
    def axes(self) -> DocumentsAxes:
        return self.setting.first.axes

    @property
    def documents(self) -> str:
        """Name of what is asked about, which is the panel's title."""
        return documents_name(self.axes)

    @property
    def has_adapter(self) -> bool:
        return self.axes.adapter != NONE

    @property
    def is_control(self) -> bool:
        """Whether another document's adapter is in the place of the right one."""
        return self.axes.random

    @property
    def is_main_rate(self) -> bool:
        return not self.has_adapter or self.axes.lr == self.main_rate

    @property
    def adapter(self) -> str:
        """Name of the adapter, with what else the study varied of it."""
        axes = self.axes
        if not self.has_adapter:
            return NO_ADAPTER
        name = {
            DOCUMENT: "document adapter",
            CHUNK: "top-1 chunk adapter",
            MERGED: f"top-{axes.k} merged chunk adapters",
        }[axes.adapter]
        named = {"rule": axes.rule, "router": axes.router}
        details = [value for axis, value in named.items() if axis in self.varied and value]
        if not self.is_main_rate:
            details.append(f"rate {axes.lr:.2g}")
        if "norm" in self.varied and axes.norm:
            details.append(f"{axes.norm} norm")
        if "activated" in self.varied and not axes.activated:
            details.append("always on")
        details += ["from disk"] if axes.preloaded is False else []
        return f"{name} ({', '.join(details)})" if details else name

    @property
    def text(self) -> str:
        name = CLOSED_BOOK if self.axes.text == NONE else self.axes.text.upper()
        return f"{name}, read each time" if self.axes.document_cached is False else name

    @property
    def name(self) -> str:
        """Adapter and text."""
        adapter = f"another document's {self.adapter}" if self.is_control else self.adapter
        if self.axes.text == NONE:
            return adapter if self.has_adapter else "bare model"
        return f"{adapter} + {self.text}" if self.has_adapter else self.text

    def gain(self: "ScoredMode", kind: str | None = None) -> Estimate | None:
        """Return nats per token over the bare model without text.

        Args:
            kind: kind of question; all kinds where it is None.
        """
        return self._by_question(_gains_by_seed(self), kind)

    def gain_over(
        self: "ScoredMode",
        other: "ScoredMode",
        kind: str | None = None,
    ) -> Estimate | None:
        """Return the difference to another mode, question by question; None if seeds differ."""
        gains, others = _gains_by_seed(self), _gains_by_seed(other)
        if gains.keys() != others.keys():
            return None
        differences = {
            seed: [a - b for a, b in zip(gains[seed], others[seed], strict=True)] for seed in gains
        }
        return self._by_question(differences, kind)

    def written(self: "ScoredMode", metric: str) -> Estimate | None:
        """Return a score of the answers that were written out."""

        def values(cell: AnswersCell) -> list[float]:
            return cell.per_written.scores.get(metric, [])

        def documents(cell: AnswersCell) -> list[int]:
            places = cell.per_written.place if metric in cell.per_written.scores else ()
            return [cell.per_question.document[place] for place in places]

        return self.setting.by_document(values, documents)

    def _by_question(
        self: "ScoredMode",
        values_by_seed: Mapping[int, Sequence[float]],
        kind: str | None,
    ) -> Estimate | None:
        def places(cell: AnswersCell) -> list[int]:
            kinds = cell.per_question.kind
            return [place for place, name in enumerate(kinds) if kind in (None, name)]

        def values(cell: AnswersCell) -> list[float]:
            return [values_by_seed[cell.axes.seed][place] for place in places(cell)]

        def documents(cell: AnswersCell) -> list[int]:
            return [cell.per_question.document[place] for place in places(cell)]

        return self.setting.by_document(values, documents)


ScoredMode = AnswerMode[AnswersCell]
TimedMode = AnswerMode[LatencyCell]


def read_modes(cells: Sequence[C]) -> list[AnswerMode[C]]:
    """Return cells by setting: documents, then adapters from none to merged, then texts.

    Raises:
        UsageError: two cells are the same draw of one setting.
    """
    settings = sorted(group_cells(cells), key=lambda setting: _order(setting.first.axes))
    modes = []
    for setting in settings:
        axes = setting.first.axes
        rivals = [
            other.first.axes
            for other in settings
            if documents_name(other.first.axes) == documents_name(axes)
        ]
        varied = {name for name in _VARIED if len(_values(rivals, name)) > 1}
        rates = Counter(rival.lr for rival in rivals if rival.adapter != NONE)
        main_rate = max(rates, key=lambda rate: rates[rate]) if rates else axes.lr
        modes.append(AnswerMode(setting, frozenset(varied), main_rate))
    return modes


def _values(cells: Sequence[DocumentsAxes], name: str) -> set[Any]:
    """Return all values of an axis but None."""
    return {value for axes in cells if (value := getattr(axes, name)) is not None}


def _gains_by_seed(mode: ScoredMode) -> dict[int, list[float]]:
    return {cell.axes.seed: cell.per_question.gain for cell in mode.setting.cells}


def counterpart(
    mode: AnswerMode[C], modes: Sequence[AnswerMode[C]], **changes: Any
) -> AnswerMode[C] | None:
    """Return the mode that differs in the given axes only; None where it was not measured.

    Without an adapter, axes that only adapters use do not count.
    """
    unused = {"rule", "norm", "preloaded"}
    if mode.axes.text != RAG:  # else the same passages are to be read
        unused |= {"router", "k"}
    wanted = mode.axes.model_dump() | changes
    for other in modes:
        axes = other.axes.model_dump()
        different = {name for name in wanted if axes[name] != wanted[name]}
        if (
            other is not mode
            and other.setting.first.base == mode.setting.first.base
            and different <= unused - changes.keys()
            and (changes.get("adapter") == NONE or not different)
        ):
            return other
    return None


def control_of(mode: AnswerMode[C], modes: Sequence[AnswerMode[C]]) -> AnswerMode[C] | None:
    """Return the same mode with another document's adapter in the place."""
    if not mode.has_adapter or mode.is_control:
        return None
    return counterpart(mode, modes, random=True)


def text_alone(mode: AnswerMode[C], modes: Sequence[AnswerMode[C]]) -> AnswerMode[C] | None:
    """Return the mode that reads the same text without an adapter."""
    if not mode.has_adapter or mode.axes.text == NONE:
        return None
    return counterpart(mode, modes, adapter=NONE, random=False)


def documents_name(axes: DocumentsAxes) -> str:
    return f"{_TASKS.get(axes.task, axes.task)} of {axes.length:,} tokens"


def _order(axes: DocumentsAxes) -> tuple[Any, ...]:
    adapter, text = ADAPTERS.index(axes.adapter), TEXTS.index(axes.text)
    task = list(_TASKS).index(axes.task) if axes.task in _TASKS else len(_TASKS)
    plain = (task, axes.length, axes.random, adapter, axes.k or 0, axes.lr)
    details = map(str, (axes.rule, axes.norm, axes.router))
    is_off = (not axes.activated, axes.preloaded is False, axes.document_cached is False)
    return (*plain, *details, text, *is_off)
