"""Cells of a study about training texts by setting, with the learning rate chosen for each.

Where a study tried several rates, the one with the highest mean gain on every second question of
each document is taken, and what is reported comes from the other questions: none is both chosen by
and reported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabank.report.estimates import Estimate, mean
from lorabank.report.format_1_grouping import Cell, Setting, group_cells, require, spec_key

Difference = Callable[[float, float], float]
_TUNED = ("lr", "seed")
_BUDGET = {"budget", "amount"}
_NEEDED = ("name", "spec", "gain", "control_gain", "per_question", "per_written", "tokens_trained")
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

    setting: Setting
    n_rates: int
    """Number of learning rates the chosen one was chosen from."""
    gain_by_rate: tuple[tuple[float, float], ...]
    """Each learning rate and its mean gain on the questions that the choice was made by."""

    @property
    def task(self) -> str:
        task = self.setting.spec["task"]
        return _TASKS.get(task, str(task))

    @property
    def budget(self) -> str:
        spec = self.setting.spec
        return _BUDGETS[spec["budget"]].format(f"{spec['amount']:,}")

    @property
    def arm(self) -> str:
        return ARMS[self.setting.spec["budget"]]

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
        if any(metric not in cell["per_written"] for cell in self.setting.cells):
            return None
        return self.setting.by_document(
            lambda cell: cell["per_written"][metric], lambda cell: cell["per_written"]["place"]
        )

    def average(self, key: str) -> float:
        return mean(cell[key] for cell in self.setting.cells)

    def _reported(self, value: Difference) -> Estimate:
        def places(cell: Cell) -> list[int]:
            documents = cell["per_question"]["document"]
            return [
                place for place, nth in _numbered(documents) if self.n_rates == 1 or nth % 2 == 0
            ]

        def values(cell: Cell) -> list[float]:
            per_question = cell["per_question"]
            own, control = per_question["gain"], per_question["control_gain"]
            return [value(own[place], control[place]) for place in places(cell)]

        estimate = self.setting.by_document(values, places)
        assert estimate is not None, "a cell has at least one question"
        return estimate


def read_settings(cells: Sequence[Cell]) -> list[TaughtSetting]:
    """Return cells by setting, in the order of their names.

    Raises:
        UsageError: a cell lacks something, or two are the same draw of one setting.
    """
    require(cells, _NEEDED)
    rates: dict[str, list[Setting]] = {}
    for setting in group_cells(cells):
        rates.setdefault(spec_key(setting.spec, without=_TUNED), []).append(setting)
    return [_choose(candidates) for candidates in rates.values()]


def varied_axes(settings: Sequence[TaughtSetting]) -> list[str]:
    """Return the axes that set settings apart, apart from their budgets."""
    same = {*_TUNED, *_BUDGET, "task", "documents"}
    keys = [key for key in settings[0].setting.spec if key not in same]
    return [key for key in keys if len({str(s.setting.spec[key]) for s in settings}) > 1]


def _choose(candidates: Sequence[Setting]) -> TaughtSetting:
    """Choose among settings that differ in the learning rate alone."""
    gains = {setting.spec["lr"]: _choosing_gain(setting) for setting in candidates}
    best = max(candidates, key=lambda setting: gains[setting.spec["lr"]])
    return TaughtSetting(best, len(candidates), tuple(sorted(gains.items())))


def _choosing_gain(setting: Setting) -> float:
    """Return the mean gain over every second question of each document."""
    values = [
        cell["per_question"]["gain"][place]
        for cell in setting.cells
        for place, nth in _numbered(cell["per_question"]["document"])
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
