"""Choices that cells of training texts decide: format, objective, ordinary text beside them.

The same setting may have been run for several studies; it counts once. Each arm has the learning
rate that was best for it on the questions that are not compared.
"""

from collections.abc import Iterator, Sequence

from lorabank.report.grouping import setting_key
from lorabank.report.guidance.comparing import Arm, Choice, Comparison, blocks
from lorabank.report.texts.chosen import TaughtSetting, read_settings
from lorabank.report.texts.labels import value_name
from lorabank.study.texts.cells import TextsCell

FORMAT, OBJECTIVE = "Format", "Objective and ordinary text"
_CHOSEN = ("lr", "seed", "documents", "written", "new_tokens")
_MEASURE = "gain, nats per token"
_PLAIN = {"formats": "original", "objective": "ce", "protect_share": 0.0}
"""Axes and the value that others are compared with."""
_TOPICS = {"formats": FORMAT, "objective": OBJECTIVE, "protect_share": OBJECTIVE}


def compare(cells: Sequence[TextsCell]) -> list[Comparison]:
    """Return each value of an axis beside the plain one, at the same budget."""
    once = {f"{setting_key(cell)} {cell.hashes.data}": cell for cell in _by_study(cells)}
    data = blocks(list(once.values()), lambda cell: cell.hashes.data)
    settings = [setting for same_questions in data for setting in read_settings(same_questions)]
    comparisons = [
        comparison
        for axis in _PLAIN
        for comparison in _along(axis, settings)
        if comparison is not None
    ]
    return [*comparisons, *(c for c in _mixtures(settings) if c is not None)]


def _by_study(cells: Sequence[TextsCell]) -> list[TextsCell]:
    return sorted(cells, key=lambda cell: (cell.study, cell.name), reverse=True)


def _along(axis: str, settings: Sequence[TaughtSetting]) -> Iterator[Comparison | None]:
    """Yield each setting beside the one that differs in this axis alone, by its plain value."""
    plain = {
        _key(setting, axis): setting
        for setting in settings
        if getattr(setting.axes, axis) == _PLAIN[axis]
    }
    for setting in settings:
        other = plain.get(_key(setting, axis))
        if other is not None and other is not setting:
            choice = Choice(_TOPICS[axis], _where(setting), _MEASURE)
            yield choice.compare(_arm(axis, setting), _arm(axis, other))


def _mixtures(settings: Sequence[TaughtSetting]) -> Iterator[Comparison | None]:
    """Yield each mixture that has questions in it beside the questions alone."""
    for setting in settings:
        parts = setting.axes.formats.split(",")
        questions = [part for part in parts if part.startswith("qa")]
        if len(parts) > 1 and questions:
            for other in settings:
                if other.axes.formats == questions[0] and _key(other) == _key(setting):
                    choice = Choice(FORMAT, _where(setting), _MEASURE)
                    yield choice.compare(_arm("formats", setting), _arm("formats", other))


def _key(setting: TaughtSetting, axis: str = "formats") -> str:
    first = setting.setting.first
    return f"{setting_key(first, without=(*_CHOSEN, axis))} {first.hashes.data}"


def _where(setting: TaughtSetting) -> str:

    return f"{setting.task}, {setting.budget}"


def _arm(axis: str, setting: TaughtSetting) -> Arm:
    return Arm(value_name(axis, setting), setting.setting.cells, setting.gains_by_document())
