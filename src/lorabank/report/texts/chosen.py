"""Cells of a study about training texts by setting, with the learning rate chosen for each.

Where a study tried several rates, the one with the highest mean gain on every second question of
each document is taken, and what is reported comes from the other questions: none is both chosen by
and reported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.report.estimates import Cluster, Estimate, mean
from lorabank.report.grouping import Setting, group_cells, setting_key
from lorabank.study.texts.axes import TextsAxes
from lorabank.study.texts.cells import TextsCell

Difference = Callable[[float, float], float]
_TUNED = ("lr", "seed")
_BUDGET = {"budget", "amount"}
_BUDGETS = {
    "exposures": "{} exposures of each",
    "tokens": "{} tokens",
    "steps": "{} steps",
}
_TASKS = {
    "phonebook": "phone book",
    "paperqa": "PaperQA",
    "squad": "SQuAD",
    "chronicle": "chronicles",
}
ARMS = {"tokens": "equal tokens", "exposures": "equal exposures", "steps": "equal steps"}
"""Budgets by what they hold equal, in the order they are drawn."""


@dataclass(frozen=True, slots=True)
class TaughtSetting:
    """All seeds of one setting at the rate chosen for it."""

    setting: Setting[TextsCell]
    n_rates: int
    """Number of learning rates the chosen one was chosen from."""
    gain_by_rate: tuple[tuple[float, float], ...]
    """Each learning rate and its mean gain on the questions that the choice was made by."""

    @property
    def axes(self) -> TextsAxes:
        return self.setting.first.axes

    @property
    def base(self) -> str:
        """Name of the base model."""
        return self.setting.first.base

    @property
    def task(self) -> str:
        return _TASKS.get(self.axes.task, self.axes.task)

    @property
    def budget(self) -> str:
        return _BUDGETS[self.axes.budget].format(f"{self.axes.amount:,}")

    @property
    def arm(self) -> str:
        return ARMS[self.axes.budget]

    def gain(self) -> Estimate:
        """Return the nats per token over the bare model, on the questions not chosen by."""
        return self._reported(lambda own, control: own)

    def control_gain(self) -> Estimate:
        """Return the same with another document's adapter."""
        return self._reported(lambda own, control: control)

    def learnt(self) -> Estimate:
        """Return the gain over that of another document's adapter, question by question."""
        return self._reported(lambda own, control: own - control)

    def written(self, metric: str) -> Estimate | None:
        """Return a score of the answers that were written out, none of which chose the rate."""
        if any(metric not in cell.per_written.scores for cell in self.setting.cells):
            return None

        def documents(cell: TextsCell) -> list[int]:
            return [cell.per_question.document[place] for place in cell.per_written.place]

        return self.setting.by_document(lambda cell: cell.per_written.scores[metric], documents)

    def average(self, value: Callable[[TextsCell], float]) -> float:
        return mean(value(cell) for cell in self.setting.cells)

    def gains_by_document(self) -> dict[Cluster, list[float]]:
        """Return the gains on the questions not chosen by, by seed and document."""
        gains: dict[Cluster, list[float]] = {}
        for cell in self.setting.cells:
            for place in self._places(cell):
                key = (cell.axes.seed, cell.per_question.document[place])
                gains.setdefault(key, []).append(cell.per_question.gain[place])
        return gains

    def _places(self, cell: TextsCell) -> list[int]:
        numbered = _numbered(cell.per_question.document)
        return [place for place, nth in numbered if self.n_rates == 1 or nth % 2 == 0]

    def _reported(self, value: Difference) -> Estimate:
        def values(cell: TextsCell) -> list[float]:
            own, control = cell.per_question.gain, cell.per_question.control_gain
            return [value(own[place], control[place]) for place in self._places(cell)]

        def documents(cell: TextsCell) -> list[int]:
            return [cell.per_question.document[place] for place in self._places(cell)]

        estimate = self.setting.by_document(values, documents)
        assert estimate is not None, "a cell has at least one question"
        return estimate


def read_settings(cells: Sequence[TextsCell]) -> list[TaughtSetting]:
    """Return cells by setting, in the order of their names.

    Raises:
        UsageError: two cells are the same draw of one setting.
    """
    rates: dict[str, list[Setting[TextsCell]]] = {}
    for setting in group_cells(cells):
        rates.setdefault(setting_key(setting.first, without=_TUNED), []).append(setting)
    return [_choose(candidates) for candidates in rates.values()]


def varied_axes(settings: Sequence[TaughtSetting]) -> list[str]:
    """Return the axes that set settings apart, apart from their budgets."""
    same = {*_TUNED, *_BUDGET, "task", "documents"}
    names = [name for name in TextsAxes.model_fields if name not in same]
    return [name for name in names if len({str(axis_value(s, name)) for s in settings}) > 1]


def axis_value(setting: TaughtSetting, name: str) -> Any:
    """Return the value of an axis by its name; of `base`, the model that was used."""
    return setting.base if name == "base" else getattr(setting.axes, name)


def _choose(candidates: Sequence[Setting[TextsCell]]) -> TaughtSetting:
    """Choose among settings that differ in the learning rate alone."""
    gains = {setting.first.axes.lr: _choosing_gain(setting) for setting in candidates}
    best = max(candidates, key=lambda setting: gains[setting.first.axes.lr])
    return TaughtSetting(best, len(candidates), tuple(sorted(gains.items())))


def _choosing_gain(setting: Setting[TextsCell]) -> float:
    """Return the mean gain over every second question of each document."""
    values = [
        cell.per_question.gain[place]
        for cell in setting.cells
        for place, nth in _numbered(cell.per_question.document)
        if nth % 2
    ]
    return mean(values) if values else 0.0


def _numbered(documents: Sequence[int]) -> list[tuple[int, int]]:
    """Return each question's place and its number within its document."""
    counts: dict[int, int] = {}
    numbered = []
    for place, document in enumerate(documents):
        numbered.append((place, counts.setdefault(document, 0)))
        counts[document] += 1
    return numbered
